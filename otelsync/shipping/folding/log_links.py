"""Log records of folded spans on their way to OTLP: they name the nearest span that goes out, and keep their own id.

As long as a trace goes out whole, nothing is done. From then on a record of a span of which nobody can tell yet waits
until that has ended, for some seconds. What waits is bounded and goes into the checkpoint. That an item is one of the
slowest of its call, and goes out after all, is not known here: its records name the call.
"""

from __future__ import annotations

import time
from binascii import hexlify
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

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
from otelsync.store.histogram import bucket_of
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


@dataclass(slots=True)
class Records:
    """Records of one span that wait for it, or for one around it."""

    place: Place
    own: bytes
    """The id of their own span."""
    with_it: bool
    """True if their own span goes out if that one does; else that one stands for it."""
    bodies: list[bytes]


@dataclass(slots=True)
class Waiting:
    """The records that wait for one span."""

    series: str
    since: float
    records: list[Records] = field(default_factory=list)


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
        self._full: Collection[bytes] = ()
        """Traces of which groups have traces of their own."""

    def take(self, batches: Sequence[Batch], now: float, is_over: Callable[[str], bool]) -> list[Batch]:
        """Return the log records of each batch that go out; behind them, in one more, those that have waited."""
        self._out = {}
        self._full = self._fan_outs().full
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

    def hold(self, key: bytes, waiting: Waiting, records: Records) -> None:
        """Let records wait for a span, since when and of which series `waiting` says."""
        held = self.waiting.get(key)
        if held is None:
            held = self.waiting[key] = Waiting(waiting.series, waiting.since)
        held.records.append(records)
        bodies = records.bodies
        self.held += len(bodies)
        for body in bodies:
            self._bytes += len(body)

    def _take_batch(self, batch: Batch, now: float) -> Batch:
        self.begin(batch.groups)
        if not self._is_folding(batch):
            self._forget_closed(batch)
            return batch
        new, units = Waiting(batch.journal.rpartition("-")[0], now), dict[bytes, Records]()
        groups = [Group(group.resource, group.scope, logs=self._take_logs(group, units, new)) for group in batch.groups]
        bodies = [body for group in batch.groups for body in group.spans] if self.waiting or units else []
        spans = [(span, body) for span, body in zip(lean_spans(bodies), bodies, strict=True) if span is not None]
        for span, body in sorted(spans, key=lambda entry: entry[0].end):
            own = span.span_id
            if (unit := units.pop(own, None)) is not None or own in self.waiting:
                self._end(span, body, own, unit, new)
        for own, unit in units.items():
            self.hold(own, new, unit)
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
        trace_id = record.trace_id
        return self._fan_outs().home(trace_id, record.attributes) if trace_id in self._full else trace_id

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

    def _take_logs(self, group: Group, units: dict[bytes, Records], new: Waiting) -> list[bytes]:
        """The records that go out at once. The others are added to `units`, by span, as most end in the same batch."""
        out: list[bytes] = []
        place = (group.resource, group.scope)
        are_whole: dict[bytes, bool] = {}
        ended, is_open = self._ended, self._open
        for body, log in zip(group.logs, lean_logs(group.logs), strict=True):
            if log is None or not (own := log.span_id) or not log.flags & _SAMPLED:
                out.append(body)
                continue
            trace_id = log.trace_id
            is_whole = are_whole.get(trace_id)
            if is_whole is None:
                is_whole = self._is_whole(self._home(log))
                if trace_id not in self._full:
                    are_whole[trace_id] = is_whole
            if is_whole:
                out.append(body)
            elif (named := ended.get(own)) is not None:
                out.append(naming(body, own, named))
            elif is_open.get(own) is False:
                out.append(body)
            elif (unit := units.get(own)) is None:
                units[own] = Records(place, own, True, [body])
            elif unit.place is place:
                unit.bodies.append(body)
            else:
                self.hold(own, new, Records(place, own, True, [body]))
        return out

    def _end(self, span: LeanSpan, body: bytes, own: bytes, unit: Records | None, new: Waiting) -> None:
        """Decide what the records that wait for a span that has ended name, or whom they follow.

        Args:
            span: The span.
            body: As the journal holds it.
            own: Its id.
            unit: Records of its own that do not wait yet.
            new: Since when these would, and of which series they are.
        """
        parent, name = span.parent_span_id, span.name
        if self._goes_out(span, own, parent, name, body):
            self._settle(own, own, unit)
        elif self._open.get(parent) is False:
            self._settle(own, parent if is_item(name) else own, unit)
        elif (named := self._ended.get(parent)) is not None:
            self._settle(own, named, unit)
        else:
            with_it = not is_item(name)
            waiting = self.waiting.pop(own, None)
            if waiting is not None:
                for records in waiting.records:
                    records.with_it = records.with_it and with_it
                self.waiting.setdefault(parent, Waiting(waiting.series, waiting.since)).records += waiting.records
            if unit is not None:
                unit.with_it = with_it
                self.hold(parent, new, unit)

    def _goes_out(self, span: LeanSpan, own: bytes, parent: bytes, name: bytes, body: bytes) -> bool:
        if not parent or self._open.get(own) is False or is_landmark(span):
            return True
        trace_id = span.trace_id
        home = self._home(span) if trace_id in self._full else trace_id
        budget = self.budgets.get(home) or self._budget(home)
        if home != trace_id:
            budget.spend(_USUAL)
        if budget.is_whole:
            return True
        if not is_item(name):
            return False
        took = max(span.end - span.start, 0)
        bucket = bucket_of(took)
        budget.durations[bucket] = budget.durations.get(bucket, 0) + 1
        return has_failed(span, body) or budget.is_slow(took)

    def _settle(self, own: bytes, named: bytes, unit: Records | None) -> None:
        self._ended[own] = named
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)
        waiting = self._pop(own)
        if unit is not None:
            self._let_out([unit], named, own)
        if waiting is not None:
            self._let_out(waiting.records, named, own)

    def _let_out(self, several: Iterable[Records], named: bytes, ended: bytes = b"") -> None:
        """Let records go out that name a span, or their own one if that is it. `ended`: the span they waited for."""
        place: Place | None = None
        out: list[bytes] = []
        goes_out = named == ended
        head = b"\x52\x08" + named + _ABOUT
        for records in several:
            if records.place is not place:
                place = records.place
                out = self._out.setdefault(place, [])
            own = records.own
            if own == named or (goes_out and records.with_it):
                out += records.bodies
            else:
                rest = head + hexlify(own)
                for body in records.bodies:
                    out.append(_with(body, rest))

    def _release(self, key: bytes) -> None:
        waiting = self._pop(key)
        for records in waiting.records if waiting else ():
            self._let_out([records], records.own)

    def _pop(self, key: bytes) -> Waiting | None:
        waiting = self.waiting.pop(key, None)
        if waiting is not None:
            for records in waiting.records:
                self.held -= len(records.bodies)
                self._bytes -= sum(map(len, records.bodies))
        return waiting

    def _forget_closed(self, batch: Batch) -> None:
        for group in batch.groups:
            for body in group.closed:
                self._open.pop(bytes.fromhex(span_id(body) or ""), None)


