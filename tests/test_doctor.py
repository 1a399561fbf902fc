from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, blocks
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_server import Answer, OtlpServer, otlp_server
from plain_servers import closed_port, http, silent, speaking

from otelsync.doctor import probe
from otelsync.doctor.findings import STEPS
from otelsync.store.runs import open_store, recent_runs


class Said:
    """What ``otelsync doctor --json`` says, as a process of its own."""

    def __init__(self, home: Path, *arguments: str, service: str = "sync", **environment: str) -> None:
        self.process = run(home, "--json", "--service", service, *arguments, **environment)
        assert self.process.stderr == ""
        self.report: dict[str, Any] = json.loads(self.process.stdout)
        self.exit = self.process.returncode
        self.findings: dict[str, dict[str, str]] = {each["code"]: each for each in self.report["findings"]}


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing of ours in the environment but what is given."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "otelsync.cli", "doctor", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


def probes(server: OtlpServer) -> list[str]:
    """What a server has taken, span names and record bodies."""
    taken = [span.name for span in server.spans]
    for request in server.accepted:
        if isinstance(request.message, ExportLogsServiceRequest):
            taken += [
                record.body.string_value
                for of_resource in request.message.resource_logs
                for of_scope in of_resource.scope_logs
                for record in of_scope.log_records
            ]
    return taken


def test_all_well_with_the_store(tmp_path: Path) -> None:
    """Without an endpoint the probe goes to a store beside the real one; nothing is left behind."""
    home = tmp_path / "home"
    said = Said(home)
    assert (said.exit, said.report["status"] in ("ok", "warning")) == (0, True), said.report
    assert said.findings["recorded"]["status"] == "ok"
    assert said.findings["delivered"]["message"] == "the log record has arrived: a store beside the real one"
    assert not home.exists()


def test_the_real_store_is_left_alone(tmp_path: Path) -> None:
    """A store with runs in it is read, and no probe comes into it."""
    program = "import otelsync; otelsync.configure(service_name='sync')\nwith otelsync.pipeline('nightly'): pass"
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        env={**os.environ, "OTELSYNC_HOME": str(tmp_path)},
    )
    assert Said(tmp_path).exit == 0
    sqlite_own = {"store.db-wal", "store.db-shm"}  # whoever reads makes them
    assert {path.name for path in tmp_path.iterdir()} - sqlite_own == {"journals", "store.db"}
    with open_store(tmp_path / "store.db") as store:
        assert [run.title for run in recent_runs(store, every_trace=True)] == ["nightly"]


def test_all_well_with_an_endpoint(tmp_path: Path) -> None:
    """A span and a log record arrive, marked as a probe of the service; that is all that arrives."""
    with otlp_server() as server:
        said = Said(tmp_path / "home", "--endpoint", server.url)
        assert said.exit == 0, said.report
        assert probes(server) == ["otelsync.probe", "otelsync.probe"]
        (span,) = server.spans
        assert [(pair.key, pair.value.bool_value) for pair in span.attributes] == [("otelsync.probe", True)]
        (message,) = [each.message for each in server.accepted if isinstance(each.message, ExportTraceServiceRequest)][
            1:
        ]
        (of_resource,) = message.resource_spans
        services = [pair.value.string_value for pair in of_resource.resource.attributes if pair.key == "service.name"]
        assert services == ["sync"]


def test_log_records_that_nobody_wants(tmp_path: Path) -> None:
    """With OTEL_LOGS_EXPORTER=none the probe is a span alone."""
    with otlp_server() as server:
        said = Said(tmp_path / "home", "--endpoint", server.url, OTEL_LOGS_EXPORTER="none")
        assert (said.exit, probes(server)) == (0, ["otelsync.probe"])


def test_both_destinations(tmp_path: Path) -> None:
    """With an endpoint and the store the probe goes both ways."""
    with otlp_server() as server:
        said = Said(tmp_path / "home", "--endpoint", server.url, OTELSYNC_STORE="on")
    arrived = [each["message"] for each in said.report["findings"] if each["code"] == "delivered"]
    assert len(arrived) == 4
    assert sum("store beside" in message for message in arrived) == 2


def test_the_schema_of_the_json(tmp_path: Path) -> None:
    """The keys, the steps and the statuses are those that are documented, in the order of the steps."""
    report = Said(tmp_path / "home", "--endpoint", f"http://127.0.0.1:{closed_port()}").report
    assert list(report) == ["otelsync", "service", "status", "seconds", "findings"]
    assert (report["service"], report["status"]) == ("sync", "problem")
    steps = [finding["step"] for finding in report["findings"]]
    assert steps == sorted(steps, key=list(STEPS).index)
    for finding in report["findings"]:
        assert list(finding) == ["step", "code", "status", "message", "fix"]
        assert finding["status"] in ("ok", "warning", "problem")
        assert finding["status"] == "ok" or finding["fix"]


