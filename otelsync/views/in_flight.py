"""Runs in flight: which there are, what each is at in which process, how far it is, what it waits for, what is stuck.

The journals of the living processes say so, and the local store what of a run is not in any journal any more.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from otelsync import vocabulary
from otelsync.errors import OtelsyncError
from otelsync.store.runs import open_store
from otelsync.store.spans import details, own_label
from otelsync.store.task_traces import RUN
from otelsync.views.living_journals import LivingJournals
from otelsync.views.process_now import (
    PIPELINE,
    EndedRun,
    Groups,
    LastItem,
    LimitLeft,
    OpenSpan,
    ProcessNow,
    Progress,
    read_progress,
    text,
)
from otelsync.views.run_now import RUNNING, STUCK, WAITING, Place, Remaining, RunNow, StageNow, Wait
from otelsync.vocabulary import GROUP, STAGE, groups_of, part_of
from otelsync.vocabulary import WAITING as STAGE_WAITS

STUCK_AFTER: Final = 300.0
"""Seconds without a record after which a run whose process lives counts as stuck."""
_SECOND: Final = 1_000_000_000
_FORGOTTEN: Final = 24 * 3600 * _SECOND
"""A dispatched run of which nothing was heard for so long is not listed any more. Nanoseconds."""
_OF_GROUPS: Final = frozenset((vocabulary.SYNC_REPO, "sync.group"))
"""The beginnings of the names of events that tell of a group's progress."""
_MOST_RUNS: Final = 200
_MOST_EVENTS: Final = 20_000
"""Log records of a run in which the store is searched for progress."""


@dataclass(frozen=True, slots=True)
class _Root:
    """A pipeline that has not ended."""

    sync_id: str
    pipeline: str
    service: str
    trace_id: str
    span_id: str
    started_ns: int
    last_ns: int
    dispatched: bool = True
    pid: int | None = None


