"""The home on its disk: whether the journal's directory and the local store can be used, and by whom."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.errors import RunNotFoundError, StoreError
from otelsync.journal.format import FIRST_SEGMENT, LARGEST_SEGMENT, SUFFIX
from otelsync.settings import Settings
from otelsync.settings.checks import MIB
from otelsync.store.runs import open_store

_ELSEWHERE: Final = "set OTELSYNC_HOME to a directory on a local disk that can be written"
_NOT_ALLOWED: Final = "let this user write there, or set OTELSYNC_HOME to a directory of its own"
_FULL: Final = "free some space there, or set OTELSYNC_HOME to another disk"
_FIXES: Final = {
    errno.EROFS: "mount it for writing, or set OTELSYNC_HOME to a directory that can be written",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ENOTDIR: "move what is in the way, or set OTELSYNC_HOME to another directory",
}


def examine_journal(settings: Settings) -> list[Finding]:
    """Judge the journal's directory: permissions, memory maps, locks, room, privacy."""
    directory = settings.journal
    try:
        _write(directory, settings)
        room = _room(_existing(directory), settings)
    except OSError as error:
        return [_cannot(directory, error)]
    privacy = [finding for path in (settings.home, directory) for finding in _privacy(path)]
    return [ok("writable", f"{directory} can be written"), room, *privacy]


def _write(directory: Path, settings: Settings) -> None:
    """Do as a journal and its shipper do: reserve, map and lock. Raises OSError."""
    import fcntl
    import mmap

    with temporary(directory, but_not=settings.journals) as place, (place / f"probe{SUFFIX}").open("xb+") as file:
        os.posix_fallocate(file.fileno(), 0, FIRST_SEGMENT)
        with closing(mmap.mmap(file.fileno(), FIRST_SEGMENT)):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _room(place: Path, settings: Settings) -> Finding:
    free = shutil.disk_usage(place).free
    left = f"{free / MIB:,.0f} MiB are free at {place}"
    if free < 2 * LARGEST_SEGMENT:
        return problem("full", f"{left}: records will be dropped as soon as a journal needs another file", _FULL)
    if free < settings.journal_max_bytes:
        message = f"{left}, less than a journal may take ({settings.journal_max_bytes / MIB:,.0f} MiB)"
        fix = "free some space there, or lower OTELSYNC_JOURNAL_MAX_BYTES to what there is"
        return warning("nearly_full", message, fix)
    return ok("room", left)


def _privacy(path: Path) -> Iterator[Finding]:
    """Owner and mode. What is recorded may be confidential, and what another user made cannot be written."""
    try:
        status = path.stat()
    except OSError:
        return
    if status.st_uid != os.geteuid():
        message = f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}"
        fix = "run the doctor, the shipper and the program as one user, or chown it to theirs"
        yield warning("other_owner", message, fix)
    if status.st_mode & 0o077:
        message = f"{path} has mode {status.st_mode & 0o777:o}: others may read what is recorded"
        yield warning("not_private", message, f"chmod 700 {path}")


def _cannot(directory: Path, error: OSError) -> Finding:
    number = error.errno or 0
    fix = _FIXES.get(number, _ELSEWHERE)
    where = error.filename if isinstance(error.filename, str) and number == errno.ENOTDIR else directory
    message = f"{where} cannot be written: {error.strerror or error}"
    return problem("full" if fix == _FULL else "unwritable", message, fix)


def examine_store(settings: Settings) -> Finding:
    """Judge the local store. It is opened for reading only."""
    path = settings.store_file
    elsewhere = "set OTELSYNC_STORE_PATH to a file that can be written"
    try:
        directory = _existing(path.parent)
    except OSError as error:
        return problem("unwritable", f"{path} cannot be written: {error.strerror}", elsewhere)
    unwritable = next((each for each in (directory, path) if each.exists() and not os.access(each, os.W_OK)), None)
    if unwritable is not None:
        return problem("unwritable", f"{unwritable} cannot be written, so no run is stored", elsewhere)
    try:
        with open_store(path) as store:
            (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    except RunNotFoundError:
        return ok("none_yet", f"{path} is made when something has been recorded")
    except StoreError as error:
        fix = "move the file away, and a new one is begun, or set OTELSYNC_STORE_PATH to another"
        return problem("unusable", str(error), fix)
    return ok("readable", f"{path} can be read: {runs:,} traces")


@contextmanager
def temporary(near: Path, *, but_not: Path | None = None) -> Iterator[Path]:
    """A new directory in `near`, or in the nearest directory above it that is there; removed at the end.

    `but_not`: a directory in which nothing may appear, as others take what is in it for theirs.

    Raises:
        OSError: None can be made.
    """
    place = tempfile.mkdtemp(prefix=".otelsync-doctor-", dir=_existing(near, but_not=but_not))
    try:
        yield Path(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _existing(path: Path, *, but_not: Path | None = None) -> Path:
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
            raise NotADirectoryError(errno.ENOTDIR, "something that is no directory is in the way", str(each))
        if each != but_not:
            return each
    return Path("/")
