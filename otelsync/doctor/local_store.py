"""The local store: can it be read and written? It is opened for reading only."""

from __future__ import annotations

import os
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem
from otelsync.doctor.places import existing
from otelsync.errors import RunNotFoundError, StoreError
from otelsync.settings import Settings
from otelsync.store.runs import open_store

_STEP: Final = "store"
_ELSEWHERE: Final = "set OTELSYNC_STORE_PATH to a file that can be written"


def examine(settings: Settings) -> list[Finding]:
    """Judge the local store."""
    path = settings.store_file
    try:
        directory = existing(path.parent)
    except OSError as error:
        return [problem(_STEP, "unwritable", f"{path} cannot be written: {error.strerror}", _ELSEWHERE)]
    unwritable = next((each for each in (directory, path) if each.exists() and not os.access(each, os.W_OK)), None)
    if unwritable is not None:
        return [problem(_STEP, "unwritable", f"{unwritable} cannot be written, so no run is stored", _ELSEWHERE)]
    try:
        with open_store(path) as store:
            (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    except RunNotFoundError:
        return [ok(_STEP, "none_yet", f"{path} is made when something has been recorded")]
    except StoreError as error:
        fix = "move the file away, and a new one is begun, or set OTELSYNC_STORE_PATH to another"
        return [problem(_STEP, "unusable", str(error), fix)]
    return [ok(_STEP, "readable", f"{path} can be read: {runs:,} traces")]
