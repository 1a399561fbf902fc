"""Metrics as Prometheus reads them: the text format 0.0.4, and OpenMetrics 1.0, which has exemplars.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/ . Neither has exponential histograms, so histograms go out in
classic buckets, which are sums of theirs. Written here and not by prometheus_client, which is made for metrics counted
in its own process: what is left for it to do is three kinds of lines. The tests read them with its parsers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from otelsync.shipping.metrics.catalogue import SERVICE, prometheus_name
from otelsync.shipping.metrics.durations import Durations, Exemplar
from otelsync.shipping.metrics.series import Family, Point
from otelsync.vocabulary import SYNC_SPAN_ID

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_OWN_ID: Final = prometheus_name(SYNC_SPAN_ID)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def text(families: Iterable[Family], *, openmetrics: bool = False) -> str:
    """All metrics in the format 0.0.4, or in OpenMetrics."""
    lines = (line for family in families for line in _lines(family, openmetrics=openmetrics))
    return "".join(f"{line}\n" for line in lines) + ("# EOF\n" if openmetrics else "")


def _lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    metric = family.metric
    suffix = "_total" if metric.kind == "counter" else ""
    name = metric.family if openmetrics else metric.family + suffix
    yield f"# HELP {name} {metric.says}"  # our own text, in which there is nothing to escape
    yield f"# TYPE {name} {metric.kind}"
    if openmetrics and metric.prometheus_unit:
        yield f"# UNIT {name} {metric.prometheus_unit}"
    for point in family.points:
        if isinstance(point.value, Durations):
            yield from _histogram(name, point, point.value, openmetrics=openmetrics)
        else:
            yield f"{metric.family}{suffix}{_labels(point)} {point.value!r}"


def _histogram(name: str, point: Point, durations: Durations, *, openmetrics: bool) -> Iterator[str]:
    before = _inside(point)
    exemplar = durations.exemplar if openmetrics else None
    for bound, count in (*durations.classic(), (float("inf"), durations.count)):
        le = "+Inf" if bound == float("inf") else repr(bound)
        shown = ""
        if exemplar is not None and exemplar.nanoseconds <= bound * 1e9:
            shown, exemplar = _exemplar(exemplar), None
        yield f'{name}_bucket{{{before}le="{le}"}} {count}{shown}'
    yield f"{name}_sum{_labels(point)} {durations.total / 1e9!r}"
    yield f"{name}_count{_labels(point)} {durations.count}"


def _exemplar(exemplar: Exemplar) -> str:
    ids = f'trace_id="{exemplar.trace_id.hex()}",span_id="{exemplar.span_id.hex()}"'
    if exemplar.own_id:
        ids += f',{_OWN_ID}="{exemplar.own_id.hex()}"'
    return f" # {{{ids}}} {exemplar.nanoseconds / 1e9!r} {exemplar.at / 1e9:.3f}"


def _labels(point: Point) -> str:
    return f"{{{_inside(point).rstrip(',')}}}"


def _inside(point: Point) -> str:
    labels: Mapping[str, str] = {SERVICE: point.service, **point.labels}
    return "".join(f'{prometheus_name(name)}="{value.translate(_ESCAPES)}",' for name, value in labels.items())
