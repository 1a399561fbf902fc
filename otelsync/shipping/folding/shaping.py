"""Shaping: what the OTLP sinks are given in place of the records themselves, in step with the checkpoint.

The shipper's own pass decides which groups go out in traces of their own. The traces are folded on their way out; the
state of that is the checkpoint's as soon as what came of it has arrived, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import lean_spans
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.backlog import Backlog
from otelsync.shipping.folding.budget import Limits
from otelsync.shipping.folding.calls import Fold, Folded, IsOver
from otelsync.shipping.folding.fan_out import FanOuts, logs_at_home
from otelsync.shipping.folding.log_links import LOGS, LogLinks
from otelsync.shipping.folding.state import FoldStateError, dump_fan_outs, dump_fold, load_fan_outs, load_fold
from otelsync.shipping.outlet import Parcel
from otelsync.vocabulary import is_group

TRACES: Final = "traces"

_log = own_logger("otelsync.shipping")


class Shaping:
    """Folds spans and moves groups into traces of their own.

    `limits`: None: leave traces as they are, and let go of what an earlier shipper kept back.
    """

    def __init__(self, backlog: Backlog, limits: Limits | None) -> None:
        self._backlog = backlog
        self._is_on = limits is not None
        self._limits = limits or Limits()
        self._on_its_way: Folded | None = None
        self._begin_afresh()
        self._links = LogLinks(backlog, limits, lambda: self._fan_outs)

    def _begin_afresh(self) -> None:
        self._fan_outs = FanOuts()
        self._fold = Fold(self._limits, self._fan_outs)
        self._ahead: Fold | None = None
        """Budget that traces with groups will have used when all is sent that the shipper has read; None where that is
        they have used, as the sink keeps up with the shipper."""

    def resume(self) -> None:
        """Go on from the checkpoint."""
        self._begin_afresh()
        if self._is_on:
            self._ahead = self._look_ahead()
            self._ahead.begin(self._open())
            try:
                load_fan_outs(self._backlog.checkpoint.fan_outs, self._fan_outs, self._ahead)
            except FoldStateError as error:
                self._backlog.say(f"what groups have traces of their own cannot be read ({error}), and is decided anew")
        self._roll_back()
        self._links.resume()

    def note(self, batches: Sequence[Batch], traces: Parcel | None) -> None:
        """Decide about the groups that begin in what the shipper itself has read.

        `traces`: what their sink is about to be given.
        """
        if not self._is_on:
            return
        try:
            self._note(batches, traces)
        except Exception:
            _log.exception("which groups are to have traces of their own could not be decided")

    def _note(self, batches: Sequence[Batch], traces: Parcel | None) -> None:
        if traces is not None and list(map(id, traces.batches)) == list(map(id, batches)):
            self._ahead = None
        elif self._ahead is None:
            self._ahead = self._look_ahead()
        for batch in batches:
            for span in (span for group in batch.groups for span in lean_spans(group.started)):
                if span is not None and is_group(span.name):
                    budget = (self._ahead or self._fold).budget(span.trace_id)
                    self._fan_outs.begin(span, budget)
            if self._ahead is not None and self._fan_outs.traces:
                self._ahead.take([batch], time.monotonic())
        if self._fan_outs.traces and batches:
            self._backlog.checkpoint.fan_outs = dump_fan_outs(self._fan_outs, self._ahead or self._fold)
            self._backlog.changed()

    def shape(self, sink: str, parcel: Parcel) -> None:
        """Put into a parcel what the sink is to be given, where that is not what was recorded."""
        try:
            self._shape(sink, parcel)
        except Exception:
            # Whatever is wrong with us: the records go as they are.
            _log.exception("what was recorded could not be folded, and is sent as it is")
            parcel.shaped = None
            if sink == TRACES:
                self._roll_back()

    def _shape(self, sink: str, parcel: Parcel) -> None:
        if sink == LOGS:
            self._links.shape(parcel)
            if self._fan_outs.full:
                parcel.shaped = logs_at_home(parcel.content, self._fan_outs)
        elif sink != TRACES:
            return
        elif self._is_on:
            late = self._fold.overdue(time.monotonic(), self._over(has_more=bool(parcel.batches)))
            if parcel.batches or late:
                self._on_its_way = self._fold.take(parcel.batches, time.monotonic(), late)
                parcel.shaped = [self._on_its_way.batch()]
        elif self._fold.held:
            self._on_its_way = self._fold.take(
                (), time.monotonic(), self._fold.overdue(time.monotonic(), lambda *_: True)
            )
            parcel.shaped = [self._on_its_way.batch(), *parcel.batches]

    def is_folding(self, trace_id: bytes) -> bool:
        """Return whether ordinary items of a trace are folded by now."""
        budget = self._fold.budgets.get(trace_id)
        return self._is_on and budget is not None and not budget.is_whole

    def is_behind(self) -> bool:
        """Return whether spans or records are kept back for which there is no reason any more."""
        is_over = self._over() if self._is_on else lambda *_: True
        return self._links.is_behind() or bool(self._fold.overdue(time.monotonic(), is_over))

    def settle(self, sink: str, outcome: Outcome) -> Outcome:
        """Take note of what became of a parcel; returns the outcome as far as it is about what was recorded."""
        if sink == LOGS:
            self._links.settle(outcome)
        if sink != TRACES or self._on_its_way is None:
            return outcome
        out, self._on_its_way = self._on_its_way, None
        if outcome.retry:
            self._ahead = self._ahead or self._look_ahead()
            self._roll_back()
            return outcome
        checkpoint = self._backlog.checkpoint
        checkpoint.fold, checkpoint.held = dump_fold(self._fold), self._fold.held
        self._backlog.changed()
        if out.folded and not outcome.accepted:  # the sums have been refused
            refused = _without(outcome, out.added)
            if outcome.expired:
                return replace(refused, expired=refused.expired + out.folded)
            return replace(refused, rejected=refused.rejected + out.folded)
        checkpoint.add(TRACES, "span", "folded", out.folded)
        return _without(outcome, out.added)

    def _look_ahead(self) -> Fold:
        """Go on from where the fold is, to see what comes of the traces with groups."""
        traces = self._fan_outs.traces
        ahead = Fold(self._limits, self._fan_outs, traces.__contains__)
        ahead.open.update(self._fold.open)
        ahead.budgets.update((key, budget.copy()) for key, budget in self._fold.budgets.items() if key in traces)
        return ahead

    def _roll_back(self) -> None:
        """Go back to what has arrived."""
        checkpoint = self._backlog.checkpoint
        self._on_its_way = None
        self._fold = Fold(self._limits, self._fan_outs)
        try:
            load_fold(checkpoint.fold, self._fold)
        except FoldStateError as error:
            self._backlog.say(f"the spans that were kept back cannot be read ({error}), and are lost")
            checkpoint.add(TRACES, "span", "vanished", checkpoint.held)
            checkpoint.fold, checkpoint.held = "", 0
            self._fold = Fold(self._limits, self._fan_outs)
        if not checkpoint.fold:
            self._fold.begin(self._open())

    def _open(self) -> list[Group]:
        """The stages that are open."""
        return [Group(b"", b"", started=series.bodies()) for series in self._backlog.checkpoint.open.values()]

    def _over(self, *, has_more: bool = False) -> IsOver:
        """Return what tells whether a span can still come, or anything below it."""
        going_on = None if has_more or not self._fold.held else self._backlog.unfinished(TRACES)
        if going_on is None:
            return lambda *_: False
        # A stage whose process has gone is closed by us, in a file of its own.
        open_stages = {key for series in self._backlog.checkpoint.open.values() for key in series.stages}
        return lambda series, key: series not in going_on and key.hex() not in open_stages


def _without(outcome: Outcome, added: int) -> Outcome:
    """An outcome without so many spans that nobody recorded: as if they were accepted, as far as any were."""
    accepted = max(outcome.accepted - added, 0)
    added -= outcome.accepted - accepted
    rejected = max(outcome.rejected - added, 0)
    added -= outcome.rejected - rejected
    partial = max(outcome.partial - added, 0)
    added -= outcome.partial - partial
    expired = max(outcome.expired - added, 0)
    return replace(outcome, accepted=accepted, rejected=rejected, partial=partial, expired=expired)
