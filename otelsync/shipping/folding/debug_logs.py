"""DEBUG records on their way to OTLP: those of stages that failed or were slow go out, the others stay in the journal.

A record waits until the stage that it is of has ended: the nearest item, API call, batch, group, pipeline or task
around it. What waits is bounded and goes into the checkpoint, so that another shipper goes on where one stopped.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanSpan, lean_logs, lean_spans
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.backlog import Backlog
from otelsync.shipping.checkpoint import decode, encode
from otelsync.shipping.folding.budget import SLOW_FLOOR, SLOW_RATIO
from otelsync.shipping.folding.calls import FAILED, OUTCOME, STATUS_ERROR, SUCCEEDED, is_landmark
from otelsync.shipping.folding.log_links import LOGS
from otelsync.shipping.folding.siblings import Place
from otelsync.shipping.outlet import Parcel
from otelsync.store.histogram import buckets, percentile
from otelsync.vocabulary import NAMED_API_BYTES, NAMED_BATCH_BYTES, is_item

MOST_BYTES: Final = 1024 * 1024
"""Of all records that wait. Beyond that the oldest go out, as nobody can tell yet what becomes of their stages."""
MOST_SPANS: Final = 4_096
"""Spans that are remembered as ended, or as open."""
FEWEST: Final = 20
"""Spans of a name of which one has to know how long they took, to call another one slow."""
MOST_NAMES: Final = 256

_INFO: Final = 9
_SAMPLED: Final = 1

_log = own_logger("otelsync.shipping")

IsOver = Callable[[str], bool]
"""Tells whether no span of a journal series can end any more."""


@dataclass(slots=True)
class Waiting:
    """Records that wait for a span to end."""

    series: str
    records: list[tuple[Place, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Chosen:
    """The result of choosing from some batches."""

    groups: dict[Place, list[bytes]] = field(default_factory=dict)
    kept_back: int = 0
    """Records of stages that went well."""

    def add(self, *records: tuple[Place, bytes]) -> None:
        """Let records go out."""
        for place, body in records:
            self.groups.setdefault(place, []).append(body)

    def batch(self) -> Batch:
        """Return what goes out, for a sink."""
        return Batch("", 0, 0, [Group(*place, logs=bodies) for place, bodies in self.groups.items()])


class Choice:
    """The choice of records that go out: a pure function of what was recorded, in its order."""

    def __init__(self) -> None:
        self.waiting: OrderedDict[bytes, Waiting] = OrderedDict()
        """By the id of the span that they wait for."""
        self.held = 0
        self._bytes = 0
        self._ended: OrderedDict[bytes, bool] = OrderedDict()
        """Stages that have ended: whether their records go out."""
        self._landmarks: OrderedDict[bytes, None] = OrderedDict()
        """Repositories, pipelines and tasks that are open: what is right below one of them is a stage."""
        self._durations: OrderedDict[bytes, Counter[int]] = OrderedDict()

    def take(self, batches: Sequence[Batch], content: Sequence[Batch], is_over: IsOver) -> Chosen:
        """Take the next batches as they were recorded, as their spans say how stages have ended, and as `content`
        for the sink: its log records are those that go out, or wait. What waits for a series that is over goes out."""
        chosen = Chosen()
        for batch, shown in zip(batches, content, strict=True):
            self.begin(batch.groups)
            self._take_records(batch.journal.rpartition("-")[0], shown, chosen)
            for span in _in_order(batch.groups):
                self._end(span, chosen)
        for key in [key for key, waiting in self.waiting.items() if is_over(waiting.series)]:
            chosen.add(*self._pop(key).records)
        while self._bytes > MOST_BYTES:
            chosen.add(*self._pop(next(iter(self.waiting))).records)
        return chosen

    def begin(self, groups: Iterable[Group]) -> None:
        """Take note of the stages that have begun."""
        for group in groups:
            for span in lean_spans(group.started):
                if span is not None and is_landmark(span):
                    _remember(self._landmarks, span.span_id, None)

    def hold(self, key: bytes, series: str, place: Place, body: bytes) -> None:
        """Let a record wait for a span."""
        self.waiting.setdefault(key, Waiting(series)).records.append((place, body))
        self.held += 1
        self._bytes += len(body)

    def _take_records(self, series: str, batch: Batch, chosen: Chosen) -> None:
        for group in batch.groups:
            place = (group.resource, group.scope)
            for body, log in zip(group.logs, lean_logs(group.logs), strict=True):
                if log is None or not 0 < log.severity_number < _INFO:
                    chosen.add((place, body))
                elif not log.span_id or not log.flags & _SAMPLED:
                    chosen.kept_back += 1  # of no stage, or of one that is not recorded
                elif (goes_out := self._ended.get(log.span_id)) is None:
                    self.hold(log.span_id, series, place, body)
                elif goes_out:
                    chosen.add((place, body))
                else:
                    chosen.kept_back += 1

    def _end(self, span: LeanSpan, chosen: Chosen) -> None:
        goes_out = self._is_slow(span) or _went_wrong(span)
        is_stage = self._is_stage(span)
        if goes_out or is_stage:
            _remember(self._ended, span.span_id, goes_out)
        self._landmarks.pop(span.span_id, None)
        if span.span_id not in self.waiting:
            return
        waiting = self._pop(span.span_id)
        if goes_out:
            chosen.add(*waiting.records)
        elif is_stage:
            chosen.kept_back += len(waiting.records)
        else:
            for place, body in waiting.records:
                self.hold(span.parent_span_id, waiting.series, place, body)

    def _pop(self, key: bytes) -> Waiting:
        waiting = self.waiting.pop(key)
        self.held -= len(waiting.records)
        self._bytes -= sum(len(body) for _, body in waiting.records)
        return waiting

    def _is_stage(self, span: LeanSpan) -> bool:
        is_named = is_item(span.name) or span.name.startswith((NAMED_API_BYTES, NAMED_BATCH_BYTES))
        return is_named or is_landmark(span) or span.parent_span_id in self._landmarks

    def _is_slow(self, span: LeanSpan) -> bool:
        """Return whether a span took five times as long as others of its name do, and no blink of an eye."""
        took = max(span.end - span.start, 0)
        known = self._durations.get(span.name)
        if known is None:
            known = _remember(self._durations, span.name, Counter(), MOST_NAMES)
        is_slow = (
            took >= SLOW_FLOOR
            and known.total() >= FEWEST
            and took >= SLOW_RATIO * percentile(known, 0.5, longest=1 << 63)
        )
        known.update(buckets((took,)))
        return is_slow


def _remember(known: OrderedDict[bytes, Any], key: bytes, value: Any, most: int = MOST_SPANS) -> Any:
    known[key] = value
    if len(known) > most:
        known.popitem(last=False)
    return value


def _in_order(groups: Iterable[Group]) -> list[LeanSpan]:
    """The spans of a batch by their ends: children before their parents."""
    spans = [span for group in groups if group.spans for span in lean_spans(group.spans) if span is not None]
    return sorted(spans, key=lambda span: span.end)


def _went_wrong(span: LeanSpan) -> bool:
    """Return whether a stage failed, in part or wholly, or ended otherwise than it should."""
    if span.status and STATUS_ERROR in span.status:
        return True
    return any(pair == FAILED or (pair.startswith(OUTCOME) and pair != SUCCEEDED) for pair in span.attributes)


class DebugLogs:
    """The choice, in step with the checkpoint. If it is not on, what an earlier shipper held back goes out."""

    def __init__(self, backlog: Backlog, *, is_on: bool) -> None:
        self._backlog = backlog
        self._is_on = is_on
        self._choice = Choice()
        self._on_its_way: Chosen | None = None

    def resume(self) -> None:
        """Go on from the checkpoint."""
        self._on_its_way = None
        self._choice = Choice()
        checkpoint = self._backlog.checkpoint
        try:
            _load(checkpoint.debug_logs, self._choice)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            self._backlog.say(f"the records that were kept back cannot be read ({type(error).__name__}), and are lost")
            checkpoint.add(LOGS, "log", "vanished", checkpoint.held_logs)
            checkpoint.debug_logs, checkpoint.held_logs = "", 0
            self._choice = Choice()
        self._choice.begin(Group(b"", b"", started=series.bodies()) for series in checkpoint.open.values())

    def shape(self, sink: str, parcel: Parcel) -> None:
        """Put into a parcel what the sink is to be given. Whatever is wrong with us, records go as they are."""
        if sink != LOGS or not (self._is_on or self._choice.held):
            return
        try:
            self._shape(parcel)
        except Exception:
            _log.exception("which DEBUG records to send could not be decided, and all are sent")
            self.resume()

    def _shape(self, parcel: Parcel) -> None:
        if self._is_on:
            is_over = self._over(has_more=bool(parcel.batches))
            if parcel.batches or any(is_over(each.series) for each in self._choice.waiting.values()):
                read = len(parcel.batches)
                self._on_its_way = self._choice.take(parcel.batches, parcel.content[:read], is_over)
                parcel.shaped = [self._on_its_way.batch(), *parcel.content[read:]]
        else:
            self._on_its_way = self._choice.take((), (), lambda _: True)
            parcel.shaped = [self._on_its_way.batch(), *parcel.content]

    def is_behind(self) -> bool:
        """Return whether records are kept back for which there is no reason any more."""
        is_over = self._over() if self._is_on else lambda _: True
        return any(is_over(waiting.series) for waiting in self._choice.waiting.values())

    def settle(self, sink: str, outcome: Outcome) -> None:
        """Take note of what became of a parcel."""
        if sink != LOGS or self._on_its_way is None:
            return
        chosen, self._on_its_way = self._on_its_way, None
        if outcome.retry:
            self.resume()
            return
        checkpoint = self._backlog.checkpoint
        checkpoint.debug_logs, checkpoint.held_logs = _dump(self._choice), self._choice.held
        checkpoint.add(LOGS, "log", "folded", chosen.kept_back)
        self._backlog.changed()

    def _over(self, *, has_more: bool = False) -> IsOver:
        """Return what tells whether nothing more can come of a series."""
        going_on = None if has_more or not self._choice.held else self._backlog.unfinished(LOGS)
        if going_on is None:
            return lambda _: False
        going_on |= {name for name, series in self._backlog.checkpoint.open.items() if series.stages}
        return lambda series: series not in going_on


def _dump(choice: Choice) -> str:
    if not choice.held:
        return ""
    waiting = [
        [key.hex(), each.series, [[encode(part) for part in (*place, body)] for place, body in each.records]]
        for key, each in choice.waiting.items()
    ]
    return orjson.dumps(waiting).decode()


def _load(text: str, choice: Choice) -> None:
    for key, series, records in orjson.loads(text) if text else ():
        for resource, scope, body in records:
            choice.hold(bytes.fromhex(key), str(series), (decode(resource), decode(scope)), decode(body))
