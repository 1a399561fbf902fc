"""The spool: a second place for journal files, for processes that may not write root's journal directory.

Where root records, the directory is root's alone, and a process that has become another user's, such as a worker of
``gunicorn --user`` or ``celery --uid``, can write there no more. Its files go to `/tmp/otelsync-0` instead, where every
user may add files, nobody but root can list them, and nobody may touch another one's (mode 1733). The files of a
journal directory have a prefix there that only root can work out, and those whom root has told, by fork or by the
environment: what others put there is nobody's journal.

A spool is written as a path, the place with that prefix. Files of both places are one journal, with one shipper and one
ledger. Nothing of root's is ever written there.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from otelsync.digests import blake2b
from otelsync.hooks.host_errors import hand_back
from otelsync.journal import disk_errors

PLACES: Final = tuple(f"{temporary}/otelsync-0" for temporary in ("/tmp", "/var/tmp", "/dev/shm"))
"""The first that is there, or can be made."""
_KEY: Final = "key"
"""The file in the place from which prefixes are worked out; root's alone."""
_KEY_BYTES: Final = 32
_CAN_ASK: Final = os.access in os.supports_effective_ids


def make_spool(directory: Path) -> Path | None:
    """Return the spool of a journal directory, and make its place if that is missing.

    None for a user other than root, who needs none; where the directory is another user's; and where there is no place:
    then processes of other users record nothing.
    """
    if os.geteuid() != 0 or _owner(directory) != 0:
        return None
    for place in PLACES:
        try:
            _make(Path(place))
            return spool_of(directory)
        except OSError as error:
            hand_back(error)
    return None


def spool_of(directory: Path) -> Path | None:
    """Return the spool of a journal directory, for root; None for others, and where there is none."""
    if os.geteuid() != 0:
        return None
    for place in PLACES:
        if is_place(place):
            try:
                key = _key(Path(place))
                prefix = blake2b(os.fsencode(os.path.realpath(directory)), key=key, digest_size=16).hexdigest()
                return Path(place) / prefix
            except OSError as error:
                hand_back(error)
    return None


def is_place(path: str | Path) -> bool:
    """Return whether a directory is root's own, and everybody's files in it are safe from everybody else."""
    try:
        status = os.lstat(path)
    except OSError as error:
        disk_errors.expect(error)
        return False
    return status.st_uid == 0 and stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)


def in_spool(spool: Path, name: str) -> Path:
    """Return where a journal file of this name is in a spool."""
    return spool.with_name(f"{spool.name}-{name}")


def name_of(path: Path) -> str:
    """Return the name of a journal file, which may be in a spool."""
    return path.name.partition("-")[2] if str(path.parent) in PLACES else path.name


def spooled(directory: Path) -> list[str]:
    """Return the names of the files of a journal directory that are in its spool."""
    spool = spool_of(directory)
    if spool is None:
        return []
    try:
        names = os.listdir(spool.parent)  # noqa: PTH208  (Path.iterdir costs six times as much, once a second)
    except OSError as error:
        hand_back(error)
        return []
    prefix = f"{spool.name}-"
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def path_of(directory: Path, name: str) -> Path:
    """Return where the file `name` of a journal directory is: in its spool, if it is not in the directory itself."""
    path = directory / name
    if not os.path.lexists(path):
        spool = spool_of(directory)
        if spool is not None and os.path.lexists(in_spool(spool, name)):
            return in_spool(spool, name)
    return path


def is_needed(directory: Path, spool: Path | None) -> bool:
    """Return whether this process must add its files to the spool, as the directory is another user's, and can."""
    if spool is None or os.geteuid() == 0 or os.access(directory, os.W_OK | os.X_OK, effective_ids=_CAN_ASK):
        return False
    return is_place(spool.parent)


def _owner(directory: Path) -> int:
    """Return whose a directory is, or would be."""
    for place in (directory, *directory.parents):
        try:
            return os.stat(place).st_uid  # noqa: PTH116
        except OSError as error:
            hand_back(error)
    return -1


def _make(place: Path) -> None:
    """Make the place of all spools, unless it is there. Raises OSError: it cannot be made, or is another user's."""
    if not is_place(place):
        with suppress(FileExistsError):  # another process may have begun to
            place.mkdir(mode=0o700)
        if os.lstat(place).st_uid != 0 or not stat.S_ISDIR(os.lstat(place).st_mode):
            raise PermissionError(f"{place} is another user's")
        place.chmod(0o1733)
    with suppress(FileNotFoundError):
        _key(place)
        return
    draft = place / f"{_KEY}-{os.urandom(8).hex()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(os.urandom(_KEY_BYTES))
    try:
        with suppress(FileExistsError):  # another process was faster
            (place / _KEY).hardlink_to(draft)
    finally:
        draft.unlink()


def _key(place: Path) -> bytes:
    """Read the key. Raises OSError: there is none, or it is another user's."""
    fd = os.open(place / _KEY, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        key = os.read(fd, _KEY_BYTES)
    finally:
        os.close(fd)
    if status.st_uid != 0 or not stat.S_ISREG(status.st_mode) or len(key) != _KEY_BYTES:
        raise PermissionError(f"{place / _KEY} is not root's")
    return key
