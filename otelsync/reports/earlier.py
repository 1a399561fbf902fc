"""Earlier reports: which files are theirs, and which reports are too many.

Nothing is followed or removed that is not certainly ours: a folder named by a sync id, no link, with our summary in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from otelsync.reports.paths import is_sync_id

TEXT: Final = "_SYNC_SUMMARY.md"
PAGE: Final = "waterfall.html"
SUMMARY: Final = "summary.json"

_OF_A_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9._-]*\.md", re.ASCII)
"""Names that files of groups have."""
_HEAD: Final = re.compile(rb'\{\s*"format": \d+,\s*"otelsync": "')
"""The beginning of every ``summary.json`` of ours."""


def files_of_earlier(folder: Path) -> list[str]:
    """The files of groups that an earlier report has left. What else is there is not ours."""
    try:
        return _files_of_groups((folder / SUMMARY).read_bytes())
    except OSError:
        return []


def remove_oldest(directory: Path, keep: int) -> None:
    """Remove all reports in `directory` but the `keep` that were written last; 0 keeps all.

    Files that somebody else has put into a report's folder stay, and the folder with them; so does what cannot be
    removed.
    """
    if keep == 0:
        return
    with suppress(OSError), _opened(directory) as descriptor:
        with os.scandir(descriptor) as entries:
            reports = [(written, entry.name) for entry in entries if (written := _written(descriptor, entry.name))]
        for _, name in sorted(reports, reverse=True)[keep:]:
            with suppress(OSError):
                _remove(descriptor, name)


def _written(directory: int, name: str) -> int:
    """Return when a report was written, in nanoseconds since 1970; 0 if it is none of ours."""
    if not is_sync_id(name):
        return 0
    try:
        with _opened(name, directory) as folder, _opened_file(SUMMARY, folder) as file:
            status = os.fstat(file)
            return status.st_mtime_ns if S_ISREG(status.st_mode) and _HEAD.match(os.read(file, 64)) else 0
    except OSError:
        return 0


def _remove(directory: int, name: str) -> None:
    """The summary goes last: until then a report that is only half removed is known as ours."""
    with _opened(name, directory) as folder:
        with _opened_file(SUMMARY, folder) as file, open(file, "rb", closefd=False) as summary:
            groups = _files_of_groups(summary.read())
        for ours in (*groups, PAGE, TEXT, SUMMARY):
            with suppress(FileNotFoundError):
                os.unlink(ours, dir_fd=folder)
    os.rmdir(name, dir_fd=directory)


def _files_of_groups(summary: bytes) -> list[str]:
    try:
        names = [group["file"] for group in json.loads(summary)["groups"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and _OF_A_GROUP.fullmatch(name)]


@contextmanager
def _opened(name: str | Path, directory: int | None = None) -> Iterator[int]:
    """A directory, by its descriptor; no link to one, if it is in another."""
    follows = 0 if directory is None else os.O_NOFOLLOW
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | follows, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_file(name: str, directory: int) -> Iterator[int]:
    """A file of a directory, by its descriptor. A pipe is not waited for."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
