"""Items that went well, read by little more than a glance: most spans are such items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otelsync import vocabulary
from otelsync.journal.native import native
from otelsync.otlp.decoding import lean_spans, value_of
from otelsync.store.accounts import says_more
from otelsync.vocabulary import ITEM, part_of

_MESSAGE_ID: Final = vocabulary.MESSAGING_MESSAGE_ID.encode()
_INTERNAL: Final = 1
_COME_TO_AN_END: Final = frozenset((1, 2, 3))
"""Kinds of spans below which nothing comes once they have ended."""
_LONGEST_KNOWN: Final = 64
"""Bytes of an attribute that is worth remembering."""
_SHORTEST: Final = len("sync.x")
_NAME_AT: Final = 2 + 18 + 10 + 10
_END: Final = b"\x41"
ID: Final = 8
"""Bytes of a span's id."""


def sync_attributes(attributes: Iterable[bytes]) -> dict[str, Any]:
    """Return those attributes that are of a sync; most repeat, and are read once."""
    found: dict[str, Any] = {}
    for encoded in attributes:
        if encoded[2:7] == b"sync." or encoded[2 : 2 + len(_MESSAGE_ID)] == _MESSAGE_ID:
            pair = _known(encoded) if len(encoded) <= _LONGEST_KNOWN else _read(encoded)
            if pair is not None:
                found[pair[0]] = pair[1]
    return found


def _read(encoded: bytes) -> tuple[str, object] | None:
    try:
        pair = KeyValue.FromString(encoded)
    except DecodeError:
        return None
    return pair.key, value_of(pair.value)


_known: Final = lru_cache(4_096)(_read)


def _item_of(body: bytes) -> bytes | Literal[False] | None:
    """Read a span as the C extension's ``item_of`` does."""
    (span,) = lean_spans([body])
    if span is None:
        return None
    if not span.name.startswith(b"sync.") or len(span.name) < _SHORTEST:
        return False if span.kind in _COME_TO_AN_END else None
    is_plain = not span.status and span.kind == _INTERNAL and len(span.parent_span_id) == ID
    if not is_plain or b" " in span.name or b"." in span.name[5:]:
        return None
    said = sync_attributes(span.attributes)
    action = said.get(vocabulary.SYNC_ACTION, "")
    if says_more(said) or not isinstance(action, str) or action == vocabulary.FAILED:
        return None
    return span.parent_span_id + span.name + b"\0" + action.encode()


item_of: Final = native.item_of if native else _item_of


def action_of(item: bytes) -> str | None:
    """Return the action of what :data:`item_of` says; None: it is no item."""
    name, _, action = item[ID:].partition(b"\0")
    return action.decode("utf-8", "replace") if part_of(name.decode("utf-8", "replace"))[0] == ITEM else None


def ends_of(item: bytes, bodies: Sequence[bytes]) -> list[int]:
    """Return when items ended, in nanoseconds since the epoch, of which :data:`item_of` says the same."""
    name = item[ID : item.index(b"\0", ID)]
    # The writer has name, kind and start in this order, behind the ids.
    mark = b"\x2a%c%b\x30\x01\x39" % (len(name) & 0x7F, name)
    size = len(mark)
    ends: list[int] = []
    for body in bodies:
        at = _NAME_AT if body[1] < 0x80 else _NAME_AT + 1
        behind = at + size
        if body[at:behind] == mark and body[behind + 8 : behind + 9] == _END:
            ends.append(int.from_bytes(body[behind + 9 : behind + 17], "little"))
        else:
            ends += [span.end for span in lean_spans([body]) if span is not None]
    return ends


def trace_of(body: bytes) -> str:
    """Return the id of an item's trace; empty where it cannot be read."""
    (span,) = lean_spans([body])
    return span.trace_id.hex() if span is not None else ""