class InFlight:
    """The runs in flight, as often as one looks.

    Args:
        directories: Which journal directories there are at each moment.
        store: The local store's file, which may be missing.
        stuck_after: Seconds without a record after which a run counts as stuck.
    """

    def __init__(
        self, directories: Callable[[], Sequence[Path]], store: Path, *, stuck_after: float = STUCK_AFTER
    ) -> None:
        self._journals = LivingJournals(directories)
        self._store = store
        self._stuck_after = int(stuck_after * _SECOND)
        self._progress: dict[str, dict[str, Progress]] = {}
        self._ended: dict[str, EndedRun] = {}

    def close(self) -> None:
        """Close all files."""
        self._journals.close()

    def look(self, now_ns: int | None = None) -> list[RunNow]:
        """The runs in flight, those that began first first."""
        now_ns = time.time_ns() if now_ns is None else now_ns
        processes = self._journals.look()
        stored = self._look_into_store(processes, now_ns)
        for process in processes:
            self._ended.update({ended.sync_id: ended for ended in process.ended.values() if ended.sync_id})
        roots = _roots(processes, stored)
        for span_id in {span_id for process in processes for span_id in process.ended}:
            roots.pop(span_id, None)
        runs = [self._run(root, processes, now_ns) for root in _one_a_run(roots.values())]
        for sync_id in self._progress.keys() - {run.sync_id for run in runs}:
            del self._progress[sync_id]
        while len(self._ended) > _MOST_RUNS:
            del self._ended[next(iter(self._ended))]
        since = now_ns - _FORGOTTEN
        heard_of = [run for run in runs if not run.dispatched or run.places or run.last_record_ns >= since]
        return sorted(heard_of, key=lambda run: run.started_ns)

    def how_ended(self, sync_id: str) -> EndedRun | None:
        """Return how a run ended that was in flight; None if that is not known, at least not yet."""
        if sync_id in self._ended:
            return self._ended[sync_id]
        try:
            with open_store(self._store) as store:
                return _stored_end(store, sync_id, "sync_id = ?", sync_id)
        except (OtelsyncError, OSError):
            return None

    def _run(self, root: _Root, processes: list[ProcessNow], now_ns: int) -> RunNow:
        told = [process for process in processes if root.trace_id in process.life]
        for process in processes:
            self._remember(root, process)
        progress = self._progress.get(root.sync_id, {})
        alive = (process for process in processes if process.alive)
        places = tuple(place for process in alive for place in _places(process, root, now_ns, self._stuck_after))
        last = max([root.last_ns, *(process.life[root.trace_id] for process in told)])
        states = {place.state for place in places} or {_state(None, last, now_ns, self._stuck_after)}
        state = states.pop() if len(states) == 1 else RUNNING
        whole = progress.get(root.span_id) or _summed(progress.values())
        wait = next((place.wait for place in places if place.wait), None) if state == WAITING else None
        is_own = whole is not None and whole.span_id == root.span_id
        return RunNow(
            sync_id=root.sync_id,
            pipeline=root.pipeline,
            service=root.service,
            trace_id=root.trace_id,
            started_ns=root.started_ns,
            dispatched=root.dispatched,
            pid=root.pid,
            phase=next((process.phases[root.trace_id] for process in told if root.trace_id in process.phases), ""),
            progress=whole,
            remaining=remaining(whole, wait, now_ns) if is_own else None,
            places=places,
            limits=_limits(told, root.trace_id, now_ns),
            last_record_ns=last,
            state=state,
        )

    def _remember(self, root: _Root, process: ProcessNow) -> None:
        """Keep the progress of a run's stages, as they end and their journals go."""
        known = self._progress.setdefault(root.sync_id, {})
        for span_id, progress in process.progress.items():
            before = known.get(span_id)
            if progress.trace_id == root.trace_id and (before is None or before.time_ns <= progress.time_ns):
                known[span_id] = progress

    # The store

    def _look_into_store(self, processes: list[ProcessNow], now_ns: int) -> list[_Root]:
        """The runs that go on for all that the store knows; and the progress of those that are dispatched."""
        try:
            with open_store(self._store) as store:
                self._note_ends(store, processes)
                held = {span_id for process in processes for span_id in process.open}
                elsewhere = [root for root in _running(store, now_ns) if root.span_id not in held]
                for root in elsewhere:
                    self._read_progress(store, root)
                return elsewhere
        except (OtelsyncError, OSError):
            return []  # there is none, or it is for others to say what is wrong with it

    def _note_ends(self, store: sqlite3.Connection, processes: list[ProcessNow]) -> None:
        for process in processes:
            for span_id, span in list(process.released.items()):
                ended = _stored_end(store, span.sync_id, "trace_id = ?", span.trace_id)
                if ended is not None:
                    process.ended[span_id] = ended

    def _read_progress(self, store: sqlite3.Connection, root: _Root) -> None:
        known = self._progress.setdefault(root.sync_id, {})
        since = max((progress.time_ns for progress in known.values()), default=0)
        rows = store.execute(
            "SELECT span_id, event, time_ns, attributes FROM (SELECT * FROM logs WHERE trace_id = ? AND time_ns > ?"
            " ORDER BY time_ns DESC LIMIT ?) WHERE event LIKE 'sync.%.progress' ORDER BY time_ns",
            (root.trace_id, since, _MOST_EVENTS),
        )
        for span_id, event, time_ns, attributes in rows:
            known[span_id] = read_progress(root.trace_id, span_id, event, json.loads(attributes), time_ns)


def _roots(processes: list[ProcessNow], stored: Iterable[_Root]) -> dict[str, _Root]:
    """By span id: the pipelines of the living, those that were handed over, and those that only the store knows."""
    dead = {span_id for process in processes if not process.alive for span_id in process.open}
    roots = {root.span_id: root for root in stored if root.span_id not in dead}
    for process in processes:
        for span in process.released.values():
            roots[span.span_id] = _root(process, span)
        if process.alive:
            for span in process.open.values():
                if span.name.startswith(PIPELINE) and span.sync_id:
                    roots[span.span_id] = replace(_root(process, span), dispatched=False, pid=process.pid)
    return roots


def _root(process: ProcessNow, span: OpenSpan) -> _Root:
    pipeline = text(span.attributes.get(vocabulary.SYNC_PIPELINE)) or span.name.removeprefix(PIPELINE)
    begun = span.start_ns
    return _Root(span.sync_id, pipeline, process.service, span.trace_id, span.span_id, begun, last_ns=begun)


def _one_a_run(roots: Iterable[_Root]) -> list[_Root]:
    """Of pipelines inside pipelines, which share a sync id, the outermost."""
    first: dict[str, _Root] = {}
    for root in sorted(roots, key=lambda root: root.started_ns):
        first.setdefault(root.sync_id, root)
    return list(first.values())


