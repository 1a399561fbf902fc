"""Log records of folded spans on their way to OTLP: they name the nearest span that goes out, and keep their own id.

As long as a trace goes out whole, nothing is done. From then on a record of a span of which nobody can tell yet waits
until that has ended, for some seconds. What waits is bounded and goes into the checkpoint. That an item is one of the
slowest of its call, and goes out after all, is not known here: its records name the call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanLog, LeanSpan, lean_logs, lean_spans, span_id, untagged
from otelsync.otlp.encoding import field as encoded_field
from otelsync.otlp.encoding import key_value
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.backlog import Backlog
from otelsync.shipping.checkpoint import decode, encode
from otelsync.shipping.folding.budget import Budget, Limits
from otelsync.shipping.folding.calls import has_failed, is_landmark
from otelsync.shipping.folding.fan_out import FanOuts
from otelsync.shipping.folding.siblings import Place
from otelsync.shipping.outlet import Parcel
from otelsync.store.histogram import buckets
from otelsync.vocabulary import SYNC_SPAN_ID, is_item

LOGS: Final = "logs"
MOST_BYTES: Final = 1024 * 1024
"""Of all records that wait. Beyond that the oldest go out as they are."""
MOST_TRACES: Final = 128
MOST_OPEN: Final = 20_000
MOST_ENDED: Final = 4_096
PATIENCE: Final = 10.0
"""Seconds for which a record waits."""

_SAMPLED: Final = 1
_USUAL: Final = 400
"""Bytes of a span."""
_ABOUT: Final = encoded_field(0x32, key_value(SYNC_SPAN_ID, "0" * 16))[:-16]
"""The attribute that holds a record's own span, but for its id."""

_log = own_logger("otelsync.shipping")


class Record(NamedTuple):
    """A record that waits for a span."""

    place: Place
    body: bytes
    own: bytes
    """The id of its own span."""
    with_it: bool
    """True if its own span goes out if that one does; else that one stands for it."""


@dataclass(slots=True)
class Waiting:
    """The records that wait for one span."""

    series: str
    since: float
    records: list[Record] = field(default_factory=list)


