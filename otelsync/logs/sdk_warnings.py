"""Warnings of the SDK about attributes: each is logged once, where a loop over records would log it for every one."""

from __future__ import annotations

import logging
from typing import Final

from otelsync.hooks.host_errors import hand_back
from otelsync.text.presentable import text_of

LOGGER: Final = "opentelemetry.attributes"
MOST_DIFFERENT: Final = 100
"""Warnings; further ones are not logged."""
_LONGEST: Final = 200


class Once(logging.Filter):
    """Lets each message through once, told apart by its arguments: the name or the type of an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, ...]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a warning is new."""
        try:
            arguments = record.args if isinstance(record.args, tuple) else ()
            said = tuple(text_of(each)[:_LONGEST] for each in (record.msg, *arguments))
        except Exception as error:
            hand_back(error)
            return True
        if said in self._seen or len(self._seen) >= MOST_DIFFERENT:
            return False
        self._seen.add(said)
        return True


_once: Once | None = None


def begin() -> None:
    """Log each warning once from now on."""
    global _once
    if _once is None:
        _once = Once()
        logging.getLogger(LOGGER).addFilter(_once)


def end() -> None:
    """Leave the logger as :func:`begin` found it."""
    global _once
    if _once is not None:
        logging.getLogger(LOGGER).removeFilter(_once)
        _once = None
