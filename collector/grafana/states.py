"""Dashboards of how things stand: freshness, rate limits, Celery, and otelsync itself."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dashboards

from collector.grafana.board import OF, OF_SERVICE, PIPELINE, SERVICE, board
from collector.grafana.panels import FULL, GOOD_IF_NONE, HALF, THIRD, graph, listing, number


def freshness() -> dashboards.Dashboard:
    """Return the dashboard of what is out of date."""
    return board(
        "otelsync-freshness",
        "Freshness",
        "When each group last succeeded, and how many of its usual runs it has missed.",
        [SERVICE, PIPELINE],
        [
            number(
                "Groups that missed two runs",
                f'count(sync:group:missed_runs{{{OF}, sync_group_kind!="pipeline"}} >= 2) or vector(0)',
                says="They are what SyncGroupMissedRuns is about.",
                steps=GOOD_IF_NONE,
                width=THIRD,
            ),
            number(
                "Pipelines that missed two runs",
                f"count(sync:pipeline:missed_runs{{{OF}}} >= 2) or vector(0)",
                says="Nothing in them has succeeded.",
                steps=GOOD_IF_NONE,
                width=THIRD,
            ),
            number(
                "The oldest success",
                f"max(time() - sync:group:last_success_timestamp_seconds{{{OF}}})",
                says="Of the group that has waited longest.",
                unit="s",
                width=THIRD,
            ),
            listing(
                "Groups",
                (f"time() - sync:group:last_success_timestamp_seconds{{{OF}}}", "seconds since its last success"),
                (f"sync:group:interval_seconds{{{OF}}}", "usual interval"),
                (f"sync:group:missed_runs{{{OF}}}", "missed runs"),
                says="One of kind `pipeline` is a whole pipeline. Intervals are learned from the last 14 days.",
                width=FULL,
            ),
            graph(
                "Age of the last success",
                (
                    "topk(20, time() - max by (sync_pipeline, sync_group_kind, sync_group_name)"
                    f" (sync:group:last_success_timestamp_seconds{{{OF}}}))",
                    "{{sync_pipeline}} {{sync_group_kind}} {{sync_group_name}}",
                ),
                says="The twenty oldest.",
                unit="s",
            ),
            graph(
                "Groups that are fresh",
                (f"sync:pipeline:fresh_groups:ratio{{{OF}}}", "{{sync_pipeline}}"),
                says="The part of each pipeline's groups that has missed less than two runs.",
                unit="percentunit",
            ),
        ],
    )


def rate_limits() -> dashboards.Dashboard:
    """Return the dashboard of rate limits and waits."""
    which = "{{sync_rate_limit_host}} {{sync_rate_limit_resource}} {{sync_rate_limit_token_fingerprint}}"
    return board(
        "otelsync-rate-limits",
        "Rate limits",
        "What is left of each limit, whether it lasts until its reset, and how long is waited.",
        [SERVICE, PIPELINE],
        [
            graph(
                "What is left",
                (f"sync_rate_limit_remaining{{{OF_SERVICE}}} / sync_rate_limit_limit{{{OF_SERVICE}}}", which),
                says="As last seen, by host, resource and token.",
                unit="percentunit",
            ),
            graph(
                "What is left at the reset, at this pace",
                (
                    f"sync_rate_limit_remaining{{{OF_SERVICE}}} + deriv(sync_rate_limit_remaining{{{OF_SERVICE}}}[10m])"
                    f" * (sync_rate_limit_reset_timestamp_seconds{{{OF_SERVICE}}} - time() > 0)",
                    which,
                ),
                says="Below 0, SyncRateLimitRunsOut fires: requests will have to wait.",
            ),
            graph(
                "Seconds until the reset",
                (f"sync_rate_limit_reset_timestamp_seconds{{{OF_SERVICE}}} - time() > 0", which),
                says="As last seen.",
                unit="s",
            ),
            graph(
                "The part of the time that is waited",
                (
                    f"sum by (sync_pipeline, sync_wait_for, sync_wait_kind)"
                    f" (rate(sync_wait_time_seconds_total{{{OF}}}[$__rate_interval]))",
                    "{{sync_pipeline}} {{sync_wait_for}} {{sync_wait_kind}}",
                ),
                says="Above 1 where several workers wait at a time. A wait counts when it ends.",
                unit="percentunit",
            ),
            graph(
                "Requests that were refused",
                (
                    "sum by (sync_api_operation, http_response_status_code)"
                    f' (rate(sync_api_requests_total{{{OF}, http_response_status_code=~"403|429"}}[$__rate_interval]))',
                    "{{sync_api_operation}} {{http_response_status_code}}",
                ),
                says="Requests a second with 403 or 429.",
                unit="reqps",
            ),
            graph(
                "Requests by operation",
                (
                    f"topk(20, sum by (sync_api_operation) (rate(sync_api_requests_total{{{OF}}}[$__rate_interval])))",
                    "{{sync_api_operation}}",
                ),
                says="What uses the limit up.",
                unit="reqps",
            ),
        ],
    )


def celery() -> dashboards.Dashboard:
    """Return the dashboard of Celery's tasks."""
    return board(
        "otelsync-celery",
        "Celery",
        "How tasks end, how long they run, and how long they wait in their queue.",
        [SERVICE],
        [
            graph(
                "Tasks",
                (
                    f"sum by (sync_outcome) (sum_over_time(sync:tasks:increase5m{{{OF_SERVICE}}}[$__interval])) / 5",
                    "{{sync_outcome}}",
                ),
                says="Runs that ended, or were put back.",
                bars=True,
                step="5m",
            ),
            graph(
                "Tasks that fail",
                (
                    "sum by (celery_task_name, sync_outcome) (sum_over_time(sync:tasks:increase5m"
                    f'{{{OF_SERVICE}, sync_outcome=~"failure|interrupted|retry"}}[$__interval])) / 5',
                    "{{celery_task_name}} {{sync_outcome}}",
                ),
                says="By name.",
                bars=True,
                step="5m",
            ),
            graph(
                "How long tasks run (95 %)",
                (f"sync:task_duration_seconds:p95{{{OF_SERVICE}}}", "{{celery_task_name}}"),
                says="By name.",
                unit="s",
            ),
            graph(
                "How long tasks wait in their queue (95 %)",
                (f"sync:task_queue_wait_seconds:p95{{{OF_SERVICE}}}", "{{celery_task_name}}"),
                says="Beyond a delay that was asked for. Above five minutes SyncTasksWaitLong fires.",
                unit="s",
            ),
        ],
    )


