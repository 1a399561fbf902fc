"""The shipper's checkpoint: how far each sink has come in each file, and what the files that are gone had held.

It is one small file beside the journals, a line of JSON and its checksum, replaced as a whole, so cursors and totals
always fit each other. Only the process that owns the directory writes it; anybody may read it.
"""

from __future__ import annotations

import base64
import os
import stat
import zlib
from contextlib import closing
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import orjson

from otelsync.journal.belonging import hand_over
from otelsync.journal.format import HEADER_SIZE
from otelsync.journal.header import JournalError, process_alive
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of

NAME = "shipper.json"
VERSION = 1
ASIDE = f"{NAME}.aside"
"""The beginning of the names of checkpoints that could not be used."""
STAGES = "stages"
"""The cursor of the shipper itself, which counts records and knows what stages are open."""
SIGNALS = ("span", "log")
_LARGEST = 256 * 1024 * 1024

Counts = dict[str, int]
"""Signal (span, log) to a number of records."""


class CheckpointError(Exception):
    """The file is there and cannot be used."""


@dataclass(slots=True)
class FileProgress:
    """Progress of each sink in one journal file."""

    cursors: dict[str, int] = field(default_factory=dict)
    """Offset of the first record that the sink has not taken."""
    taken: dict[str, Counts] = field(default_factory=dict)
    """Number of records that were taken."""

    def cursor(self, sink: str) -> int:
        """Return the offset at which `sink` goes on."""
        return self.cursors.get(sink, HEADER_SIZE)

    def count(self, sink: str, signal: str) -> int:
        """Return the number of records of `signal` that the sink has taken."""
        return self.taken.get(sink, {}).get(signal, 0)


@dataclass(slots=True)
class OpenSeries:
    """The open stages of one process."""

    boot_id: str = ""
    """Hexadecimal."""
    last_seen: int = 0
    """Unix nanoseconds: the latest time in the records of the series."""
    alive_at: int = 0
    """Unix nanoseconds: when a shipper last saw that its process runs."""
    stages: dict[str, list[str]] = field(default_factory=dict)
    """Span id to [body, resource, scope], each base64."""

    def bodies(self) -> list[bytes]:
        """Return the open stages as the journal held them."""
        return [decode(stage[0]) for stage in self.stages.values()]


@dataclass(slots=True)
class Verdict:
    """The end of a span whose process could not record it itself."""

    body: str
    """As the journal held it, base64."""
    read_at: int
    """Unix nanoseconds."""


@dataclass(slots=True)
class MetricMemory:
    """Facts about counted records that the metrics must remember. Counters themselves begin anew."""

    service: str = ""
    """The service's name, as the latest record has it."""
    ledger: Counts = field(default_factory=dict)
    """The ledger's sums that the counters have been told of (see `otelsync.shipping.metrics.service`)."""
    last_success: dict[str, Counts] = field(default_factory=dict)
    """By pipeline and repo (empty: the pipeline's own; kind, line feed, name: another group's): Unix seconds."""
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    """Facts about each service, as its records had them first."""


@dataclass(slots=True)
class Checkpoint:
    """All that a shipper must know to go on where another one stopped."""

    sinks: dict[str, list[str]] = field(default_factory=dict)
    """The sinks in use, and the signals that each takes."""
    files: dict[str, FileProgress] = field(default_factory=dict)
    open: dict[str, OpenSeries] = field(default_factory=dict)
    """By series."""
    pending: dict[str, list[str]] = field(default_factory=dict)
    """Stages that have ended, by span id, of which other processes may know more: as in `OpenSeries.stages`."""
    accounts: str = ""
    """Figures of what has ended in the open stages (see `otelsync.shipping.open_accounts`)."""
    ends_in: str = ""
    """The series in which ends of these stages are being written, until they stand open here no more."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By the id of the span that each is about."""
    totals: dict[str, dict[str, Counts]] = field(default_factory=dict)
    """Sink to signal to: shipped, folded, rejected, partial_success, expired, vanished; and recorded, in files that are
    gone."""
    recorded: Counts = field(default_factory=dict)
    """Signal to the number of records in files that are gone."""
    dropped: dict[str, Counts] = field(default_factory=dict)
    """Signal to reason to what the writers of files that are gone had dropped."""
    corrupted_bytes: int = 0
    retired: list[str] = field(default_factory=list)
    """Files that are accounted for and need only be deleted."""
    fold: str = ""
    """The state of folding at the cursors of the traces' sink (see `otelsync.shipping.folding.state`)."""
    held: int = 0
    """Spans that this sink has passed, and that are kept back in that state."""
    debug_logs: str = ""
    """The DEBUG records that the logs' sink has passed, and that wait for the end of their stages."""
    held_logs: int = 0
    """Number of records that are held back."""
    log_links: str = ""
    """The records that the logs' sink has passed, and that wait until it is known what becomes of their spans."""
    held_links: int = 0
    """Number of these."""
    fan_outs: str = ""
    """Repos that have traces of their own, as decided at the cursors of the shipper itself."""
    metrics: MetricMemory = field(default_factory=MetricMemory)

    def add(self, sink: str, signal: str, what: str, count: int) -> None:
        """Add to one of the totals of a sink."""
        if count:
            counts = self.totals.setdefault(sink, {}).setdefault(signal, {})
            counts[what] = counts.get(what, 0) + count

    def total(self, sink: str, signal: str, what: str) -> int:
        """One of the totals of a sink."""
        return self.totals.get(sink, {}).get(signal, {}).get(what, 0)


