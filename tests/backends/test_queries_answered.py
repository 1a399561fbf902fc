"""docs/queries.md on real servers: every query that can be run is, on a known sync, with the answer that is right.

LogsQL by VictoriaLogs, requests by Jaeger, PromQL by Prometheus. The answers are compared with the local store.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import documents
import plain_run
import promql
import pytest
from otlp_server import eventually
from recorded_runs import PROGRAM

from collector.stack import ROOT, Stack, running
from otelsync.testing.reading import Log, Span, logs_in, spans_in

PATIENCE: Final = 300.0
PAGE: Final = ROOT / "docs" / "queries.md"
RUN: Final = "202611222325-SYNC-6457B8D9"
TRACE: Final = "6457b8d93519386b034bf5cfbeadd052"
"""Ids as the page writes them."""
KILLED: Final = """
import os, signal, otelsync
otelsync.configure(service_name="killed", log_level="INFO", log_format="json")
with otelsync.pipeline("killed") as run:
    tracker = run.track(total=10)
    tracker.advance(4)
    otelsync.flush(60)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Recorded:
    """The servers, and what the sync of :mod:`plain_run` has recorded, as its store has it."""

    stack: Stack
    spans: list[Span]
    logs: list[Log]

    @property
    def trace_id(self) -> str:
        """Of its only trace."""
        (trace_id,) = {span.trace_id for span in self.spans}
        return trace_id

    @property
    def sync_id(self) -> str:
        """Of its run."""
        (sync_id,) = {span.attributes["sync.id"] for span in self.spans}
        return str(sync_id)

    def spans_called(self, name: str) -> list[Span]:
        """Return those whose name begins so."""
        return [span for span in self.spans if span.name.startswith(name)]

    def logged(self, event: str) -> list[Log]:
        """Return the records of an event."""
        return [log for log in self.logs if log.event == event]

    def about(self, question: str) -> Question:
        """Return a question of the page."""
        text = PAGE.read_text(encoding="utf-8").partition(f"\n## {question}\n")[2].partition("\n## ")[0]
        assert text, question
        return Question(self, text.replace(RUN, self.sync_id).replace(TRACE, self.trace_id))

    def logsql(self, query: str) -> list[dict[str, str]]:
        """Ask VictoriaLogs."""
        form = urllib.parse.urlencode({"query": query, "limit": "10000"}).encode()
        with urllib.request.urlopen(f"{self.stack.logs_url}/select/logsql/query", form, timeout=PATIENCE) as answer:
            return [json.loads(line) for line in answer.read().decode().splitlines()]

    def jaeger(self, query: str) -> dict[str, list[dict[str, Any]]]:
        """Ask Jaeger; returns spans by trace."""
        where = self.stack.jaeger_url + urllib.parse.quote(query, safe="/?&=")
        with urllib.request.urlopen(where, timeout=PATIENCE) as answer:
            return {trace["traceID"]: trace["spans"] for trace in json.load(answer)["data"]}

    def promql(self, query: str) -> dict[str, float]:
        """Ask Prometheus; returns values by the label values, joined, or by nothing."""
        where = f"{self.stack.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(where, timeout=PATIENCE) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{query}\n{refused.read().decode()}") from None
        return {
            " ".join(value for _, value in sorted(each["metric"].items())): float(each["value"][1]) for each in found
        }


@dataclass(frozen=True)
class Question:
    """A question of the page, to be answered as it is asked there."""

    recorded: Recorded
    text: str
    """Its part of the page, with the ids of what is recorded."""

    def logsql(self) -> list[dict[str, str]]:
        """Return the records that VictoriaLogs answers with."""
        return self.recorded.logsql(self._query("logsql"))

    def jaeger(self) -> dict[str, list[dict[str, Any]]]:
        """Return the spans that Jaeger answers with, by trace."""
        return self.recorded.jaeger(self._query("jaeger"))

    def promql(self, number: int = 0) -> dict[str, float]:
        """Return the values that Prometheus answers with."""
        return self.recorded.promql(self._query("promql", number))

    def _query(self, language: str, number: int = 0) -> str:
        found = re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        return str(found[number]).strip()


