"""The present work of one process, from its journal: open stages, how far they are, and the last records.

Only what matters is decoded: a journal's end holds thousands of records. All of it is somebody else's text.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, TypeAlias, TypeGuard, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelsync import vocabulary
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import resource_attributes, span_id, untagged
from otelsync.shipping.checkpoint import OpenSeries, decode
from otelsync.text.limits import limits_of
from otelsync.vocabulary import groups_of, is_item, part_of

PIPELINE: Final = vocabulary.NAMED_PIPELINE
PROGRESS: Final = ".progress"
_PHASE: Final = "sync.pipeline.phase_changed"
_MOST: Final = 10_000
"""Of anything that is kept: open stages, trackers, runs."""
_MOST_TRACES: Final = 100
"""Runs whose last record is kept, for each process."""
_MOST_SEARCHED: Final = 20
"""Runs whose last log record is looked for."""
_LONGEST: Final = 1_000
"""Characters of a text that are kept; the rest is not shown anyway."""

_OWN: Final = frozenset(("done", "total", "percent", "eta_low_seconds", "eta_high_seconds", "waits_ahead_seconds"))
"""Fields of a progress event that are no counts of items."""

# What the bytes of a record hold that is worth decoding.
_PIPELINE: Final = PIPELINE.encode()
_PROGRESS: Final = PROGRESS.encode()
_PHASE_CHANGED: Final = _PHASE.encode()
_OF_A_RUN: Final = vocabulary.SYNC_ID.encode()
_NAME_TAG: Final = 0x2A
_REMAINING: Final = vocabulary.SYNC_RATE_LIMIT_REMAINING.encode()
_WHICH_LIMIT: Final = tuple(
    name.encode()
    for name in (
        vocabulary.SYNC_RATE_LIMIT_RESOURCE,
        vocabulary.SYNC_RATE_LIMIT_HOST,
        vocabulary.SYNC_RATE_LIMIT_TOKEN,
    )
)
"""Attributes that tell limits apart."""

Groups: TypeAlias = tuple[tuple[str, str], ...]
"""Kind and name of each, the outermost first."""
Key = TypeVar("Key")
Value = TypeVar("Value")
Record = TypeVar("Record", Span, LogRecord)


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """A span that has begun and not ended. `attributes` are those of its beginning."""

    span_id: str
    parent_id: str
    trace_id: str
    name: str
    start_ns: int
    attributes: Mapping[str, object]

    @property
    def sync_id(self) -> str:
        """Of the run that it belongs to; empty if it belongs to none."""
        return text(self.attributes.get(vocabulary.SYNC_ID))


@dataclass(frozen=True, slots=True)
class Progress:
    """The last progress event of a stage; see `otelsync.stages.progress`. Seconds count from `time_ns`."""

    trace_id: str
    span_id: str
    kind: str
    """The stage's: ``sync.repo``."""
    groups: Groups
    """The groups that it is in, and it itself if it is one."""
    done: int
    total: int | None
    percent: float | None
    eta_low: float | None
    eta_high: float | None
    waits_ahead: float
    counts: Mapping[str, int]
    time_ns: int


@dataclass(frozen=True, slots=True)
class LastItem:
    """The item that ended last."""

    kind: str
    """``pr``, ``order``."""
    key: str
    groups: Groups
    end_ns: int


