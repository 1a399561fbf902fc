"""Metrics as Prometheus reads them: the text format 0.0.4, and OpenMetrics 1.0, which has exemplars.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/ . Neither has exponential histograms, so histograms go out in
classic buckets, which are sums of theirs. Written here and not by prometheus_client, which is made for metrics counted
in its own process: what is left for it to do is three kinds of lines. The tests read them with its parsers.

OpenMetrics says when a counter was 0 by a line of its own, ``_created``, which few readers use. So those that take
several samples of a series in one page, as Prometheus does, are shown the 0 as well, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from otelsync.shipping.metrics.catalogue import SERVICE, prometheus_name
from otelsync.shipping.metrics.durations import Durations, Exemplar
from otelsync.shipping.metrics.series import Family, Point
from otelsync.shipping.metrics.starts import Starts
from otelsync.vocabulary import SYNC_SPAN_ID

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_MILLISECOND: Final = 1_000_000
_OWN_ID: Final = prometheus_name(SYNC_SPAN_ID)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def text(
    families: Iterable[Family],
    resource_of: Callable[[str], Mapping[str, str]],
    *,
    openmetrics: bool = False,
    starts: Starts | None = None,
) -> str:
    """All metrics in the format 0.0.4, or in OpenMetrics, and what they are of.

    `resource_of`: attributes of a service, by its name. `starts`: what else the reader of OpenMetrics is shown.
    """
    families = list(families)
    services = dict.fromkeys(point.service for family in families for point in family.points)
    lines = list(_targets(map(resource_of, services), openmetrics=openmetrics)) if services else []
    for family in families:
        lines += _lines(family, starts, openmetrics=openmetrics)
    return "".join(f"{line}\n" for line in lines) + ("# EOF\n" if openmetrics else "")


def _targets(resources: Iterable[Mapping[str, str]], *, openmetrics: bool) -> Iterator[str]:
    name = "target" if openmetrics else "target_info"
    yield f"# HELP {name} The services that the metrics are of, with the id that their spans and log records have."
    yield f"# TYPE {name} {'info' if openmetrics else 'gauge'}"
    for resource in resources:
        yield f"target_info{{{_inside(resource).rstrip(',')}}} 1"


def _lines(family: Family, starts: Starts | None, *, openmetrics: bool) -> Iterator[str]:
    metric = family.metric
    suffix = "_total" if metric.kind == "counter" else ""
    name = metric.family if openmetrics else metric.family + suffix
    yield f"# HELP {name} {metric.says}"  # our own text, in which there is nothing to escape
    yield f"# TYPE {name} {metric.kind}"
    if openmetrics and metric.prometheus_unit:
        yield f"# UNIT {name} {metric.prometheus_unit}"
    for point in family.points:
        if metric.kind == "gauge":
            yield f"{name}{{{_labels(point)}}} {point.value!r}"
            continue
        start = starts.of(family, point) if starts is not None and openmetrics else None
        if starts is None or start is None:
            yield from _sums(metric.family, point, "", openmetrics=openmetrics)
            continue
        for each, at in ((start, start.at), (point, starts.now)):
            yield from _sums(metric.family, each, f" {_seconds(at)}", openmetrics=True)


def _sums(name: str, point: Point, at: str, *, openmetrics: bool) -> Iterator[str]:
    """Return the lines of a counter or histogram, with a timestamp or without, and of when it was 0."""
    if isinstance(point.value, Durations):
        yield from _histogram(name, point, point.value, at, openmetrics=openmetrics)
    else:
        yield f"{name}_total{{{_labels(point)}}} {point.value!r}{at}"
    if openmetrics:
        yield f"{name}_created{{{_labels(point)}}} {_seconds(point.since)}{at}"


def _histogram(name: str, point: Point, durations: Durations, at: str, *, openmetrics: bool) -> Iterator[str]:
    before = _inside({SERVICE: point.service, **point.labels})
    exemplar = durations.exemplar if openmetrics else None
    for bound, count in (*durations.classic(), (float("inf"), durations.count)):
        le = "+Inf" if bound == float("inf") else repr(bound)
        shown = ""
        if exemplar is not None and exemplar.nanoseconds <= bound * 1e9:
            shown, exemplar = _exemplar(exemplar), None
        yield f'{name}_bucket{{{before}le="{le}"}} {count}{at}{shown}'
    yield f"{name}_sum{{{_labels(point)}}} {durations.total / 1e9!r}{at}"
    yield f"{name}_count{{{_labels(point)}}} {durations.count}{at}"


def _seconds(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds // _MILLISECOND, 1000)
    return f"{seconds}.{rest:03d}"


def _exemplar(exemplar: Exemplar) -> str:
    ids = f'trace_id="{exemplar.trace_id.hex()}",span_id="{exemplar.span_id.hex()}"'
    if exemplar.own_id:
        ids += f',{_OWN_ID}="{exemplar.own_id.hex()}"'
    return f" # {{{ids}}} {exemplar.nanoseconds / 1e9!r} {exemplar.at / 1e9:.3f}"


def _labels(point: Point) -> str:
    return _inside({SERVICE: point.service, **point.labels}).rstrip(",")


def _inside(labels: Mapping[str, str]) -> str:
    return "".join(f'{prometheus_name(name)}="{value.translate(_ESCAPES)}",' for name, value in labels.items())
