"""One row a trace: what `otelsync list` says of a run, kept up while its records come in, in any order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace

from otelsync.store.kinship import Spans, SumKey
from otelsync.store.rows import Detailed, Log
from otelsync.store.runs import Run
from otelsync.store.schema import STATUS_ERROR
from otelsync.vocabulary import NAMED_PIPELINE, SYNC_ID, SYNC_OUTCOME, SYNC_PIPELINE


class RunSummary(Run):
    """A run as far as it is known."""

    __slots__ = ()

    def row(self) -> tuple[object, ...]:
        """The values in the order of the table's columns."""
        run = replace(self, start_ns=self.first_ns) if self.root_span_id is None else self
        return tuple(getattr(run, each.name) for each in fields(run) if each.name != "account")

    def merged(self, newer: RunSummary) -> RunSummary:
        """This summary brought up to date by that of further records."""
        self.spans += newer.spans
        self.errors += newer.errors
        self.logs += newer.logs
        self.first_ns = min(self.first_ns, newer.first_ns)
        self.last_ns = max(self.last_ns, newer.last_ns)
        if newer.root_span_id is not None:
            self._take_root(newer)
        self.sync_id = self.sync_id or newer.sync_id
        self.pipeline = self.pipeline or newer.pipeline
        self.service = self.service or newer.service
        return self

    def see(self, span: Detailed, *, ended: bool, service: str) -> None:
        """Learn from one span: which run it belongs to, and whether it is the root of it."""
        self.service = self.service or service or None
        if self.sync_id is None or self.pipeline is None:
            self._take_names(span.attributes)
        if span.parent_span_id and not span.name.startswith(NAMED_PIPELINE):
            return
        root = RunSummary(
            self.trace_id,
            service=service or None,
            root_span_id=span.span_id,
            root_name=span.name,
            start_ns=span.start_ns,
        )
        root._take_names(span.attributes)
        if ended:
            root.end_ns = max(span.end_ns, span.start_ns)
            root.outcome = _text(json.loads(span.attributes).get(SYNC_OUTCOME))
            if root.outcome is None and span.status == STATUS_ERROR:
                root.outcome = "failure"
        self._take_root(root)

    def _take_root(self, other: RunSummary) -> None:
        """Take over the root of `other` if it ranks before the one known: pipelines first, then who began earlier."""
        if other.root_span_id == self.root_span_id:
            if other.end_ns is None or self.end_ns is not None:
                return
        elif self.root_span_id is not None and other._rank() >= self._rank():
            return
        self.root_span_id, self.root_name = other.root_span_id, other.root_name
        self.start_ns, self.end_ns, self.outcome = other.start_ns, other.end_ns, other.outcome
        self.sync_id = other.sync_id or self.sync_id
        self.pipeline = other.pipeline or self.pipeline
        self.service = other.service or self.service

    def _rank(self) -> tuple[bool, int]:
        return not (self.root_name or "").startswith(NAMED_PIPELINE), self.start_ns

    def _take_names(self, attributes: str) -> None:
        if '"sync.' in attributes:  # else there is nothing to be parsed for
            values = json.loads(attributes)
            self.sync_id = self.sync_id or _text(values.get(SYNC_ID))
            self.pipeline = self.pipeline or _text(values.get(SYNC_PIPELINE))


def summarize(
    sums: Mapping[SumKey, tuple[Spans, int]],
    started: Iterable[Detailed],
    logs: Iterable[Log],
    services: Mapping[int, str],
) -> list[RunSummary]:
    """Summarize a batch by the traces that it has records of. `sums`: as from `Kinship.sums`."""
    runs: dict[str, RunSummary] = {}
    for (trace_id, _, _, name), (spans, failed) in sums.items():
        run = _of(runs, trace_id)
        run.spans += len(spans)
        run.errors += failed
        run.first_ns = min(run.first_ns, min([span[5] for span in spans]))
        run.last_ns = max(run.last_ns, max([span[6] for span in spans]))
        for span in spans if name.startswith(NAMED_PIPELINE) else spans[:1]:
            detailed = span if isinstance(span, Detailed) else Detailed.from_plain(span)
            run.see(detailed, ended=True, service=services.get(detailed.resource, ""))
    for span in started:
        run = _of(runs, span.trace_id)
        run.first_ns = min(run.first_ns, span.start_ns)
        run.last_ns = max(run.last_ns, span.start_ns)
        run.see(span, ended=False, service=services.get(span.resource, ""))
    for log in logs:
        if log.trace_id:
            run = _of(runs, log.trace_id)
            run.logs += 1
            run.first_ns = min(run.first_ns, log.time_ns)
            run.last_ns = max(run.last_ns, log.time_ns)
            run.service = run.service or services.get(log.resource) or None
            if run.sync_id is None:
                run._take_names(log.attributes)
    return list(runs.values())


def _of(runs: dict[str, RunSummary], trace_id: str) -> RunSummary:
    run = runs.get(trace_id)
    if run is None:
        run = runs[trace_id] = RunSummary(trace_id)
    return run


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