@dataclass(frozen=True, slots=True)
class LimitLeft:
    """A rate limit as it was last seen; `reset` in epoch seconds."""

    name: str
    """Resource, host and fingerprint of the token."""
    limit: int | None
    remaining: int
    reset: float | None
    seen_ns: int
    is_assumed: bool = False
    """True if nobody has told the time of the reset."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """The end of a run."""

    sync_id: str
    outcome: str
    end_ns: int


@dataclass(slots=True)
class ProcessNow:
    """The present work of one process. Kept up with `begin_with` and `take`."""

    pid: int
    service: str = ""
    alive: bool = True
    open: dict[str, OpenSpan] = field(default_factory=dict)
    released: dict[str, OpenSpan] = field(default_factory=dict)
    """Pipelines that began here and are ended elsewhere."""
    ended: dict[str, EndedRun] = field(default_factory=dict)
    """Pipelines whose end was written here, by span id."""
    progress: dict[str, Progress] = field(default_factory=dict)
    """By span id."""
    last_items: dict[str, LastItem] = field(default_factory=dict)
    """By trace id."""
    limits: dict[tuple[str, str], LimitLeft] = field(default_factory=dict)
    """By trace id and resource."""
    phases: dict[str, str] = field(default_factory=dict)
    """By trace id."""
    life: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Trace id to its last record here, unix nanoseconds."""

    def begin_with(self, series: OpenSeries) -> None:
        """Take over what a shipper has put down as open."""
        self._begin(decode(body) for body, _, _ in series.stages.values())
        for _, resource, _ in series.stages.values():
            self._name_service(decode(resource))

    def take(self, batch: Batch) -> None:
        """Take note of further records of its journal."""
        for group in batch.groups:
            self._name_service(group.resource)
            self._note_beginnings(group)
            self._note_last_records(group)
            self._note_events(group.logs)
            self._note_ends(group)

    def _note_beginnings(self, group: Group) -> None:
        over = {span_id(body) for body in (*group.ended, *group.pending)}
        self._begin(body for body in group.started if span_id(body) not in over)

    def _note_ends(self, group: Group) -> None:
        for span in _decoded(Span, (body for body in (*group.spans, *group.pending) if _PIPELINE in body)):
            if span.name.startswith(PIPELINE):
                told = _told(span.attributes)
                sync_id, outcome = text(told.get(vocabulary.SYNC_ID)), text(told.get(vocabulary.SYNC_OUTCOME))
                _keep(self.ended, span.span_id.hex(), EndedRun(sync_id, outcome, span.end_time_unix_nano))
        for body in (*group.ended, *group.pending):
            self.open.pop(span_id(body) or "", None)
        for key in map(span_id, group.released):
            released = self.open.pop(key or "", None)
            if released is not None and released.name.startswith(PIPELINE):
                _keep(self.released, released.span_id, released)

    def _begin(self, bodies: Iterable[bytes]) -> None:
        for span in _decoded(Span, bodies):
            if len(self.open) >= _MOST:
                break
            self.open[span.span_id.hex()] = OpenSpan(
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.trace_id.hex(),
                text(span.name),
                span.start_time_unix_nano,
                _told(span.attributes),
            )

    def _note_events(self, logs: Iterable[bytes]) -> None:
        for record in _decoded(LogRecord, (body for body in logs if _PROGRESS in body or _PHASE_CHANGED in body)):
            name, told = record.event_name, _told(record.attributes)
            trace_id = record.trace_id.hex()
            if name == _PHASE:
                _keep(self.phases, trace_id, text(told.get("phase")))
            elif name.startswith("sync.") and name.endswith(PROGRESS) and _is_number(told.get("done")):
                progress = read_progress(trace_id, record.span_id.hex(), name, told, record.time_unix_nano)
                _keep(self.progress, progress.span_id, progress)

    def _note_last_records(self, group: Group) -> None:
        """The last record of each run; of its items; of those that say what is left of a limit."""
        spans: dict[bytes, bytes] = {}
        items: dict[bytes, bytes] = {}
        limits: dict[tuple[bytes, ...], bytes] = {}
        for body in chain(group.started, group.spans):
            if _OF_A_RUN in body:
                trace_id = _trace_id(body)
                spans[trace_id] = body
                if _is_item(body):
                    items[trace_id] = body
                elif _REMAINING in body:
                    limits[trace_id, *(_text_behind(name, body) for name in _WHICH_LIMIT)] = body
        for span in _decoded(Span, spans.values()):
            self._live(span.trace_id.hex(), max(span.start_time_unix_nano, span.end_time_unix_nano))
        for span in _decoded(Span, items.values()):
            told = _told(span.attributes)
            key = text(told.get(vocabulary.VCS_CHANGE_ID)) or text(told.get(vocabulary.SYNC_ITEM_ID))
            item = LastItem(part_of(span.name)[1], key, _groups(told), span.end_time_unix_nano)
            _keep(self.last_items, span.trace_id.hex(), item)
        for span in _decoded(Span, limits.values()):
            self._note_limit(span)
        self._note_last_logs(group.logs)

    def _note_last_logs(self, logs: list[bytes]) -> None:
        open_runs = dict.fromkeys(span.trace_id for span in self.open.values() if span.sync_id)
        for trace_id in islice(open_runs, _MOST_SEARCHED):
            raw = bytes.fromhex(trace_id)
            for record in _decoded(LogRecord, islice((body for body in reversed(logs) if raw in body), 1)):
                if record.trace_id == raw:
                    self._live(trace_id, record.time_unix_nano)

    def _live(self, trace_id: str, time_ns: int) -> None:
        self.life[trace_id] = max(self.life.pop(trace_id, 0), time_ns)
        while len(self.life) > _MOST_TRACES:
            self.life.popitem(last=False)

    def _note_limit(self, span: Span) -> None:
        seen_ns = max(span.start_time_unix_nano, span.end_time_unix_nano)
        for limit in limits_of(_told(span.attributes)):
            if limit.remaining is not None:
                left = LimitLeft(limit.name, limit.limit, limit.remaining, limit.reset, seen_ns, limit.is_assumed)
                _keep(self.limits, (span.trace_id.hex(), left.name), left)

    def _name_service(self, resource: bytes) -> None:
        if not self.service and resource:
            with suppress(DecodeError, ValueError):
                self.service = text(resource_attributes(resource).get(vocabulary.SERVICE_NAME))


