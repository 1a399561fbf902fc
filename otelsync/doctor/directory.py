"""The journal directory: permissions, room, memory maps, locks."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.doctor.places import existing, temporary
from otelsync.journal.format import FIRST_SEGMENT, LARGEST_SEGMENT, SUFFIX
from otelsync.settings import Settings
from otelsync.settings.checks import MIB

_STEP: Final = "directory"
_ELSEWHERE: Final = "set OTELSYNC_HOME to a directory on a local disk that can be written"
_WHY: Final = {
    errno.EROFS: "mount it for writing, or set OTELSYNC_HOME to a directory that can be written",
    errno.EACCES: "let this user write there, or set OTELSYNC_HOME to a directory of its own",
    errno.EPERM: "let this user write there, or set OTELSYNC_HOME to a directory of its own",
    errno.ENOSPC: "free some space there, or set OTELSYNC_HOME to another disk",
    errno.EDQUOT: "free some space there, or set OTELSYNC_HOME to another disk",
    errno.ENOTDIR: "move what is in the way, or set OTELSYNC_HOME to another directory",
}
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def examine(settings: Settings) -> list[Finding]:
    """Judge the journal's directory."""
    directory = settings.journal
    try:
        place = existing(directory)
        found = [*_writing(directory, settings), *_room(place, settings)]
    except OSError as error:
        return [_cannot(directory, error)]
    found += [finding for path in (settings.home, directory) for finding in _privacy(path)]
    return found


def _writing(directory: Path, settings: Settings) -> Iterator[Finding]:
    """Do what a journal and its shipper do: reserve, map and lock."""
    with temporary(directory, but_not=settings.journals) as place:
        fd = os.open(place / f"probe{SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(fd, 0, FIRST_SEGMENT)
            yield from _mapping(fd, directory)
            yield from _locking(fd, directory)
        finally:
            os.close(fd)
    yield ok(_STEP, "writable", f"{directory} can be written")


def _mapping(fd: int, directory: Path) -> Iterator[Finding]:
    try:
        with mmap.mmap(fd, FIRST_SEGMENT) as mapped:
            mapped[:5] = b"probe"
            seen = os.pread(fd, 5, 0)
    except (OSError, ValueError) as error:
        yield problem(_STEP, "no_mmap", f"files in {directory} cannot be mapped into memory: {error}", _ELSEWHERE)
        return
    if seen != b"probe":
        message = f"what is written into a memory map in {directory} is not in the file"
        yield problem(_STEP, "no_mmap", message, _ELSEWHERE)


def _locking(fd: int, directory: Path) -> Iterator[Finding]:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        message = f"files in {directory} cannot be locked ({error.strerror}), so nobody would ship what is recorded"
        yield problem(_STEP, "no_locks", message, _ELSEWHERE)


def _room(place: Path, settings: Settings) -> Iterator[Finding]:
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    left = f"{free / MIB:,.0f} MiB are free at {place}"
    if free < 2 * LARGEST_SEGMENT:
        message = f"{left}: records will be dropped as soon as a journal needs another file"
        yield problem(_STEP, "full", message, _WHY[errno.ENOSPC])
    elif status.f_files and not status.f_favail:
        yield problem(_STEP, "full", f"no inode is free at {place}", _WHY[errno.ENOSPC])
    elif free < settings.journal_max_bytes:
        yield warning(
            _STEP,
            "nearly_full",
            f"{left}, less than a journal may take ({settings.journal_max_bytes / MIB:,.0f} MiB)",
            "free some space there, or lower OTELSYNC_JOURNAL_MAX_BYTES to what there is",
        )
    else:
        yield ok(_STEP, "room", left)


def _privacy(path: Path) -> Iterator[Finding]:
    """Owner and mode. What is recorded may be confidential, and what another user made cannot be written."""
    try:
        status = path.stat()
    except OSError:
        return
    if status.st_uid != os.geteuid():
        message = f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}"
        fix = "run the doctor, the shipper and the program as one user, or chown it to theirs"
        yield warning(_STEP, "other_owner", message, fix)
    if status.st_mode & 0o077:
        message = f"{path} has mode {status.st_mode & 0o777:o}: others may read what is recorded"
        yield warning(_STEP, "not_private", message, f"chmod 700 {path}")


def _cannot(directory: Path, error: OSError) -> Finding:
    number = error.errno or 0
    code = "full" if number in _FULL else "unwritable"
    where = error.filename if isinstance(error.filename, str) and number == errno.ENOTDIR else directory
    message = f"{where} cannot be written: {error.strerror or error}; everything that is recorded is dropped"
    return problem(_STEP, code, message, _WHY.get(number, _ELSEWHERE))
