"""Items read from their bytes: of these there are a thousand where there is one of anything else.

Our own recorder puts what is fixed about them to the same places, and of their attributes all but the id are the same
again and again. So no message is made of each: its times are read where they stand, and the rest is only compared.
What has another form is left for the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from otelsync.shipping.metrics.durations import Exemplar
from otelsync.vocabulary import SYNC_ITEM_ID, SYNC_PR_BYTES, VCS_CHANGE_ID, is_item

_NAME_LENGTH: Final = 39
"""Offset of the length of a span's name, behind trace id, parent's id and own id."""
_NAMES: Final = range(6, 60)
"""Lengths of names that an item can have."""
_LAYOUTS: Final = {length: Struct(f"<2s16s2s8s2s8s{length + 6}s4s3sQcQ") for length in _NAMES}
"""Trace id, parent's id, own id, name and kind, flags, an empty status, start, end; each after its tag."""
_TAGS: Final = (b"\x0a\x10", b"\x22\x08", b"\x12\x08", b"\x7a\x00\x39", b"\x41")
_KIND: Final = b"\x30\x01\x85\x01"
"""Behind the name: the kind of an internal span, and the tag of its flags."""
_SHORTEST: Final = 3 + _LAYOUTS[_NAMES[0]].size

Likeness = tuple[bytes, bytes, bytes]
"""The name, with what is around it, and what stands before and behind the id among the encoded attributes."""


class Alike:
    """Items that differ in nothing but their ids, parents and times."""

    __slots__ = ("bodies", "durations")

    def __init__(self) -> None:
        self.durations: list[int] = []
        """Nanoseconds."""
        self.bodies: list[bytes] = []

    def slowest(self) -> Exemplar:
        """The one that took longest."""
        longest = max(self.durations)
        body = self.bodies[self.durations.index(longest)]
        at = 2 if body[1] < 0x80 else 3
        fields = _LAYOUTS[body[at + _NAME_LENGTH]].unpack_from(body, at)
        return Exemplar(longest, fields[11], fields[1], fields[5], fields[3])


def alike(bodies: Sequence[bytes]) -> tuple[dict[Likeness, Alike], list[bytes]]:
    """The items in `bodies` by what they have in common, and all other bodies."""
    found: dict[Likeness, Alike] = {}
    others: list[bytes] = []
    for body in bodies:
        if len(body) > _SHORTEST:
            at = 2 if body[1] < 0x80 else 3
            layout = _LAYOUTS.get(body[at + _NAME_LENGTH])
            if layout is not None and len(body) >= at + layout.size:
                fields = layout.unpack_from(body, at)
                key = _key_of_id(fields[6])
                if key and (fields[0], fields[2], fields[4], fields[8], fields[10]) == _TAGS:
                    before, _, rest = body[at + layout.size :].partition(key)
                    if rest:
                        likeness = (fields[6], before, rest[rest[0] + 1 :])
                        group = found.get(likeness)
                        if group is None:
                            group = found[likeness] = Alike()
                        group.durations.append(fields[11] - fields[9])
                        group.bodies.append(body)
                        continue
        others.append(body)
    return found, others


@lru_cache(1_024)
def _key_of_id(named: bytes) -> bytes:
    """Return the key of the one attribute that is always another, and the tag of its value; empty for no item."""
    name = named[2 : -len(_KIND)]
    if named[:1] != b"\x2a" or named[-len(_KIND) :] != _KIND or not is_item(name):
        return b""
    key = (VCS_CHANGE_ID if name == SYNC_PR_BYTES else SYNC_ITEM_ID).encode()
    return bytes((0x0A, len(key))) + key + b"\x12"


def name_of(likeness: Likeness) -> bytes:
    """Return the name of the spans that are alike."""
    return likeness[0][2 : -len(_KIND)]
