"""Sync ids that a store knows: those that begin as somebody has typed, and those that look like it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from otelsync.store.connection import address
from otelsync.text.printable import printable

MOST_KNOWN: Final = 200
"""The latest runs, among which one that was mistyped is looked for."""
_PATIENCE: Final = 0.2
"""Seconds to wait for a lock, where somebody has pressed a key."""
_ALIKE: Final = 0.7
"""The least likeness of what is proposed, as of `difflib`."""


def known_ids(store: sqlite3.Connection) -> list[str]:
    """Return the sync ids of the latest runs."""
    rows = store.execute(
        "SELECT sync_id FROM runs WHERE sync_id IS NOT NULL ORDER BY start_ns DESC LIMIT ?", (MOST_KNOWN,)
    )
    return [sync_id for (sync_id,) in rows]


def proposal(known: Iterable[str], wanted: str) -> str:
    """Return ``; did you mean ID?``, of ids that look like what was asked for, or like their hexadecimal part."""
    from difflib import get_close_matches

    names: dict[str, str] = {}
    for sync_id in known:
        names.setdefault(sync_id.upper(), sync_id)
        names.setdefault(sync_id.rpartition("-")[2].upper(), sync_id)
    alike = get_close_matches(wanted.strip().upper()[:60], names, n=1, cutoff=_ALIKE)
    return f"; did you mean {printable(names[alike[0]], 60)}?" if alike else ""


def begin_with(path: Path, prefix: str, most: int) -> list[tuple[str, str]]:
    """Return sync ids that begin so, the latest first, each with its pipeline, for a shell that completes them.

    The store is read and nothing else: no file is made, and none is waited for.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    uri = address(path, "ro")
    if not path.with_name(path.name + "-wal").exists():
        uri += "&immutable=1"  # nobody has it open: without that, SQLite would make files beside it
    store = sqlite3.connect(uri, uri=True, timeout=_PATIENCE)
    try:
        rows = store.execute(
            "SELECT DISTINCT sync_id, coalesce(pipeline, '') FROM runs"
            " WHERE substr(sync_id, 1, length(?1)) = upper(?1) ORDER BY start_ns DESC LIMIT ?2",
            (prefix, most),
        )
        return [(str(sync_id), str(pipeline)) for sync_id, pipeline in rows]
    finally:
        store.close()
