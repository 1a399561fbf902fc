"""Encode attributes, spans and log records to OTLP protobuf bytes, without building message objects.

The wire format is protobuf's (https://protobuf.dev/programming-guides/encoding/), the messages are those of
opentelemetry-proto 1.x. Everything that repeats (keys, short strings, small integers) is encoded once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from otelsync.bounds import LITTLE, LONGEST_KEY, MOST_ITEMS, Allowance, is_cut, note_of
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.journal.native import native
from otelsync.text.presentable import text_of

if TYPE_CHECKING:
    from otelsync.redaction import Redactor

_log = own_logger(__name__)

_MANY_KEYS: Final = 256
_MANY_VALUES: Final = 256
"""Number of values that are kept of each key."""

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
    length = len(body)
    return (bytes((tag, length)) if length < 0x80 else bytes((tag,)) + varint(length)) + body


def text(tag: int, value: str) -> bytes:
    """A string field; what UTF-8 cannot hold (a lone surrogate) becomes a question mark."""
    return field(tag, value.encode("utf-8", "replace"))


def any_value(value: object) -> bytes:
    """An ``AnyValue`` message, without tag and length.

    Raises:
        ValueError: An integer does not fit into 64 bits.
        TypeError: The value is of a type that OTLP has no form for.
    """
    if isinstance(value, str):  # the patterns below ask abstract classes, at ten times the price
        return field(0x0A, value.encode("utf-8", "replace"))
    if type(value) is dict:
        return field(0x32, b"".join([field(0x0A, key_value(str(k), v)) for k, v in value.items()]))
    match value:
        case None:
            return b""
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
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
        otherwise: Makes a value that OTLP has a form for of one that it has none for; None: such a one is left out.

    ``strings[key][value]`` and ``ints[key][value]`` are whole encoded fields: those that come often are kept, and were
    tested for secrets when they were first seen. They raise TypeError for a key that is no string, or empty.
    """

    __slots__ = ("ints", "known", "otherwise", "redactions", "redactor", "strings", "tag")

    def __init__(
        self, tag: int, redactor: Redactor | None = None, otherwise: Callable[[object], object] | None = None
    ) -> None:
        self.tag = tag
        self.redactor = redactor
        self.otherwise = otherwise
        self.redactions = 0
        """Number of secrets taken out: a change tells the caller that its own copy still holds one."""
        self.known: dict[str, bytes | None] = {}
        """The encoded key of each name that was learnt; None for that of a secret."""
        self.strings = _Keys(self, _Strings)
        self.ints = _Keys(self, _Ints)

    def encode(self, attributes: Mapping[str, object]) -> bytes:
        """All attributes as bytes. One that has no OTLP form is left out, as the SDK does."""
        parts: list[bytes] = []
        self.extend(parts, attributes)
        return b"".join(parts)

    def extend(self, parts: list[bytes], attributes: Mapping[str, Any]) -> None:
        """Append all attributes to `parts`, free of secrets and within the bounds of a record."""
        if self.redactor is not None and not is_little(attributes):
            self.extend_with_clean(parts, self.clean(attributes))
            return
        strings, ints, other = self.strings, self.ints, self.other
        try:
            parts += [
                strings[key][value]
                if type(value) is str
                else ints[key][value]
                if type(value) is int  # not isinstance: True is not 1 here
                else other(key, value)
                for key, value in attributes.items()
            ]
        except TypeError:  # a key that is no text, or empty, as JSON from outside may have
            named = {text_of(key): value for key, value in attributes.items()}
            parts += [other(key, value) for key, value in named.items() if key]

    def extend_with_clean(self, parts: list[bytes], attributes: Mapping[str, object]) -> None:
        """Append what :meth:`clean` has returned to `parts`."""
        parts += [self._encoded(key, value) for key, value in attributes.items() if key]

    def clean(self, attributes: Mapping[Any, object]) -> Mapping[str, object]:
        """The attributes without secrets and within the bounds of a record; `attributes` themselves if they are so.

        A note stands where some were cut. What has no text for a name gets one.
        """
        redactor, allowance = self.redactor, self.allowance()
        if redactor is None:
            return attributes
        clean: dict[str, object] = {}
        is_same = type(attributes) is dict
        for key, value in attributes.items():
            if len(clean) >= MOST_ITEMS:
                clean["..."] = value if key == "..." and is_cut(value, 0) else note_of(len(attributes), "attributes")
                return clean
            name = redactor.name_of(key if type(key) is str else text_of(key))
            shown = clean[name] = redactor.redact_value(name, value, allowance)
            self.redactions += shown is not value
            is_same = is_same and shown is value and name is key
        return attributes if is_same else clean

    def allowance(self) -> Allowance:
        """Return what one record can hold."""
        return Allowance()

    def learn(self, attributes: Mapping[str, object]) -> None:
        """Take the keys into `known`: the C extension leaves to us what is not there."""
        known = self.known
        for key in attributes:
            if key not in known and type(key) is str and key:
                if len(known) >= _MANY_KEYS:
                    known.clear()
                is_secret = self.redactor is not None and self.redactor.is_secret_key(key)
                known[key] = None if is_secret else text(0x0A, key)

    def other(self, key: str, value: object) -> bytes:
        """An attribute of any type; empty if OTLP has no form for it."""
        redactor = self.redactor
        if redactor is not None:
            clean = redactor.redact_value(key, value)
            if clean is not value:
                self.redactions += 1
                value = clean
        return self._encoded(key, value)

    def _encoded(self, key: str, value: object) -> bytes:
        """An attribute that holds no secret."""
        try:
            return field(self.tag, key_value(key, value))
        except (TypeError, ValueError, RecursionError) as error:
            hand_back(error)
            if self.otherwise is not None:
                return field(self.tag, key_value(key, self.otherwise(value)))
            _log.debug("attribute %s left out: %s", key, error)
            return b""


