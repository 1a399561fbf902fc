"""The standard way: without a journal, the SDK's own exporters bring the same spans and records to an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import both_ways
import pytest
from both_ways import JOURNAL, STANDARD, WAYS, Taken, program
from opentelemetry import trace
from otlp_grpc_server import grpc_server
from otlp_server import otlp_server
from plain_servers import certificate, server_context

import otelsync

SECRETS = ("hunter2", "ghp_abcdefghijklmnopqrstuvwxyz0123", "abcdefgh12345678")

SYNC = """
import logging, time
import otelsync
otelsync.configure(log_format="json", log_level="DEBUG")
from opentelemetry import trace
log = otelsync.get_logger("app")
tracer = trace.get_tracer("library", "1.0", attributes={"of": "the scope"})
with otelsync.pipeline("nightly", team_id=7) as run:
    run.phase("syncing")
    with otelsync.repo("acme/api") as repo:
        with otelsync.api_call("list_pull_requests", page=1):
            for number in range(4):
                title = "ghp_abcdefghijklmnopqrstuvwxyz0123" if number == 3 else "Fix"
                with otelsync.pull_request(number, title=title) as pr:
                    pr.set(action="created")
                    log.info("pull_request.saved", number=number, password="hunter2", of={"a": [1, None, 2.5, True]})
            with otelsync.item("order", 5) as order, otelsync.sync_context(team_id=8):
                try:
                    with otelsync.stage("inner", team_id=9):
                        raise ValueError("token=abcdefgh12345678")
                except ValueError:
                    pass
            with otelsync.item("order", 6) as order:
                order.skip("nothing to do")
        repo.count(updated=3)
        repo.event("cursor.saved", cursor="Y3V")
    for attempt in (1, 2):
        try:
            with otelsync.group("customer", "GREYSON", attempt=attempt):
                if attempt == 1:
                    raise KeyError("no board")
        except KeyError:
            logging.getLogger("old").warning("old %s", "style", exc_info=True)
    with otelsync.rate_limit_wait(0.01, kind="secondary"):
        time.sleep(0.01)
    with otelsync.retry_wait(0.01, "server"):
        pass
    with otelsync.sync_context(user="x", api_key="hunter2"), otelsync.batch("create", number=1, size=2) as batch:
        link = trace.Link(batch.span.get_span_context(), {"password": "hunter2"})
        with tracer.start_as_current_span("GET password=hunter2", attributes={"n": [1]}, links=[link]) as span:
            span.add_event("said", {"authorization": "hunter2"})
            span.set_status(trace.StatusCode.ERROR, "password=hunter2")
log.warning("outside")
"""

TREE = """
sync.pipeline nightly              [partial] created=4 skipped=1 updated=3
  * sync.pipeline.phase_changed
  sync.repo acme/api               [partial] created=4 skipped=1 updated=3
    * cursor.saved
    sync.api list_pull_requests    [partial] created=4 skipped=1
      sync.pr                      x4
      sync.order                   [partial]
        sync.stage inner           [failure]
          * exception
      sync.order                   action=skipped
  sync.customer GREYSON            [failure]
    * exception
  sync.customer GREYSON            [success] recovered=1
  sync.rate_limit.wait             [success]
  sync.retry.wait                  [success]
  sync.batch create                [success] user=x
    GET password=[redacted]        ERROR -> sync.batch create user=x
      * said
