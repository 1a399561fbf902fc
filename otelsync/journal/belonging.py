"""Belongings: what root makes in another user's directory is that user's, who must be able to go on with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from otelsync.journal import disk_errors


def make_file(path: Path) -> None:
    """Make an empty file for this user alone, unless it is there; as root, for the owner of its directory.

    Raises:
        OSError: It cannot be made, or a link stands in its place: whoever put it there chose another file.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    hand_over(path)


def hand_over(path: Path) -> None:
    """Give a file or an empty directory that root has just made to the owner of the directory that it is in.

    If it cannot be given away, it stays root's.
    """
    if os.geteuid() != 0:
        return
    try:
        if os.lstat(path.parent).st_uid == 0:
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            hand_over_open(fd, path.parent)
        finally:
            os.close(fd)
    except OSError as error:
        disk_errors.expect(error)


def hand_over_open(fd: int, directory: Path) -> None:
    """Give what is open to the owner of the directory that it is in, as `hand_over` does.

    That owner may have put something else in its place meanwhile, so it must be root's, and have one name alone.
    """
    if os.geteuid() != 0:
        return
    try:
        owner, status = os.lstat(directory), os.fstat(fd)
        is_file = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        is_empty = stat.S_ISDIR(status.st_mode) and not os.listdir(fd)
        if owner.st_uid != 0 and status.st_uid == 0 and (is_file or is_empty):
            os.fchown(fd, owner.st_uid, owner.st_gid)
    except OSError as error:
        disk_errors.expect(error)
