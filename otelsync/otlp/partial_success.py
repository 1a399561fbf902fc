"""The message in a successful answer: how many records the endpoint rejects all the same, and its words.

It is read field by field, as far as it goes: one that is cut short still says how many. The answers of all three
signals have the same field numbers. Source: opentelemetry-proto, collector/trace/v1/trace_service.proto.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from otelsync.otlp.reply import LONGEST_REASON
from otelsync.text.printable import printable

_PARTIAL_SUCCESS: Final = 1
_REJECTED: Final = 1
_MESSAGE: Final = 2
_MOST_FIELDS: Final = 64
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_REJECTED_IN_JSON: Final = ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints")


def parse_partial_success(content: bytes) -> tuple[int, str]:
    """Return how many records a successful answer rejects, and why. One that cannot be read rejects none.

    Zero with a reason is a warning.
    """
    if content[:1] == b"{":
        return _from_json(content)
    rejected, reason = 0, ""
    for number, value in protobuf_fields(content):
        if number == _PARTIAL_SUCCESS and isinstance(value, bytes):
            for inner, said in protobuf_fields(value):
                if inner == _REJECTED and isinstance(said, int):
                    rejected = said - (1 << 64) if said >> 63 else said
                elif inner == _MESSAGE and isinstance(said, bytes):
                    reason = said[: LONGEST_REASON * 8].decode("utf-8", "replace")
    return rejected, printable(reason, LONGEST_REASON)


def _from_json(content: bytes) -> tuple[int, str]:
    """The same, of an endpoint that answers in JSON, unasked."""
    try:
        said: Any = json.loads(content).get("partialSuccess") or {}
        rejected = next((int(said[name]) for name in _REJECTED_IN_JSON if name in said), 0)
        return rejected, printable(said.get("errorMessage") or "", LONGEST_REASON)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0, ""


def protobuf_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields by number: varints and bytes, the last of which may be cut short. Ends at what is no such message."""
    position = 0
    for _ in range(_MOST_FIELDS):
        if position >= len(message):
            return
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            if position <= len(message):
                yield tag >> 3, value
        elif kind == _BYTES:
            length, position = _varint(message, position)
            yield tag >> 3, message[position : position + length]
            position += length
        elif kind in (_EIGHT, _FOUR):
            position += 8 if kind == _EIGHT else 4
        else:
            return


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A varint, and the position behind it, which is beyond the message if it is cut short."""
    value = 0
    for count, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << 7 * count
        if not byte & 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + count + 1
    return 0, len(message) + 1
