"""The spool: a second place for the files of a journal directory, for processes that may not write the first.

Where root records, the directory is root's alone, and a process that has become another user's, such as a worker of
``gunicorn --user`` or ``celery --uid``, can write there no more. So root makes a place in the directory for temporary
files where every user may add files, and nobody may touch another one's (mode 1777). It has a name that cannot be
guessed, in a directory that cannot be listed: only what root has told of it, by fork or by the environment, finds it.

The journal directory has a file that names it. Files of both places are one journal, with one shipper and one ledger.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "spool"
"""The file in a journal directory that names its spool."""
_OF: Final = "journal"
"""The file in a spool that names its journal directory."""
_ABOVE: Final = "otelsync-0"
_OLD: Final = 3600.0
"""Seconds for which a spool stays though no journal directory names it: it may just be about to."""
_MOST_SWEPT: Final = 256
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")
_LONGEST: Final = 4096
_CAN_ASK: Final = os.access in os.supports_effective_ids


def make_spool(directory: Path) -> Path | None:
    """Return the spool of a journal directory, made if it is missing; None for a user other than root, who needs none.

    None too where it cannot be made: then processes of other users record nothing.

    Raises:
        OSError: There is no such directory.
    """
    if os.geteuid() != 0:
        return None
    found = spool_of(directory)
    return found if found is not None or directory.lstat().st_uid != 0 else _make_alone(directory)


def _make_alone(directory: Path) -> Path | None:
    """Make the spool, unless another process of root's is about to. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return spool_of(directory) or _make_anywhere(directory)
    finally:
        os.close(fd)


def _make_anywhere(directory: Path) -> Path | None:
    for temporary in (os.environ.get("TMPDIR"), *_TEMPORARY):
        if temporary and temporary.startswith("/"):
            with suppress(OSError):
                return _made(directory, Path(temporary))
    return None


def spool_of(directory: Path) -> Path | None:
    """Return the spool that a journal directory names, if it is there and root's; None where this may not be read."""
    try:
        fd = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        named = os.fsdecode(os.read(fd, _LONGEST)) if stat.S_ISREG(status.st_mode) and status.st_uid == 0 else ""
    except OSError:
        return None
    finally:
        os.close(fd)
    return Path(named) if is_spool(named) else None


def is_spool(path: str | Path) -> bool:
    """Return whether a path is a spool that can be relied upon: root's own, in a directory that is root's alone."""
    try:
        above, status = os.lstat(os.path.dirname(path)), os.lstat(path)  # noqa: PTH120
    except OSError:
        return False
    is_roots = above.st_uid == status.st_uid == 0
    is_sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
    return is_roots and is_sticky and stat.S_ISDIR(above.st_mode) and not above.st_mode & 0o022


def path_of(directory: Path, name: str) -> Path:
    """Return where the file `name` of a journal directory is: in its spool, if it is not in the directory itself."""
    path = directory / name
    if not os.path.lexists(path):
        spool = spool_of(directory)
        if spool is not None and os.path.lexists(spool / name):
            return spool / name
    return path


def place_to_write(directory: Path, spool: Path | None) -> Path:
    """Return where this process may add files: the directory, unless it is another user's and there is a spool."""
    if spool is None or os.geteuid() == 0 or os.access(directory, os.W_OK | os.X_OK, effective_ids=_CAN_ASK):
        return directory
    return spool if is_spool(spool) else directory


def _made(directory: Path, temporary: Path) -> Path:
    """Make a spool below a directory for temporary files. Raises OSError."""
    above = temporary / _ABOVE
    with suppress(FileExistsError):
        above.mkdir(mode=0o700)
        above.chmod(0o711)  # whoever knows a name may pass, and nobody can list the names
    _sweep(above)
    spool = above / secrets.token_hex(16)
    spool.mkdir(mode=0o700)
    _write(spool / _OF, os.fsencode(directory.absolute()))
    spool.chmod(0o1777)
    draft = directory / f"{NAME}.{spool.name}"
    _write(draft, os.fsencode(spool))
    draft.replace(directory / NAME)
    return spool


def _write(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _sweep(above: Path) -> None:
    """Remove spools of journal directories that are gone. Raises OSError unless `above` is root's alone."""
    if os.lstat(above).st_uid != 0 or os.lstat(above).st_mode & 0o022:
        raise PermissionError(f"{above} is another user's")
    for spool in list(above.iterdir())[:_MOST_SWEPT]:
        with suppress(OSError):
            is_old = time.time() - os.lstat(spool).st_mtime > _OLD
            if is_old and spool_of(Path(os.fsdecode((spool / _OF).read_bytes()))) != spool:
                _remove(spool)


def _remove(spool: Path) -> None:
    """Remove a spool, unless it has files of a journal."""
    if os.listdir(spool) == [_OF]:  # noqa: PTH208
        (spool / _OF).unlink()
        spool.rmdir()
