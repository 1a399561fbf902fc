"""Encode attributes, spans and log records to OTLP protobuf bytes, without building message objects.

The wire format is protobuf's (https://protobuf.dev/programming-guides/encoding/), the messages are those of
opentelemetry-proto 1.x. Everything that repeats (keys, short strings, small integers) is encoded once and kept.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from otelsync.redaction import Redactor

_log = logging.getLogger(__name__)

_MANY: Final = 1024
"""How many keys, or values of one key, are kept before a cache starts afresh."""
_SHORT: Final = 64
"""Strings up to this length, in bytes, are worth keeping: they tend to come again."""

_pack_double = Struct("<d").pack


def varint(number: int) -> bytes:
    """An unsigned integer in protobuf's variable-length form."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(tag: int, body: bytes) -> bytes:
    """A length-delimited field; `tag` is the whole key byte."""
    return bytes((tag,)) + varint(len(body)) + body


def text(tag: int, value: str) -> bytes:
    """A string field; what UTF-8 cannot hold (a lone surrogate) becomes a question mark."""
    return field(tag, value.encode("utf-8", "replace"))


def any_value(value: object) -> bytes:
    """An ``AnyValue`` message, without tag and length.

    Raises:
        ValueError: An integer does not fit into 64 bits.
        TypeError: The value is of a type that OTLP has no form for.
    """
    match value:
        case None:
            return b""
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case str():
            return text(0x0A, value)
        case int():
            return b"\x18" + _int64(value)
        case float():
            return b"\x21" + _pack_double(value)
        case bytes():
            return field(0x3A, value)
        case Mapping():
            return field(0x32, b"".join(field(0x0A, key_value(str(k), v)) for k, v in value.items()))
        case Sequence():
            return field(0x2A, b"".join(field(0x0A, any_value(item)) for item in value))
    raise TypeError(f"no OTLP form for {type(value).__name__}")


def _int64(value: int) -> bytes:
    if not -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        raise ValueError(f"{value} does not fit into 64 bits")
    return varint(value & 0xFFFFFFFFFFFFFFFF)


def key_value(key: str, value: object) -> bytes:
    """A ``KeyValue`` message, without tag and length."""
    return text(0x0A, key) + field(0x12, any_value(value))


def resource(attributes: Mapping[str, object], redactor: Redactor | None = None) -> bytes:
    """``ResourceSpans`` field 1: tag, length and a Resource message."""
    return field(0x0A, AttributeEncoder(0x0A, redactor).encode(attributes))


def scope(
    name: str, version: str | None = None, attributes: Mapping[str, object] | None = None, schema_url: str | None = None
) -> bytes:
    """``ScopeSpans`` field 1, an InstrumentationScope, followed by field 3, the schema URL, where there is one."""
    body = (text(0x0A, name) if name else b"") + (text(0x12, version) if version else b"")
    body += AttributeEncoder(0x1A).encode(attributes or {})
    return field(0x0A, body) + (text(0x1A, schema_url) if schema_url else b"")


class AttributeEncoder:
    """Encodes attributes as repeated ``KeyValue`` fields with one tag.

    Args:
        tag: The key byte of the repeated field: 0x4a in a Span, 0x32 in a LogRecord.
        redactor: Takes secrets out on the way; None where nothing is secret.

    Strings are tested for secrets when they are first seen; only those that hold none are kept.
    """

    __slots__ = ("_heads", "_pairs", "_redactor", "redactions", "tag")

    def __init__(self, tag: int, redactor: Redactor | None = None) -> None:
        self.tag = tag
        self.redactions = 0
        """How often a secret was taken out: a change tells the caller that its own copy still holds one."""
        self._redactor = redactor
        self._heads: dict[str, list[bytes]] = {}
        self._pairs: dict[str, dict[object, bytes]] = {}

    def encode(self, attributes: Mapping[str, object]) -> bytes:
        """All attributes as bytes. One that has no OTLP form is left out, as the SDK does."""
        parts: list[bytes] = []
        self.extend(parts, attributes)
        return b"".join(parts)

    def extend(self, parts: list[bytes], attributes: Mapping[str, object]) -> None:
        """Append all attributes to `parts`."""
        pairs_of = self._pairs.get
        for key, value in attributes.items():
            kind = type(value)
            if kind is str or kind is int:  # kept apart by type: True and 1.0 equal 1 as keys of a dict
                pairs = pairs_of(key)
                pair = None if pairs is None else pairs.get(value)
                parts.append(self._new_pair(key, value) if pair is None else pair)
            else:
                parts.append(self._new_pair(key, value))

    def _new_pair(self, key: str, value: object) -> bytes:
        """A whole ``KeyValue`` field, free of secrets; kept if it is short and likely to come again."""
        heads = self._heads.get(key)
        if heads is None:
            return self._new_key(key, value)
        kind = type(value)
        if kind is str:
            clean: str = value if self._redactor is None else self._redactor.redact(value)  # type: ignore[arg-type, assignment]
            raw = clean.encode("utf-8", "replace")
            length = len(raw)
            encoded = _STRING_HEADS[length] + raw if length < _LONG else field(0x12, field(0x0A, raw))
            if clean is not value:
                self.redactions += 1
                return self._pair(heads, key, encoded)
        elif kind is int:
            length = 0
            encoded = _INTS[value] if 0 <= value < _MANY_INTS else self._value("", value)  # type: ignore[call-overload, operator]
        else:
            return self._pair(heads, key, self._value("", value))
        pair = self._pair(heads, key, encoded)
        if length <= _SHORT:
            pairs = self._pairs[key]
            if len(pairs) >= _MANY:
                pairs.clear()
            pairs[value] = pair
        return pair

    def _pair(self, heads: list[bytes], key: str, encoded: bytes) -> bytes:
        length = len(encoded)
        if 0 < length < len(heads):
            return heads[length] + encoded
        return field(self.tag, text(0x0A, key) + encoded) if encoded else b""

    def _new_key(self, key: str, value: object) -> bytes:
        """Learn what goes before a value of each short length under `key`: tag, length of the pair, and the key.

        The names of secrets are never learnt, so that their values never take the short way.
        """
        if self._redactor and self._redactor.is_secret_key(key):
            return self._pair([], key, self._value(key, value))
        if len(self._heads) >= _MANY:
            self._heads.clear()
            self._pairs.clear()
        name = text(0x0A, key)
        self._heads[key] = [bytes((self.tag, len(name) + n)) + name for n in range(128 - len(name))]
        self._pairs[key] = {}
        return self._new_pair(key, value)

    def _value(self, key: str, value: object) -> bytes:
        """Field 2 of a KeyValue: tag, length and an AnyValue; empty if OTLP has no form for it."""
        if self._redactor is not None:
            clean = self._redactor.redact_value(key, value)
            if clean is not value:
                self.redactions += 1
                value = clean
        try:
            return field(0x12, any_value(value))
        except (TypeError, ValueError) as error:
            _log.debug("attribute left out: %s", error)
            return b""


_LONG: Final = 126
_STRING_HEADS: Final = tuple(bytes((0x12, n + 2, 0x0A, n)) for n in range(_LONG))
"""What goes before a string of n bytes in field 2 of a KeyValue."""
_MANY_INTS: Final = 2048
_INTS: Final = tuple(field(0x12, any_value(n)) for n in range(_MANY_INTS))
"""Field 2 of a KeyValue for each small integer."""
