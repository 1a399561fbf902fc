"""Writing a folder so that nobody sees half of a file, or a first report of which files are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import mkdtemp

from otelsync.errors import OtelsyncError
from otelsync.journal.segment import make_private


class ReportError(OtelsyncError):
    """The report cannot be written; the message names the folder and the cause."""


def write_folder(folder: Path, files: Mapping[str, Iterable[str]], *, stale: Iterable[str] = ()) -> None:
    """Write `files` into `folder`, which is made (0700) or, if it is there, brought up to date file by file (0600).

    Args:
        folder: Where to.
        files: The text of each, in pieces, by name. The last one takes its place last.
        stale: Names of files of an earlier report, to be removed if they are not written again. Files that are not
            named stay.

    Raises:
        ReportError: The folder cannot be written.
    """
    try:
        make_private(folder.parent)
        staging = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name, pieces in files.items():
                _write(staging / name, pieces)
            _move(staging, folder, files)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for name in set(stale) - set(files):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"cannot write the report {folder}: {error.strerror or error}") from error


def _write(path: Path, pieces: Iterable[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(pieces)


def _move(staging: Path, folder: Path, names: Iterable[str]) -> None:
    try:
        staging.rename(folder)  # also over an empty one
    except OSError:
        if not folder.is_dir():
            raise
        for name in names:
            (staging / name).replace(folder / name)
