"""The shipper's checkpoint: how far each sink has come in each file, and what the files that are gone had held.

It is one small file beside the journals, a line of JSON and its checksum, replaced as a whole, so cursors and totals
always fit each other. Only the process that owns the directory writes it; anybody may read it.
"""

from __future__ import annotations

import base64
import os
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from otelsync.recording.journal import HEADER_SIZE

NAME = "shipper.json"
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
    """What has been taken of one journal file, by sink."""

    cursors: dict[str, int] = field(default_factory=dict)
    """Offset of the first record that the sink has not taken."""
    taken: dict[str, Counts] = field(default_factory=dict)
    """How many records that makes."""

    def cursor(self, sink: str) -> int:
        """Where `sink` goes on."""
        return self.cursors.get(sink, HEADER_SIZE)

    def count(self, sink: str, signal: str) -> int:
        """How many records of `signal` the sink has taken."""
        return self.taken.get(sink, {}).get(signal, 0)


@dataclass(slots=True)
class OpenSeries:
    """The open stages of one process."""

    boot_id: str = ""
    """Hexadecimal."""
    last_seen: int = 0
    """Unix nanoseconds: the latest time in the records of the series."""
    stages: dict[str, list[str]] = field(default_factory=dict)
    """Span id to [body, resource, scope], each base64."""


@dataclass(slots=True)
class Checkpoint:
    """All that a shipper must know to go on where another one stopped."""

    sinks: dict[str, list[str]] = field(default_factory=dict)
    """The sinks in use, and the signals that each takes."""
    files: dict[str, FileProgress] = field(default_factory=dict)
    open: dict[str, OpenSeries] = field(default_factory=dict)
    """By series."""
    totals: dict[str, dict[str, Counts]] = field(default_factory=dict)
    """Sink to signal to: shipped, rejected, partial_success, vanished; and recorded, in files that are gone."""
    recorded: Counts = field(default_factory=dict)
    """Signal to the number of records in files that are gone."""
    dropped: dict[str, Counts] = field(default_factory=dict)
    """Signal to reason to what the writers of files that are gone had dropped."""
    corrupted_bytes: int = 0
    retired: list[str] = field(default_factory=list)
    """Files that are accounted for and need only be deleted."""

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
        with (directory / NAME).open("rb") as file:
            text = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(str(error)) from error
    try:
        return _checkpoint(orjson.loads(_checked(text)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{NAME} is damaged: {type(error).__name__}") from error


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `directory`. Raises OSError; the old one is then still there."""
    path = directory / NAME
    draft = directory / f"{NAME}.tmp"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        document = orjson.dumps({"version": 1, **asdict(checkpoint)})
        file.write(document + b"\n%08x\n" % zlib.crc32(document))
    draft.replace(path)


def encode(body: bytes) -> str:
    """Bytes as they stand in the checkpoint."""
    return base64.b64encode(body).decode("ascii")


def decode(text: str) -> bytes:
    """The bytes that `encode` was given. Raises ValueError."""
    return base64.b64decode(text, validate=True)


def _checked(text: bytes) -> bytes:
    """The document before its checksum: a digit that has changed would skip records. Raises ValueError."""
    document, _, checksum = text.rstrip(b"\n").rpartition(b"\n")
    if int(checksum, 16) != zlib.crc32(document):
        raise ValueError("the checksum is wrong")
    return document


def _checkpoint(document: object) -> Checkpoint:
    """The checkpoint that a JSON document describes. Any other document raises ValueError, TypeError or KeyError."""
    top = _mapping(document)
    if top["version"] != 1:
        raise ValueError("unknown version")
    return Checkpoint(
        sinks={name: [_text(signal) for signal in _list(value)] for name, value in _mapping(top["sinks"]).items()},
        files={name: _progress(_mapping(value)) for name, value in _mapping(top["files"]).items()},
        open={name: _open_series(_mapping(value)) for name, value in _mapping(top["open"]).items()},
        totals={
            sink: {signal: _counts(counts) for signal, counts in _mapping(value).items()}
            for sink, value in _mapping(top["totals"]).items()
        },
        recorded=_counts(top["recorded"]),
        dropped={signal: _counts(value) for signal, value in _mapping(top["dropped"]).items()},
        corrupted_bytes=_count(top["corrupted_bytes"]),
        retired=[_text(name) for name in _list(top["retired"])],
    )


def _progress(document: dict[str, object]) -> FileProgress:
    return FileProgress(
        cursors=_counts(document["cursors"]),
        taken={sink: _counts(value) for sink, value in _mapping(document["taken"]).items()},
    )


def _open_series(document: dict[str, object]) -> OpenSeries:
    stages = {key: [_text(part) for part in _list(value)] for key, value in _mapping(document["stages"]).items()}
    if any(len(parts) != 3 for parts in stages.values()):
        raise ValueError("an open stage has a body, a resource and a scope")
    for parts in stages.values():
        _ = [decode(part) for part in parts]
    return OpenSeries(_text(document["boot_id"]), _count(document["last_seen"]), stages)


def _counts(value: object) -> Counts:
    return {name: _count(count) for name, count in _mapping(value).items()}


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a count")
    return value


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("not an array")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value
