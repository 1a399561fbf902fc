"""Dashboards of runs: all of them, and one."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as dashboards

from collector.grafana.board import OF, PIPELINE, SERVICE, board, one_service
from collector.grafana.panels import (
    FULL,
    GOOD_IF_NONE,
    figures_of_records,
    graph,
    listing,
    number,
    records,
    records_of_victorialogs,
    traces,
    traces_of_jaeger,
)

_RUN: Final = dashboards.TextBoxVariable("sync_id").label("Run").description("Such as 202611222325-SYNC-6457B8D9")


def runs() -> dashboards.Dashboard:
    """Return the dashboard of all runs."""
    return board(
        "otelsync-runs",
        "Sync runs",
        "How runs, groups and items end, and what takes the time.",
        [SERVICE, PIPELINE],
        [
            number(
                "Runs that failed",
                f'sum(sum_over_time(sync:runs:increase5m{{{OF}, sync_outcome=~"failure|interrupted"}}[$__range])) / 5',
                says="Runs that ended in failure or were killed, in the time that is shown.",
                steps=GOOD_IF_NONE,
            ),
            number(
                "Items",
                f"sum(sum_over_time(sync:items:increase5m{{{OF}}}[$__range])) / 5",
                says="Items of all kinds, in the time that is shown.",
            ),
            number(
                "Items that failed",
                f'sum(sum_over_time(sync:items:increase5m{{{OF}, sync_action="failed"}}[$__range])) / 5',
                says="In the time that is shown.",
                steps=GOOD_IF_NONE,
            ),
            number(
                "Groups that are fresh",
                f"avg(sync:pipeline:fresh_groups:ratio{{{OF}}})",
                says="The part of the groups that has missed less than two runs.",
                unit="percentunit",
                steps=((None, "red"), (0.9, "orange"), (1, "green")),
            ),
            graph(
                "Runs",
                (
                    f"sum by (sync_outcome) (sum_over_time(sync:runs:increase5m{{{OF}}}[$__interval])) / 5",
                    "{{sync_outcome}}",
                ),
                says="Runs of pipelines that ended, by outcome.",
                bars=True,
                step="5m",
            ),
            graph(
                "Groups",
                (
                    f"sum by (sync_outcome) (sum_over_time(sync:group_runs:increase5m{{{OF}}}[$__interval])) / 5",
                    "{{sync_outcome}}",
                ),
                says="Runs of groups (repos, customers) that ended, by outcome.",
                bars=True,
                step="5m",
            ),
            graph(
                "What became of the items",
                (
                    f"sum by (sync_action) (sum_over_time(sync:items:increase5m{{{OF}}}[$__interval])) / 5",
                    "{{sync_action}}",
                ),
                says="By action: created, updated, unchanged, skipped, failed, or one of your own.",
                bars=True,
                step="5m",
            ),
            graph(
                "How fast the error budgets are used up",
                (f"sync:slo_burn:rate1h{{{OF}}}", "{{slo}} {{sync_pipeline}}, 1 h"),
                (f"sync:slo_burn:rate1d{{{OF}}}", "{{slo}} {{sync_pipeline}}, 1 d"),
                says="1 uses up the budget exactly. The objectives are in prometheus/rules/objectives.yaml.",
            ),
            graph(
                "How long stages take (95 %)",
                (
                    "histogram_quantile(0.95, sum by (sync_stage, le)"
                    f" (rate(sync_stage_duration_seconds_bucket{{{OF}}}[$__rate_interval])))",
                    "{{sync_stage}}",
                ),
                (
                    "histogram_quantile(0.95, sum by (sync_stage)"
                    f" (rate(sync_stage_duration_seconds{{{OF}}}[$__rate_interval])))",
                    "{{sync_stage}}",
                ),
                says="By kind, of classic histograms (a scrape) or native ones (OTLP). The points lead to traces.",
                unit="s",
                exemplars=True,
            ),
            graph(
                "How far the runs are",
                (f"sync:progress:done{{{OF}}} / sync:progress:expected{{{OF}}}", "{{sync_pipeline}}"),
                says="Of runs that report progress (track()).",
                unit="percentunit",
            ),
            listing(
                "Groups whose items fail",
                (
                    "topk(20, sum by (sync_pipeline, sync_group_kind, sync_group_name)"
                    f' (sum_over_time(sync:items:increase5m{{{OF}, sync_action="failed"}}[$__range])) / 5 > 0.5)',
                    "failed items",
                ),
                says="In the time that is shown.",
            ),
            listing(
                "API calls that fail",
                (
                    "topk(20, sum by (sync_pipeline, sync_api_operation)"
                    f' (sum_over_time(sync:api_calls:increase5m{{{OF}, sync_outcome="failure"}}[$__range])) / 5 > 0.5)',
                    "failed calls",
                ),
                says="In the time that is shown.",
            ),
            graph(
                "API requests",
                (
                    f"sum by (http_response_status_code) (rate(sync_api_requests_total{{{OF}}}[$__rate_interval]))",
                    "{{http_response_status_code}}",
                ),
                says="Requests a second, by status or type of error.",
                unit="reqps",
            ),
            graph(
                "Retries",
                (
                    f"sum by (sync_retry_of, sync_retry_name) (rate(sync_retries_total{{{OF}}}[$__rate_interval]))",
                    "{{sync_retry_of}} {{sync_retry_name}}",
                ),
                says="Further attempts a second.",
                unit="ops",
            ),
            listing(
                "Alerts",
                ('ALERTS{alertname=~"(Sync|Otelsync|Collector).*"}', "fires"),
                says="Alerts that fire, or are about to.",
                width=FULL,
            ),
        ],
    )


def run() -> dashboards.Dashboard:
    """Return the dashboard of one run."""
    of_run = '{service_name=~".+"} | sync_id="$sync_id"'
    return board(
        "otelsync-run",
        "One sync run",
        "A run by its id: its traces, its log records, and what failed in it, across all processes.",
        [_RUN],
        [
            traces(
                "Traces",
                '{ span.sync.id = "$sync_id" }',
                says="A run whose groups are many has a trace for each of them.",
            ),
            traces(
                "Spans that failed",
                '{ span.sync.id = "$sync_id" && status = error }',
                says="The innermost one is where it began.",
                spans=True,
            ),
            figures_of_records(
                "How long its groups took",
                f"max by (sync_repo, sync_group_name) (max_over_time({of_run}"
                " | event_name=~`sync[.](repo|group)[.](completed|failed)` | unwrap duration_ms [$__interval]))",
                "{{sync_repo}}{{sync_group_name}}",
                says="Told by the record of each group's end.",
                unit="ms",
            ),
            traces(
                "Waits for rate limits",
                '{ span.sync.id = "$sync_id" && name = "sync.rate_limit.wait" }',
                says="And how long each took.",
                spans=True,
            ),
            records(
                "What failed",
                f"{of_run} | severity_text=~`ERROR|FATAL`",
                says="Each record leads to its trace.",
            ),
            records("All records", of_run, says="Of all processes of the run, in order."),
        ],
    )


def run_of_victorialogs() -> dashboards.Dashboard:
    """Return the dashboard of one run where the stores are Jaeger and VictoriaLogs."""
    return board(
        "otelsync-run-victorialogs",
        "One sync run (Jaeger, VictoriaLogs)",
        "A run by its id: its traces, its log records, and what failed in it, across all processes.",
        [_RUN, one_service()],
        [
            traces_of_jaeger(
                "Traces", "sync.id=$sync_id", says="A run whose groups are many has a trace for each of them."
            ),
            traces_of_jaeger(
                "Traces with parts that failed",
                "sync.id=$sync_id sync.outcome=failure",
                says="Jaeger's page marks what failed in them.",
            ),
            records_of_victorialogs(
                "How long its groups took",
                'sync.id:="$sync_id" event_name:~"^sync[.](repo|group)[.](completed|failed)$"',
                says="The record of each group's end has duration_ms, and what became of its items.",
            ),
            records_of_victorialogs(
                "What failed",
                'sync.id:="$sync_id" severity_text:in(ERROR, FATAL)',
                says="Each record leads to its trace.",
            ),
            records_of_victorialogs(
                "All records", 'sync.id:="$sync_id"', says="Of all processes of the run, in order."
            ),
        ],
    )
