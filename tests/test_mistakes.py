"""Mistakes in arguments and variables that keep nothing from starting: each is warned of, once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from recorded import Recorded

import otelsync
from otelsync.settings.variables import unread

OTLP = "OTEL_EXPORTER_OTLP_"


def warnings_of(recorded: Recorded) -> list[str]:
    """What was warned of."""
    return [line["event"] for line in recorded.lines if line["level"] == "warning"]


def meant(*names: str) -> dict[str, str]:
    """Variables that nobody reads, and those that may be meant."""
    return {variable.name: variable.meant for variable in unread(dict.fromkeys(names, "value"))}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("OTELSYNC_HOMME", "OTELSYNC_HOME"),
        ("OTELSYNC_JOURNAL_MAXBYTES", "OTELSYNC_JOURNAL_MAX_BYTES"),
        ("OTELSYNC_TIGER", ""),
        ("OTEL_SYNC_HOME", "OTELSYNC_HOME"),
        (f"{OTLP}ENDPIONT", f"{OTLP}ENDPOINT"),
        ("OTEL_EXPORTER_OTEL_ENDPOINT", f"{OTLP}ENDPOINT"),
        ("OTEL_EXPORTER_ENDPOINT", f"{OTLP}ENDPOINT"),
        (f"{OTLP}TRACE_ENDPOINT", f"{OTLP}TRACES_ENDPOINT"),
        ("OTEL_SERVCE_NAME", "OTEL_SERVICE_NAME"),
        ("OTEL_TRACE_SAMPLER", "OTEL_TRACES_SAMPLER"),
        ("OTEL_RESOURCE_ATTRIBUTE", "OTEL_RESOURCE_ATTRIBUTES"),
        ("OTEL_BSP_SCHEDULE_DELEY", "OTEL_BSP_SCHEDULE_DELAY"),
    ],
)
def test_a_misspelt_variable_is_found(name: str, known: str) -> None:
    """It is named with the one that it is most like."""
    assert meant(name) == {name: known}


@pytest.mark.parametrize(
    "name",
    [
        *("OTELSYNC_HOME", "OTELSYNC_PURE_PYTHON", "OTELSYNC_LOG_LEVELS"),
        *("OTEL_SERVICE_NAME", "OTEL_SDK_DISABLED", "OTEL_PROPAGATORS", "OTEL_TRACES_SAMPLER_ARG", "OTEL_CONFIG_FILE"),
        *(f"{OTLP}ENDPOINT", f"{OTLP}LOGS_INSECURE", f"{OTLP}PROFILES_ENDPOINT", f"{OTLP}SPAN_INSECURE"),
        *("OTEL_BLRP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRICS_EXEMPLAR_FILTER", "OTEL_LOG_LEVEL"),
        *("OTEL_EXPORTER_JAEGER_ENDPOINT", "OTEL_EXPORTER_ZIPKIN_ENDPOINT", "OTEL_EXPORTER_PROMETHEUS_PORT"),
        *("OTEL_PYTHON_LOG_LEVEL", "OTEL_PYTHON_DISTRO", "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"),
        *("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "OTEL_SEMCONV_STABILITY_OPT_IN"),
        *("OTEL_RESOURCE_ATTRIBUTES_POD_NAME", "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME", "OTEL_POD_IP", "OTEL_NODE_IP"),
        *("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_EXPERIMENTAL_CONFIG_FILE", "OTEL_RESOURCE_DETECTORS"),
        *("OTEL_SERVICE_NAMESPACE", "OTEL_SERVICE_VERSION", "OTEL_COLLECTOR_ENDPOINT", "OTEL_ENABLED", "OTELCOL_IMAGE"),
        *("OTEL_DOTNET_AUTO_HOME", "OTEL_JAVAAGENT_ENABLED", "OTEL_NODE_ENABLED_INSTRUMENTATIONS", "OTEL_ENDPOINT"),
        *("HOTEL_SERVICE_NAME", "SERVICE_NAME", "LOG_LEVEL"),
    ],
)
def test_a_name_that_somebody_reads_or_made_up_is_no_false_alarm(name: str) -> None:
    """Names of otelsync, of the specification, of the SDK and of other languages are known; others are let be."""
    assert meant(name) == {}


def test_a_variable_without_a_value_is_not_set() -> None:
    """As for OpenTelemetry, an empty variable is none."""
    assert list(unread({"OTELSYNC_HOMME": ""})) == []


def test_configure_warns_of_variables_once(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of them together, by name and without the value, and not again after a shutdown."""
    monkeypatch.setenv("OTELSYNC_HOMME", "/secret/place")
    monkeypatch.setenv("OTEL_EXPORTER_OTEL_ENDPOINT", "http://c:4318")
    recorded = record()
    (warning,) = warnings_of(recorded)
    assert "OTELSYNC_HOMME is set, and nothing reads it: did you mean OTELSYNC_HOME?" in warning
    assert (
        "OTEL_EXPORTER_OTEL_ENDPOINT is set, and nothing reads it: did you mean OTEL_EXPORTER_OTLP_ENDPOINT?" in warning
    )
    assert "/secret/place" not in warning
    otelsync.shutdown(1)
    assert warnings_of(Recorded(tmp_path / "again")) == []