"""
SHOWN = (
    *("sync.items.created", "sync.items.skipped", "sync.items.updated", "sync.action", "sync.recovered"),
    *("user",),
)


def alike(taken: Taken) -> list[tuple[object, ...]]:
    """Everything of the spans but ids and times, as far as both ways should agree."""
    names = {span.span_id: span.name for span in taken.spans}
    (root,) = [span for span in taken.spans if not span.parent_id]
    changing = {"sync.id", "sync.rate_limit.actual_seconds", "sync.rate_limit.waited_seconds"}
    changing |= {"sync.retry.actual_seconds", "exception.stacktrace", "sync.part.key"}
    return sorted(
        (
            span.name,
            names.get(span.parent_id, ""),
            span.kind,
            span.status,
            span.message,
            span.scope,
            span.flags,
            span.trace_id == root.trace_id,
            json.dumps(
                [sorted((k, v) for k, v in span.attributes.items() if k not in changing), sorted(span.attributes)]
            ),
            json.dumps([(n, sorted((k, v) for k, v in of.items() if k not in changing)) for n, of in span.events]),
            [names[link] for link in span.links],
            json.dumps(sorted(span.resource)),
        )
        for span in taken.spans
    )


def lines(taken: Taken) -> list[tuple[object, ...]]:
    """Everything of the log records but ids and times. One says which way it is."""
    names = {span.span_id: span.name for span in taken.spans}
    changing = {"sync.id", "duration_ms", "exception"}
    return [
        (
            log.level,
            log.wire.severity_number,
            log.logger,
            log.event,
            log.wire.event_name,
            log.wire.flags,
            names.get(log.span_id, ""),
            sorted((k, repr(v)) for k, v in log.attributes.items() if k not in changing),
            sorted(log.attributes),
        )
        for log in taken.logs
        if not log.event.startswith("there is no journal")
    ]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Taken]:
    """One sync, by each way."""
    home = tmp_path_factory.mktemp("home")
    return {name: both_ways.run(home / name, name, *program(SYNC)) for name in WAYS}


class TestASync:
    @pytest.mark.parametrize("name", WAYS)
    def test_looks_the_same(self, taken: dict[str, Taken], name: str) -> None:
        """The trace of either way is the same, drawn."""
        otelsync.testing.assert_span_tree(taken[name].spans, TREE, attributes=SHOWN, events=True)
        assert (taken[name].returncode, taken[name].stderr) == (0, "")

    def test_has_the_same_spans(self, taken: dict[str, Taken]) -> None:
        """Names, parents, kinds, status, attributes, events, links, scopes and flags are equal."""
        assert alike(taken[STANDARD]) == alike(taken[JOURNAL])

    def test_has_the_same_records(self, taken: dict[str, Taken]) -> None:
        """Level, event, fields and span of every record are equal, and rendered lines have the same ids."""
        assert lines(taken[STANDARD]) == lines(taken[JOURNAL])
        rendered = [json.loads(line) for line in taken[STANDARD].stdout.splitlines()]
        sent = [(log.event, log.trace_id, log.span_id) for log in taken[STANDARD].logs]
        assert sent == [(line["event"], line.get("trace_id", ""), line.get("span_id", "")) for line in rendered]

    def test_has_no_secrets(self, taken: dict[str, Taken]) -> None:
        """No secret leaves by either way, in spans and records, nor is one rendered."""
        for each in taken.values():
            shown = [repr(each.spans), repr(each.logs), each.stdout, each.stderr]
            assert [secret for secret in SECRETS for text in shown if secret in text] == []

    def test_leaves_no_journal(self, taken: dict[str, Taken]) -> None:
        """The home of the standard way is not even made, and it is told what that means."""
        (said,) = [log for log in taken[STANDARD].logs if log.event.startswith("there is no journal")]
        assert said.level == "INFO"
        assert "By that you lose: what a process has not sent when it is killed" in said.event


SHORT = """
import otelsync
otelsync.configure(log_format="json")
with otelsync.pipeline("short", **{f"a{n}": n for n in range(4)}):
    otelsync.get_logger("app").info("said", length="x" * 300)
    otelsync.get_logger("app").debug("whispered")
