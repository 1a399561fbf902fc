"""What each view says of each run, in the terms of the truth."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelsync.cli import main
from random_syncs.model import ACTIONS, Figures

PIPELINE: Final = "sync.pipeline "
_ITEMS: Final = "sync.items."
_COUNTED: Final = "sync.counted."


def otelsync(*arguments: str | Path) -> str:
    """What a command of otelsync prints."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith(("OTEL_", "OTELSYNC_", "LOG_")))
    environment = {**unset, "COLUMNS": "240"}
    result = CliRunner().invoke(main, list(map(str, arguments)), env=environment, catch_exceptions=False)
    assert result.exit_code == 0, f"otelsync {' '.join(map(str, arguments))}: {result.output}"
    return result.output


def in_the_store(home: Path) -> dict[str, list[Figures]]:
    """The spans of pipelines in the store, by pipeline."""
    found: dict[str, list[Figures]] = {}
    with closing(sqlite3.connect(home / "store.db")) as store:
        rows = store.execute("SELECT name, end_ns, attributes FROM spans WHERE name LIKE 'sync.pipeline %'").fetchall()
    for name, end, attributes in rows:
        figures = _of_span(json.loads(attributes or "{}")) if end is not None else Figures("running")
        found.setdefault(name.removeprefix(PIPELINE), []).append(figures)
    return found


def spans_counted(home: Path) -> dict[str, Figures]:
    """What a count of the spans of items says, with what was counted by hand, by pipeline."""
    items: dict[str, Counter[str]] = {}
    waits: Counter[str] = Counter()
    with closing(sqlite3.connect(home / "store.db")) as store:
        rows = store.execute("SELECT name, attributes FROM spans WHERE end_ns IS NOT NULL").fetchall()
    for name, text in rows:
        attributes = json.loads(text)
        pipeline = str(attributes.get("sync.pipeline") or name.removeprefix(PIPELINE))
        counts = items.setdefault(pipeline, Counter())
        if name in ("sync.pr", "sync.order"):
            counts["fetched"] += 1
            if action := attributes.get("sync.action"):
                counts[action] += 1
        counted = {key.removeprefix(_COUNTED): n for key, n in attributes.items() if key.startswith(_COUNTED)}
        counts.update({"fetched": sum(counted.get(action, 0) for action in ACTIONS), **counted})
        waits[pipeline] += ".wait" in name or attributes.get("sync.stage.kind") == "waiting"
    return {name: Figures(items=_without_zeros(counts), waits=waits[name]) for name, counts in items.items()}


def exported(spans: Iterable[Span]) -> dict[str, list[Figures]]:
    """The spans of pipelines that an OTLP endpoint got."""
    found: dict[str, list[Figures]] = {}
    for span in spans:
        if span.name.startswith(PIPELINE):
            attributes = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
            found.setdefault(span.name.removeprefix(PIPELINE), []).append(_of_span(attributes))
    return found


def _of_span(attributes: Mapping[str, Any]) -> Figures:
    items = {key.removeprefix(_ITEMS): number for key, number in attributes.items() if key.startswith(_ITEMS)}
    items.pop("folded", None)
    return Figures(attributes.get("sync.outcome"), _without_zeros(items))


def listed(home: Path) -> tuple[dict[str, Figures], dict[str, str]]:
    """What `list` says, by pipeline; and the sync ids."""
    head, *rows = otelsync("list", "--home", home, "-n", "100000").splitlines()
    figures, ids = {}, {}
    for row in rows:
        said = dict(zip(re.split(r"\s{2,}", head.strip()), re.split(r"\s{2,}", row.strip()), strict=True))
        ids[said["pipeline"]] = said["sync id"]
        figures[said["pipeline"]] = Figures(said["outcome"], errors=_number(said.get("errors") or said["failed"]))
    return figures, ids


_HEADLINE: Final = re.compile(
    r"^(\w+) (?:after .*|.* so far), started .*?, ([\d,]+) (?:spans?), ([\d,]+) (?:failed|errors?)"
)
_FAILED: Final = re.compile(r"^(?:failed|errors)(?:, the first (\d+) of ([\d,]+))?$")