def naming(body: bytes, own: bytes, named: bytes) -> bytes:
    """A log record, as the journal holds it, that names another span: in protobuf the last value wins."""
    if own == named:
        return body
    return _with(body, b"\x52\x08" + named + _ABOUT + hexlify(own))


def _with(body: bytes, rest: bytes) -> bytes:
    """A record with more fields behind the others."""
    begin = 2 if body[1] < 0x80 else 3
    length = len(body) - begin + len(rest)
    if (begin == 2 or body[2] < 0x80) and 0x80 <= length < 0x4000:
        return _head(length) + body[begin:] + rest
    return encoded_field(0x12, untagged(body) + rest)


@lru_cache(1_024)
def _head(length: int) -> bytes:
    """Tag and length of a record of 128 to 16,383 bytes."""
    return bytes((0x12, length & 0x7F | 0x80, length >> 7))


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
        [key.hex(), each.series, each.since, [line for records in each.records for line in _dump_records(records)]]
        for key, each in links.waiting.items()
    ]
    traces = {key.hex(): [budget.spans, budget.bytes] for key, budget in large.items()}
    return orjson.dumps({"traces": traces, "waiting": waiting}).decode()


def _dump_records(records: Records) -> list[list[object]]:
    place = [encode(part) for part in records.place]
    own = encode(records.own)
    return [[*place, encode(body), own, records.with_it] for body in records.bodies]


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
            links.hold(bytes.fromhex(key), new, Records(place, decode(own), bool(with_it), [decode(body)]))
