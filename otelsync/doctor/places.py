"""Directories that the doctor writes to for a moment, on the file system in question."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = ".otelsync-doctor-"


def existing(path: Path, *, but_not: Path | None = None) -> Path:
    """`path`, or the nearest directory above it that is there.

    Raises:
        OSError: It cannot be looked at, or something that is no directory is in the way.
    """
    for each in (path, *path.parents):
        try:
            status = os.stat(each)  # noqa: PTH116  (Path.is_dir says no where it may not look)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "something that is no directory is in the way", str(each))
        if each != but_not:
            return each
    return Path("/")


@contextmanager
def temporary(near: Path, *, but_not: Path | None = None) -> Iterator[Path]:
    """A new directory in `near`, or in the nearest directory above it that is there; removed at the end.

    `but_not`: a directory in which nothing may appear, as others take what is in it for theirs.

    Raises:
        OSError: None can be made.
    """
    place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=existing(near, but_not=but_not)))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
