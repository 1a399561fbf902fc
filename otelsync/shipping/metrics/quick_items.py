"""Pull requests read from their bytes: of these there are a thousand where there is one of anything else.

Our own recorder puts what is fixed about them to the same places, and of their attributes all but the number are the
same again and again. So no message is made of each: its times are read where they stand, and the rest is only
compared. What has another form is left for the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from otelsync.shipping.metrics.durations import Exemplar

_FIELDS: Final = Struct("<2s16s2s8s2s8s13s4s3sQcQ")
"""Trace id, parent's id, own id, name and kind, flags, an empty status, start, end; each after its tag."""
_TAGS: Final = (b"\x0a\x10", b"\x22\x08", b"\x12\x08", b"\x2a\x07sync.pr\x30\x01\x85\x01", b"\x7a\x00\x39", b"\x41")
_NUMBER: Final = b"\x0a\x0dvcs.change.id\x12"
"""The key of the one attribute that is always another, and the tag of its value."""

Likeness = tuple[bytes, bytes, bytes]
"""The id of the parent, and what stands before and behind the number among the encoded attributes."""


class Alike:
    """Pull requests that differ in nothing but their numbers, ids and times."""

    __slots__ = ("bodies", "durations")

    def __init__(self) -> None:
        self.durations: list[int] = []
        """Nanoseconds."""
        self.bodies: list[bytes] = []

    def slowest(self) -> Exemplar:
        """The one that took longest."""
        longest = max(self.durations)
        body = self.bodies[self.durations.index(longest)]
        fields = _FIELDS.unpack_from(body, 2 if body[1] < 0x80 else 3)
        return Exemplar(longest, fields[11], fields[1], fields[5])


def alike(bodies: Sequence[bytes]) -> tuple[dict[Likeness, Alike], list[bytes]]:
    """The pull requests in `bodies` by what they have in common, and all other bodies."""
    found: dict[Likeness, Alike] = {}
    others: list[bytes] = []
    unpack, size = _FIELDS.unpack_from, _FIELDS.size
    for body in bodies:
        if len(body) > size + 3:
            at = 2 if body[1] < 0x80 else 3
            fields = unpack(body, at)
            if (fields[0], fields[2], fields[4], fields[6], fields[8], fields[10]) == _TAGS:
                before, _, rest = body[at + size :].partition(_NUMBER)
                if rest:
                    key = (fields[3], before, rest[rest[0] + 1 :])
                    group = found.get(key)
                    if group is None:
                        group = found[key] = Alike()
                    group.durations.append(fields[11] - fields[9])
                    group.bodies.append(body)
                    continue
        others.append(body)
    return found, others
