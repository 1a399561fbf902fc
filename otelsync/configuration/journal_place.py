"""The place of the journal on disk: made ready for processes of other users, or found to be one's own no more."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from otelsync.journal.segment import make_private
from otelsync.journal.spool import is_spool, make_spool
from otelsync.settings import Settings
from otelsync.text.printable import printable


def spool_for(settings: Settings) -> Path | None:
    """Return where processes record that become another user's than this one, which is root; None where nobody may.

    A process that is not root has been told of it, or has no use for it.
    """
    if os.geteuid() != 0:
        return settings.journal_spool
    with suppress(OSError):
        make_private(settings.journal)
        return make_spool(settings.journal)
    return None


def foreign_journal(settings: Settings) -> str:
    """Return a sentence on a journal that belongs to another user and cannot be written, with the fix; else nothing."""
    spool = settings.journal_spool
    if spool is not None and is_spool(spool):
        return ""
    for place in (settings.journal, *settings.journal.parents):
        try:
            status = place.stat()
        except FileNotFoundError:
            continue
        except OSError:  # its owner is one of those above, who lets nobody look
            continue
        if status.st_uid == os.geteuid() or os.access(place, os.W_OK | os.X_OK):
            return ""
        return (
            f"{printable(place)} belongs to {_user(status.st_uid)}, and this process is {_user(os.geteuid())}, who"
            " may not write there: nothing that it records is kept; set OTELSYNC_HOME to a directory of its own, or run"
            " both as one user"
        )
    return ""


def _user(uid: int) -> str:
    try:
        import pwd

        return f"user {printable(pwd.getpwuid(uid).pw_name, 40)} ({uid})"
    except (ImportError, KeyError):
        return f"user {uid}"