print(otelsync.flush(60), otelsync.shutdown(60))
"""


def names(taken: Taken) -> list[str]:
    return [span.name for span in taken.spans] + [log.event for log in taken.logs if log.logger == "app"]


class TestSettings:
    """Those of the journal's way, asked of both."""

    @pytest.mark.parametrize("name", WAYS)
    def test_of_the_exporter(self, tmp_path: Path, name: str) -> None:
        """Headers, compression and endpoints of each signal, and resource attributes."""
        with otlp_server() as server:
            taken = both_ways.run_at(
                server,
                tmp_path,
                name,
                *program(SHORT),
                OTEL_EXPORTER_OTLP_ENDPOINT="",
                OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{server.url}/some/v1/traces",
                OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{server.url}/v1/logs",
                OTEL_EXPORTER_OTLP_HEADERS="x-team=seven,x-other=a%20b",
                OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
                OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,password=hunter2",
            )
        assert taken.stdout.splitlines()[-1] == "True True"
        assert names(taken) == ["sync.pipeline short", "said"]
        assert {request.path for request in server.accepted} == {"/some/v1/traces", "/v1/logs"}
        for request in server.accepted:
            found = {key: request.headers.get(key) for key in ("x-team", "x-other", "content-encoding")}
            assert found == {"x-team": "seven", "x-other": "a b", "content-encoding": "gzip"}
        for resource in [span.resource for span in taken.spans] + [log.resource for log in taken.logs]:
            kept = {key: resource.get(key) for key in ("service.name", "deployment.environment.name", "password")}
            assert kept == {"service.name": "sync", "deployment.environment.name": "test", "password": "[redacted]"}

    @pytest.mark.parametrize("name", WAYS)
    def test_of_spans(self, tmp_path: Path, name: str) -> None:
        """Span limits, redaction of the user's own and DEBUG records that are wanted beside those that are shown."""
        taken = both_ways.run(
            tmp_path,
            name,
            *program(SHORT),
            OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="3",
            OTELSYNC_REDACT_PATTERNS="shor.",
            OTELSYNC_DEBUG_LOGS="all",
        )
        (span,) = taken.spans
        assert (span.name, len(span.attributes)) == ("sync.pipeline [redacted]", 3 if name == STANDARD else 5)
        assert names(taken)[1:] == ["said", "whispered"]
        assert "whispered" not in taken.stdout

    @pytest.mark.parametrize("name", WAYS)
    @pytest.mark.parametrize(
        ("variables", "arrived"),
        [
            ({"OTEL_TRACES_SAMPLER": "always_off"}, ["said"]),
            ({"OTEL_SDK_DISABLED": "true"}, []),
            ({"OTEL_LOGS_EXPORTER": "none"}, ["sync.pipeline short"]),
            ({"OTEL_TRACES_EXPORTER": "none"}, ["said"]),
        ],
    )
    def test_that_turn_something_off(
        self, tmp_path: Path, name: str, variables: dict[str, str], arrived: list[str]
    ) -> None:
        """A sampler, a signal that is not wanted, and all of it."""
        taken = both_ways.run(tmp_path, name, *program(SHORT), **variables)
        assert (names(taken), taken.returncode) == (arrived, 0)
        assert taken.stdout.splitlines()[-1] == "True True"
        assert json.loads(taken.stdout.splitlines()[-3])["event"] == "said"

    @pytest.mark.parametrize("name", WAYS)
    def test_of_grpc(self, tmp_path: Path, name: str) -> None:
        """The protocol grpc, with headers and compression."""
        with grpc_server() as server:
            taken = both_ways.run(
                tmp_path,
                name,
                *program(SHORT),
                OTEL_EXPORTER_OTLP_ENDPOINT=server.url,
                OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
                OTEL_EXPORTER_OTLP_HEADERS="x-team=seven",
                OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            )
        assert (taken.stdout.splitlines()[-1], taken.stderr) == ("True True", "")
        assert {"sync.pipeline short", "said"} <= set(server.names)
        assert {metadata["x-team"] for metadata in server.metadata} == {"seven"}

    @pytest.mark.parametrize("name", WAYS)
    def test_of_certificates(self, tmp_path: Path, name: str) -> None:
        """An authority of one's own."""
        pem = certificate(tmp_path)
        with otlp_server(server_context(pem)) as server:
            taken = both_ways.run_at(server, tmp_path, name, *program(SHORT), OTEL_EXPORTER_OTLP_CERTIFICATE=str(pem))
        assert names(taken) == ["sync.pipeline short", "said"]

    def test_that_cannot_work(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A value that the SDK refuses fails in configure(), which then has changed nothing."""
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1")
        monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "many")
        with pytest.raises(otelsync.ConfigurationError, match="OTEL_SPAN_LINK_COUNT_LIMIT"):
            otelsync.configure(home=tmp_path, journalling="off")
        assert trace._TRACER_PROVIDER is None
        with pytest.raises(otelsync.ConfigurationError, match="use auto, on or off"):
            otelsync.configure(home=tmp_path, journalling="maybe")


LARGE = """
import otelsync
otelsync.configure(log_format="json", log_level="WARNING")
from opentelemetry import trace
tracer = trace.get_tracer("library")
with tracer.start_as_current_span("n" * 5000) as span:
    span.set_attribute("long", "x" * 100_000)
    span.set_attribute("k" * 1000, ["z" * 60_000] * 5)
    span.add_event("said", {"long": "y" * 100_000})
    span.set_status(trace.StatusCode.ERROR, "w" * 100_000)
    otelsync.get_logger("app").warning("many", **{f"f{n}": n for n in range(1500)})
    otelsync.get_logger("app").warning("long", text="x" * 100_000)
with tracer.start_as_current_span("together") as span:
    for number in range(20):
        span.set_attribute(f"a{number}", "v" * 20_000)
print(otelsync.shutdown(60))
"""


def sizes(taken: Taken) -> list[object]:
    """How much each span and each record holds, and how what was cut ends."""
    spans = [
        (
            len(span.name),
            len(span.message),
            sorted((len(key), str(value)[-30:]) for key, value in span.attributes.items()),
            sum(len(str(value)) for value in span.attributes.values()) // 1000,
            [(name, [len(str(value)) for value in of.values()]) for name, of in span.events],
        )
        for span in sorted(taken.spans, key=lambda span: span.start)
    ]
    logs = [(log.event, [len(str(value)) for value in log.attributes.values()]) for log in taken.logs]
    return [*spans, *(log for log in logs if log[0] in ("many", "long"))]


def test_large_values_are_cut_alike(tmp_path: Path) -> None:
    """Both ways keep to the same bounds of a name, a value, a span, an event and a log record."""
    by_journal, standard = (both_ways.run(tmp_path / way, way, *program(LARGE)) for way in WAYS)
    assert sizes(standard) == sizes(by_journal)
    assert max(len(str(value)) for span in standard.spans for value in span.attributes.values()) < 33_000
    assert (standard.stderr, standard.returncode) == ("", 0)
