"""The fate of a log record on its way: whether the journal has it already, whatever was raised in between."""

from __future__ import annotations


class Fate:
    """The state of a record on its way.

    Args:
        error: What has interrupted the first try; then the journal may have the record already.
        now: The time that it has, in nanoseconds since the epoch; 0: none yet.
    """

    is_settled = False
    """True if the record stands in the journal, or was counted as dropped."""
    was_there = False
    """True if the first try had come so far that nothing is left to do."""

    def __init__(self, error: BaseException | None = None, now: int = 0) -> None:
        self.error = error
        self.now = now