def health() -> dashboards.Dashboard:
    """Return the dashboard of otelsync itself, and of the Collector."""
    return board(
        "otelsync-health",
        "otelsync itself",
        "Does everything that is recorded arrive?",
        [SERVICE],
        [
            number(
                "Records that were lost",
                f"sum(sum_over_time(otelsync:dropped:increase5m{{{OF_SERVICE}}}[$__range])) / 5 or vector(0)",
                says="In the time that is shown, for any reason.",
                steps=GOOD_IF_NONE,
                width=THIRD,
            ),
            number(
                "Records that wait",
                f"sum(otelsync_ledger_pending{{{OF_SERVICE}}})",
                says="They have been read and have not yet arrived.",
                steps=((None, "green"), (10_000, "orange"), (100_000, "red")),
                width=THIRD,
            ),
            number(
                "Records that are in no metric",
                f"sum(sum_over_time(otelsync:unreadable:increase5m{{{OF_SERVICE}}}[$__range])) / 5 or vector(0)",
                says="They could not be read.",
                steps=GOOD_IF_NONE,
                width=THIRD,
            ),
            graph(
                "Recorded and shipped",
                (
                    "sum by (otelsync_signal)"
                    f" (rate(otelsync_ledger_recorded_total{{{OF_SERVICE}}}[$__rate_interval]))",
                    "{{otelsync_signal}} recorded",
                ),
                (
                    "sum by (otelsync_signal, otelsync_sink)"
                    f" (rate(otelsync_ledger_shipped_total{{{OF_SERVICE}}}[$__rate_interval]))",
                    "{{otelsync_signal}} to {{otelsync_sink}}",
                ),
                (
                    "sum by (otelsync_signal, otelsync_sink)"
                    f" (rate(otelsync_ledger_folded_total{{{OF_SERVICE}}}[$__rate_interval]))",
                    "{{otelsync_signal}} folded for {{otelsync_sink}}",
                ),
                says="Records a second.",
            ),
            graph(
                "Records that wait, by destination",
                (
                    f"sum by (service_name, otelsync_signal, otelsync_sink) (otelsync_ledger_pending{{{OF_SERVICE}}})",
                    "{{service_name}} {{otelsync_signal}} to {{otelsync_sink}}",
                ),
                says="They are in the journal. It drops the oldest when it is full.",
            ),
            graph(
                "Records that were lost, by reason",
                (
                    "sum by (otelsync_signal, otelsync_sink, otelsync_drop_reason)"
                    f" (sum_over_time(otelsync:dropped:increase5m{{{OF_SERVICE}}}[$__interval])) / 5",
                    "{{otelsync_signal}} {{otelsync_sink}} {{otelsync_drop_reason}}",
                ),
                says="A full disk or journal, or an endpoint that refuses.",
                bars=True,
                step="5m",
            ),
            graph(
                "The Collector's queues",
                ("otelcol_exporter_queue_size / otelcol_exporter_queue_capacity", "{{exporter}}"),
                says="How full they are.",
                unit="percentunit",
            ),
            graph(
                "What the Collector refuses, or gives up on",
                (f"sum by (receiver) ({_rates('receiver_refused')})", "{{receiver}} refuses"),
                (f"sum by (exporter) ({_rates('exporter_send_failed')})", "{{exporter}} gives up"),
                says="What is refused stays with otelsync, and is sent again.",
                width=HALF,
            ),
        ],
    )


def _rates(what: str) -> str:
    """Return the rates of a sort of the Collector's counters, told apart by a label, as a rate has no name."""
    rates = [
        f'label_replace(rate({{__name__=~"otelcol_{what}_{signal}(_total)?"}}[$__rate_interval])'
        f', "signal", "{signal}", "", "")'
        for signal in ("spans", "log_records", "metric_points")
    ]
    return " or ".join(rates)
