"""Secrets never leave the process: what looks like one is replaced before anything is rendered or journalled."""

from __future__ import annotations

from collections import UserString
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Final

from otelsync.bounds import LONGEST_KEY, LONGEST_TEXT, Allowance, digits_of, is_cut, is_light, note_of, shown
from otelsync.hooks.host_errors import hand_back
from otelsync.secret_patterns import SecretsInText
from otelsync.secret_values import REDACTED

CIRCULAR: Final = "[circular]"
TOO_DEEP: Final = "[too deep]"
_DEEPEST: Final = 32
_LARGE: Final = 2**64
_FEW: Final = 16
"""Fields of an object that is a name and a value."""
_MOST_PAIRS: Final = 256


class Redactor:
    """Takes secrets out of strings and names the fields that hold nothing else. What it returns is bounded.

    Args:
        keys: Further names of secrets, of fields and before ``=`` or ``:`` in text.
        patterns: Further regular expressions of secrets.

    Raises:
        re.error: A pattern is not a regular expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._text = SecretsInText(keys, patterns)
        self.is_standard = self._text.is_standard
        """True if it knows no more patterns than otelsync's own."""

    def is_secret_key(self, key: str) -> bool:
        """Return whether a field of this name is a secret; "author", "authority" and "tokenizer" are not."""
        if len(key) > LONGEST_KEY:  # its end says it
            key = key[-LONGEST_KEY:]
        return self._text.names.is_secret(key)

    def is_secret_parameter(self, name: str) -> bool:
        """Return whether a parameter of an address is a secret: more of them are than of fields."""
        return self._text.names.is_secret_parameter(name[-LONGEST_KEY:])

    def redact(self, text: str) -> str:
        """`text` with every secret in it replaced, and cut if it is very long; `text` itself if it holds none."""
        return self._text.removed(text) if len(text) <= LONGEST_TEXT else self.shorten(text, LONGEST_TEXT)

    def shorten(self, text: str, longest: int) -> str:
        """The same, cut behind at most so many characters; no part of a secret is left before the cut."""
        if len(text) <= longest or is_cut(text, longest):
            return self._text.removed(text)
        shown = self._text.removed_before(text, longest) if longest > 0 else ""
        return shown + note_of(len(text), "characters")

    def redact_value(self, key: str, value: object, allowance: Allowance | None = None) -> object:
        """The value of a field with every secret in it replaced, at any depth; `value` itself if it holds none.

        Numbers are no secrets, whatever they are called: ``max_tokens=4096``. What contains itself, or is nested
        deeper than 32 levels, ends there, and so does what goes beyond the `allowance` of the record that it is for.
        Never raises: what cannot be read is replaced.
        """
        try:
            return self._clean(_name(key), value, (), Allowance() if allowance is None else allowance)
        except Exception as error:
            hand_back(error)
            return f"[a {type(value).__name__} that raises {type(error).__name__}]"

    def _clean(self, key: str, value: object, around: tuple[int, ...], allowance: Allowance) -> object:
        """Clean `value`, which stands under `key` in the containers whose ids are `around`."""
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return value if -_LARGE < value < _LARGE else digits_of(value)
        if self.is_secret_key(key):
            return value if isinstance(value, str) and value in ("", REDACTED) else REDACTED
        if isinstance(value, str):
            return self._clean_text(value, allowance)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._clean_bytes(value, allowance)
        if id(value) in around:
            return CIRCULAR
        if len(around) == _DEEPEST:
            return TOO_DEEP
        return self._clean_inside(value, (*around, id(value)), allowance)

    def _clean_text(self, text: str, allowance: Allowance) -> str:
        longest = allowance.longest()
        allowance.characters -= min(len(text), allowance.characters)
        return self._text.removed(text) if len(text) <= longest else self.shorten(text, longest)

    def _clean_bytes(self, value: bytes | bytearray | memoryview, allowance: Allowance) -> object:
        if len(value) > LONGEST_TEXT:
            return self._clean_text(bytes(value[: 2 * LONGEST_TEXT]).decode("utf-8", "replace"), allowance) + note_of(
                len(value), "bytes"
            )
        raw = bytes(value)
        clean = self._clean_text(raw.decode("utf-8", "surrogateescape"), allowance).encode("utf-8", "surrogateescape")
        return value if clean == raw else clean

    def _clean_inside(self, value: object, around: tuple[int, ...], allowance: Allowance) -> object:
        if is_dataclass(value) and not isinstance(value, type):
            pairs = [(field.name, getattr(value, field.name, None)) for field in fields(value)]
            return self._clean_pairs(value, pairs, len(pairs), around, allowance)
        if isinstance(value, Mapping):
            return self._clean_pairs(value, value.items(), len(value), around, allowance)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, bytes)):
            second = self._clean(_name(value[0]), value[1], around, allowance)  # a header
            first = self._clean("", value[0], around, allowance)
            return value if first is value[0] and second is value[1] else (first, second)
        if isinstance(value, (list, tuple, set, frozenset, Sequence)) and not isinstance(value, UserString):
            return self._clean_items(value, around, allowance)
        text = shown(value)  # an exception, a URL: it is rendered so
        clean = self._clean_text(text, allowance)
        return value if clean is text and is_light(value) else clean

    def _clean_pairs(
        self,
        value: object,
        pairs: Iterable[tuple[object, object]],
        number: int,
        around: tuple[int, ...],
        allowance: Allowance,
    ) -> object:
        clean: dict[str, object] = {}
        is_same = True
        called = _called(value, pairs) if 2 <= number <= _FEW else ""
        for key, each in pairs:
            if allowance.items <= 0:
                clean["..."] = _note_for(value, number)
                return clean
            allowance.items -= 1
            name = self.name_of(key)
            under = called if called and name.lower() == "value" else name
            shown = clean[name] = self._clean(under, each, around, allowance)
            is_same = is_same and shown is each and (name is key or len(name) < LONGEST_KEY)
        return value if is_same else clean

    def _clean_items(self, value: Collection[object], around: tuple[int, ...], allowance: Allowance) -> object:
        clean: list[object] = []
        is_same = True
        items: Collection[object] = value
        if isinstance(value, list) and 0 < len(value) <= _MOST_PAIRS and all(map(_is_pair, value)):
            items = [tuple(pair) for pair in value]  # of headers, say: each is cleaned by its name
        for each in items:
            if allowance.items <= 0:
                return [*clean, _note_for(value, len(value))]
            allowance.items -= 1
            shown = self._clean("", each, around, allowance)
            clean.append(shown)
            is_same = is_same and shown is each
        return value if is_same else clean

    def name_of(self, key: object) -> str:
        """Return the name of a field as text, cut if it is long."""
        name = _name(key)
        return name if len(name) <= LONGEST_KEY else self.shorten(name, LONGEST_KEY)


def _called(value: object, pairs: Iterable[tuple[object, object]]) -> str:
    """Return the name in an object that has a name and a value, as APIs list settings; empty if it has none."""
    if not isinstance(value, dict):
        return ""
    for key, each in pairs:
        if isinstance(key, str) and key.lower() in ("name", "key") and isinstance(each, str):
            return each[:LONGEST_KEY]
    return ""


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _note_for(value: object, number: int) -> object:
    """The note that stands for the rest of a container; the one that it ends with, if it was cut before."""
    last = value[-1] if isinstance(value, (list, tuple)) else value.get("...") if isinstance(value, dict) else None
    return last if is_cut(last, 0) else note_of(number, "items")


def _name(key: object) -> str:
    if type(key) is str:
        return key
    if isinstance(key, bytes):
        return key[: 2 * LONGEST_KEY].decode("latin-1")
    return digits_of(key) if type(key) is int else str(key)