def _run(program: str, *arguments: str, stack: Stack, home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    environment |= {
        "OTELSYNC_HOME": str(home),
        "OTELSYNC_FOLD": "off",
        "OTELSYNC_STORE": "on",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.endpoint,
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run([sys.executable, "-c", program, *arguments], env=environment, timeout=PATIENCE, check=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Run the sync, another whose requests have spans, and one that is killed; yields when all of it has arrived."""
    with running(tmp_path_factory.mktemp("stack")) as stack:
        homes = [tmp_path_factory.mktemp(name) for name in ("plain", "recorded", "killed")]
        _run(Path(plain_run.__file__).read_text(), str(homes[0]), stack=stack, home=homes[0])
        _run(PROGRAM, "good", stack=stack, home=homes[1])
        _run(KILLED, stack=stack, home=homes[2])
        recorded = Recorded(stack, list(spans_in(homes[0])), list(logs_in(homes[0])))
        eventually(lambda: _count(recorded, f"/api/traces/{recorded.trace_id}") == len(recorded.spans), PATIENCE)
        eventually(lambda: _records(recorded, "github-sync") == len(recorded.logs), PATIENCE)
        eventually(lambda: _records(recorded, "killed"), PATIENCE)
        eventually(lambda: _count(recorded, '/api/traces?service=killed&tags={"sync.outcome":"interrupted"}'), PATIENCE)
        counted = 'count by (service_name) (sync_progress_expected{sync_group_name=""})'
        eventually(lambda: len(recorded.promql(counted)) == len(homes), PATIENCE)
        eventually(lambda: recorded.promql('sync_api_requests_total{service_name="recorded"}'), PATIENCE)
        yield recorded


def _records(recorded: Recorded, service: str) -> int:
    return len(recorded.logsql(f'{{service.name="{service}"}}'))


def _count(recorded: Recorded, query: str) -> int:
    """Return the number of spans that Jaeger answers with; it has none of a trace that it does not know yet."""
    try:
        return sum(map(len, recorded.jaeger(query).values()))
    except urllib.error.HTTPError:
        return 0


def ids(rows: list[dict[str, str]]) -> set[tuple[str, str]]:
    """Return what tells records apart."""
    return {(row["span_id"], row["event_name"]) for row in rows}


def ids_of(logs: list[Log]) -> set[tuple[str, str]]:
    """Return the same of those in the store."""
    return {(log.span_id, log.event) for log in logs}


def test_what_a_service_tells(recorded: Recorded) -> None:
    """All of its records, its trace, and how many there are."""
    asked = recorded.about("What does a service tell?")
    assert len(asked.logsql()) == len(recorded.logs)
    assert {trace: len(spans) for trace, spans in asked.jaeger().items()} == {recorded.trace_id: len(recorded.spans)}
    assert asked.promql() == {"span": len(recorded.spans), "log": len(recorded.logs)}


def test_what_happened_in_a_repo(recorded: Recorded) -> None:
    """Its records, its span, and its items."""
    asked = recorded.about("What happened in one repo, customer or node?")
    of_repo = [log for log in recorded.logs if log.attributes.get("sync.repo") == "acme/billing-api"]
    assert ids(asked.logsql()) == ids_of(of_repo)
    assert len(asked.logsql()) == len(of_repo)
    assert "sync.repo acme/billing-api" in {span["operationName"] for span in asked.jaeger()[recorded.trace_id]}
    assert asked.promql() == {"created": 39, "failed": 1}


def test_what_happened_in_a_run(recorded: Recorded) -> None:
    """Everything that the sync has recorded, and nothing of the others."""
    asked = recorded.about("What happened in one run, in all services?")
    rows = asked.logsql()
    assert len(rows) == len(recorded.logs)
    assert [row["_time"] for row in rows] == sorted(row["_time"] for row in rows)
    assert set(asked.jaeger()) == {recorded.trace_id}


def test_which_records_belong_to_a_trace(recorded: Recorded) -> None:
    """From a trace to its records, and to itself."""
    asked = recorded.about("Which records belong to a trace?")
    assert len(asked.logsql()) == len([log for log in recorded.logs if log.trace_id == recorded.trace_id])
    assert {span["spanID"] for span in asked.jaeger()[recorded.trace_id]} == {span.span_id for span in recorded.spans}


def test_what_failed(recorded: Recorded) -> None:
    """The call and the pull request."""
    asked = recorded.about("What failed in the last hour?")
    errors = [log for log in recorded.logs if log.level in ("ERROR", "FATAL")]
    assert {event for _, event in ids_of(errors)} == {"sync.api.failed", "sync.pr.failed"}
    assert ids(asked.logsql()) == ids_of(errors)
    assert set(asked.jaeger()) == {recorded.trace_id}
    assert asked.promql() == {"acme/billing-api github.onboarding": 1}


def test_what_is_slow(recorded: Recorded) -> None:
    """Records of stages of more than a second; 95 % of the pipelines are the only one, as exactly as its bucket is."""
    asked = recorded.about("What is slow?")
    slow = [log for log in recorded.logs if log.attributes.get("duration_ms", 0) > 1000]
    assert slow
    assert ids([row for row in asked.logsql() if row["service.name"] == "github-sync"]) == ids_of(slow)
    assert recorded.trace_id in asked.jaeger()
    (wait,) = recorded.spans_called("sync.rate_limit.wait")
    assert asked.promql()["rate_limit.wait"] == pytest.approx(seconds(wait), rel=0.1)


def seconds(span: Span) -> float:
    """Return how long it took."""
    assert span.end is not None
    return (span.end - span.start) / 1e9


def test_how_long_a_part_takes(recorded: Recorded) -> None:
    """The mean of each repo, which ran once."""
    asked = recorded.about("How long does a part take on average?")
    took = {span.attributes["sync.repo"]: seconds(span) for span in recorded.spans_called("sync.repo ")}
    assert len(took) == 6
    means = {row["sync.repo"]: float(row["average"]) / 1000 for row in asked.logsql()}
    assert {repo: means[repo] for repo in took} == pytest.approx(took, rel=0.01, abs=0.001)
    answered = asked.promql()
    assert {repo: answered[repo] for repo in took} == pytest.approx(took, rel=0.01, abs=0.001)
    repo = {span["operationName"]: span["duration"] / 1e6 for span in asked.jaeger()[recorded.trace_id]}
    assert repo["sync.repo acme/billing-api"] == pytest.approx(took["acme/billing-api"], abs=0.001)


def test_which_requests_were_made(recorded: Recorded) -> None:
    """Further attempts of the one sync have records; the requests of the other sync have spans, and are counted."""
    asked = recorded.about("Which requests were made, with which status?")
    again = recorded.logged("sync.api.retry")
    assert again
    assert Counter(row["status"] for row in asked.logsql()) == Counter(str(log.attributes["status"]) for log in again)
    spans = [span for trace in asked.jaeger().values() for span in trace]
    assert sum(1 for span in spans if tags(span).get("http.response.status_code") == 200) == 24
    assert asked.promql() == {"200": 24}


def tags(span: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags of a span of Jaeger's."""
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def test_where_an_event_is(recorded: Recorded) -> None:
    """The only wait for a rate limit of the one sync; the other sync has waited for a moment, twice."""
    asked = recorded.about("Where is a certain event?")
    rows = [row for row in asked.logsql() if row["service.name"] == "github-sync"]
    assert ids(rows) == ids_of(recorded.logged("sync.rate_limit.waiting"))
    assert len(rows) == 1
    assert set(asked.jaeger()) == {recorded.trace_id}
    (wait,) = recorded.spans_called("sync.rate_limit.wait")
    assert asked.promql()["primary"] == pytest.approx(seconds(wait), abs=0.5)


def test_which_calls_failed(recorded: Recorded) -> None:
    """One of `list_reviews`; all others are counted."""
    asked = recorded.about("Which calls were made, and which failed?")
    (failed,) = asked.logsql()
    assert failed["span_id"] in {span.span_id for span in recorded.spans_called("sync.api list_reviews")}
    assert set(asked.jaeger()) == {recorded.trace_id}
    calls = Counter(
        f"{span.name.split()[1]} {span.attributes['sync.outcome']}" for span in recorded.spans_called("sync.api ")
    )
    answered = asked.promql()
    assert {name: answered[name] for name in calls if not name.startswith("list_pull_requests")} == {
        name: count for name, count in calls.items() if not name.startswith("list_pull_requests")
    }


def test_where_the_traceback_is(recorded: Recorded) -> None:
    """On one record, and in an event of the same span."""
    asked = recorded.about("Where is the traceback?")
    (row,) = asked.logsql()
    assert row["exception"].startswith("Traceback")
    shown = {span["spanID"]: span for span in asked.jaeger()[recorded.trace_id]}
    with_traceback = [
        span_id
        for span_id, span in shown.items()
        if any(field["key"] == "exception.stacktrace" for log in span["logs"] for field in log["fields"])
    ]
    full = [log for log in recorded.logs if log.attributes.get("exception")]
    assert len(full) == 1
    assert with_traceback == [full[0].span_id]


def test_what_never_ended(recorded: Recorded) -> None:
    """The run that was killed, when it had done 4 of 10."""
    asked = recorded.about("What began and never ended?")
    (row,) = asked.logsql()
    assert row["service.name"] == "killed"
    (spans,) = asked.jaeger().values()
    assert {tags(span)["sync.id"] for span in spans} == {row["sync.id"]}
    assert asked.promql() == {"killed": 4}


def test_how_much_a_sync_did(recorded: Recorded) -> None:
    """By the record of its end, by its span, and by the metrics."""
    asked = recorded.about("How long was the sync, and how much did it do?")
    (row,) = asked.logsql()
    (span,) = recorded.spans_called("sync.pipeline ")
    assert (row["fetched"], row["failed"], row["outcome"]) == ("111", "1", "partial")
    assert float(row["duration_ms"]) == pytest.approx(seconds(span) * 1000, rel=0.01)
    shown = {each["operationName"]: tags(each) for each in asked.jaeger()[recorded.trace_id]}
    assert shown["sync.pipeline github.onboarding"]["sync.items.fetched"] == 111
    assert asked.promql() == {"created": 110, "failed": 1}


def test_which_errors_are_frequent(recorded: Recorded) -> None:
    """By event and type; by group."""
    asked = recorded.about("Which errors are the most frequent?")
    errors = Counter(log.event for log in recorded.logs if log.level == "ERROR")
    assert {row["event_name"]: int(row["records"]) for row in asked.logsql()} == errors
    assert asked.promql() == {"repo acme/billing-api": 1}


def test_how_much_is_logged(recorded: Recorded) -> None:
    """By service."""
    asked = recorded.about("How much is logged?")
    records = {row["service.name"]: int(row["records"]) for row in asked.logsql()}
    assert records["github-sync"] == asked.promql()["github-sync"] == len(recorded.logs)
    assert all(int(row["bytes"]) > 0 for row in asked.logsql())


def test_which_part_fails(recorded: Recorded) -> None:
    """One repo of six is not well; 95 % of six are the slowest, as exactly as its bucket is."""
    asked = recorded.about("Which part fails, and how long do 95 % take?")
    row = {row["sync.pipeline"]: row for row in asked.logsql()}["github.onboarding"]
    assert (row["repos"], row["unwell"]) == ("6", "1")
    slowest = max(map(seconds, recorded.spans_called("sync.repo ")))
    assert float(row["p95"]) / 1000 == pytest.approx(slowest, rel=0.01)
    part, percentile = asked.promql(0), asked.promql(1)
    assert part["github.onboarding"] == pytest.approx(1 / 6)
    assert percentile["github.onboarding"] == pytest.approx(slowest, rel=0.2)


def test_every_question_is_answered_here() -> None:
    """A question that is added to the page needs a test of its own."""
    questions = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    here = Path(__file__).read_text(encoding="utf-8")
    assert [question for question in questions if f'"{question}"' not in here] == []


def test_prometheus_answers_every_query(recorded: Recorded) -> None:
    """Those of docs/metrics.md, which is about a scrape, are asked in test_metrics_in_prometheus."""
    for block in documents.blocks(PAGE, "promql"):
        for query in block.text.split("\n\n"):
            recorded.promql(query)


def test_prometheus_can_parse_every_query_of_a_dashboard(recorded: Recorded) -> None:
    """With a time in the place of each of Grafana's variables."""
    for path in sorted((ROOT / "collector" / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"] if panel["datasource"]["type"] == "prometheus" else ():
                recorded.promql(promql.without_variables(target["expr"]))


def test_rules_read_native_histograms(recorded: Recorded) -> None:
    """What has come by OTLP is counted by the rules as what is scraped is."""
    counts = {rule["record"]: rule["expr"] for rule in promql.rules() if rule.get("record", "").endswith(":count")}
    stages = f"sum by (sync_pipeline) ({counts['sync:stage_duration_seconds:count']})"
    expected = [span for span in recorded.spans if span.attributes["sync.pipeline"] == "github.onboarding"]
    assert recorded.promql(stages)["github.onboarding"] == len(expected)
    calls = f"sum by (sync_pipeline) ({counts['sync:api_calls:count']})"
    assert recorded.promql(calls)["github.onboarding"] == len(recorded.spans_called("sync.api "))
    eventually(
        lambda: "github.onboarding" in recorded.promql("sum by (sync_pipeline) (sync:group_runs:count)"), PATIENCE
    )
    assert recorded.promql("sum by (sync_pipeline) (sync:group_runs:count)")["github.onboarding"] == 6


def test_the_collector_has_the_metrics_that_rules_ask_for(recorded: Recorded) -> None:
    """Whatever their names end with; those of failures are there once there is one."""
    asked = {name for name in promql.FOREIGN if name.startswith("otelcol_") and "send_failed" not in name}

    def there() -> set[str]:
        """Once it was scraped."""
        answered = recorded.promql('count by (__name__) ({__name__=~"otelcol_.+"})')
        return {name.removesuffix("_total") for name in answered}

    eventually(lambda: asked <= there(), PATIENCE)


def test_exemplars_lead_to_a_trace(recorded: Recorded) -> None:
    """From a histogram's points in a dashboard to the trace, which is what the data source is told to offer."""
    query = {
        "query": 'sync_stage_duration_seconds{service_name="github-sync"}',
        "start": "0",
        "end": str(time.time() + 60),
    }
    where = f"{recorded.stack.prometheus_url}/api/v1/query_exemplars?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(where, timeout=PATIENCE) as answer:
        found = [exemplar for series in json.load(answer)["data"] for exemplar in series["exemplars"]]
    assert {exemplar["labels"]["trace_id"] for exemplar in found} == {recorded.trace_id}


def test_the_dashboard_of_one_run_shows_it(recorded: Recorded) -> None:
    """That of VictoriaLogs and Jaeger: all of the run's records, those of its repos, and what failed."""
    board = json.loads((ROOT / "collector" / "grafana" / "dashboards" / "run-victorialogs.json").read_text())
    targets = {panel["title"]: panel["targets"][0] for panel in board["panels"]}
    shown = {
        title: recorded.logsql(target["expr"].replace("$sync_id", recorded.sync_id))
        for title, target in targets.items()
        if "expr" in target
    }
    assert len(shown["All records"]) == len(recorded.logs)
    assert {row["event_name"] for row in shown["What failed"]} == {"sync.api.failed", "sync.pr.failed"}
    assert len(shown["How long its groups took"]) == 6
    for target in targets.values():
        if "tags" in target:
            wanted = dict(pair.split("=") for pair in target["tags"].replace("$sync_id", recorded.sync_id).split())
            found = recorded.jaeger(f"/api/traces?service=github-sync&tags={json.dumps(wanted)}")
            assert set(found) == {recorded.trace_id}