def load(directory: Path) -> Checkpoint | None:
    """The checkpoint in `directory`; None when there is none. Raises CheckpointError."""
    try:
        text = _content(directory / NAME)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(str(error)) from error
    try:
        document = orjson.loads(_checked(text))
        if document["version"] != VERSION:
            raise CheckpointError(
                f"{NAME} was written by another version of otelsync (its form: {document['version']})"
            )
        checkpoint: Checkpoint = _read(Checkpoint, document)
        _check_bodies(checkpoint)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{NAME} is damaged: {type(error).__name__}") from error
    return checkpoint


def _content(path: Path) -> bytes:
    """Read a file, which another user may have put there for root to read: no link, and no pipe. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no file")
        return file.read(_LARGEST + 1)


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `directory`. Raises OSError; the old one is then still there."""
    path = directory / NAME
    draft = directory / f"{NAME}.tmp"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        document = orjson.dumps({"version": VERSION, **_values(checkpoint)})
        file.write(document + b"\n%08x\n" % zlib.crc32(document))
    hand_over(draft)
    draft.replace(path)


def _values(checkpoint: Checkpoint) -> dict[str, object]:
    """Return the checkpoint's fields. What is in them orjson takes as it is; `asdict` would copy all of it."""
    return {each.name: getattr(checkpoint, each.name) for each in fields(checkpoint)}


def set_aside(directory: Path) -> str:
    """Move the checkpoint in `directory` out of the way, and return its new name. Raises OSError."""
    number = 1
    while os.path.lexists(directory / f"{ASIDE}-{number}"):
        number += 1
    (directory / NAME).rename(directory / f"{ASIDE}-{number}")
    return f"{ASIDE}-{number}"


def encode(body: bytes) -> str:
    """Bytes as they stand in the checkpoint."""
    return base64.b64encode(body).decode("ascii")


def decode(text: str) -> bytes:
    """The bytes that `encode` was given. Raises ValueError."""
    return base64.b64decode(text, validate=True)


def positions(directory: Path, writer: Writer | None = None) -> dict[str, int]:
    """The offset up to which each journal file is written; of all files, or of those of one process."""
    found: dict[str, int] = {}
    for segments in list_segments(directory).values():
        for segment in segments:
            if writer is not None and (segment.pid, segment.start_ticks) != (writer.pid, writer.start_ticks):
                continue
            committed = _committed(path_of(directory, segment.name))
            if committed is not None:
                found[segment.name] = committed
    return found


def arrived(directory: Path, targets: dict[str, int]) -> bool:
    """Return whether every sink of the directory's owner has passed the offsets in `targets`, by journal file.

    A file that is gone has been taken by all.
    """
    if not targets:
        return True
    try:
        checkpoint = load(directory)
    except CheckpointError:
        return False
    return checkpoint is not None and all(
        _passed(directory, checkpoint, name, target) for name, target in targets.items()
    )


def _passed(directory: Path, checkpoint: Checkpoint, name: str, target: int) -> bool:
    if name in checkpoint.retired:
        return True
    progress = checkpoint.files.get(name)
    if progress is None:
        return not path_of(directory, name).exists()
    return all(progress.cursor(sink) >= target for sink in (STAGES, *checkpoint.sinks))


def _committed(path: Path) -> int | None:
    """The end of the last record; None for a file that cannot be read, or not while its process writes it."""
    try:
        with closing(JournalReader(path)) as reader:
            header = reader.header
    except (OSError, JournalError):
        return None
    return None if header.damaged and process_alive(header) else header.committed


def _checked(text: bytes) -> bytes:
    """The document before its checksum: a digit that has changed would skip records. Raises ValueError."""
    document, _, checksum = text.rstrip(b"\n").rpartition(b"\n")
    if int(checksum, 16) != zlib.crc32(document):
        raise ValueError("the checksum is wrong")
    return document


def _read(kind: Any, value: Any) -> Any:
    """Make a JSON value what `kind` says: a dataclass, dict, list, text or count. Raises TypeError for any other value.

    Fields that are not there have their defaults, and those of later versions are ignored.
    """
    is_record: bool = is_dataclass(kind)
    plain: Any = dict if is_record else get_origin(kind) or kind
    if type(value) is not plain or (kind is int and value < 0):
        raise TypeError(f"not a {plain.__name__}")
    if is_record:
        return kind(**{name: _read(part, value[name]) for name, part in _fields(kind).items() if name in value})
    if plain is dict:
        return {key: _read(get_args(kind)[1], part) for key, part in value.items()}
    if plain is list:
        return [_read(get_args(kind)[0], part) for part in value]
    return value


_fields = cache(get_type_hints)


def _check_bodies(checkpoint: Checkpoint) -> None:
    """Raise ValueError unless each open stage has a body, a resource and a scope, and all can be decoded."""
    for series in checkpoint.open.values():
        bytes.fromhex(series.boot_id)
        for body, resource, scope in series.stages.values():
            _ = decode(body), decode(resource), decode(scope)
    for body, resource, scope in checkpoint.pending.values():
        _ = decode(body), decode(resource), decode(scope)
    for verdict in checkpoint.verdicts.values():
        decode(verdict.body)
