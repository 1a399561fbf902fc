"""A Prometheus with a past: samples written as blocks by promtool, and what rules would have recorded of them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import promql
import yaml
from recorded_runs import Sample

from collector.stack import Ports, Server, servers_folder

PATIENCE: Final = 300.0
RECORDED: Final = re.compile(
    r":count$|:increase5m$|^sync:progress:(done|expected)$|^sync:runs:ended$|:last_success_timestamp_seconds$"
)
"""Rules whose past others look at."""

Timeline = Mapping[Sample, Sequence[tuple[float, float]]]
"""Moments and values."""


def promtool(*arguments: str | Path) -> None:
    """Run promtool. Raises AssertionError with its words."""
    done = subprocess.run(
        [servers_folder() / "promtool", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def backfill(timeline: Timeline, data: Path) -> None:
    """Write a past."""
    lines = data.parent / "past.txt"
    with lines.open("w") as file:
        for (name, labels), values in timeline.items():
            said = ",".join(f"{label}={json.dumps(value)}" for label, value in labels)
            file.writelines(f"{name}{{{said}}} {value!r} {at:.0f}\n" for at, value in values)
        file.write("# EOF\n")
    promtool("tsdb", "create-blocks-from", "openmetrics", lines, data)


def levels() -> Iterator[dict[str, Any]]:
    """Yield the rules whose past is needed, as files of rules, each after those that it needs."""
    rules = [rule for rule in promql.rules() if RECORDED.search(rule.get("record", ""))]
    known: set[str] = set()
    while rules:
        names = {rule["record"] for rule in rules}
        ready = [rule for rule in rules if not (promql.asked(rule["expr"])[0] & names - known - {rule["record"]})]
        assert ready, names
        yield {"groups": [{"name": "past", "interval": "1m", "rules": ready}]}
        known |= {rule["record"] for rule in ready}
        rules = [rule for rule in rules if rule not in ready]


def rules_of_now() -> dict[str, Any]:
    """Return all other rules, as they stand, but evaluated every second; alerts fire at once and end at once."""
    groups = []
    for path in promql.RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            rules = [rule for rule in group["rules"] if not RECORDED.search(rule.get("record", ""))]
            rules = [{k: v for k, v in rule.items() if k not in ("for", "keep_firing_for")} for rule in rules]
            groups.append({"name": group["name"], "interval": "1s", "rules": rules})
    return {"groups": [group for group in groups if group["rules"]]}


@contextmanager
def prometheus(folder: Path, *, rules: Mapping[str, Any] | None = None, scraped: int | None = None) -> Iterator[str]:
    """Run a Prometheus over the blocks in ``folder/data``; yields its address.

    Args:
        rules: What it evaluates.
        scraped: A port of this machine that it scrapes every second, as otelsync's page; None: its own.
    """
    port = Ports.free().prometheus
    config: dict[str, Any] = {"global": {"evaluation_interval": "1s", "scrape_interval": "1s"}}
    if rules is not None:
        (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
        config["rule_files"] = ["rules.yaml"]
        config["scrape_configs"] = [
            {"job_name": "otelsync", "static_configs": [{"targets": [f"127.0.0.1:{scraped or port}"]}]}
        ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    server = Server(
        "prometheus",
        [
            servers_folder() / "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--query.lookback-delta=" + ("5m" if rules is None else "30m"),  # the past ends a while before the alerts
        ],
        f"http://127.0.0.1:{port}/-/ready",
        folder,
    )
    try:
        server.begin()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.end()


def record_past(folder: Path, start: float, end: float) -> None:
    """Record what the rules would have recorded."""
    for number, level in enumerate(levels()):
        (folder / f"level{number}.yaml").write_text(yaml.safe_dump(level))
        with prometheus(folder) as url:
            promtool(
                *("tsdb", "create-blocks-from", "rules", f"--start={start:.0f}", f"--end={end:.0f}"),
                *(f"--url={url}", f"--output-dir={folder / f'blocks{number}'}", folder / f"level{number}.yaml"),
            )
        for block in (folder / f"blocks{number}").iterdir():
            block.rename(folder / "data" / block.name)


def asked(url: str, query: str) -> list[dict[str, Any]]:
    """Return the answer to a query."""
    where = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(where, timeout=PATIENCE) as answer:
        return list(json.load(answer)["data"]["result"])


def firing(url: str) -> set[str]:
    """Return the names of the alerts that fire."""
    return {series["metric"]["alertname"] for series in asked(url, 'ALERTS{alertstate="firing"}')}


def evaluations(url: str) -> int:
    """Return how often the last of the groups of rules has been evaluated. Raises AssertionError where one fails."""
    with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=PATIENCE) as answer:
        rules = [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
    counts = asked(url, "prometheus_rule_group_iterations_total")
    return min((int(series["value"][1]) for series in counts), default=0)
