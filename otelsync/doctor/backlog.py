"""The backlog: what waits in journals, who ships it, and what was lost before it could be."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.journal.format import HEADER_SIZE
from otelsync.journal.header import JournalError, UnknownVersionError, process_alive
from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.settings import Settings
from otelsync.settings.checks import MIB
from otelsync.shipping.checkpoint import SIGNALS, STAGES, Checkpoint, CheckpointError, FileProgress, load
from otelsync.shipping.ownership import owner

_STEP: Final = "backlog"
_OLD: Final = 60.0
"""Seconds after which what waits should have been shipped."""
_MOST_DIRECTORIES: Final = 50


@dataclass
class Waiting:
    """Contents of one journal directory."""

    name: str
    pending_bytes: int = 0
    oldest: float = 0.0
    """Seconds since the oldest file with something pending was begun."""
    dead: bool = True
    """True if the processes that wrote what is pending have all ended."""
    files: int = 0
    unknown_version: int = 0
    unreadable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    owner: int | None = None
    """The process that ships it."""
    idle: float = 0.0
    """Seconds since the shipper last noted progress."""


def examine(settings: Settings) -> list[Finding]:
    """Judge the journals of all services, or of the one that is named."""
    found: list[Finding] = []
    for directory in settings.journal_directories()[:_MOST_DIRECTORIES]:
        found += _judge(look(directory))
    if settings.ship == "off" and settings.journal.is_dir() and owner(settings.journal) is None:
        message = f"OTELSYNC_SHIP is off, and nobody ships {settings.journal} now"
        found.append(warning(_STEP, "no_shipper", message, "keep `otelsync ship` running with the same OTELSYNC_HOME"))
    return found or [ok(_STEP, "empty", "nothing waits to be shipped")]


def look(directory: Path) -> Waiting:
    """Read the headers and the checkpoint of a journal directory, and no records."""
    waiting = Waiting(directory.name, owner=owner(directory))
    try:
        checkpoint = load(directory) or Checkpoint()
    except CheckpointError:
        checkpoint = Checkpoint()
    for signal in SIGNALS:
        waiting.dropped.update(checkpoint.dropped.get(signal, {}))
        for sink in checkpoint.sinks:
            waiting.dropped.update(
                {what: checkpoint.total(sink, signal, what) for what in ("rejected", "partial_success")}
            )
    for segments in list_segments(directory).values():
        for segment in segments:
            if segment.name not in checkpoint.retired:
                _look_at(directory / segment.name, checkpoint, waiting)
    waiting.dropped = +waiting.dropped
    waiting.idle = _age(directory / "shipper.json")
    return waiting


def _look_at(path: Path, checkpoint: Checkpoint, waiting: Waiting) -> None:
    try:
        reader = JournalReader(path, patience=0)
    except UnknownVersionError:
        waiting.unknown_version += 1
        return
    except FileNotFoundError:
        return  # shipped meanwhile
    except (OSError, JournalError):
        waiting.unreadable += 1
        return
    header = reader.header
    reader.close()
    for signal in SIGNALS:
        waiting.dropped.update(header.dropped[signal])
    progress = checkpoint.files.get(path.name, FileProgress())
    taken = min([progress.cursor(sink) for sink in (STAGES, *checkpoint.sinks)])
    pending = header.committed - (taken if checkpoint.sinks else HEADER_SIZE)
    if pending > 0:
        waiting.pending_bytes += pending
        waiting.files += 1
        waiting.oldest = max(waiting.oldest, time.time() - header.created / 1e9 if header.created else _age(path))
        waiting.dead = waiting.dead and not process_alive(header)


def _age(path: Path) -> float:
    """Seconds since a file was written."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _judge(waiting: Waiting) -> Iterator[Finding]:
    name = waiting.name
    if waiting.pending_bytes:
        yield _pending(waiting)
    if waiting.unknown_version:
        message = f"{name}: {waiting.unknown_version} journal files were written by another version of otelsync"
        fix = "run `otelsync ship --once` of that version, or remove them if they do not matter"
        yield problem(_STEP, "other_version", message, fix)
    if waiting.unreadable:
        message = f"{name}: {waiting.unreadable} journal files cannot be read by this user, or are none"
        yield problem(_STEP, "unreadable", message, "run the doctor as the user that records, or look at the files")
    if waiting.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(waiting.dropped.items()))
        message = f"{name}: {waiting.dropped.total():,} records have been dropped so far ({reasons})"
        yield warning(_STEP, "dropped", message, "see `otelsync ledger` for when and why")


def _pending(waiting: Waiting) -> Finding:
    how_much = f"{waiting.name}: {max(waiting.pending_bytes / MIB, 0.01):,.2f} MiB in {waiting.files} files wait"
    since = f"since {waiting.oldest:,.0f} s"
    if waiting.owner is None and (waiting.dead or waiting.oldest > _OLD):
        message = f"{how_much}, {since}, and nobody ships them"
        return problem(_STEP, "nobody_ships", message, "run `otelsync ship`, or `otelsync ship --once`")
    if waiting.owner is not None and waiting.idle > _OLD and waiting.oldest > _OLD:
        message = f"{how_much}, {since}, and {_who(waiting.owner)} has shipped nothing for {waiting.idle:,.0f} s"
        return problem(_STEP, "shipper_stuck", message, "fix what is said of the endpoint or the store below")
    by = f"{_who(waiting.owner)} ships them" if waiting.owner is not None else "their process is about to ship them"
    return ok(_STEP, "pending", f"{how_much}, and {by}")


def _who(pid: int) -> str:
    """A process by number and name; its arguments may be secret."""
    if pid == os.getpid():
        return "this process"
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    except OSError:
        return f"process {pid}" if pid > 0 else "a process outside this container"
