"""Text from outside made fit for HTML: nothing of it becomes markup, reorders or floods the page."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from otelsync.text.printable import printable


def text(value: object, width: int | None = 200) -> str:
    """`value` for the content of an element or a quoted attribute's value, in at most `width` cells before escaping."""
    return escape(printable(value, width), quote=True)


def inline_hash(content: str) -> str:
    """What a Content-Security-Policy calls an inline script or style: https://www.w3.org/TR/CSP3/#source-list-syntax."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