def _running(store: sqlite3.Connection, now_ns: int) -> list[_Root]:
    rows = store.execute(
        "SELECT sync_id, pipeline, service, trace_id, root_span_id, start_ns, last_ns FROM runs"
        " WHERE sync_id IS NOT NULL AND end_ns IS NULL AND root_span_id IS NOT NULL AND last_ns > ?"
        " AND root_name LIKE 'sync.pipeline %' ORDER BY start_ns DESC LIMIT ?",
        (now_ns - _FORGOTTEN, _MOST_RUNS),
    )
    return [
        _Root(text(sync_id), text(pipeline), text(service), *others) for sync_id, pipeline, service, *others in rows
    ]


def _stored_end(store: sqlite3.Connection, sync_id: str, condition: str, wanted: str) -> EndedRun | None:
    query = f"SELECT outcome, end_ns FROM runs WHERE {condition} AND end_ns IS NOT NULL"
    row = store.execute(query, (wanted,)).fetchone()
    return None if row is None else EndedRun(sync_id, text(row[0]), row[1])


# What a process is at


def _places(process: ProcessNow, root: _Root, now_ns: int, stuck_after: int) -> list[Place]:
    """One for each group, task or other stage that is open directly below the pipeline in this process."""
    of_run = [span for span in process.open.values() if span.sync_id == root.sync_id]
    spans = {span.span_id: span for span in of_run if not span.name.startswith(PIPELINE)}
    parents = {span.parent_id for span in spans.values()}
    by_top: dict[str, list[list[OpenSpan]]] = {}
    for span in spans.values():
        if span.span_id not in parents:
            chain = _chain(span, spans)
            by_top.setdefault(chain[0].span_id, []).append(chain)
    return [_place(process, root, chains, now_ns, stuck_after) for chains in by_top.values()]


def _chain(span: OpenSpan, spans: Mapping[str, OpenSpan]) -> list[OpenSpan]:
    """The span and the open ones around it, the outermost first."""
    chain = [span]
    while (parent := spans.get(chain[-1].parent_id)) is not None and len(chain) < 64:
        chain.append(parent)
    return chain[::-1]


def _place(process: ProcessNow, root: _Root, chains: list[list[OpenSpan]], now_ns: int, stuck_after: int) -> Place:
    # What works says more than what waits, and what began last more than what hangs around it.
    chain = max(chains, key=lambda chain: (not any(map(_is_wait, chain)), chain[-1].start_ns))
    wait = next((_wait(span) for span in reversed(chain) if _is_wait(span)), None)
    pipeline = process.open.get(chain[0].parent_id)
    around = [pipeline.attributes if pipeline is not None else {}, *(span.attributes for span in chain)]
    stages = tuple(
        _stage(span, outer, process, wait, now_ns)
        for span, outer in zip(chain, around, strict=False)
        if not _is_wait(span)
    )
    task = next((span.name.removeprefix(RUN) for span in reversed(chain) if span.name.startswith(RUN)), "")
    last_item = process.last_items.get(root.trace_id)
    last_record = max(process.life.get(root.trace_id, 0), *(span.start_ns for span in chain))
    return Place(
        pid=process.pid,
        stages=stages,
        task=task,
        groups=tuple(
            (part_of(span.name)[1], span.name.partition(" ")[2]) for span in chain if part_of(span.name)[0] == GROUP
        ),
        last_item=last_item if last_item is not None and _is_of(last_item, chain[-1]) else None,
        wait=wait,
        parallel=len(chains),
        last_record_ns=last_record,
        state=_state(wait, last_record, now_ns, stuck_after),
    )


def _is_of(item: LastItem, span: OpenSpan) -> bool:
    """Return whether an item was of the groups that a span is in, or of one inside these."""
    groups = groups_of(span.attributes)
    return item.groups[: len(groups) or None] == groups


def _stage(
    span: OpenSpan, around: Mapping[str, object], process: ProcessNow, wait: Wait | None, now_ns: int
) -> StageNow:
    progress = process.progress.get(span.span_id)
    return StageNow(_named(span, around), span.start_ns, progress, remaining(progress, wait, now_ns))


