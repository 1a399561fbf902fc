"""The metrics of a process that ships: their series, the ways they are read, and the outlet that counts them.

The outlet has a cursor of its own, so each record counts once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Final

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.format import DROP_REASONS
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.backlog import Backlog
from otelsync.shipping.checkpoint import Checkpoint, MetricMemory
from otelsync.shipping.ledger import Ledger, ledger_so_far
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.catalogue import Metric
from otelsync.shipping.metrics.counting import Metrics
from otelsync.shipping.metrics.export import MetricExport, encode
from otelsync.shipping.metrics.series import Labels, MetricSeries
from otelsync.shipping.metrics.server import MetricsServer
from otelsync.shipping.metrics.starts import Starts, last_of
from otelsync.shipping.outlet import Backoff, Delivery, Outlet, Parcel

NAME: Final = "metrics"
"""It takes no signal as far as the ledger is concerned: nothing arrives anywhere."""
_LOOK: Final = 1.0
"""Seconds between two looks at the ledger."""

_log = own_logger("otelsync.shipping")


class MetricsService:
    """Series, an OTLP export and a server of one process, for all the journals that it ships.

    Args:
        place: What tells this source of a service's metrics from others on the host.
        otlp: Where to send them, and the seconds between two exports.
        server: Host and port where they are served.
    """

    def __init__(
        self,
        place: str,
        *,
        otlp: tuple[OtlpEndpoint, float] | None = None,
        server: tuple[str, int] | None = None,
    ) -> None:
        self.series = MetricSeries(place=place)
        self._sent = 0
        self._export = MetricExport(otlp[0], self._requests, interval=otlp[1]) if otlp else None
        self._server = MetricsServer(self.series, host=server[0], port=server[1]) if server else None

    @property
    def url(self) -> str:
        """Address of the metrics; empty as long as there is none."""
        return self._server.url if self._server else ""

    def open(self) -> None:
        """Serve from now on. Raises OSError where that cannot be."""
        if self._server is not None:
            self._server.open()

    def start(self) -> None:
        """Send and serve from now on, or as soon as that can be. A second call does nothing."""
        if self._export is not None:
            self._export.start()
        if self._server is not None:
            self._server.start()

    def close(self, timeout: float) -> None:
        """Send once more, and end; takes up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if self._export is not None:
            self._export.close(timeout)
        if self._server is not None:
            self._server.close(max(0.0, deadline - time.monotonic()))

    def _requests(self, most_points: int) -> Iterator[bytes]:
        """Requests with all points, behind those that say of new series when they were 0."""
        families, now = self.series.families(), time.time_ns()
        starts = Starts(self._sent, now)
        yield from encode(starts.families(families), self.series.resource, now=now, most_points=most_points)
        self._sent = last_of(families)  # whoever sends comes so far only where these requests have been answered
        yield from encode(families, self.series.resource, now=now, most_points=most_points)


class MetricsOutlet(Outlet):
    """Counts the records of one directory, in the shipper's own thread.

    Args:
        service: Where they are counted.
        name: What the service is called as long as no record says so.
        is_own: Whether the service is closed with this.
    """

    def __init__(self, service: MetricsService, name: str, *, is_own: bool = True) -> None:
        super().__init__(NAME, (), "", Backoff())
        self._service = service
        self._is_own = is_own
        self._metrics = Metrics(service.series, name)
        self._checkpoint: Checkpoint | None = None
        self._looked_at = -_LOOK

    def follow(self, is_folding: Callable[[bytes], bool]) -> None:
        """Let exemplars name spans that go out. `is_folding`: tells whether items of a trace are folded."""
        self._metrics.is_folding = is_folding

    def look(self, backlog: Backlog) -> None:
        """Bring the ledger's counters up to date, and begin, where the directory has just been taken over.

        What fails is left out: nobody waits for metrics.
        """
        try:
            if backlog.checkpoint is not self._checkpoint:
                self._checkpoint = backlog.checkpoint
                self._service.start()
                self._metrics.resume(backlog.checkpoint)
            elif time.monotonic() - self._looked_at < _LOOK:
                return
            self._count_ledger(backlog)
        except Exception:
            _log.debug("the ledger could not be counted", exc_info=True)

    def settle(self, backlog: Backlog) -> None:
        """Look for the last time."""
        self._looked_at = -_LOOK
        if backlog.checkpoint is self._checkpoint:
            self.look(backlog)

    def deliver(self, parcel: Parcel, done: SimpleQueue[Delivery | None]) -> None:
        """Count a parcel's records. What fails is left out."""
        for batch in parcel.batches:
            try:
                self._metrics.take(batch)
            except Exception:
                _log.debug("records of %s could not be counted", batch.journal, exc_info=True)
        done.put(Delivery(self, parcel, Outcome()))

    def close(self, timeout: float) -> None:
        """Send what was counted, if nobody else does."""
        if self._is_own:
            self._service.close(timeout)

    def _count_ledger(self, backlog: Backlog) -> None:
        self._looked_at = time.monotonic()
        segments = backlog.segments.values()
        self._metrics.forget(segment.name.series for segment in segments)
        ledger = ledger_so_far(backlog.checkpoint, ((segment.progress, segment.header.dropped) for segment in segments))
        if count_ledger(ledger, self._service.series, self._metrics.memory):
            backlog.changed()


def count_ledger(ledger: Ledger, series: MetricSeries, memory: MetricMemory) -> bool:
    """Bring the counters up to date with a ledger, also where nobody looked at it for a while.

    True if `memory`, which knows what they were told, has changed.
    """
    told = dict(memory.ledger)
    for signal, count in ledger.recorded.items():
        _count(catalogue.RECORDED, (signal,), count, series, memory)
    for account in ledger.accounts:
        labels = (account.signal, account.sink)
        _count(catalogue.SHIPPED, labels, account.shipped, series, memory)
        _count(catalogue.FOLDED, labels, account.folded, series, memory)
        for reason, count in account.dropped.items():
            # No sink's, if its writer dropped it, so that this counts once for all sinks.
            sink = "" if reason in DROP_REASONS else account.sink
            _count(catalogue.DROPPED, (account.signal, sink, reason), count, series, memory)
        series.put(catalogue.PENDING, memory.service, labels, account.pending, time.time_ns())
    return memory.ledger != told


def _count(metric: Metric, labels: Labels, count: int, series: MetricSeries, memory: MetricMemory) -> None:
    key = " ".join((metric.name, *labels))
    told = memory.ledger.get(key, 0)
    if count != told or key not in memory.ledger:
        memory.ledger[key] = count
        series.add(metric, memory.service, labels, max(count - told, 0))  # less than told: it has begun anew
