"""A dashboard with its variables and panels, and what all of them can be narrowed down to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import logs as log_panels
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import timeseries as graphs
from grafana_foundation_sdk.models import dashboard as models

from collector.grafana.panels import variable

Panel: TypeAlias = graphs.Panel | log_panels.Panel | stats.Panel | tables.Panel

SERVICE: Final = variable("service", "Service", "label_values(otelsync_ledger_recorded_total, service_name)")
PIPELINE: Final = variable(
    "pipeline", "Pipeline", 'label_values(sync:stage_duration_seconds:count{service_name=~"$service"}, sync_pipeline)'
)


def one_service() -> dashboards.QueryVariable:
    """Return the choice of a single service."""
    choice = variable("service", "Service", "label_values(otelsync_ledger_recorded_total, service_name)")
    return choice.multi(False).include_all(False).all_value("").current(models.VariableOption(text="", value=""))


OF_SERVICE: Final = 'service_name=~"$service"'
OF: Final = f'{OF_SERVICE}, sync_pipeline=~"$pipeline"'
"""What these choose, as PromQL has it."""


def board(
    uid: str,
    title: str,
    says: str,
    variables: Iterable[dashboards.QueryVariable | dashboards.TextBoxVariable],
    panels: Iterable[Panel],
) -> dashboards.Dashboard:
    """Return a dashboard of these panels, in their order."""
    others = dashboards.DashboardLink("otelsync").type(models.DashboardLinkType.DASHBOARDS).tags(["otelsync"])
    made = (
        dashboards.Dashboard(title)
        .uid(uid)
        .description(says)
        .tags(["otelsync"])
        .link(others.as_dropdown(True).keep_time(True))
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .readonly()
    )
    for each in variables:
        made = made.with_variable(each)
    for number, panel in enumerate(panels, start=1):
        made = made.with_panel(panel.id(number))
    return made