def _named(span: OpenSpan, around: Mapping[str, object]) -> str:
    """Return a span's name, and what tells it from others of that name."""
    label = own_label(span.name, span.attributes, around)
    return " ".join(filter(None, (span.name, *details(span.attributes), label)))


def _is_wait(span: OpenSpan) -> bool:
    sort, _ = part_of(span.name)
    return sort == STAGE_WAITS or (sort == STAGE and span.attributes.get(vocabulary.SYNC_STAGE_KIND) == STAGE_WAITS)


def _wait(span: OpenSpan) -> Wait:
    sort, kind = part_of(span.name)
    if sort == STAGE:
        return Wait(_named(span, {}).removeprefix(vocabulary.NAMED_STAGE), span.start_ns, None, "stage")
    reasons = (span.attributes.get(key) for key in (vocabulary.SYNC_RATE_LIMIT_KIND, vocabulary.SYNC_RETRY_REASON))
    what = kind.partition(".")[0]
    planned = span.attributes.get(f"sync.{what}.planned_seconds")
    seconds = min(max(0.0, float(planned)), 1e9) if isinstance(planned, int | float) else 0.0
    return Wait(next(filter(None, map(text, reasons)), ""), span.start_ns, span.start_ns + int(seconds * _SECOND), what)


def _state(wait: Wait | None, last_ns: int, now_ns: int, stuck_after: int) -> str:
    """A wait is stuck when it is over, as far as that is known, for as long as anything else may be silent."""
    if wait is not None:
        return WAITING if now_ns < (wait.until_ns or last_ns) + stuck_after else STUCK
    return STUCK if now_ns - last_ns >= stuck_after else RUNNING


# How far it is


def remaining(progress: Progress | None, wait: Wait | None, now_ns: int) -> Remaining | None:
    """Estimate the rest from now on; None if it is not known, or it takes longer than was foreseen.

    While a rate limit is waited for, its end is known, and stands in for the waits that were foreseen.
    """
    if progress is None or progress.eta_low is None or progress.eta_high is None:
        return None
    low, high = progress.eta_low, max(progress.eta_low, progress.eta_high)
    if wait is not None and wait.until_ns is not None and wait.what == "rate_limit":
        passed = max(0, wait.since_ns - progress.time_ns) / _SECOND
        to_come = max(0, wait.until_ns - now_ns) / _SECOND
        low, high = max(0.0, low - progress.waits_ahead - passed), max(0.0, high - progress.waits_ahead - passed)
        return Remaining(low + to_come, high + to_come)
    passed = max(0, now_ns - progress.time_ns) / _SECOND
    if passed > high:
        return None
    return Remaining(max(0.0, low - passed), high - passed)


def _summed(parts: Iterable[Progress]) -> Progress | None:
    """The progress of all outermost groups together, each as it was told last; None if there is but one."""
    of_groups = [part for part in parts if part.kind in _OF_GROUPS and part.groups]
    depth = min((len(part.groups) for part in of_groups), default=0)
    latest: dict[Groups, Progress] = {}
    for part in of_groups:
        if len(part.groups) == depth and part.time_ns >= latest.get(part.groups, part).time_ns:
            latest[part.groups] = part
    if len(latest) < 2:
        return None
    counts: Counter[str] = Counter()
    for part in latest.values():
        counts.update(part.counts)
    totals = [part.total for part in latest.values()]
    total = None if None in totals else sum(total or 0 for total in totals)
    done = sum(part.done for part in latest.values())
    percent = min(100.0, math.floor(1000 * done / total) / 10) if total else None
    newest = max(latest.values(), key=lambda part: part.time_ns)
    kinds = {groups[-1][0] for groups in latest}
    kind = kinds.pop() if len(kinds) == 1 else GROUP
    return Progress(
        newest.trace_id, "", newest.kind, ((kind, ""),), done, total, percent, None, None, 0.0, counts, newest.time_ns
    )


def _limits(processes: Iterable[ProcessNow], trace_id: str, now_ns: int) -> tuple[LimitLeft, ...]:
    """Return what remained of each limit when it was last seen, as long as its window lasts."""
    latest: dict[str, LimitLeft] = {}
    for process in processes:
        for (trace, name), left in process.limits.items():
            is_over = left.reset is not None and left.reset * _SECOND <= now_ns
            if trace == trace_id and not is_over and left.seen_ns >= latest.get(name, left).seen_ns:
                latest[name] = left
    return tuple(latest.values())