class Links:
    """The state, and what moves it on: a function of what was recorded, in its order."""

    def __init__(self, limits: Limits, fan_outs: Callable[[], FanOuts]) -> None:
        self.budgets: OrderedDict[bytes, Budget] = OrderedDict()
        self.waiting: OrderedDict[bytes, Waiting] = OrderedDict()
        self.held = 0
        self._limits = limits
        self._fan_outs = fan_outs
        self._open: dict[bytes, bool] = {}
        """Stages that have begun and not ended: whether an item may be above."""
        self._ended: OrderedDict[bytes, bytes] = OrderedDict()
        """By span: the one that its records name."""
        self._bytes = 0
        self._out: dict[Place, list[bytes]] = {}

    def take(self, batches: Sequence[Batch], now: float, is_over: Callable[[str], bool]) -> list[Batch]:
        """Return the log records of each batch that go out; behind them, in one more, those that have waited."""
        self._out = {}
        content = [self._take_batch(batch, now) for batch in batches]
        for key, waiting in list(self.waiting.items()):
            if is_over(waiting.series) or not 0 <= now - waiting.since <= PATIENCE:
                self._release(key)
        while self._bytes > MOST_BYTES:
            self._release(next(iter(self.waiting)))
        out, self._out = self._out, {}
        return (
            [*content, Batch("", 0, 0, [Group(*place, logs=logs) for place, logs in out.items()])] if out else content
        )

    def begin(self, groups: Iterable[Group]) -> None:
        """Take note of the stages that have begun."""
        begun = [span for group in groups if group.started for span in lean_spans(group.started) if span is not None]
        for span in sorted(begun, key=lambda span: span.start):
            if len(self._open) < MOST_OPEN:
                self._open[span.span_id] = not is_landmark(span) and self._open.get(span.parent_span_id, True)

    def hold(self, key: bytes, waiting: Waiting, record: Record) -> None:
        """Let a record wait for a span, since when and of which series `waiting` says."""
        held = self.waiting.setdefault(key, Waiting(waiting.series, waiting.since))
        held.records.append(record)
        self.held += 1
        self._bytes += len(record.body)

    def _take_batch(self, batch: Batch, now: float) -> Batch:
        self.begin(batch.groups)
        if not self._is_folding(batch):
            self._forget_closed(batch)
            return batch
        new = Waiting(batch.journal.rpartition("-")[0], now)
        groups = [Group(group.resource, group.scope, logs=self._take_logs(group, new)) for group in batch.groups]
        bodies = [body for group in batch.groups for body in group.spans] if self.waiting else []
        spans = [(span, body) for span, body in zip(lean_spans(bodies), bodies, strict=True) if span is not None]
        for span, body in sorted(spans, key=lambda entry: entry[0].end):
            if span.span_id in self.waiting:
                self._end(span, body)
        self._forget_closed(batch)
        return Batch(batch.journal, batch.start, batch.end, groups)

    def _is_folding(self, batch: Batch) -> bool:
        """Count the spans of a batch by trace; return whether any of what is known does not go out whole."""
        sizes: dict[bytes, list[int]] = {}
        for body in (body for group in batch.groups for body in group.spans):
            at = 4 if body[1] < 0x80 else 5  # behind a length of one byte or two, as most are
            sizes.setdefault(body[at : at + 16], []).append(len(body))
        for trace_id, each in sizes.items():
            self._budget(trace_id).spend(sum(each), len(each))
        return bool(self.waiting) or any(not budget.is_whole for budget in self.budgets.values())

    def _home(self, record: LeanSpan | LeanLog) -> bytes:
        """The trace in which a span or log record goes out."""
        fan_outs = self._fan_outs()
        trace_id = record.trace_id
        return fan_outs.home(trace_id, record.attributes) if trace_id in fan_outs.full else trace_id

    def _budget(self, trace_id: bytes) -> Budget:
        budget = self.budgets.get(trace_id)
        if budget is None:
            budget = self.budgets[trace_id] = Budget(self._limits)
            while len(self.budgets) > MOST_TRACES:
                self.budgets.popitem(last=False)
        return budget

    def _is_whole(self, trace_id: bytes) -> bool:
        budget = self.budgets.get(trace_id)
        return budget is None or budget.is_whole

    def _take_logs(self, group: Group, new: Waiting) -> list[bytes]:
        """The records that go out at once."""
        out: list[bytes] = []
        place = (group.resource, group.scope)
        for body, log in zip(group.logs, lean_logs(group.logs), strict=True):
            if log is None or not log.span_id or not log.flags & _SAMPLED or self._is_whole(self._home(log)):
                out.append(body)
            elif (named := self._ended.get(log.span_id)) is not None:
                out.append(naming(body, log.span_id, named))
            elif self._open.get(log.span_id) is False:
                out.append(body)
            else:
                self.hold(log.span_id, new, Record(place, body, log.span_id, with_it=True))
        return out

    def _end(self, span: LeanSpan, body: bytes) -> None:
        """Decide what the records that wait for a span that has ended name, or whom they follow."""
        own, parent = span.span_id, span.parent_span_id
        if self._goes_out(span, body):
            self._settle(own, own)
        elif self._open.get(parent) is False:
            self._settle(own, parent if is_item(span.name) else own)
        elif (named := self._ended.get(parent)) is not None:
            self._settle(own, named)
        elif (waiting := self._pop(own)) is not None:
            for record in waiting.records:
                self.hold(parent, waiting, record._replace(with_it=record.with_it and not is_item(span.name)))

    def _goes_out(self, span: LeanSpan, body: bytes) -> bool:
        if not span.parent_span_id or is_landmark(span) or self._open.get(span.span_id) is False:
            return True
        home = self._home(span)
        budget = self._budget(home)
        if home != span.trace_id:
            budget.spend(_USUAL)
        if budget.is_whole:
            return True
        if not is_item(span.name):
            return False
        took = max(span.end - span.start, 0)
        (bucket,) = buckets((took,))
        budget.durations[bucket] = budget.durations.get(bucket, 0) + 1
        return has_failed(span, body) or budget.is_slow(took)

    def _settle(self, own: bytes, named: bytes) -> None:
        self._ended[own] = named
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)
        waiting = self._pop(own)
        for record in waiting.records if waiting else ():
            is_own = record.with_it and named == own
            self._let_out(record, record.own if is_own else named)

    def _let_out(self, record: Record, named: bytes) -> None:
        self._out.setdefault(record.place, []).append(naming(record.body, record.own, named))

    def _release(self, key: bytes) -> None:
        waiting = self._pop(key)
        for record in waiting.records if waiting else ():
            self._let_out(record, record.own)

    def _pop(self, key: bytes) -> Waiting | None:
        waiting = self.waiting.pop(key, None)
        if waiting is not None:
            self.held -= len(waiting.records)
            self._bytes -= sum(len(record.body) for record in waiting.records)
        return waiting

    def _forget_closed(self, batch: Batch) -> None:
        for group in batch.groups:
            for body in group.closed:
                self._open.pop(bytes.fromhex(span_id(body) or ""), None)


