"""Rules and alerts for Prometheus: they ask for what there is, and each of them is tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import promql
import pytest
import yaml

PROMETHEUS: Final = promql.ROOT / "collector" / "prometheus"
ALERTS: Final = [rule for rule in promql.rules() if "alert" in rule]
TESTS: Final = sorted((PROMETHEUS / "tests").glob("*.yaml"))


def _name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


@pytest.mark.parametrize("rule", list(promql.rules()), ids=_name)
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """Its metrics are otelsync's own, of another rule, or known ones of the Collector; its labels are theirs."""
    metrics, labels = promql.asked(rule["expr"])
    assert metrics or rule["expr"].startswith("vector(")
    assert metrics <= promql.known_metrics()
    assert labels <= promql.known_labels()


@pytest.mark.parametrize("alert", ALERTS, ids=_name)
def test_an_alert_says_what_is_wrong(alert: dict[str, Any]) -> None:
    """It has a severity, a sentence for the list and one for whoever is woken up, by labels that it has."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description"}
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    assert used <= promql.known_labels()


@pytest.mark.parametrize("alert", ALERTS, ids=_name)
def test_an_alert_is_tested_by_promtool(alert: dict[str, Any]) -> None:
    """In a case in which it fires."""
    cases = [case for path in TESTS for test in yaml.safe_load(path.read_text())["tests"] for case in _cases(test)]
    assert any(case["alertname"] == alert["alert"] and case["exp_alerts"] for case in cases)


def _cases(test: dict[str, Any]) -> list[dict[str, Any]]:
    return list(test.get("alert_rule_test", ()))


@pytest.mark.parametrize("path", promql.RULES, ids=lambda path: path.name)
def test_events_are_counted_once_a_minute(path: Path) -> None:
    """Sums of recorded increases are divided by five: each event is in five evaluations of windows of five minutes."""
    for group in yaml.safe_load(path.read_text())["groups"]:
        if any(":increase5m" in rule.get("record", "") for rule in group["rules"]):
            assert group["interval"] == "1m"
        assert group["interval"] in ("1m", "4m")
