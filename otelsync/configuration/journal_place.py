"""Place of the journal on disk, made ready for processes of other users, and whose it is."""

from __future__ import annotations

import os
from pathlib import Path

from otelsync.journal.spool import make_spool
from otelsync.settings import Settings
from otelsync.text.printable import printable


def spool_for(settings: Settings) -> Path | None:
    """Return where processes record that become another user's than this one, which is root; None where nobody may.

    A process that is not root has been told of it, or has no use for it.
    """
    return make_spool(settings.journal) or settings.journal_spool


def whose(directory: Path) -> str:
    """Return in words whose a directory is, or the one above it that may be looked at, if it is another user's."""
    for place in (directory, *directory.parents) if hasattr(os, "geteuid") else ():
        try:
            uid = place.stat().st_uid
        except OSError:  # it is missing, or its owner, to whom something above belongs, lets nobody look
            continue
        if uid == os.geteuid() or os.access(place, os.W_OK | os.X_OK):
            return ""
        return f": {printable(place)} belongs to {_user(uid)}, and this process is {_user(os.geteuid())}"
    return ""


def _user(uid: int) -> str:
    try:
        import pwd

        return f"user {printable(pwd.getpwuid(uid).pw_name, 40)} ({uid})"
    except (ImportError, KeyError):
        return f"user {uid}"
