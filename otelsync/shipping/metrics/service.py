"""The metrics of a process that ships: their series, and the ways they are read."""

from __future__ import annotations

import time
from collections.abc import Iterator

from otelsync.otlp.options import OtlpEndpoint
from otelsync.shipping.metrics.export import MetricExport, encode
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.shipping.metrics.server import MetricsServer


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
        self.series = MetricSeries()
        self._place = place
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

    def _requests(self) -> Iterator[bytes]:
        return encode(
            self.series.families(),
            dict(self.series.resources),
            started=self.series.started,
            now=time.time_ns(),
            place=self._place,
        )
