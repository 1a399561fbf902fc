"""Encoders that take secrets out on the way, and the C extension's way into the journal where it can be gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otelsync.journal.native import native
from otelsync.journal.writer import Journal
from otelsync.otlp.encoding import AttributeEncoder
from otelsync.redaction import Redactor

_SPAN_TAG, _EVENT_TAG, _LINK_TAG = 0x4A, 0x1A, 0x22


class Encoders:
    """Encoders of what spans hold, for one journal and one redactor; without a redactor everything stays as it is."""

    def __init__(self, journal: Journal, redactor: Redactor | None) -> None:
        self.redactor: Final = redactor
        self.redact: Final[Callable[[str], str]] = redactor.redact if redactor else _as_it_is
        self.span: Final = AttributeEncoder(_SPAN_TAG, redactor)
        self.inner: Final = (AttributeEncoder(_EVENT_TAG, redactor), AttributeEncoder(_LINK_TAG, redactor))
        """Encoders of events and of links."""
        self.append_span: Callable[..., bool] | None = None
        if native and type(journal).append is Journal.append and (redactor is None or redactor.is_standard):
            self.append_span = native.append_span


def _as_it_is(text: str) -> str:
    return text
