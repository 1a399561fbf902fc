"""The backlog: what waits in journals, who ships it, and what was lost before it could be."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.journal.format import HEADER_SIZE
from otelsync.journal.header import JournalError, UnknownVersionError, process_alive
from otelsync.journal.names import OTHER_VERSION, list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.settings import Settings
from otelsync.settings.checks import MIB
from otelsync.shipping.checkpoint import SIGNALS, STAGES, Checkpoint, CheckpointError, FileProgress, load
from otelsync.shipping.messages import latest
from otelsync.shipping.ownership import owner
from otelsync.text.printable import printable

_OLD: Final = 60.0
"""Seconds after which what waits should have been shipped."""
_MOST_DIRECTORIES: Final = 50
_LONGEST_SAID: Final = 300


@dataclass
class _Waiting:
    """Contents of one journal directory."""

    pending_bytes: int = 0
    files: int = 0
    """Those with something pending."""
    oldest: float = 0.0
    """Seconds since the oldest of them was begun."""
    dead: bool = True
    """True if the processes that wrote them have all ended."""
    unknown_version: int = 0
    unreadable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""


def examine(settings: Settings) -> list[Finding]:
    """Judge the journals of all services, or of the one that is named."""
    found: list[Finding] = []
    for directory in settings.journal_directories()[:_MOST_DIRECTORIES]:
        found += _judge(directory, _look(directory))
    if settings.ship == "off" and settings.journal.is_dir() and owner(settings.journal) is None:
        message = f"OTELSYNC_SHIP is off, and nobody ships {settings.journal} now"
        found.append(warning("no_shipper", message, "keep `otelsync ship` running with the same OTELSYNC_HOME"))
    return found or [ok("empty", "nothing waits to be shipped")]


def _look(directory: Path) -> _Waiting:
    """Read the headers and the checkpoint of a journal directory, and no records."""
    waiting, checkpoint = _Waiting(), Checkpoint()
    with suppress(CheckpointError):
        checkpoint = load(directory) or checkpoint
    for signal in SIGNALS:
        waiting.dropped.update(checkpoint.dropped.get(signal, {}))
        for sink, what in product(checkpoint.sinks, ("rejected", "partial_success", "expired")):
            waiting.dropped[what] += checkpoint.total(sink, signal, what)
    for segments in list_segments(directory).values():
        for segment in segments:
            if segment.name not in checkpoint.retired:
                _look_at(path_of(directory, segment.name), checkpoint, waiting)
    with suppress(OSError):
        waiting.unknown_version += sum(name.endswith(OTHER_VERSION) for name in os.listdir(directory))  # noqa: PTH208
    waiting.dropped = +waiting.dropped
    return waiting


def _look_at(path: Path, checkpoint: Checkpoint, waiting: _Waiting) -> None:
    try:
        with closing(JournalReader(path, patience=0)) as reader:
            header = reader.header
    except UnknownVersionError:
        waiting.unknown_version += 1
        return
    except FileNotFoundError:
        return  # shipped meanwhile
    except (OSError, JournalError):
        waiting.unreadable += 1
        return
    for signal in SIGNALS:
        waiting.dropped.update(header.dropped[signal])
    progress = checkpoint.files.get(path.name, FileProgress())
    taken = min([progress.cursor(sink) for sink in (STAGES, *checkpoint.sinks)])
    pending = header.committed - (taken if checkpoint.sinks else HEADER_SIZE)
    if pending > 0:
        waiting.pending_bytes += pending
        waiting.files += 1
        waiting.oldest = max(waiting.oldest, time.time() - header.created / 1e9)
        waiting.dead = waiting.dead and not process_alive(header)


def _judge(directory: Path, waiting: _Waiting) -> Iterator[Finding]:
    name = directory.name
    if waiting.pending_bytes:
        yield _pending(directory, waiting)
        for said in latest(directory, 1):
            ago = max(0.0, time.time() - said.seconds)
            message = f"{name}: {ago:,.0f} s ago its shipper said: {printable(said.text, _LONGEST_SAID)}"
            yield warning("shipper_said", message, "fix it: what waits is shipped then")
    if waiting.unknown_version:
        message = f"{name}: {waiting.unknown_version} journal files were written by another version of otelsync"
        fix = f"take {OTHER_VERSION} off their names and run `otelsync ship --once` of that version, or remove them"
        yield problem("other_version", message, fix)
    if waiting.unreadable:
        message = f"{name}: {waiting.unreadable} journal files cannot be read by this user, or are none"
        yield problem("unreadable", message, "run the doctor as the user that records, or look at the files")
    if waiting.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(waiting.dropped.items()))
        message = f"{name}: {waiting.dropped.total():,} records have been dropped so far ({reasons})"
        yield warning("dropped", message, "see `otelsync ledger` for when and why")


def _pending(directory: Path, waiting: _Waiting) -> Finding:
    mib, oldest, shipper = max(waiting.pending_bytes / MIB, 0.01), waiting.oldest, owner(directory)
    how_much = f"{directory.name}: {mib:,.2f} MiB in {waiting.files} files wait"
    if shipper is None:
        if waiting.dead or oldest > _OLD:
            message = f"{how_much}, since {oldest:,.0f} s, and nobody ships them"
            return problem("nobody_ships", message, "run `otelsync ship`, or `otelsync ship --once`")
        return ok("pending", f"{how_much}, and their process is about to ship them")
    idle = 0.0
    with suppress(OSError):  # it has not noted any progress yet
        idle = time.time() - (directory / "shipper.json").stat().st_mtime
    if idle > _OLD and oldest > _OLD:
        message = f"{how_much}, since {oldest:,.0f} s, and {_who(shipper)} has shipped nothing for {idle:,.0f} s"
        return problem("shipper_stuck", message, "fix what is said of the endpoint or the store below")
    return ok("pending", f"{how_much}, and {_who(shipper)} ships them")


def _who(pid: int) -> str:
    """A process by number and name; its arguments may be secret."""
    if pid == 0:
        return "a process outside this container"
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    except OSError:
        return f"process {pid}"
