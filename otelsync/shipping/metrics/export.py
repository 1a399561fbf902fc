"""Metrics to an OTLP endpoint, at an interval and once more at the end, in a thread of its own.

Requests go the way of spans and logs (`otelsync.otlp.exporter`), so that the same options mean the same. A request
that fails is not repeated: the next one says all that it has said. The messages are opentelemetry-proto's own
(metrics/v1/metrics.proto), cumulative, with exponential histograms, in pieces that an endpoint takes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelsync.hooks.own_messages import own_logger
from otelsync.otlp.exporter import USER_AGENT, transport_to, without_secrets
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.partial_success import parse_partial_success
from otelsync.otlp.reply import Reply
from otelsync.otlp.request import MOST_BYTES
from otelsync.shipping.metrics.durations import Durations
from otelsync.shipping.metrics.series import Family, Point
from otelsync.version import __version__
from otelsync.vocabulary import SYNC_SPAN_ID

MOST_POINTS: Final = 2_000
"""Points of one request, at 0.2 to 1 KB each."""
FEWEST_POINTS: Final = 10

_NOT_HERE: Final = ("HTTP 404", "HTTP 405", "HTTP 501", "UNIMPLEMENTED")
"""Answers of endpoints that take no metrics."""
LONGEST_PAUSE: Final = 600.0
"""Seconds until an endpoint that takes nothing as it is set up is asked again; the pauses double up to this."""
_CUMULATIVE: Final = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE

_log = own_logger("otelsync.shipping")


class MetricExport:
    """Sends requests every `interval` seconds until closed; less often while the endpoint takes none as it is set up.

    Args:
        endpoint: Where to.
        requests: Makes the requests of the moment, with so many points each at the most.
        interval: Seconds.
    """

    def __init__(self, endpoint: OtlpEndpoint, requests: Callable[[int], Iterable[bytes]], *, interval: float) -> None:
        self._endpoint = endpoint
        self._requests = requests
        self._interval = interval
        self._transport = transport_to(endpoint, USER_AGENT)
        self._points = MOST_POINTS
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._said = ""
        self._has_taken = False
        self._denials = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. A second call does nothing."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="otelsync-metrics", daemon=True)
            thread.start()
            self._thread = thread

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
            is_last = False
            while not is_last:
                is_last = self._closing.wait(self._pause())
                self._export()
        except Exception:
            _log.exception("metrics are not sent any more, after an unexpected error")
        finally:
            self._transport.close()

    def _pause(self) -> float:
        if not self._denials:
            return self._interval
        return max(self._interval, min(self._interval * 2.0 ** min(self._denials - 1, 30), LONGEST_PAUSE))

    def _export(self) -> None:
        for request in self._requests(self._points):
            timeout = min(self._endpoint.timeout, self._deadline - time.monotonic())
            if timeout <= 0:
                return
            reply = self._transport.post(request, timeout)
            self._note(reply)
            self._denials = self._denials + 1 if reply.status == "denied" else 0
            # The next requests say the same in smaller pieces, so that one bad point takes fewer of the others along.
            is_bad = reply.status in ("refused", "broken") and self._has_taken
            if is_bad or reply.status in ("timeout", "too_large"):
                self._points = max(self._points // 2, FEWEST_POINTS)
            if reply.status in ("retry", "timeout", "denied"):
                return

    def _note(self, reply: Reply) -> None:
        if reply.status == "ok":
            self._has_taken = True
            # The answer has the same fields for every signal.
            points, said = parse_partial_success(reply.content)
            reason = without_secrets(said, self._endpoint)
            if points:
                self._say(f"some metrics were rejected ({points} points: {reason})")
            elif reason:
                self._say(f"it took everything and warns: {reason}")
            else:
                self._said = ""
        elif reply.status == "denied" and reply.reason.startswith(_NOT_HERE):
            rest = "it is asked again every few minutes; OTEL_METRICS_EXPORTER=none sends none at all"
            self._say(f"it takes none ({reply.reason})", logging.INFO, rest)
        elif reply.status == "denied":
            self._say(reply.reason, rest="it is asked again every few minutes; see `otelsync doctor`")
        else:
            self._say(reply.reason)

    def _say(
        self, reason: str, level: int = logging.WARNING, rest: str = "the next ones say the same and more"
    ) -> None:
        """Log what is wrong, unless it was so the last time. An endpoint may word each answer differently."""
        cause = reason.partition(":")[0]
        if cause != self._said:
            self._said = cause
            _log.log(level, "metrics to %s: %s; %s", self._endpoint.place, reason, rest)


def encode(
    families: Iterable[Family],
    resource_of: Callable[[str], Mapping[str, str]],
    *,
    now: int,
    most_points: int = MOST_POINTS,
) -> Iterator[bytes]:
    """Requests that hold all points as they are `now`, in Unix nanoseconds.

    `resource_of`: attributes of a service, by its name. A request is as large as an endpoint takes; a point alone may
    make one that is larger.
    """

    def request_of(piece: Sequence[tuple[Family, Point]]) -> Iterator[bytes]:
        request = _request(piece, resource_of, now)
        if len(request) <= MOST_BYTES or len(piece) == 1:
            yield request
        else:
            middle = len(piece) // 2
            yield from request_of(piece[:middle])
            yield from request_of(piece[middle:])

    points = ((family, point) for family in families for point in family.points)
    while piece := list(islice(points, most_points)):
        yield from request_of(piece)


def _request(
    piece: Iterable[tuple[Family, Point]],
    resource_of: Callable[[str], Mapping[str, str]],
    now: int,
) -> bytes:
    services: dict[str, dict[str, tuple[Family, list[Point]]]] = {}
    for family, point in piece:
        metrics = services.setdefault(point.service, {})
        metrics.setdefault(family.metric.name, (family, []))[1].append(point)
    request = ExportMetricsServiceRequest()
    for service, metrics in services.items():
        # The service, not one of its processes: counts go on when these change. One host and place is one writer.
        of_resource = request.resource_metrics.add(resource=Resource(attributes=_attributes(resource_of(service))))
        of_scope = of_resource.scope_metrics.add(scope=InstrumentationScope(name="otelsync", version=__version__))
        for family, held in metrics.values():
            _fill(of_scope.metrics.add(), family, held, now)
    return request.SerializeToString()


def _attributes(labels: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in labels.items()]


def _fill(message: metrics_pb2.Metric, family: Family, points: Iterable[Point], now: int) -> None:
    metric = family.metric
    message.name, message.unit, message.description = metric.name, metric.unit, metric.says
    if metric.kind == "histogram":
        message.exponential_histogram.aggregation_temporality = _CUMULATIVE
        message.exponential_histogram.data_points.extend(_histogram(point, now) for point in points)
    elif metric.kind == "counter":
        message.sum.aggregation_temporality, message.sum.is_monotonic = _CUMULATIVE, True
        message.sum.data_points.extend(_number(point, min(point.since, now), now) for point in points)
    else:
        message.gauge.data_points.extend(_number(point, 0, now) for point in points)


def _number(point: Point, started: int, now: int) -> metrics_pb2.NumberDataPoint:
    message = metrics_pb2.NumberDataPoint(
        attributes=_attributes(point.labels), start_time_unix_nano=started, time_unix_nano=point.at or now
    )
    if isinstance(point.value, int):
        message.as_int = point.value
    elif isinstance(point.value, float):
        message.as_double = point.value
    return message


def _histogram(point: Point, now: int) -> metrics_pb2.ExponentialHistogramDataPoint:
    durations = point.value
    assert isinstance(durations, Durations)
    scale, offset, counts = durations.exponential()
    message = metrics_pb2.ExponentialHistogramDataPoint(
        attributes=_attributes(point.labels),
        start_time_unix_nano=min(point.since, now),
        time_unix_nano=point.at or now,
        count=durations.count,
        sum=durations.total / 1e9,
        min=durations.shortest / 1e9,
        max=durations.longest / 1e9,
        scale=scale,
        zero_count=durations.zeros,
        positive=metrics_pb2.ExponentialHistogramDataPoint.Buckets(offset=offset, bucket_counts=counts),
    )
    exemplar = durations.exemplar
    if exemplar is not None:
        message.exemplars.add(
            time_unix_nano=exemplar.at,
            as_double=exemplar.nanoseconds / 1e9,
            trace_id=exemplar.trace_id,
            span_id=exemplar.span_id,
            filtered_attributes=_attributes({SYNC_SPAN_ID: exemplar.own_id.hex()} if exemplar.own_id else {}),
        )
    return message
