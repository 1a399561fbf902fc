"""Folding: of a call's items the failed, the slow and the slowest go out, the rest is summed up in the call.

Items are pull requests, orders, or of whatever kind a sync has, below a call, a batch, a group or another item.
Children end before their parents, so an ordinary item waits here until the span above it ends, and what is below an
item until that one does. What waits is bounded, however large the run is. Folding is a pure function of
the records in their order and of its state, which goes into the checkpoint: a restart comes to the same result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelsync.digests import blake2b
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanSpan, lean_spans, span_id, untagged
from otelsync.otlp.encoding import field as encoded_field
from otelsync.otlp.encoding import key_value
from otelsync.shipping.folding.budget import Budget, Limits
from otelsync.shipping.folding.fan_out import FanOuts, divided, moved
from otelsync.shipping.folding.siblings import Held, Place, Siblings, spans_in
from otelsync.store.histogram import buckets
from otelsync.vocabulary import FOLDED, NAMED_PIPELINE_BYTES, SYNC_ACTION, SYNC_PR_BYTES, is_group, is_item

MOST_BUDGETS: Final = 128
"""Traces whose budgets are known. One that is forgotten begins anew."""
MOST_OPEN: Final = 20_000
"""Stages that are known to be open."""
MOST_LEAKED: Final = 4_096
MOST_SIBLINGS: Final = 1_024
"""Spans below which ordinary items are kept back."""
MOST_WAITING: Final = 4_096
"""Spans that wait for an item above them to end."""
MOST_BELOW: Final = 256
"""The same, for one item. One with more below it goes out with all of it."""
MOST_BYTES: Final = 8 * 1024 * 1024
"""Of all spans that are kept back."""
PATIENCE: Final = 60.0
"""Seconds that spans wait for a parent that has not said that it has begun."""

FAILED: Final = key_value(SYNC_ACTION, "failed")
OUTCOME: Final = b"\x0a\x0csync.outcome\x12"
SUCCEEDED: Final = OUTCOME + b"\x09\x0a\x07success"
"""The beginning of that attribute. An item has it only if something is wrong."""
STATUS_ERROR: Final = b"\x18\x02"
_IS_REMOTE: Final = 0x200
_CONSUMER: Final = 5
_SHORT: Final = 64
"""Bytes of a name that is worth remembering."""

IsOver = Callable[[str, bytes], bool]
"""Tells whether nothing more can come from a journal series about the children of a span."""


@dataclass(slots=True)
class Folded:
    """Spans and sums that go out."""

    groups: dict[Place, list[bytes]] = field(default_factory=dict)
    shipped: int = 0
    """Spans in it that were recorded."""
    folded: int = 0
    """Spans that are summed up in these."""
    added: int = 0
    """Spans that nobody recorded: summaries and stand-ins."""

    def batch(self) -> Batch:
        """The same for a sink."""
        return Batch("", 0, 0, [Group(*place, spans=bodies) for place, bodies in self.groups.items()])

    def add(self, place: Place, body: bytes) -> None:
        """Put in a span."""
        self.groups.setdefault(place, []).append(body)


@dataclass(slots=True)
class Waiting:
    """Spans that wait for the one above them."""

    series: str
    touched: float
    """Seconds of the monotonic clock: when the latest of them was read."""
    spans: list[Held] = field(default_factory=list)


class Fold:
    """The state of folding, and what moves it on. `only`: look only at traces that this is true of."""

    def __init__(self, limits: Limits, fan_outs: FanOuts, only: Callable[[bytes], bool] | None = None) -> None:
        self.limits = limits
        self.fan_outs = fan_outs
        self.budgets: OrderedDict[bytes, Budget] = OrderedDict()
        """By trace, as it goes out; what was touched last is last."""
        self.open: dict[bytes, bool] = {}
        """Stages that have begun and not ended: whether an item may be above."""
        self.leaked: OrderedDict[bytes, None] = OrderedDict()
        """Spans of which something below has gone out already, so that they must go too."""
        self.siblings: OrderedDict[bytes, Siblings] = OrderedDict()
        """By the id of their parent."""
        self.waiting: OrderedDict[bytes, Waiting] = OrderedDict()
        """By the id of the span that they wait for."""
        self.held = 0
        """Recorded spans that have been taken, and neither gone out nor been folded."""
        self._only = only
        self._series = ""
        self._now = 0.0
        self._out = Folded()

    def take(self, batches: Iterable[Batch], now: float, late: Iterable[bytes] = ()) -> Folded:
        """Take the next batches, in their order, at `now` in seconds of the monotonic clock; returns what goes out.

        `late`: let out what waits for these spans too (see `overdue`).
        """
        self._now = now
        out = self._out = Folded()
        for batch in batches:
            self._series = batch.journal.rpartition("-")[0]
            self.held += batch.spans
            self.begin(batch.groups)
            for place, body, span in _in_order(batch.groups):
                if span is None:
                    out.add(place, body)
                    out.shipped += 1
                elif self._only is not None and not self._only(span.trace_id):
                    continue
                elif span.name == SYNC_PR_BYTES or is_item(span.name):
                    self._take_item(place, body, span)
                else:
                    self._take_other(place, body, span)
            for group in batch.groups:
                for body in group.closed:
                    self.open.pop(bytes.fromhex(span_id(body) or ""), None)
        for key in late:
            self._release_waiting(key)
            self._release_siblings(key)
        self._relieve()
        self._out = Folded()
        self.held -= out.shipped + out.folded
        return out

    def overdue(self, now: float, is_over: IsOver) -> list[bytes]:
        """The spans for which others wait in vain."""

        def is_due(key: bytes, held: Waiting | Siblings) -> bool:
            waits_in_vain = not 0 <= now - held.touched <= PATIENCE  # a time to come is of before a reboot
            return (key not in self.open and waits_in_vain) or is_over(held.series, key)

        kept: Iterable[tuple[bytes, Waiting | Siblings]] = chain(self.waiting.items(), self.siblings.items())
        return list(dict.fromkeys(key for key, held in kept if is_due(key, held)))

    def budget(self, trace_id: bytes) -> Budget:
        """The budget of a trace."""
        budget = self.budgets.get(trace_id)
        if budget is None:
            budget = self.budgets[trace_id] = Budget(self.limits)
            while len(self.budgets) > MOST_BUDGETS:
                self.budgets.popitem(last=False)
        else:
            self.budgets.move_to_end(trace_id)
        return budget

    def begin(self, groups: Iterable[Group]) -> None:
        """Take note of the stages that have begun."""
        begun = [span for group in groups if group.started for span in lean_spans(group.started) if span is not None]
        begun.sort(key=lambda span: span.start)
        for span in begun:
            if len(self.open) < MOST_OPEN:
                # Items do not say that they begin: where the parent is unknown, it may be one.
                self.open[span.span_id] = not is_landmark(span) and self.open.get(span.parent_span_id, True)

    # Spans that have ended

    def _take_item(self, place: Place, body: bytes, span: LeanSpan) -> None:
        trace_id, own, parent, end = span.trace_id, span.span_id, span.parent_span_id, span.end
        if trace_id in self.fan_outs.full:
            trace_id = self.fan_outs.home(trace_id, span.attributes)
        item: tuple[Held, ...] = ()
        if own in self.siblings or own in self.waiting:
            item = self._with_what_is_below(span, Held(body, place, trace_id))
        budget = self.budget(trace_id)
        start = span.start
        took = end - start if end > start else 0
        (bucket,) = buckets((took,))
        budget.durations[bucket] = budget.durations.get(bucket, 0) + 1
        has_leaked = self._has_leaked(own) if self.leaked else False
        if has_leaked or budget.is_whole or not parent or has_failed(span, body) or budget.is_slow(took):
            if self.open.get(parent) is not False:  # it may be below another item
                self._leak(parent)
            self._emit(item or (Held(body, place, trace_id),))
            return
        siblings = self._siblings_below(parent, trace_id, place, span.name)
        siblings.pass_time(start, end)
        most = budget.slowest
        if siblings.is_among_slowest(took, most):
            siblings.keep(took, item or (Held(body, place, trace_id),), most)
        else:
            siblings.sum_up(took, bucket, spans_in(item) if item else 1)

    def _with_what_is_below(self, span: LeanSpan, held: Held) -> tuple[Held, ...]:
        """The spans that have waited for one that has ended, and that one with the sums of items below it."""
        key = span.span_id
        spans = self._pop_waiting(key)
        siblings = self.siblings.pop(key, None)
        if siblings is not None:
            spans += siblings.kept()
            if siblings.items:  # in protobuf repeated fields need not stand together
                status = b"" if span.status else siblings.status()
                body = encoded_field(0x12, untagged(held.body) + siblings.attributes() + status)
                held = held._replace(body=body, sum=siblings.spans)
        return (*spans, held)

    def _siblings_below(self, parent: bytes, trace_id: bytes, place: Place, name: bytes) -> Siblings:
        siblings = self.siblings.get(parent)
        if siblings is None:
            siblings = self.siblings[parent] = Siblings(trace_id, place, self._series, self._now, _text(name))
        elif siblings.touched != self._now:
            siblings.touched, siblings.series = self._now, self._series
            self.siblings.move_to_end(parent)
        return siblings

    def _take_other(self, place: Place, body: bytes, span: LeanSpan) -> None:
        home = self.fan_outs.home(span.trace_id, span.attributes)
        spans = self._with_what_is_below(span, Held(body, place, home))
        if self._goes_out(span, home):
            self._emit(spans)
        else:
            self._wait(span.parent_span_id, spans)

    def _goes_out(self, span: LeanSpan, trace_id: bytes) -> bool:
        """Return whether a span goes out at once, or waits for an item that may be above it."""
        parent = span.parent_span_id
        has_leaked = self._has_leaked(span.span_id)
        if self.open.get(parent) is False:
            return True
        if is_landmark(span):
            if parent and is_group(span.name):  # whatever it is that is above it must not be summed up
                self._leak(parent)
            return True
        if has_leaked or self.budget(trace_id).is_whole:
            self._leak(parent)
            return True
        return False

    def _has_leaked(self, key: bytes) -> bool:
        return self.leaked.pop(key, self) is None

    def _leak(self, key: bytes) -> None:
        self.leaked[key] = None
        if len(self.leaked) > MOST_LEAKED:
            self.leaked.popitem(last=False)

    # What waits

    def _wait(self, key: bytes, spans: Sequence[Held]) -> None:
        waiting = self.waiting.get(key)
        if waiting is None:
            waiting = self.waiting[key] = Waiting(self._series, self._now)
        waiting.touched = self._now
        waiting.spans += spans
        if len(waiting.spans) > MOST_BELOW:
            self._release_waiting(key)

    def _pop_waiting(self, key: bytes) -> list[Held]:
        waiting = self.waiting.pop(key, None)
        return [] if waiting is None else waiting.spans

    def _relieve(self) -> None:
        """Let go of what is too much, the oldest first."""
        waiting = sum(len(each.spans) for each in self.waiting.values())
        size = sum(_size(each.spans) for each in self.waiting.values())
        size += sum(_size(siblings.kept()) for siblings in self.siblings.values())
        while self.waiting and (waiting > MOST_WAITING or size > MOST_BYTES):
            key, oldest = next(iter(self.waiting.items()))
            waiting -= len(oldest.spans)
            size -= _size(oldest.spans)
            self._release_waiting(key)
        while self.siblings and (len(self.siblings) > MOST_SIBLINGS or size > MOST_BYTES):
            parent, siblings = next(iter(self.siblings.items()))
            size -= _size(siblings.kept())
            self._release_siblings(parent)

    def _release_waiting(self, key: bytes) -> None:
        spans = self._pop_waiting(key)
        if spans:
            self._emit(spans)
            self._leak(key)

    def _release_siblings(self, key: bytes) -> None:
        siblings = self.siblings.pop(key, None)
        if siblings is None:
            return
        self._emit(siblings.kept())
        if self.open.get(key) is not False:
            self._leak(key)
        if siblings.items:
            summary = _summary(key, siblings)
            self._out.add(siblings.place, summary)
            self._out.added += 1
            self._out.folded += siblings.spans
            self.budget(siblings.trace_id).spend(len(summary))

    # What goes out

    def _emit(self, spans: Sequence[Held]) -> None:
        out = self._out
        for held in spans:
            body = held.body
            at = 4 if body[1] < 0x80 else 5  # behind a length of one byte or two, as most are
            if body[at : at + 16] != held.trace_id:
                body = self._moved(held)
            out.add(held.place, body)
            self.budget(held.trace_id).spend(len(body))
        out.shipped += len(spans)
        out.folded += spans_in(spans) - len(spans)

    def _moved(self, held: Held) -> bytes:
        """A span that may be in another trace than it was recorded in."""
        (span,) = lean_spans([held.body])
        if span is None or span.trace_id == held.trace_id:
            return held.body
        if not span.parent_span_id or not self.fan_outs.is_outermost(span):
            return moved(held.body, held.trace_id)
        root, stand_in = divided(held.body, held.trace_id)
        self._out.add(held.place, stand_in)
        self._out.added += 1
        self.budget(span.trace_id).spend(len(stand_in))
        return root


def _in_order(groups: Iterable[Group]) -> list[tuple[Place, bytes, LeanSpan | None]]:
    """The spans of a batch, children before their parents: as they were recorded, or by their ends."""
    with_spans = [group for group in groups if group.spans]
    spans = [
        ((group.resource, group.scope), body, span)
        for group in with_spans
        for body, span in zip(group.spans, lean_spans(group.spans), strict=True)
    ]
    if len(with_spans) > 1:
        spans.sort(key=lambda entry: entry[2].end if entry[2] is not None else 0)
    return spans


def is_landmark(span: LeanSpan) -> bool:
    """Return whether no item can be above a span that is to be folded with it."""
    name = span.name
    return (
        not span.parent_span_id
        or bool(span.flags & _IS_REMOTE)
        or span.kind == _CONSUMER
        or (_is_landmark_name(name) if len(name) <= _SHORT else _is_landmark_name.__wrapped__(name))
    )


@lru_cache(1_024)
def _is_landmark_name(name: bytes) -> bool:
    return name.startswith(NAMED_PIPELINE_BYTES) or is_group(name)


def has_failed(span: LeanSpan, body: bytes) -> bool:
    """Return whether an item has failed, or ended otherwise than it should. `body`: as the journal holds it."""
    if span.status and STATUS_ERROR in span.status:
        return True
    # Lengths in front: they are rarer than letters, and so found faster.
    if b"\x06failed" not in body and body.count(b"\x0csync.outcome") == (SUCCEEDED in body):
        return False
    return any(pair == FAILED or (pair.startswith(OUTCOME) and pair != SUCCEEDED) for pair in span.attributes)


def _summary(parent: bytes, siblings: Siblings) -> bytes:
    """A span for items that are summed up where no span of their parent's comes to carry the sums."""
    number = siblings.first_start.to_bytes(8, "big")
    head = Span(
        trace_id=siblings.trace_id,
        parent_span_id=parent,
        span_id=blake2b(parent + number, digest_size=8, person=b"otelsync fold").digest(),
        name=siblings.name + FOLDED,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=siblings.first_start,
        end_time_unix_nano=siblings.last_end,
    )
    return encoded_field(0x12, head.SerializeToString() + siblings.attributes() + siblings.status())


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _size(spans: Iterable[Held]) -> int:
    return sum(len(held.body) for held in spans)
