"""Words of an endpoint about a request: found in its answer, without secrets, short, and safe to print.

What a server says is hostile until shown otherwise, and it may say back what it was sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from otelsync.otlp.http_connection import is_page
from otelsync.otlp.partial_success import protobuf_fields
from otelsync.otlp.reply import LONGEST_REASON
from otelsync.text.printable import printable

if TYPE_CHECKING:
    from otelsync.redaction import Redactor

_MOST_READ: Final = 16 * 1024
"""Bytes of an answer that are looked at."""
_MESSAGE: Final = 2
"""Field of google.rpc.Status, which OTLP/HTTP answers with where it fails."""
_NAMES: Final = ("message", "error", "errorMessage", "detail", "details", "description", "title", "msg", "errors")
"""Fields of JSON that hold words, the likelier first."""
_LEAST_SECRET: Final = 6
"""Characters of a header's value; shorter ones are too common as words."""
_MOST_UNREADABLE: Final = 0.1
"""Part of a text that may be no text."""


def words_of(content: bytes, content_type: str) -> str:
    """Return what the body of an answer says, as it stands there; nothing if it holds no words."""
    content = content[:_MOST_READ]
    if is_page(content_type, content):
        title = title_of(content)
        return f'a web page titled "{title}"' if title else "a web page"
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/x-protobuf", "application/protobuf"):
        said = [value for number, value in protobuf_fields(content) if number == _MESSAGE and isinstance(value, bytes)]
        return _text(said[-1]) if said else ""
    if content.lstrip()[:1] in (b"{", b"["):
        return _of_json(content)
    return _text(content)


def title_of(page: bytes) -> str:
    """Return the title of a web page, on one line; nothing if it has none."""
    found = re.search(rb"(?i)<title[^>]{0,200}>([^<]{1,300})", page[:_MOST_READ])
    return "" if found is None else _text(found[1])


def shown(words: str, headers: Mapping[str, str], longest: int = LONGEST_REASON) -> str:
    """Return words without secrets, short and safe to print.

    `headers`: what was sent with the request; no value of theirs is shown.
    """
    words = words[: longest * 8]
    for value in headers.values():
        for part in (value, *value.split()):
            if len(part) >= _LEAST_SECRET and part.lower() != "bearer":
                words = words.replace(part, "[REDACTED]")
    return printable(_redactor().redact(words), longest)


def _of_json(content: bytes) -> str:
    try:
        said: Any = json.loads(content)
    except (ValueError, RecursionError):
        return _text(content)
    for _ in range(4):
        if isinstance(said, list):
            said = said[0] if said else ""
        elif isinstance(said, dict):
            said = next((said[name] for name in _NAMES if said.get(name)), "")
    return " ".join(said.split()) if isinstance(said, str) else ""


def _text(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    unreadable = sum(letter == "\ufffd" or (letter < " " and not letter.isspace()) for letter in text)
    return "" if unreadable > len(text) * _MOST_UNREADABLE else " ".join(text.split())


@cache
def _redactor() -> Redactor:
    from otelsync.redaction import Redactor  # takes a while to load, and most endpoints have nothing to say

    return Redactor()
