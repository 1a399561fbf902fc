"""The ledger: every record is shipped, folded, dropped for a named reason or pending, and the sums prove it.

Any process can compute it, without a lock: from the shipper's checkpoint, the headers, and a count of the records in
the files themselves, which knows nothing of what the shipper has counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from otelsync.journal.format import DROP_REASONS, HEADER_SIZE
from otelsync.journal.header import JournalError, UnknownVersionError, process_alive
from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.shipping.checkpoint import (
    ASIDE,
    SIGNALS,
    STAGES,
    Checkpoint,
    CheckpointError,
    Counts,
    FileProgress,
    load,
)

_TRIES = 10
_REJECTIONS = ("rejected", "partial_success", "expired", "vanished")


@dataclass(frozen=True, slots=True)
class Account:
    """The fate of one signal's records on the way to one sink. All numbers count records."""

    sink: str
    signal: str
    """``span`` or ``log``."""
    recorded: int
    """Number of records of the host, written or dropped."""
    shipped: int
    """Delivered and accepted."""
    folded: int
    """Summed up in the attributes of another span; of log records, DEBUG of a stage that went well."""
    dropped: dict[str, int]
    """By reason: journal_full, disk, too_large, encode_error (by the writer), rejected, partial_success (by the
    endpoint), expired (it has taken nothing at all for too long), vanished (somebody removed or shortened a file).
    Reasons without a drop are left out."""
    pending: int
    """Written and not yet taken by this sink, or kept back until the span above has ended."""

    @property
    def reconciles(self) -> bool:
        """True if every record is accounted for."""
        return self.recorded == self.shipped + self.folded + sum(self.dropped.values()) + self.pending

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.dropped.items())
        return (
            f"{self.signal}s to {self.sink}: {self.recorded:,} recorded {'=' if self.reconciles else '≠'} "
            f"{self.shipped:,} shipped + {self.folded:,} folded + {sum(self.dropped.values()):,} dropped"
            f"{f' ({reasons})' if reasons else ''} + {self.pending:,} pending"
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """The accounts of one journal directory."""

    recorded: Counts
    """By signal, whether or not any sink takes it."""
    accounts: tuple[Account, ...]
    corrupted_bytes: int
    """Bytes in journals that held no readable record: how many records that was cannot be known."""
    dropped: dict[str, Counts] = field(default_factory=dict)
    """By signal and reason: what the writers of the journals have dropped, which is part of `recorded`."""
    remarks: tuple[str, ...] = ()
    """Sentences on files that could not be read, and are in no figure."""

    @property
    def reconciles(self) -> bool:
        """True if every record is accounted for, on the way to every sink."""
        return all(account.reconciles for account in self.accounts)

    def as_dict(self) -> dict[str, object]:
        """The ledger for JSON: signal, then sink."""
        sinks: dict[str, dict[str, object]] = {signal: {} for signal in SIGNALS}
        for account in self.accounts:
            numbers = asdict(account)
            sinks[numbers.pop("signal")][numbers.pop("sink")] = numbers
        signals = {signal: {"recorded": self.recorded[signal], "sinks": sinks[signal]} for signal in SIGNALS}
        return {
            "reconciles": self.reconciles,
            "corrupted_bytes": self.corrupted_bytes,
            "remarks": list(self.remarks),
            "signals": signals,
        }

    def __str__(self) -> str:
        parts = [str(account) for account in self.accounts]
        if not parts:
            parts = [f"{signal}s: {self.recorded[signal]:,} recorded, no sink" for signal in SIGNALS]
        if self.corrupted_bytes:
            parts.append(f"{self.corrupted_bytes:,} bytes corrupted")
        parts += self.remarks
        return "; ".join(parts)


def read_ledger(directory: Path) -> Ledger:
    """The ledger of a journal directory, at about this moment. A directory that is not there has an empty one."""
    for _ in range(_TRIES):
        checkpoint, remark = _load(directory)
        found = _look(directory, checkpoint)
        if found.missing == 0 or _load(directory)[0] == checkpoint:
            break  # else the shipper has retired a file in between
    if remark:
        found.remarks[remark] += 1
    if aside := sorted(path.name for path in directory.glob(f"{ASIDE}-*")):
        found.remarks[f"what was shipped before stands in {', '.join(aside)}, which could not be used"] += 1
    return _ledger(checkpoint, found)


def ledger_so_far(checkpoint: Checkpoint, files: Iterable[tuple[FileProgress, Mapping[str, Counts]]]) -> Ledger:
    """The ledger as far as the shipper itself has read; for its owner, at no cost.

    `files`: what has been taken of each file, and what its writer says of records dropped, by signal and reason.
    """
    found = _Findings()
    for progress, dropped in files:
        for signal in SIGNALS:
            found.dropped[signal].update(dropped[signal])
        _add_rest(progress, dict.fromkeys(SIGNALS, 0), checkpoint, found)
    return _ledger(checkpoint, found)


@dataclass(slots=True)
class _Findings:
    """Facts from the files."""

    recorded: Counter[str] = field(default_factory=Counter)
    """By signal."""
    pending: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By sink and signal."""
    dropped: dict[str, Counter[str]] = field(default_factory=lambda: {signal: Counter() for signal in SIGNALS})
    corrupted_bytes: int = 0
    passed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By sink and signal: records that have been taken of the files that are there."""
    remarks: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    """Files that the checkpoint knows and the directory does not have."""


def _load(directory: Path) -> tuple[Checkpoint, str]:
    try:
        return load(directory) or Checkpoint(), ""
    except CheckpointError as error:
        return Checkpoint(), f"{error}; what was shipped before is not known"


def _look(directory: Path, checkpoint: Checkpoint) -> _Findings:
    found = _Findings()
    retired = set(checkpoint.retired)
    unseen = dict(checkpoint.files)
    for progress in unseen.values():
        for sink, taken in progress.taken.items():
            found.passed.update({(sink, signal): count for signal, count in taken.items()})
    for segments in list_segments(directory).values():
        for segment in segments:
            if segment.name not in retired and _examine(path_of(directory, segment.name), checkpoint, found):
                unseen.pop(segment.name, None)
    found.missing = len(unseen)
    for progress in unseen.values():
        _add_rest(progress, dict.fromkeys(SIGNALS, 0), checkpoint, found)
    return found


def _examine(path: Path, checkpoint: Checkpoint, found: _Findings) -> bool:
    """Count what one file holds; False if it cannot be read."""
    try:
        with closing(JournalReader(path, patience=0)) as reader:
            header = reader.header
            if header.damaged and process_alive(header):
                return False
            for signal in SIGNALS:
                found.dropped[signal].update(header.dropped[signal])
            _count(reader, checkpoint.files.get(path.name, FileProgress()), checkpoint, found)
    except UnknownVersionError as error:
        found.remarks[f"left alone, as it is of another version ({error})"] += 1
    except FileNotFoundError:
        return False
    except (OSError, JournalError) as error:
        found.remarks[f"cannot be read ({getattr(error, 'strerror', None) or error})"] += 1
        return False
    return True


def _count(reader: JournalReader, progress: FileProgress, checkpoint: Checkpoint, found: _Findings) -> None:
    """Count the records of one file, and those behind each sink's cursor."""
    committed = reader.header.committed
    stages = progress.cursor(STAGES)
    if reader.header.missing or stages > committed:  # what was taken is no longer all there to be counted
        _, rest = _records(reader, min(stages, committed), committed)
        _add_rest(progress, rest, checkpoint, found)
        return
    marks = sorted({HEADER_SIZE, stages, *(progress.cursor(sink) for sink in checkpoint.sinks), committed})
    between = [(start, *_records(reader, start, end)) for start, end in pairwise(marks)]
    behind: dict[int, Counter[str]] = {committed: Counter()}
    total: Counter[str] = Counter()
    for start, lost, counts in reversed(between):
        total += counts
        behind[start] = total.copy()
        found.corrupted_bytes += lost if start >= stages else 0
    found.recorded.update(behind[HEADER_SIZE])
    for sink, signals in checkpoint.sinks.items():
        for signal in signals:
            found.pending[sink, signal] += behind[progress.cursor(sink)][signal]


def _records(reader: JournalReader, start: int, end: int) -> tuple[int, Counter[str]]:
    """Corrupted bytes and records, by signal, from offset `start` to `end`."""
    counts: Counter[str] = Counter()
    lost = 0
    while start < end and (batch := reader.read(start, limit=end)) is not None:
        counts.update(span=batch.spans, log=batch.logs)
        lost += batch.corrupted_bytes
        start = batch.end
    return lost, counts


def _add_rest(progress: FileProgress, rest: Counts, checkpoint: Checkpoint, found: _Findings) -> None:
    """Account for a file that is gone, wholly or in part, by what the shipper had seen of it."""
    for signal in SIGNALS:
        found.recorded[signal] += progress.count(STAGES, signal) + rest[signal]
    for sink, signals in checkpoint.sinks.items():
        for signal in signals:
            seen = progress.count(STAGES, signal) + rest[signal]
            found.pending[sink, signal] += seen - progress.count(sink, signal)


def _ledger(checkpoint: Checkpoint, found: _Findings) -> Ledger:
    dropped = {signal: found.dropped[signal] + Counter(checkpoint.dropped.get(signal, {})) for signal in SIGNALS}
    recorded = {
        signal: checkpoint.recorded.get(signal, 0) + found.recorded[signal] + dropped[signal].total()
        for signal in SIGNALS
    }
    in_use = [(sink, signal) for sink, signals in checkpoint.sinks.items() for signal in signals]
    return Ledger(
        recorded=recorded,
        accounts=(*(_account(checkpoint, found, dropped[on[1]], *on) for on in in_use), *_former(checkpoint, found)),
        corrupted_bytes=checkpoint.corrupted_bytes + found.corrupted_bytes,
        dropped={signal: _by_reason(dropped[signal]) for signal in SIGNALS},
        remarks=tuple(f"{count:,} x {remark}" if count > 1 else remark for remark, count in found.remarks.items()),
    )


def _account(checkpoint: Checkpoint, found: _Findings, dropped: Counter[str], sink: str, signal: str) -> Account:
    """The account of a sink in use, which answers for all records since it came into use."""
    return Account(
        sink=sink,
        signal=signal,
        recorded=checkpoint.total(sink, signal, "recorded") + found.recorded[signal] + dropped.total(),
        shipped=checkpoint.total(sink, signal, "shipped"),
        folded=checkpoint.total(sink, signal, "folded"),
        dropped=_by_reason(dropped + _rejected(checkpoint, sink, signal)),
        pending=found.pending[sink, signal] + _held(checkpoint, sink, signal),
    )


def _former(checkpoint: Checkpoint, found: _Findings) -> Iterator[Account]:
    """The accounts of sinks that are not in use any more, which answer for what they have taken."""
    for sink, signals in checkpoint.totals.items():
        for signal in signals if sink not in checkpoint.sinks else ():
            yield Account(
                sink=sink,
                signal=signal,
                recorded=checkpoint.total(sink, signal, "recorded") + found.passed[sink, signal],
                shipped=checkpoint.total(sink, signal, "shipped"),
                folded=checkpoint.total(sink, signal, "folded"),
                dropped=_by_reason(_rejected(checkpoint, sink, signal)),
                pending=_held(checkpoint, sink, signal),
            )


def _rejected(checkpoint: Checkpoint, sink: str, signal: str) -> Counter[str]:
    return +Counter({each: checkpoint.total(sink, signal, each) for each in _REJECTIONS})


def _held(checkpoint: Checkpoint, sink: str, signal: str) -> int:
    """Records that a sink has passed, and the shipper keeps back until it knows more."""
    held_logs = checkpoint.held_logs + checkpoint.held_links
    return {("traces", "span"): checkpoint.held, ("logs", "log"): held_logs}.get((sink, signal), 0)


def _by_reason(counts: Mapping[str, int]) -> Counts:
    """In the order in which a record meets the reasons."""
    known = [reason for reason in (*DROP_REASONS, *_REJECTIONS) if reason in counts]
    return {reason: counts[reason] for reason in [*known, *sorted(counts.keys() - known)]}
