"""Words for the kinds of groups and items: how a heading calls one of them, and several."""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = {"pr": "pull request", "api": "API call", "subitem": "sub-item"}
_IRREGULAR: Final = {"person": "people", "child": "children"}
_SIBILANT: Final = re.compile(r"(?:s|x|z|ch|sh)$")
_CONSONANT_Y: Final = re.compile(r"(?<=[^aeiou])y$")


def label(kind: str) -> str:
    """Return what people call one of a kind.

    >>> label("pr"), label("board_group")
    ('pull request', 'board group')
    """
    return _WORDS.get(kind, kind.replace("_", " ").strip())


def plural(kind: str, count: int = 2) -> str:
    """Return what people call `count` of a kind.

    >>> plural("customer"), plural("category"), plural("batch"), plural("order", 1)
    ('customers', 'categories', 'batches', 'order')
    """
    one = label(kind)
    if count == 1:
        return one
    first, _, last = one.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif _CONSONANT_Y.search(last):
        last = _CONSONANT_Y.sub("ies", last)
    else:
        last += "es" if _SIBILANT.search(last) else "s"
    return f"{first} {last}" if first else last
