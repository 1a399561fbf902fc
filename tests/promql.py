"""PromQL as tests see it: the names that a query asks for, and those that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

from otelsync.shipping.metrics.catalogue import CATALOGUE, Metric, prometheus_name

ROOT: Final = Path(__file__).parents[1]
RULES: Final = sorted((ROOT / "collector" / "prometheus" / "rules").glob("*.yaml"))
FOREIGN: Final = frozenset(
    (
        *("up", "sync:pipeline:declared_interval_seconds"),  # by Prometheus, and by whoever declares an interval
        *("otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity"),
        *(
            f"otelcol_{what}_{of}"
            for what in ("receiver_accepted", "receiver_refused", "exporter_sent", "exporter_send_failed")
            for of in ("spans", "log_records", "metric_points")
        ),
    )
)
"""Metrics of others that the rules and dashboards know; tests/backends/ has them of a real Collector."""
FOREIGN_LABELS: Final = frozenset(
    (
        *("service_name", "instance", "job", "le", "slo", "severity", "alertname", "alertstate"),
        *("exporter", "receiver", "transport", "sync_wait_for", "sync_wait_kind", "sync_retry_of", "sync_retry_name"),
    )
)
_CHOICE: Final = re.compile(r"(\w*?)(?:\((\w+(?:\|\w+)+)\))?(?:\(\w+\)\?)?")
_VARIABLE: Final = re.compile(r"\$\{?\w+(?::\w+)?\}?")


def samples_of(metric: Metric) -> frozenset[str]:
    """Return the names of a metric's series: those of a scrape, and that of a native histogram."""
    if metric.kind != "histogram":
        return frozenset((metric.sample,))
    return frozenset((metric.family, *(f"{metric.family}_{end}" for end in ("bucket", "count", "sum"))))


def rules() -> Iterator[dict[str, Any]]:
    """Yield every recording rule and alert."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def recorded() -> frozenset[str]:
    """Return the names that the rules record."""
    return frozenset(rule["record"] for rule in rules() if "record" in rule)


def known_metrics() -> frozenset[str]:
    """Return every name that a query may ask for."""
    return recorded() | FOREIGN | {name for metric in CATALOGUE for name in samples_of(metric)}


def known_labels() -> frozenset[str]:
    """Return every label that a query may name."""
    return FOREIGN_LABELS | {prometheus_name(label) for metric in CATALOGUE for label in metric.labels}


def without_variables(query: str) -> str:
    """Return a query of a dashboard with something in the place of Grafana's variables."""
    return _VARIABLE.sub("5m", query)


def asked(query: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels that a query names.

    Raises:
        ValueError: It cannot be parsed.
    """
    metrics: set[str] = set()
    labels: set[str] = set()

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            visit(node.vector_selector)
        if isinstance(node, promql_parser.VectorSelector):
            names = [each.value for each in node.matchers.matchers if each.name == "__name__"]
            metrics.update([node.name] if node.name else [name for each in names for name in _alternatives(each)])
            labels.update(each.name for each in node.matchers.matchers if each.name != "__name__")
        modifier = getattr(node, "modifier", None)
        for part in (modifier, getattr(modifier, "matching", None)):
            labels.update(getattr(part, "labels", None) or ())
        labels.update(getattr(modifier, "group_labels", None) or ())

    promql_parser.walk(promql_parser.parse(query), visit)
    return metrics, labels


def _alternatives(pattern: str) -> list[str]:
    """Return the names that a pattern with a choice in parentheses stands for, without an end that may be missing."""
    found = _CHOICE.fullmatch(pattern)
    assert found, pattern
    begin, choice = found.groups()
    return [begin + each for each in (choice or "").split("|")]
