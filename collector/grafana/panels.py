"""Panels as the dashboards need them: a graph, a number, a list, log records, traces; each with its own help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import common, loki, prometheus, tempo
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import logs as log_panels
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import timeseries as graphs
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import loki as loki_models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models import tempo as tempo_models

METRICS: Final = models.DataSourceRef(type_val="prometheus", uid="prometheus")
LOGS: Final = models.DataSourceRef(type_val="loki", uid="loki")
TRACES: Final = models.DataSourceRef(type_val="tempo", uid="tempo")
JAEGER: Final = models.DataSourceRef(type_val="jaeger", uid="jaeger")
VICTORIALOGS: Final = models.DataSourceRef(type_val="victoriametrics-logs-datasource", uid="victorialogs")
FULL: Final = 24
HALF: Final = 12
THIRD: Final = 8
QUARTER: Final = 6
"""Widths of panels."""

Query: TypeAlias = tuple[str, str]
"""PromQL, and the name of its series."""
Steps: TypeAlias = tuple[tuple[float | None, str], ...]
"""Values and the colour from there on; None: from the beginning."""
GOOD_IF_NONE: Final[Steps] = ((None, "green"), (1, "red"))


def graph(
    title: str,
    *queries: Query,
    says: str,
    unit: str = "short",
    width: int = HALF,
    bars: bool = False,
    exemplars: bool = False,
    step: str = "",
) -> graphs.Panel:
    """Return a graph over time.

    Args:
        title: Its heading.
        queries: What it shows.
        says: Help for whoever reads it.
        unit: Grafana's name of the unit.
        width: Of 24.
        bars: Stacked bars, for numbers of events.
        exemplars: Points that lead to traces.
        step: The shortest step.
    """
    legend = common.VizLegendOptions().show_legend(True).display_mode(common_models.LegendDisplayMode.LIST)
    panel = (
        graphs.Panel()
        .title(title)
        .description(says)
        .datasource(METRICS)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .legend(legend.placement(common_models.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )
    if bars:
        stacked = common.StackingConfig().mode(common_models.StackingMode.NORMAL)
        panel = panel.draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(80).stacking(stacked)
    if step:
        panel = panel.interval(step)
    for letter, (expression, legend_of_it) in zip("ABCDEF", queries, strict=False):
        query = _query(letter, expression, legend_of_it).range()
        panel = panel.with_target(query.exemplar(True) if exemplars else query)
    return panel


def number(
    title: str, expression: str, *, says: str, unit: str = "short", steps: Steps = (), width: int = QUARTER
) -> stats.Panel:
    """Return a single number, as it is now."""
    panel = (
        stats.Panel()
        .title(title)
        .description(says)
        .datasource(METRICS)
        .unit(unit)
        .span(width)
        .height(4)
        .no_value("none")
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .with_target(_query("A", expression, "").instant())
    )
    return panel.thresholds(_thresholds(steps)) if steps else panel


def listing(
    title: str, *queries: Query, says: str, unit: str = "short", width: int = HALF, steps: Steps = ()
) -> tables.Panel:
    """Return a list of what a query says now, a row for each series; several queries are columns, joined by labels."""
    hidden = {"Time": True, "__name__": True, "job": True, "instance": True, "alertstate": True}
    hidden |= {"service_instance_id": True, "otel_scope_name": True, "otel_scope_version": True}
    names = {
        f"Value #{letter}" if len(queries) > 1 else "Value": of
        for letter, (_, of) in zip("ABCDEF", queries, strict=False)
    }
    panel = (
        tables.Panel()
        .title(title)
        .description(says)
        .datasource(METRICS)
        .unit(unit)
        .span(width)
        .height(8)
        .no_value("none")
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "renameByName": names})
        )
    )
    if steps:
        panel = panel.thresholds(_thresholds(steps))
    for letter, (expression, _) in zip("ABCDEF", queries, strict=False):
        panel = panel.with_target(_query(letter, expression, "").instant().format(_TABLE))
    return panel


def records(title: str, expression: str, *, says: str, width: int = FULL) -> log_panels.Panel:
    """Return log records of Loki."""
    return (
        log_panels.Panel()
        .title(title)
        .description(says)
        .datasource(LOGS)
        .span(width)
        .height(10)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common_models.LogsSortOrder.ASCENDING)
        .with_target(loki.Dataquery().ref_id("A").expr(expression).query_type(loki_models.LokiQueryType.RANGE.value))
    )


def figures_of_records(title: str, expression: str, legend: str, *, says: str, unit: str) -> graphs.Panel:
    """Return a graph of what Loki makes of records."""
    query = loki.Dataquery().ref_id("A").expr(expression).legend_format(legend)
    return (
        graphs.Panel()
        .title(title)
        .description(says)
        .datasource(LOGS)
        .unit(unit)
        .min(0)
        .span(HALF)
        .height(8)
        .draw_style(common_models.GraphDrawStyle.POINTS)
        .with_target(query.query_type(loki_models.LokiQueryType.RANGE.value))
    )


def traces(title: str, expression: str, *, says: str, spans: bool = False, width: int = HALF) -> tables.Panel:
    """Return what Tempo finds: traces, or their spans."""
    shown = tempo_models.SearchTableType.SPANS if spans else tempo_models.SearchTableType.TRACES
    query = tempo.Dataquery().ref_id("A").query_type("traceql").query(expression).limit(100).table_type(shown)
    return tables.Panel().title(title).description(says).datasource(TRACES).span(width).height(8).with_target(query)


@dataclass
class PlainQuery(Dataquery):
    """A query of a data source that the library has no class for."""

    fields: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana keeps it."""
        return {"refId": "A", **self.fields}


@dataclass
class _Plain(Builder[Dataquery]):
    query: PlainQuery

    def build(self) -> Dataquery:
        """Return the query."""
        return self.query


def records_of_victorialogs(title: str, expression: str, *, says: str) -> log_panels.Panel:
    """Return log records of VictoriaLogs."""
    query = PlainQuery({"expr": expression, "queryType": "instant", "maxLines": 1000})
    return (
        log_panels.Panel()
        .title(title)
        .description(says)
        .datasource(VICTORIALOGS)
        .span(FULL)
        .height(10)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common_models.LogsSortOrder.ASCENDING)
        .with_target(_Plain(query))
    )


def traces_of_jaeger(title: str, tags: str, *, says: str) -> tables.Panel:
    """Return the traces of the chosen service that Jaeger finds by tags, such as ``sync.outcome=failure``."""
    query = PlainQuery({"queryType": "search", "service": "$service", "tags": tags, "limit": 100})
    panel = tables.Panel().title(title).description(says).datasource(JAEGER)
    return panel.span(HALF).height(8).with_target(_Plain(query))


def variable(name: str, label: str, query: str) -> dashboards.QueryVariable:
    """Return a choice of label values, all of them at first."""
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(METRICS)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all"))
    )


_TABLE: Final = prometheus_models.PromQueryFormat.TABLE


def _query(letter: str, expression: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend)


def _thresholds(steps: Steps) -> dashboards.ThresholdsConfig:
    return (
        dashboards.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )
