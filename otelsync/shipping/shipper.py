"""The shipper: takes records from the journals of one directory to every sink, until they have arrived.

One process at a time owns a directory. Each sink has a cursor in each file, so one that fails holds up no other, and
a file is deleted once all of them have passed it. Only a few batches are in memory at a time, whatever the backlog.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.header import process_alive
from otelsync.journal.spool import spooled
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.as_recorded import AsRecorded
from otelsync.shipping.backlog import Backlog, Segment
from otelsync.shipping.checkpoint import SIGNALS, STAGES, arrived, positions
from otelsync.shipping.outlet import (
    REFUSED_KEEP,
    Backoff,
    BatchStore,
    Delivery,
    Outlet,
    Parcel,
    StoreOutlet,
)
from otelsync.shipping.ownership import Ownership
from otelsync.shipping.saying import Saying
from otelsync.shipping.stage_ends import StageEnds

if TYPE_CHECKING:
    from otelsync.journal.batch import Batch
    from otelsync.otlp.exporter import OtlpSink
    from otelsync.shipping.folding.budget import Limits
    from otelsync.shipping.folding.debug_logs import DebugLogs
    from otelsync.shipping.folding.shaping import Shaping
    from otelsync.shipping.metrics.service import MetricsOutlet

MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_RECORDS = 4096
INTERVAL: Final = 0.5
"""Seconds, the longest pause between two looks at the directory."""
FIRST_LOOK = 0.1
"""Seconds. The pauses between two looks at the directory begin with this and double up to the interval."""
_LOCKSTEP = 0.25
"""Seconds that quick sinks wait for slow ones, so that a batch is read and parsed once for all of them."""
_PAUSE = 0.02

_log = own_logger("otelsync.shipping")


class Stopping(Protocol):
    """Tells when to stop, as an event of threads does."""

    def is_set(self) -> bool:
        """Return whether it is time."""


class Shipper:
    """Ships one journal directory. Used by one thread; `abort` and `hurry` may come from another.

    Nothing is opened or started before the first `step`.

    Args:
        directory: The journal directory. It may be missing; it is never made.
        otlp: At most one sink a signal. They are closed with the shipper.
        store: The local store. It is closed with the shipper.
        limits: What a trace may be on its way to OTLP; None: it goes as it was recorded.
        debug_logs: Whether all DEBUG records go to OTLP, or only those of stages that failed or were slow.
        dress: Makes of batches what goes to OTLP in place of them: as many records, and always the same of the same.
        metrics: What counts the records. It is closed with the shipper.
        look: Called at each step, to begin work beside shipping that is due, such as the reports of runs.
        backoff: How long a failing sink is left alone.
        patience: Seconds that an unreadable record of a living process may take to become readable.
        refused_keep: Hours for which records wait for an endpoint that takes nothing as it is set up.
    """

    def __init__(
        self,
        directory: Path,
        *,
        otlp: Sequence[OtlpSink] = (),
        store: BatchStore | None = None,
        limits: Limits | None = None,
        debug_logs: bool = True,
        dress: Callable[[list[Batch]], list[Batch]] = list,
        metrics: MetricsOutlet | None = None,
        look: Callable[[], None] | None = None,
        backoff: Backoff | None = None,
        patience: float = 1.0,
        refused_keep: float = REFUSED_KEEP,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_batch_records: int = MAX_BATCH_RECORDS,
    ) -> None:
        backoff = backoff or Backoff()
        self.directory = Path(directory)
        self._store = None if store is None else StoreOutlet(store, backoff)
        self._metrics = metrics
        self._look = look
        to_otlp = _to_otlp(otlp, backoff, dress, refused_keep) if otlp else ()
        outlets = (*to_otlp, self._store, metrics)
        self._outlets: list[Outlet] = [outlet for outlet in outlets if outlet is not None]
        if len({outlet.name for outlet in self._outlets}) < len(self._outlets):
            raise ValueError("two sinks for the same signal")
        self._stages = Outlet(STAGES, SIGNALS, "", backoff)
        sinks = {outlet.name: outlet.signals for outlet in self._outlets}
        forget = self._store.forget if self._store else None
        self._backlog = Backlog(self.directory, sinks, patience=patience, deleted=forget)
        self._shaping: Shaping | AsRecorded = AsRecorded()
        self._debug_logs: DebugLogs | AsRecorded = AsRecorded()
        if otlp:
            self._shape(limits, debug_logs=debug_logs)
        self._ownership = Ownership(self.directory)
        self._owning = False
        self._epoch = 0
        self._done: SimpleQueue[Delivery | None] = SimpleQueue()
        self._bounds = (max_batch_bytes, max_batch_records)
        self._deadline: float | None = None
        self._stage_ends = StageEnds(self.directory, self._backlog)

    def _shape(self, limits: Limits | None, *, debug_logs: bool) -> None:
        """Shape what goes to OTLP; what is only needed for that takes a while to load."""
        from otelsync.shipping.folding.debug_logs import DebugLogs
        from otelsync.shipping.folding.shaping import Shaping

        self._shaping = shaping = Shaping(self._backlog, limits)
        self._debug_logs = DebugLogs(self._backlog, is_on=not debug_logs)
        if self._metrics is not None:
            self._metrics.follow(shaping.is_folding)

    def own(self) -> bool:
        """Return whether this shipper owns the directory. It tries to, when nobody does."""
        if not self._ownership.held():
            self._owning = False
        if not self._owning and not self.directory.exists():
            self._make_if_spooled()
        if not self._owning and self._ownership.acquire():
            self._owning = True
            if self._backlog.resume():
                self._epoch += 1
                self._shaping.resume()
                self._debug_logs.resume()
                self._stage_ends.resume()
        return self._owning

    def _make_if_spooled(self) -> None:
        """Make the directory if processes of other users alone have recorded for it."""
        if spooled(self.directory):
            from otelsync.journal.segment import make_private

            with suppress(OSError):
                make_private(self.directory)

    def step(self) -> bool:
        """Look at the directory once and move what can be moved; True if anything was. Does nothing for a non-owner."""
        moved = self._collect(0.0)
        if self._look is not None:
            self._look()
        if not self.own():
            return moved
        self._backlog.scan()
        if self._metrics is not None:
            self._metrics.look(self._backlog)
        moved = self._round() or moved
        moved = self._stage_ends.write() or moved
        self._backlog.retire()
        self._backlog.save()
        return moved

    def run(self, stopping: Stopping, *, interval: float = INTERVAL) -> None:
        """Ship until `stopping` is set; `wake` makes that noticed at once. An unexpected error is logged once.

        `interval`: the longest pause between two looks, in seconds.
        """
        pause = min(FIRST_LOOK, interval)
        moved = False
        saying = Saying(_log)
        while not stopping.is_set():
            if not (moved and self._full()):
                self._collect(pause)
                pause = min(pause * 2, interval)
            try:
                moved = self.step()
            except Exception as error:
                moved = False
                saying.say(f"the shipper goes on after an unexpected error: {error!r}", error=error)

    def drain(self, timeout: float) -> bool:
        """Ship what is there now, within `timeout` seconds; True when every sink has taken all of it.

        What living processes add meanwhile may or may not be taken. Without the ownership it waits for the owner.
        """
        targets = positions(self.directory)
        return self._step_until(lambda: self._drained(targets), timeout)

    def settle(self, targets: dict[str, int], timeout: float) -> bool:
        """Ship until every sink has passed the offsets in `targets`, within `timeout` seconds; True if they have."""
        return self._step_until(lambda: arrived(self.directory, targets), timeout)

    def wake(self) -> None:
        """Cut short a pause of `run`."""
        self._done.put(None)

    def hurry(self) -> None:
        """Try failing sinks again at the next step, unless their endpoints asked to be left alone."""
        for outlet in self._outlets:
            outlet.hurry()

    def abort(self) -> None:
        """Make requests that are on their way end soon. No further ones are sent."""
        for outlet in self._outlets:
            outlet.abort()

    @property
    def is_failing(self) -> bool:
        """Return whether a sink did not take what it was given last, and it was said why."""
        return any(outlet.is_failing for outlet in self._outlets)

    def close(self, timeout: float = 1.0) -> None:
        """End: abort what is on its way, close the sinks and files, give up the directory.

        Takes up to `timeout` seconds; longer only if the disk does.
        """
        deadline = time.monotonic() + timeout
        if self._metrics is not None and self._owning:
            self._metrics.settle(self._backlog)
        for outlet in self._outlets:
            if outlet.busy:
                outlet.abort()
        for outlet in self._outlets:
            outlet.close(max(0.0, deadline - time.monotonic()))
        self._collect(0.0)
        if self._owning and self._ownership.held():  # what another one has shipped since is not ours to account for
            self._stage_ends.see_living()
            self._backlog.retire()
            self._backlog.save()
        self._backlog.close()
        self._ownership.release()
        self._owning = False

    def forget(self) -> None:
        """In a forked child: close the files that were inherited. Connections and locks are the parent's."""
        self._backlog.close()
        self._ownership.forget()

    def _step_until(self, done: Callable[[], bool], timeout: float) -> bool:
        deadline = self._deadline = time.monotonic() + timeout
        self.hurry()
        try:
            while True:
                moved = self.step()
                if done():
                    return True
                if time.monotonic() >= deadline or self._is_denied():
                    return False
                if not moved:
                    self._collect(_PAUSE)
        finally:
            self._deadline = None

    def _is_denied(self) -> bool:
        """Return whether all that is left is for endpoints that take nothing as they are set up: to wait is no use."""
        if not self._owning or self._stage_ends.are_due() or any(outlet.busy for outlet in self._outlets):
            return False
        segments = self._backlog.segments.values()
        behind = [
            outlet
            for outlet in (self._stages, *self._outlets)
            if not all(segment.caught_up(outlet.name) for segment in segments)
        ]
        return bool(behind) and all(outlet.is_denied for outlet in behind)

    def _drained(self, targets: dict[str, int]) -> bool:
        if not self._owning:
            return arrived(self.directory, targets)
        if any(outlet.busy for outlet in self._outlets) or self._stage_ends.are_due():
            return False
        if self._shaping.is_behind() or self._debug_logs.is_behind():
            return False
        return all(self._settled(segment, targets) for segment in self._backlog.segments.values())

    def _settled(self, segment: Segment, targets: dict[str, int]) -> bool:
        """Return whether every sink has taken what this drain is about: what was there, and what can not grow."""
        target = targets.get(segment.name.name, 0)
        if segment.header.final or not process_alive(segment.header):
            target = segment.header.committed
        return all(segment.progress.cursor(outlet.name) >= target for outlet in (self._stages, *self._outlets))

    def _full(self) -> bool:
        """Return whether more is known to be waiting for a sink that could take it."""
        now = time.monotonic()
        ready = [outlet.name for outlet in self._outlets if outlet.ready(now)]
        segments = self._backlog.segments.values()
        return any(not segment.caught_up(sink) for segment in segments for sink in ready)

    def _collect(self, timeout: float) -> bool:
        """Wait for a delivery or a wake-up, then draw the consequences of all deliveries; True if there was one."""
        delivered = False
        try:
            delivery = self._done.get(timeout=timeout) if timeout > 0 else self._done.get_nowait()
            while True:
                if delivery is not None:
                    self._finish(delivery)
                    delivered = True
                delivery = self._done.get_nowait()
        except Empty:
            return delivered

    def _finish(self, delivery: Delivery) -> None:
        outlet, parcel = delivery.outlet, delivery.parcel
        outcome = outlet.judge(parcel, delivery.outcome)
        outlet.note(outcome)
        if parcel.epoch != self._epoch:
            return
        outcome = self._shaping.settle(outlet.name, outcome)
        self._debug_logs.settle(outlet.name, outcome)
        if outcome.retry:
            return
        totals = self._backlog.checkpoint
        for signal in outlet.signals:
            # A sink of both signals never rejects.
            both = sum(batch.spans if signal == "span" else batch.logs for batch in parcel.batches)
            totals.add(outlet.name, signal, "shipped", both if len(outlet.signals) > 1 else outcome.accepted)
            totals.add(outlet.name, signal, "rejected", outcome.rejected)
            totals.add(outlet.name, signal, "partial_success", outcome.partial)
            totals.add(outlet.name, signal, "expired", outcome.expired)
        for batch in parcel.batches:
            self._backlog.take(outlet.name, batch)

    def _round(self) -> bool:
        """Give every sink that is ready a parcel, and wait a little, so that they stay together."""
        now = time.monotonic()
        ready = [self._stages, *(outlet for outlet in self._outlets if outlet.ready(now))]
        parcels = self._fill(ready)
        seen = parcels.pop(self._stages).batches
        self._stage_ends.note(seen)
        self._shaping.note(seen, next((parcel for outlet, parcel in parcels.items() if outlet.name == "traces"), None))
        for outlet, parcel in parcels.items():
            self._shaping.shape(outlet.name, parcel)
            self._debug_logs.shape(outlet.name, parcel)
        parcels = {outlet: parcel for outlet, parcel in parcels.items() if parcel.batches or parcel.shaped}
        for outlet, parcel in parcels.items():
            outlet.deliver(parcel, self._done)
        self._collect(0.0)
        while any(outlet.busy for outlet in parcels) and (left := now + _LOCKSTEP - time.monotonic()) > 0:
            self._collect(left)
        return bool(seen or parcels)

    def _fill(self, ready: Sequence[Outlet]) -> dict[Outlet, Parcel]:
        """The next batches for each outlet. Those with the same cursor share one batch."""
        most_bytes, most_records = self._bounds
        parcels = {
            outlet: Parcel(min(outlet.room or most_bytes, most_bytes), most_records, self._deadline, self._epoch)
            for outlet in ready
        }
        for segments in self._backlog.in_turn():
            active = [outlet for outlet in ready if parcels[outlet].has_room]
            for segment in segments:
                # Only whoever has all of a segment goes on to the next: a stage must begin before it ends.
                active = [outlet for outlet in active if self._checked(outlet, segment)]
                active = self._fill_from(segment, active, parcels)
        return parcels

    def _fill_from(self, segment: Segment, outlets: Sequence[Outlet], parcels: dict[Outlet, Parcel]) -> list[Outlet]:
        """Fill parcels from one segment. Returns the outlets that have come to its end and have room for more."""
        at_cursor: dict[int, list[Outlet]] = {}
        for outlet in outlets:
            at_cursor.setdefault(segment.progress.cursor(outlet.name), []).append(outlet)
        passed: list[Outlet] = []
        for cursor, together in at_cursor.items():
            end = cursor
            if cursor < segment.header.committed:
                room_bytes = min(parcels[outlet].room_bytes for outlet in together)
                room_records = min(parcels[outlet].room_records for outlet in together)
                batch = self._backlog.read(segment, cursor, room_bytes, room_records)
                if batch is None:
                    continue
                end = batch.end
                for outlet in together:
                    parcels[outlet].add(batch)
            if end >= segment.header.committed:
                passed += [outlet for outlet in together if parcels[outlet].has_room]
        return passed

    def _checked(self, outlet: Outlet, segment: Segment) -> bool:
        """Return whether the cursor can be relied upon: the store has an account of its own, which goes before ours."""
        if outlet is not self._store or segment.checked:
            return True
        try:
            self._backlog.move(outlet.name, segment, self._store.position(segment.name.name))
        except Exception as error:
            outlet.note(Outcome(retry=True, reason=str(error) or type(error).__name__))
            return False
        segment.checked = True
        return True


def _to_otlp(
    sinks: Sequence[OtlpSink], backoff: Backoff, dress: Callable[[list[Batch]], list[Batch]], refused_keep: float
) -> list[Outlet]:
    """Return the outlets to these sinks; what is only needed for them takes a while to load."""
    from otelsync.shipping.otlp_outlet import OtlpOutlet

    return [OtlpOutlet(sink, backoff, dress, refused_keep=refused_keep) for sink in sinks]
