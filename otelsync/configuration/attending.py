"""A shipper's own process at work: it ships while anybody records, finishes, and looks once more before it ends."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelsync.configuration.destinations import make_reports, make_shipper
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer
from otelsync.settings.handing_over import from_text
from otelsync.shipping.nudges import listen
from otelsync.shipping.ownership import NAME as LOCK
from otelsync.shipping.writers import anyone_writing, living_writers

if TYPE_CHECKING:
    from otelsync.shipping.shipper import Shipper

LINGERS: Final = 60.0
"""Seconds, at most, that are spent on what is left when nobody records any more."""
_WHEN_TOLD: Final = 5.0
"""Seconds for the last records after SIGTERM or SIGINT."""
_SLICE: Final = 2.0
"""Seconds between two looks for processes that record, while the rest is shipped."""
_LOOK_EVERY: Final = 0.2
"""The same while they do."""


class Attending:
    """Ships a directory for as long as processes record in it.

    Whoever records makes its file first, and then looks for an owner of the directory. Here the directory is given up
    first, and then looked at for new files. So one of the two always sees the other.

    Args:
        directory: The journal directory.
        settings: As text, of the program that wants it shipped.
        told: Signals by which the process was told to end.
    """

    def __init__(self, directory: Path, settings: str, told: list[int]) -> None:
        self._directory = directory
        self._told = told
        given = from_text(settings)
        self._reports = make_reports(given)
        self._make = make_shipper(given, reports=self._reports, within_program=True)
        self._patience = given.patience
        self._shipper: Shipper | None = None
        self._next_look = 0.0
        self._is_over = False
        self._writers: set[Writer] = set()

    def run(self) -> None:
        """Ship until nobody records and all is shipped, or it cannot be."""
        while self._ship():
            pass
        if self._reports is not None:
            self._reports.close(time.monotonic() + self._patience)

    def is_set(self) -> bool:
        """Return whether shipping should end: nobody records any more, or a signal said so."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            self._is_over = not self._is_anyone_recording()
        return self._is_over or bool(self._told)

    def _is_anyone_recording(self) -> bool:
        """Return that also if the directory was removed: it is put back, and its open stages are known here alone."""
        writers = living_writers(self._directory)
        if not (self._directory / LOCK).exists():
            writers |= {writer for writer in self._writers if writer.alive()}
        self._writers = writers
        return bool(writers)

    def _ship(self) -> bool:
        """Own the directory once, and ship it. Returns whether there is something new in it."""
        shipper = self._make()
        try:
            if not shipper.own():
                return False
            if self._shipper is None:
                with suppress(OSError):  # another user's, or no such file system: nudges only make it quicker
                    listen(self._directory, self._react)
            self._shipper = shipper
            shipper.wake()  # there is something already
            shipper.run(self)
            known = self._finish(shipper)
        finally:
            shipper.close()
        return not self._told and (anyone_writing(self._directory) or bool(self._files() - known))

    def _finish(self, shipper: Shipper) -> set[str]:
        """Ship what is left, within limits. Returns the files that were known when it began for the last time."""
        deadline = time.monotonic() + LINGERS
        while True:
            known = self._files()
            if self._told:
                shipper.drain(_WHEN_TOLD)
                return known
            left = deadline - time.monotonic()
            if shipper.drain(min(_SLICE, left)) or left <= _SLICE or anyone_writing(self._directory):
                return known

    def _files(self) -> set[str]:
        return {segment.name for segments in list_segments(self._directory).values() for segment in segments}

    def _react(self) -> None:
        self._next_look = 0.0
        if self._shipper is not None:
            self._shipper.hurry()
            self._shipper.wake()