def _is_little_in_python(fields: object) -> bool:
    """Return whether a dict holds plain values alone, and no more text than needs any care."""
    if type(fields) is not dict:
        return False
    left = LITTLE
    for name, value in fields.items():
        if type(name) is not str or len(name) > LONGEST_KEY:
            return False
        left -= len(name) + 8
        if type(value) is str:
            left -= len(value)
        elif type(value) is int:
            if not -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
                return False
        elif value is not None and type(value) not in (bool, float):
            return False
        if left < 0:
            return False
    return True


is_little: Final = native.is_little if native else _is_little_in_python


class _Keys(dict[str, "_Pairs"]):
    """The encoded attributes of one type of value, by key; a new key is learnt when it is first asked for."""

    __slots__ = ("_encoder", "_make")

    def __init__(self, encoder: AttributeEncoder, make: type[_Pairs]) -> None:
        self._encoder = encoder
        self._make = make

    def __missing__(self, key: str) -> _Pairs:
        if type(key) is not str or not key:
            raise TypeError("an attribute's key is a string that is not empty")
        if len(self) >= _MANY_KEYS:
            self.clear()
        pairs = self[key] = self._make(self._encoder, key)
        return pairs


class _Pairs(dict[Any, bytes]):
    """The encoded attributes under one key, by value: the first few hundred values are kept, the rest made anew."""

    __slots__ = ("_encoder", "_heads", "_is_secret", "_key", "_room")

    def __init__(self, encoder: AttributeEncoder, key: str) -> None:
        self._encoder = encoder
        self._key = key
        self._room = True
        self._is_secret = encoder.redactor is not None and encoder.redactor.is_secret_key(key)
        name = text(0x0A, key)
        self._heads = [bytes((encoder.tag, len(name) + n)) + name for n in range(max(0, 128 - len(name)))]
        """Bytes before a value of each short length: tag, length of the pair, and the key."""

    def _keep(self, value: object, pair: bytes) -> bytes:
        """Keep a pair, while there is room. Where every value is another, none is worth a place."""
        self[value] = pair
        self._room = len(self) < _MANY_VALUES
        return pair


class _Strings(_Pairs):
    """Strings under one key."""

    __slots__ = ()

    def __missing__(self, value: str) -> bytes:
        encoder = self._encoder
        redactor = encoder.redactor
        if redactor is not None:
            clean = str(redactor.redact_value(self._key, value)) if self._is_secret else redactor.redact(value)
            if clean is not value:
                encoder.redactions += 1
                return field(encoder.tag, key_value(self._key, clean))
        raw = value.encode("utf-8", "replace")
        length = len(raw)
        if length + 4 < len(self._heads):
            pair = self._heads[length + 4] + _STRING_HEADS[length] + raw
            return self._keep(value, pair) if self._room else pair
        return field(encoder.tag, text(0x0A, self._key) + field(0x12, field(0x0A, raw)))


class _Ints(_Pairs):
    """Integers under one key; numbers are no secrets, whatever they are called."""

    __slots__ = ()

    def __missing__(self, value: int) -> bytes:
        heads = self._heads
        if 0 <= value < 0x80 and len(heads) > 4:
            pair = heads[4] + bytes((0x12, 2, 0x18, value))
        elif 0 <= value < 0x4000 and len(heads) > 5:
            pair = heads[5] + bytes((0x12, 3, 0x18, value & 0x7F | 0x80, value >> 7))
        elif 0 <= value < 0x200000 and len(heads) > 6:
            pair = heads[6] + bytes((0x12, 4, 0x18, value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
        else:
            return self._encoder.other(self._key, value)
        return self._keep(value, pair) if self._room else pair


_STRING_HEADS: Final = tuple(bytes((0x12, n + 2, 0x0A, n)) for n in range(124))
"""Bytes before a string of n bytes in field 2 of a KeyValue."""
