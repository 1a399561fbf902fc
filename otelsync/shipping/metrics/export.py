"""Metrics to an OTLP endpoint, at an interval and once more at the end, in a thread of its own.

Requests go the way of spans and logs (`otelsync.otlp.exporter`), so that the same options mean the same. A request
that fails is not repeated: the next one says all that it has said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from otelsync.otlp.exporter import USER_AGENT, transport_to
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.reply import Reply, printable

_NOT_HERE: Final = ("HTTP 404", "HTTP 405", "HTTP 501", "UNIMPLEMENTED")
"""Answers of endpoints that take no metrics."""

_log = logging.getLogger("otelsync.shipping")


class MetricExport:
    """Sends metrics until closed, or until the endpoint says that it takes none.

    Args:
        endpoint: Where to.
        requests: Makes the requests of one export.
        interval: Seconds from one export to the next.
    """

    def __init__(self, endpoint: OtlpEndpoint, requests: Callable[[], Iterable[bytes]], *, interval: float) -> None:
        self._endpoint = endpoint
        self._requests = requests
        self._interval = interval
        self._transport = transport_to(endpoint, USER_AGENT)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._said = ""
        self._refused = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="otelsync-metrics", daemon=True)
            self._thread.start()

    def close(self, timeout: float) -> None:
        """Export once more and end, all within `timeout` seconds."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        thread, self._thread = self._thread, None
        if thread is None:
            self._transport.close()
            return
        thread.join(timeout)
        if thread.is_alive():
            self._transport.abort()

    def _work(self) -> None:
        try:
            while not self._refused:
                is_last = self._closing.wait(self._interval)
                self._export()
                if is_last:
                    break
        except Exception:
            _log.exception("metrics are not sent any more, after an unexpected error")
        finally:
            self._transport.close()

    def _export(self) -> None:
        for request in self._requests():
            timeout = min(self._endpoint.timeout, self._deadline - time.monotonic())
            if timeout <= 0:
                return
            reply = self._transport.post(request, timeout)
            self._note(reply)
            if reply.status == "retry" or self._refused:
                return

    def _note(self, reply: Reply) -> None:
        if reply.status == "ok":
            reason = _rejection(reply.content)
            if reason:
                self._say(f"some metrics were rejected ({reason})")
            elif self._said:
                self._said = ""
        elif reply.status == "refused" and reply.reason.startswith(_NOT_HERE):
            self._refused = True
            _log.info(
                "metrics to %s: it takes none (%s), so no more are sent; OTEL_METRICS_EXPORTER=none sends none at all",
                self._endpoint.place,
                reply.reason,
            )
        else:
            self._say(reply.reason)

    def _say(self, reason: str) -> None:
        """Log what is wrong, unless it was so the last time."""
        if reason != self._said:
            self._said = reason
            _log.warning("metrics to %s: %s; the next ones say the same and more", self._endpoint.place, reason)


def _rejection(content: bytes) -> str:
    """Return why a successful answer rejects something; empty if it does not, or cannot be read."""
    if not content:
        return ""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    try:
        partial = ExportMetricsServiceResponse.FromString(content).partial_success
    except DecodeError:
        return ""
    if not partial.rejected_data_points:
        return ""
    return f"{partial.rejected_data_points} points: {printable(partial.error_message)}"
