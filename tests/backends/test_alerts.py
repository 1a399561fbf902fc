"""Alerts on a real Prometheus: each fires on a recorded bad run, and none on a good one; and promtool's own tests.

Names and labels are those of otelsync's own page, by `recorded_runs`. Time is made: the page's values are put into the
last hours, so that a test does not wait for hours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import backfilling
import promql
import pytest
from backfilling import Timeline, promtool
from otlp_server import eventually
from recorded_runs import Sample, page_of

from collector.stack import Ports

PROMETHEUS: Final = promql.ROOT / "collector" / "prometheus"
ALERTS: Final = frozenset(rule["alert"] for rule in promql.rules() if "alert" in rule)
HOUR: Final = 3600.0
PAST: Final = 12
"""Hours."""
COLLECTOR: Final = (("exporter", "otlp_http/logs"), ("instance", "c"), ("receiver", "otlp"))


def test_rules_and_configuration_are_valid() -> None:
    """As Prometheus itself says."""
    promtool("check", "config", PROMETHEUS / "prometheus.yaml")
    promtool("check", "rules", *promql.RULES)


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yaml")), ids=lambda path: path.name)
def test_rules_do_what_their_tests_say(path: Path) -> None:
    """Each alert has one in which it fires, and one in which it nearly does."""
    promtool("test", "rules", path)


def timeline(kind: str, good: dict[Sample, float], bad: dict[Sample, float], now: float) -> Timeline:
    """Return half a day of good runs, one an hour. In the bad one half an hour fails; the last good one is 4 h old."""
    is_bad = kind == "bad"
    page = {**good, **bad} if is_bad else good
    minutes = [now - 60.0 * ago for ago in range(150, -1, -1)]
    return {sample: list(_values(sample, page[sample], good, is_bad, minutes, now)) for sample in page if _kept(sample)}


def _kept(sample: Sample) -> bool:
    name, _ = sample
    return not name.endswith("_bucket") or name == "sync_task_queue_wait_seconds_bucket"


def _values(
    sample: Sample, value: float, good: dict[Sample, float], is_bad: bool, minutes: list[float], now: float
) -> Iterator[tuple[float, float]]:
    name, labels = sample
    if name.endswith("_last_success_timestamp_seconds"):
        goes_on = not is_bad or dict(labels).get("sync_group_name", "") in {f"acme/{each}" for each in range(8, 12)}
        goes_on = goes_on and (not is_bad or dict(labels)["sync_pipeline"] == "onboarding")
        last = now - 60 if goes_on else now - 4 * HOUR
        for at in (now - 240.0 * ago for ago in range(int(PAST * 15), -1, -1)):
            yield at, max(min(at - at % HOUR, last), now - PAST * HOUR)
        return
    for number, at in enumerate(minutes):
        before_now = max(0, number - 120)
        """Minutes of the last half hour."""
        if name == "sync_rate_limit_remaining":
            yield at, value - 100.0 * before_now if is_bad else value
        elif name == "otelsync_ledger_pending":
            yield at, 120_000.0 if is_bad else 0.0
        elif name == "sync_wait_time_seconds_total":
            yield at, value + 40.0 * number if is_bad else value
        elif name.endswith(("_total", "_count", "_bucket")) and "shipped" not in name:
            runs = number // 60 + 1 if sample in good else 0
            worse = before_now if is_bad else 0
            if runs or worse:
                yield at, good.get(sample, 0.0) * runs + value * worse
        else:
            yield at, value


def of_the_collector(kind: str, now: float) -> Timeline:
    """Return what a Collector tells that refuses, gives up and fills up."""
    grows = 60.0 if kind == "bad" else 0.0
    counted: dict[Sample, list[tuple[float, float]]] = {
        (f"otelcol_{what}_{signal}", COLLECTOR): [(now - 60 * ago, grows * (30 - ago)) for ago in range(30, -1, -1)]
        for what in ("receiver_refused", "exporter_send_failed")
        for signal in ("spans", "log_records", "metric_points")
    }
    queue = {"size": 90.0 if kind == "bad" else 1.0, "capacity": 100.0}
    return counted | {(f"otelcol_exporter_queue_{name}", COLLECTOR): [(now, value)] for name, value in queue.items()}


@pytest.mark.parametrize("kind", ["good", "bad"])
def test_each_alert_fires_on_a_bad_run_and_not_on_a_good_one(tmp_path: Path, kind: str) -> None:
    """After half a day of good runs, one an hour."""
    good = page_of("good", tmp_path / "good")
    bad = page_of("bad", tmp_path / "bad") if kind == "bad" else {}
    now = time.time() // 60 * 60
    (tmp_path / "data").mkdir()
    backfilling.backfill({**timeline(kind, good, bad, now), **of_the_collector(kind, now)}, tmp_path / "data")
    backfilling.record_past(tmp_path, now - PAST * HOUR, now)
    nobody = Ports.free().http
    rules = backfilling.rules_of_now()
    with backfilling.prometheus(tmp_path, rules=rules, scraped=nobody if kind == "bad" else None) as url:
        if kind == "bad":
            eventually(lambda: backfilling.firing(url) == ALERTS)
        else:
            for figure in ('up{job="otelsync"}', "sync:group:missed_runs", "sync:slo_events:increase3d"):
                eventually(lambda: backfilling.asked(url, figure))  # noqa: B023  (it is called here)
            eventually(lambda: backfilling.evaluations(url) >= 3)
            assert backfilling.firing(url) == set()