def naming(body: bytes, own: bytes, named: bytes) -> bytes:
    """A log record, as the journal holds it, that names another span: in protobuf the last value wins."""
    if own == named:
        return body
    return encoded_field(0x12, b"".join((untagged(body), b"\x52\x08", named, _ABOUT, own.hex().encode())))


class LogLinks:
    """The links, in step with the checkpoint. If `limits` are None, what an earlier shipper held back goes out."""

    def __init__(self, backlog: Backlog, limits: Limits | None, fan_outs: Callable[[], FanOuts]) -> None:
        self._backlog = backlog
        self._is_on = limits is not None
        self._limits = limits or Limits()
        self._fan_outs = fan_outs
        self._links = Links(self._limits, fan_outs)
        self._is_on_its_way = False

    def resume(self) -> None:
        """Go on from the checkpoint."""
        self._is_on_its_way = False
        checkpoint = self._backlog.checkpoint
        self._links = Links(self._limits, self._fan_outs)
        try:
            _load(checkpoint.log_links, self._links, self._limits)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            self._backlog.say(f"the records that were kept back cannot be read ({type(error).__name__}), and are lost")
            checkpoint.add(LOGS, "log", "vanished", checkpoint.held_links)
            checkpoint.log_links, checkpoint.held_links = "", 0
            self._links = Links(self._limits, self._fan_outs)
        self._links.begin(Group(b"", b"", started=series.bodies()) for series in checkpoint.open.values())

    def shape(self, parcel: Parcel) -> None:
        """Put into a parcel what the sink is to be given. Whatever is wrong with us, records go as they are."""
        if not (self._is_on or self._links.held):
            return
        try:
            is_over = self._over(has_more=bool(parcel.batches))
            if parcel.batches or self._is_due(is_over):
                taken, rest = (parcel.batches, []) if self._is_on else ([], parcel.batches)
                parcel.shaped = [*rest, *self._links.take(taken, time.monotonic(), is_over)]
                self._is_on_its_way = True
        except Exception:
            _log.exception("what log records are to name could not be decided, and they are sent as they are")
            parcel.shaped = None
            self.resume()

    def is_behind(self) -> bool:
        """Return whether records are kept back for which there is no reason any more."""
        return self._is_due(self._over())

    def settle(self, outcome: Outcome) -> None:
        """Take note of what became of a parcel."""
        if not self._is_on_its_way:
            return
        self._is_on_its_way = False
        if outcome.retry:
            self.resume()
            return
        checkpoint = self._backlog.checkpoint
        checkpoint.log_links, checkpoint.held_links = _dump(self._links, self._limits), self._links.held
        self._backlog.changed()

    def _is_due(self, is_over: Callable[[str], bool]) -> bool:
        now = time.monotonic()
        return any(
            is_over(waiting.series) or not 0 <= now - waiting.since <= PATIENCE
            for waiting in self._links.waiting.values()
        )

    def _over(self, *, has_more: bool = False) -> Callable[[str], bool]:
        """Return what tells whether nothing more can come of a series."""
        if not self._is_on:
            return lambda _: True
        going_on = None if has_more or not self._links.held else self._backlog.unfinished(LOGS)
        if going_on is None:
            return lambda _: False
        going_on |= {name for name, series in self._backlog.checkpoint.open.items() if series.stages}
        return lambda series: series not in going_on


def _dump(links: Links, limits: Limits) -> str:
    large = {key: budget for key, budget in links.budgets.items() if budget.spans * 20 > limits.max_spans}
    if not large and not links.held:
        return ""
    waiting = [
        [key.hex(), each.series, each.since, [_dump_record(record) for record in each.records]]
        for key, each in links.waiting.items()
    ]
    traces = {key.hex(): [budget.spans, budget.bytes] for key, budget in large.items()}
    return orjson.dumps({"traces": traces, "waiting": waiting}).decode()


def _dump_record(record: Record) -> list[object]:
    return [*(encode(part) for part in (*record.place, record.body, record.own)), record.with_it]


def _load(text: str, links: Links, limits: Limits) -> None:
    if not text:
        return
    document = orjson.loads(text)
    for key, (spans, size) in document["traces"].items():
        links.budgets[bytes.fromhex(key)] = Budget(limits, int(spans), int(size))
    for key, series, since, records in document["waiting"]:
        new = Waiting(str(series), float(since))
        for resource, scope, body, own, with_it in records:
            place = (decode(resource), decode(scope))
            links.hold(bytes.fromhex(key), new, Record(place, decode(body), decode(own), bool(with_it)))
