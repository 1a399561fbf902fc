"""Names of journal files: the series of a process, and the place of each file in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from otelsync.journal.spool import spooled

_NAME: Final = re.compile(r"(([0-9]{1,10})-([0-9]{1,20})-[0-9a-f]{8})-([0-9]{6,9})\.journal", re.ASCII)

OTHER_VERSION: Final = ".other-version"
"""The ending that a file of another release gets when it is set aside."""


class SegmentName(NamedTuple):
    """The parts of a journal file's name."""

    series: str
    sequence: int
    name: str
    pid: int
    start_ticks: int


def parse_name(name: str) -> SegmentName | None:
    """Return the parts of a journal file's name; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return SegmentName(match[1], int(match[4]), name, int(match[2]), int(match[3]))


def list_segments(directory: Path) -> dict[str, list[SegmentName]]:
    """Return the journal files of `directory`, in it and in its spool, by series, each series in order.

    Other names are ignored. A directory that cannot be read is an empty one. `spool.path_of` says where a file is.
    """
    try:
        names = os.listdir(directory)  # noqa: PTH208  (Path.iterdir costs six times as much, once a second)
    except OSError:
        names = []
    series: dict[str, list[SegmentName]] = {}
    for segment in sorted(filter(None, map(parse_name, {*names, *spooled(directory)}))):
        series.setdefault(segment.series, []).append(segment)
    return series
