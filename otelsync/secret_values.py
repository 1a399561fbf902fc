"""Secrets that have a name before them: ``password=x``, ``"accessToken": "x"``, ``("token", "x")``."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from otelsync.secret_names import SecretNames

REDACTED: Final = "[redacted]"

_QUOTE: Final = r"\\{0,16}+[\"']"
"""Behind backslashes where one text was shown inside another."""
IS: Final = rf"(?:(?:{_QUOTE})?+\s{{0,64}}+(?>=>|:=|[:=])|%3[dD]|{_QUOTE}\s{{0,64}}+,)\s{{0,64}}+"
"""Text between a name and its value, in text and in Python's repr of a dict, a pair or bytes."""

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_LONGEST_NAME: Final = 64
_STEMS: Final = ("password", "passwd", "passphrase", "pass_phrase", "pwd", "secret", "token", "key", "credential")
_HEAD: Final = (
    rf"(?i)(?:password(?:[_-]hash)?+|passwd|pass_?phrase|pwd|secret|token|key(?:[_-]id)?+|credential)"
    rf"s?+(?:[_-]?[0-9]{{1,4}}+)?+\b({IS})"
)
"""A pattern that is made when it is first needed, as it takes 1 ms; so does the other one below."""
_OPEN: Final = re.compile(r"(?:[bBrRuUfF]{0,2}(\\{0,16}+)([\"']))?+", re.ASCII)
_INSIDE: Final = {
    '"': re.compile(r'(?:[^"\\\n]|\\.)*+', re.DOTALL),
    "'": re.compile(r"(?:[^'\\\n]|\\.)*+", re.DOTALL),
    "\\": re.compile(r"[^\"'\\\n]*+"),
}
_PLAIN: Final = re.compile(r"(?:(?!%26)[^\s\"'&,;}\\]){3,}+")
_PROSE: Final = re.compile(r"[A-Za-z]+[.,!]?\s+[a-z]")
_STANDS_FOR: Final = (
    r"\$[A-Z_]{2,64}|\$\{.{0,128}\}?|<.{0,64}>|"
    r"\{.{0,64}\}?|%(?:\(\w{1,64}\))?s|[*x.\u2026\u2022]{3,}|\[redacted\].{0,64}"
)
_NO_SECRETS: Final = frozenset(
    (
        *("none", "null", "nil", "undefined", "true", "false", "yes", "unset", "empty", "missing", "required"),
        *("optional", "invalid", "expired", "redacted", "masked", "hidden", "revoked", "unknown", "not", "n/a"),
    )
)


_pattern: Final = cache(re.compile)


class NamedSecrets:
    """Takes out what stands behind the name of a secret.

    Args:
        names: Knows these names.
    """

    words: Final = ("pass", "pwd", "secret", "token", "key", "credential")
    takes_any_case: Final = True

    def __init__(self, names: SecretNames) -> None:
        self._names = names

    def applied(self, text: str, searched: str, word: str, at: int) -> str:
        """`text` with all secrets replaced whose names end in `word`, which first stands at `at` in `searched`."""
        done, parts = 0, []
        while at >= 0:
            head = _pattern(_HEAD, re.ASCII).match(text, at)
            span = self._value(text, at, head) if head is not None else None
            if span is not None:
                parts += [text[done : span[0]], REDACTED]
                at = done = span[1]
            else:
                at = head.end() if head is not None else at + len(word)
            at = searched.find(word, at)
        return "".join((*parts, text[done:])) if parts else text

    def _value(self, text: str, at: int, head: re.Match[str]) -> tuple[int, int] | None:
        """Return where the secret begins and ends; None if there is none behind this name."""
        before = text[max(0, at - _LONGEST_NAME) : at]
        begin = len(before) - len(before[len(before.rstrip(_LETTERS)) :])
        name = before[begin:] + text[at : head.start(1)]
        if not self._names.is_secret(name) and not self._is_two_words(before, begin, name):
            return None
        opened = _OPEN.match(text, head.end())
        if opened is None:
            return None
        quote, start = opened[2], opened.end()
        is_pair = bool(quote) and before[:begin].rstrip("\\\"'b")[-1:] in ("(", "[")
        if head[1].rstrip().endswith(",") and not is_pair:
            return None
        inside = (_INSIDE["\\" if opened[1] else quote] if quote else _PLAIN).match(text, start)
        if inside is None or inside.end() == start or _is_harmless(name, inside[0], text, inside.end(), head[1], quote):
            return None
        return start, inside.end()

    def _is_two_words(self, before: str, begin: int, name: str) -> bool:
        """Return whether a name stands in two words, as in ``API key: x``."""
        if begin < 3 or before[begin - 1] != " " or name.lower() not in ("key", "keys", "token", "secret"):
            return False
        words = before[: begin - 1].rsplit(None, 1)
        return bool(words) and self._names.is_secret(f"{words[-1]}_{name}") and name.lower().startswith("key")


def _is_harmless(name: str, value: str, text: str, end: int, sign: str, quote: str | None) -> bool:
    """Return whether a value is no secret: there is none, or its name was prose."""
    low = value.lower()
    if low.rstrip(".!") in _NO_SECRETS or _pattern(_STANDS_FOR, re.IGNORECASE).fullmatch(value):
        return True
    if name.lower().endswith("pwd") and value[0] in "/~.":
        return True
    if name.lower().endswith("tokens") and value.isdecimal():
        return True
    return not quote and sign.strip() == ":" and sign[-1].isspace() and bool(_PROSE.match(text, end - len(value)))