def shown(home: Path, sync_id: str) -> dict[str, Figures]:
    """What `show` says: its headline with the line of items, and its list of what failed."""
    text = otelsync("show", "--home", home, sync_id)
    lines = text.splitlines()
    headline = _HEADLINE.match(lines[1])
    assert headline is not None, text
    items: dict[str, int] = {}
    for line in lines:
        if line.startswith("items  "):
            items = dict(_items_of_line(line.removeprefix("items").strip()))
    places = [place for place, line in enumerate(lines) if _FAILED.match(line)]
    return {
        "show": Figures(headline[1], _without_zeros(items), _number(headline[3])),
        "show's list": Figures(errors=_length_of_list(lines, places[0]) if places else 0),
    }


def _length_of_list(lines: Sequence[str], place: int) -> int:
    said = _FAILED.match(lines[place])
    assert said is not None
    if said[2]:
        return _number(said[2])
    end = next((number for number, line in enumerate(lines) if number > place and not line.strip()), len(lines))
    return end - place - 1


def _items_of_line(line: str) -> Iterator[tuple[str, int]]:
    for number, name in re.findall(r"([\d,]+) ([a-z_]+)", re.sub(r" \([^)]*\)", "", line)):
        if name != "without":  # an action
            yield name, _number(number)


def reported(home: Path, sync_id: str, folder: Path) -> Figures:
    """What the report of a run says."""
    said = json.loads(otelsync("report", "--home", home, sync_id, "--output", folder, "--json"))
    items = {name: number for name, number in said["items"].items() if isinstance(number, int)}
    items |= said["items"].get("others") or {}
    retries = said["retries"]
    return Figures(
        said["outcome"],
        _without_zeros(items),
        said["error_count"],
        sum(retries.get(name, 0) for name in ("parts", "resent", "tasks")),
        sum(wait["count"] for wait in said["waits"]),
    )


class Counters:
    """The metrics that came last, by OTLP."""

    def __init__(self, requests: Sequence[ExportMetricsServiceRequest]) -> None:
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for request in requests:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        self._take(metric)

    def _take(self, metric: Any) -> None:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = tuple(sorted((each.key, each.value.string_value) for each in point.attributes))
            value = point.count if "histogram" in kind else point.as_double or point.as_int
            self._last[metric.name, labels] = value

    def by(self, metric: str, label: str, **wanted: str) -> dict[str, Counter[str]]:
        """The sums of a metric by pipeline, and then by the values of a label."""
        found: dict[str, Counter[str]] = {}
        for (name, pairs), value in self._last.items():
            labels = dict(pairs)
            if name == metric and all(labels.get(key.replace("__", ".")) == text for key, text in wanted.items()):
                sums = found.setdefault(labels.get("sync.pipeline", ""), Counter())
                sums[labels.get(label, "")] += value  # type: ignore[assignment]
        return found

    def figures(self, pipeline: str) -> Figures:
        """What the metrics say of the runs of a pipeline."""
        ends = self.by("sync.stage.duration", "sync.outcome", sync__stage="pipeline").get(pipeline, Counter())
        items = self.by("sync.items", "sync.action").get(pipeline, Counter())
        retries = self.by("sync.retries", "sync.retry.of").get(pipeline, Counter())
        return Figures(
            " and ".join(f"{outcome}" if number == 1 else f"{number} {outcome}" for outcome, number in ends.items()),
            {name: int(number) for name, number in items.items() if number and name != "none"},
            retries=int(retries.total()),
        )


def differences(true: Figures, said: Figures, *, fetched: bool = True) -> Iterator[str]:
    """What a view says that is not so. `fetched`: whether what it says of that is compared."""
    for name in ("outcome", "errors", "retries", "waits"):
        ours, theirs = getattr(true, name), getattr(said, name)
        if theirs is not None and ours != theirs:
            yield f"{name}: said {theirs}, true {ours}"
    if said.items is not None and true.items is not None:
        items = {name: number for name, number in true.items.items() if fetched or name != "fetched"}
        theirs = {name: number for name, number in sorted(said.items.items()) if fetched or name != "fetched"}
        if theirs != items:
            yield f"items: said {theirs}, true {items}"


def _without_zeros(items: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in items.items() if number}


def _number(text: str) -> int:
    return int(text.replace(",", ""))
