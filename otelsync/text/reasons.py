"""Reasons of errors: a message without what differs from one error to the next, so that those of one cause are one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LONGEST: Final = 500
"""Characters of a message that are looked at."""
GAP: Final = "…"
"""Stands for what was taken out."""

# Every repetition is possessive, or bounded by the length of a word: no text takes longer than its length times that.
_VARIABLE: Final = re.compile(
    r"""
      (?P<url> \b [a-z][a-z0-9+.-]{1,20} :// [^\s"'<>()\[\]{},;]++ )
    | (?<!\w) (?: '[^'\n]*+(?:'(?!\w)|\Z) | "[^"\n]*+(?:"|\Z) | `[^`\n]*+(?:`|\Z) )
    | “[^”\n]*+(?:”|\Z) | \u2018[^\u2019\n]*+(?:\u2019|\Z) | «[^»\n]*+(?:»|\Z)
    | \b [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} \b
    | \b 0x[0-9a-f]++
    | \b [0-9a-f]{7,}+ \b
    | \b [a-z0-9._%+-]{1,64}+ @ [a-z0-9.-]++
    | \b [a-z0-9_-]{8,}+ (?![a-z0-9_-])
    | \d++ (?: [.,:T_-] \d++ )*+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SEGMENT: Final = re.compile(r"[^/]++")
_VERSION: Final = re.compile(r"v\d{1,3}", re.IGNORECASE)
"""A part of a path that is the same in every call: ``v3``."""
_ROW: Final = re.compile(rf"{GAP}(?:[\s,;:/|-]{{1,3}}{GAP})++")
_SPACES: Final = re.compile(r"\s++")


@lru_cache(4_096)
def reason_of(message: str) -> str:
    """Return what a message says, without numbers, ids, quoted values and what varies in URLs.

    >>> reason_of("order 4711: no title in 'Shirts'"), reason_of("502 for https://api.io/orders/4711?page=2")
    ('order …: no title in …', '… for https://api.io/orders/…')
    """
    text = _SPACES.sub(" ", _VARIABLE.sub(_taken_out, message[:LONGEST])).strip()
    return _ROW.sub(GAP, text)


def _taken_out(found: re.Match[str]) -> str:
    text = found[0]
    if found["url"]:
        return _without_ids(text)
    if text[0].isalpha() and "@" not in text and not any(character.isdigit() for character in text):
        return text  # a word, such as "facade" or "internationalization"
    return GAP


def _without_ids(url: str) -> str:
    """Return a URL's constant parts: where it leads, without its query, and words of its path."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    ending = path[-1:] if path[-1:] in (":", ".", "!") else ""
    words = _SEGMENT.sub(_segment, path.removesuffix(ending))
    return f"{scheme}://{host.rpartition('@')[2].partition(':')[0]}{slash}{words}{ending}"


def _segment(found: re.Match[str]) -> str:
    word = found[0]
    varies = len(word) > 40 or any(character.isdigit() for character in word)
    return GAP if varies and not _VERSION.fullmatch(word) else word
