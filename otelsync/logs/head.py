"""The head of a record: the common part of all records of one level, logger and event."""

from __future__ import annotations

import logging
from typing import Final

from otelsync.levels import LEVELS
from otelsync.logs.failure_text import is_failure
from otelsync.logs.fields import dumped
from otelsync.logs.record_bytes import id_of, otlp_head
from otelsync.vocabulary import EVENT_ID

_NAMES: Final = {number: name for name, number in LEVELS.items()}


class Head:
    """The common part of the records of one level, logger and event, rendered and encoded."""

    __slots__ = (
        "event",
        "id",
        "is_failure",
        "is_shown",
        "json",
        "json_outside",
        "level",
        "logger",
        "otlp",
        "record",
        "ref",
    )

    def __init__(self, level: int, logger: str, event: str, service: str, ref: int, *, is_shown: bool) -> None:
        self.level = level
        self.logger = logger
        self.event = event
        self.ref = ref
        self.is_shown = is_shown
        """True if such a record is rendered; else it is journalled alone."""
        self.is_failure = is_failure(logger, event)
        """True if its body is a line of its own (see :mod:`otelsync.logs.failure_text`)."""
        self.id = id_of(event)
        name = _NAMES.get(level) or logging.getLevelName(level).lower()
        self.record = {"level": name, "service": service, "logger": logger, "event": event}
        """Fields that it has in common, but for the timestamp."""
        if self.id:
            self.record[EVENT_ID] = self.id
        self.json_outside = b'Z",' + dumped(self.record)[1:-2]
        """JSON from behind the timestamp up to the fields, outside any span."""
        self.json = self.json_outside + b',"trace_id":"'
        """The same up to where the trace id begins."""
        self.otlp = otlp_head(level, event)