def test_the_text_names_cause_and_fix(tmp_path: Path) -> None:
    """Without colours each line says ok, warning or problem, and below it what to do."""
    port = closed_port()
    result = run(tmp_path / "home", "--service", "sync", "--endpoint", f"http://127.0.0.1:{port}")
    assert result.returncode == 1
    assert (
        f"  problem  traces to http://127.0.0.1:{port}/v1/traces: nothing listens at 127.0.0.1 port {port}"
        in result.stdout
    )
    assert "           -> start the receiver, or correct host and port" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("2 problems, ")
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("environment", "code", "fix"),
    [
        ({"OTELSYNC_STORE": "perhaps"}, "wrong_value", "use auto, on or off"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
            "wrong_value",
            "grpc",
        ),
        ({"OTEL_SDK_DISABLED": "true"}, "disabled", "unset OTEL_SDK_DISABLED"),
        ({"OTELSYNC_STORE": "off"}, "nowhere", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "sampler_drops_all", "OTEL_TRACES_SAMPLER"),
        ({"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"}, "two_log_bridges", "unset"),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "many"}, "sdk_refuses", "OTEL_"),
    ],
)
def test_each_misconfiguration_is_named(tmp_path: Path, environment: dict[str, str], code: str, fix: str) -> None:
    """What is wrong in the environment ends with 1, and has its name and its fix."""
    said = Said(tmp_path / "home", **environment)
    assert said.exit == 1
    assert said.findings[code]["status"] == "problem"
    assert fix in said.findings[code]["fix"]


def test_opentelemetry_instrument_puts_another_provider_in_place(tmp_path: Path) -> None:
    """Started as the program is, the doctor sees whose provider and which exporter are loaded before it."""
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable]
    with otlp_server() as server:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_PYTHON_DISTRO": "distro",
            "OTEL_PYTHON_CONFIGURATOR": "configurator",
            "OTEL_TRACES_EXPORTER": "otlp_proto_grpc",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        result = subprocess.run(
            [*command, "-m", "otelsync.cli", "doctor", "--json", "--home", str(tmp_path / "home")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, **environment},
        )
    found = {each["code"]: each for each in json.loads(result.stdout)["findings"]}
    assert result.returncode == 1
    assert "opentelemetry.sdk.trace.TracerProvider" in found["other_provider"]["message"]


def test_an_endpoint_that_hangs(tmp_path: Path) -> None:
    """Nothing is waited for long, and the rest is examined all the same."""
    with silent() as port:
        said = Said(tmp_path / "home", "--endpoint", f"http://127.0.0.1:{port}")
    assert said.exit == 1
    assert said.findings["no_answer"]["status"] == "problem"
    assert said.findings["recorded"]["status"] == "ok"
    assert said.findings["not_sent"]["status"] == "warning"


def test_an_endpoint_that_takes_nothing_real(tmp_path: Path) -> None:
    """An endpoint that answers an empty request, and then rejects the probe, is found out."""
    with otlp_server() as server:
        server.answers.extend([Answer(200), Answer(200)])
        server.always = Answer(403)
        said = Said(tmp_path / "home", "--endpoint", server.url)
    assert said.exit == 1
    assert said.findings["turned_away"]["status"] == "problem"
    assert "HTTP 403" in said.findings["turned_away"]["message"]


def test_a_probe_that_does_not_arrive(tmp_path: Path) -> None:
    """An endpoint that hangs over the probe is given up after a few seconds."""
    with otlp_server() as server:
        server.answers.extend([Answer(200), Answer(200)])
        server.always = Answer(hang=True)
        said = Said(tmp_path / "home", "--endpoint", server.url)
    assert said.exit == 1
    assert said.findings["not_delivered"]["status"] == "problem"


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """A home below a file is a problem of the directory, and the endpoint is examined all the same."""
    (tmp_path / "file").write_text("")
    with otlp_server() as server:
        said = Said(tmp_path / "file" / "home", "--endpoint", server.url)
    assert said.exit == 1
    assert said.findings["unwritable"]["status"] == "problem"
    assert said.findings["answers"]["status"] == "ok"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither headers nor passwords come out, even where an endpoint sends them back."""
    secret = "q9s8d7f6g5h4"
    answer = http(404, f"<html><title>no {secret}</title>".encode(), Content_Type="text/html")
    with speaking(answer) as port:
        for url in (f"http://127.0.0.1:{port}", f"http://user:{secret}@127.0.0.1:{port}", f"ftp://{secret}@host"):
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": f"x-team={secret}"}
            for arguments in ((), ("--json",)):
                result = run(tmp_path / "home", *arguments, **environment)
                assert result.returncode == 1
                assert secret not in result.stdout + result.stderr


def test_a_child_that_hangs_is_killed() -> None:
    """The forked child has a few seconds; what it raises comes to nobody."""

    def fail() -> str:
        raise KeyboardInterrupt

    reading, writing = os.pipe()  # nobody writes
    with closing(os.fdopen(reading)) as never:
        assert probe.in_forked_child(never.read, 0.2) is None
    os.close(writing)
    assert probe.in_forked_child(fail, 5) is None
    assert probe.in_forked_child(lambda: "done", 5) == "done"


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """docs/doctor.md shows what a run prints, but for paths, versions and free space."""
    with speaking(http(404)) as port:
        printed = run(
            tmp_path,
            "--service",
            "github-sync",
            COLUMNS="1000",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://localhost:{port}/v1/traces",
        ).stdout
    (block,) = blocks(ROOT / "docs" / "doctor.md", "text")
    assert normalised(printed.replace(str(tmp_path), "/var/lib/otelsync").replace(str(port), "4318")) == normalised(
        block.text
    )


def normalised(text: str) -> list[str]:
    """The words, but for what differs from machine to machine."""
    text = re.sub(r"[\d,.]+ MiB are free at \S+", "FREE", re.sub(r"\d+(\.\d+)+", "VERSION", text))
    text = re.sub(
        r"(?m)^  (?:warning|ok) +\S+ is (?:in memory|on a network|in the container's).*\n(?: {11}.*\n)*", "", text
    )
    return re.sub(r", \d+ warnings?", "", text).split()