def read_progress(trace_id: str, span: str, event: str, told: Mapping[str, object], time_ns: int) -> Progress:
    """A progress event; fields that are not what they should be are as if they were not there."""
    total, percent = told.get("total"), told.get("percent")
    counts = {
        key: value
        for key, value in told.items()
        if isinstance(value, int) and not isinstance(value, bool) and key not in _OWN and "." not in key
    }
    return Progress(
        trace_id=trace_id,
        span_id=span,
        kind=event.removesuffix(PROGRESS),
        groups=_groups(told),
        done=_whole(told.get("done")) or 0,
        total=_whole(total),
        percent=min(100.0, max(0.0, float(percent))) if _is_number(percent) else None,
        eta_low=_seconds(told.get("eta_low_seconds")),
        eta_high=_seconds(told.get("eta_high_seconds")),
        waits_ahead=_seconds(told.get("waits_ahead_seconds")) or 0.0,
        counts=counts,
        time_ns=time_ns,
    )


def text(value: object) -> str:
    """A text, not too long; empty for anything else."""
    return value[:_LONGEST] if isinstance(value, str) else ""


def _groups(told: Mapping[str, object]) -> Groups:
    return tuple((kind, text(name)) for kind, name in groups_of(told))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _seconds(value: object) -> float | None:
    """A span of time that can be; None for anything else."""
    return float(value) if _is_number(value) and 0 <= value < 1e12 else None


def _keep(kept: dict[Key, Value], key: Key, value: Value) -> None:
    """Put the newest last, and forget the oldest if there are too many."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _MOST:
        del kept[next(iter(kept))]


def _text_behind(name: bytes, body: bytes) -> bytes:
    """Return the value of an attribute of an encoded span that is a short text; empty if there is none."""
    at = body.find(name) + len(name)
    if at < len(name) or body[at : at + 1] != b"\x12" or body[at + 2 : at + 3] != b"\x0a":
        return b""
    return body[at + 4 : at + 4 + body[at + 3]] if at + 3 < len(body) else b""


def _told(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Attributes that are plain values, and the limits that stand in a list."""
    told: dict[str, object] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value", "bool_value"):
            told[pair.key] = getattr(pair.value, kind)
        elif pair.key == vocabulary.SYNC_RATE_LIMIT_OTHERS:
            told[pair.key] = [each.string_value for each in pair.value.array_value.values]
    return told


def _trace_id(body: bytes) -> bytes:
    """The 16 bytes of a span's trace id, with which our spans begin: behind tag and length, and their own."""
    at = _beginning(body)
    return body[at : at + 16]


def _is_item(body: bytes) -> bool:
    """Return whether a span is an item's: its name stands behind the ids of the trace, the parent, and its own."""
    at = _beginning(body) + 36
    return len(body) > at + 1 and body[at] == _NAME_TAG and is_item(body[at + 2 : at + 2 + body[at + 1]])


def _beginning(body: bytes) -> int:
    return 4 if body[1] < 0x80 else 5 if body[2] < 0x80 else 6


def _decoded(kind: type[Record], bodies: Iterable[bytes]) -> Iterator[Record]:
    """The records that can be decoded; the others are left out."""
    for body in bodies:
        with suppress(DecodeError):
            yield kind.FromString(untagged(body))