@pytest.mark.parametrize(
    ("options", "environment", "fix"),
    [
        (
            {"endpoint": "http://127.0.0.1:4318"},
            {f"{OTLP}PROTOCOL": "grpc"},
            f"4317, or set {OTLP}PROTOCOL=http/protobuf",
        ),
        ({"endpoint": "http://127.0.0.1:4317"}, {}, f"use port 4318, or set {OTLP}PROTOCOL=grpc"),
        (
            {},
            {f"{OTLP}TRACES_ENDPOINT": "http://127.0.0.1:4318", f"{OTLP}TRACES_PROTOCOL": "grpc"},
            f"4317, or set {OTLP}TRACES_PROTOCOL=http/protobuf",
        ),
    ],
)
def test_the_port_of_the_other_protocol_is_warned_of(
    record: Callable[..., Recorded],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: Mapping[str, str],
    fix: str,
) -> None:
    """configure() names the variable, the port and the fix, and records all the same."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (warning,) = warnings_of(record(**options))
    assert fix in warning


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        *(("http://127.0.0.1:4317", "grpc"), ("127.0.0.1:4317", "grpc"), ("http://127.0.0.1:14318", "grpc")),
        *(("http://127.0.0.1:4318", "http/protobuf"), ("http://127.0.0.1", ""), ("http://[::1]:4318/otlp", "")),
    ],
)
def test_a_port_that_fits_is_not_warned_of(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, endpoint: str, protocol: str
) -> None:
    """The usual port of the protocol, or one that says nothing."""
    monkeypatch.setenv(f"{OTLP}PROTOCOL", protocol)
    assert warnings_of(record(endpoint=endpoint)) == []


def test_a_second_configure_with_other_options_is_warned_of_once(
    record: Callable[..., Recorded], tmp_path: Path
) -> None:
    """It says which options differ and what holds, where the call is, and nothing of those that are the same."""
    recorded = record(service_name="first")
    for _ in range(3):
        otelsync.configure(service_name="second", log_level="ERROR", home=tmp_path / "home", store="perhaps", colour=1)
    (warning,) = warnings_of(recorded)
    assert "service_name='second' ('first' holds)" in warning
    assert "log_level=ERROR (DEBUG holds)" in warning
    assert "store='perhaps' ('auto' holds)" in warning
    assert "colour=1 (None holds)" in warning
    assert "home=" not in warning
    assert f"({__file__}:" in warning


def test_a_second_configure_with_the_same_options_is_quiet(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """The same options, however they are written, or none, are said at DEBUG alone."""
    recorded = record(service_name="first", fold=True)
    otelsync.configure()
    otelsync.configure(service_name="first", home=str(tmp_path / "home"), log_level="debug", fold="on", endpoint=None)
    assert [line["level"] for line in recorded.lines] == ["debug", "debug"]


def test_a_value_that_cannot_be_shown_harms_nothing(record: Callable[..., Recorded]) -> None:
    """A hostile option of a second call neither raises nor changes anything."""

    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    record()
    otelsync.configure(endpoint=Unspeakable(), colour=Unspeakable())


def test_otelsync_run_warns_on_standard_error(tmp_path: Path) -> None:
    """The supervisor says it once, and the program's own configure() not again."""
    program = "import otelsync; otelsync.configure(); print('ran')"
    done = subprocess.run(
        [sys.executable, "-m", "otelsync.cli", "run", "--home", str(tmp_path), sys.executable, "-c", program],
        env={**os.environ, "OTELSYNC_HOMME": "x", "OTELSYNC_STORE": "off"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = "otelsync: OTELSYNC_HOMME is set, and nothing reads it: did you mean OTELSYNC_HOME?"
    assert (done.stdout + done.stderr).count("HOMME") == 1
    assert said in done.stderr.splitlines()
    assert done.stdout == "ran\n"
