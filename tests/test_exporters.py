"""Exporters that variables name: OTLP is the one that there is, and of others it is said that they have no effect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from supervised import PATIENCE, environment, run

from otelsync.otlp.exporters import is_sent, without_effect
from otelsync.otlp.options import endpoints_from_environment, metrics_from_environment

SIGNALS = ("traces", "logs", "metrics")


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    ("value", "sent", "others"),
    [
        ("", True, []),
        ("otlp", True, []),
        (" OTLP ,", True, []),
        ("otlp_proto_http", True, []),
        ("otlp_proto_grpc", True, []),
        ("none", False, []),
        (" None ", False, []),
        ("console", False, ["console"]),
        ("otlp,console", True, ["console"]),
        ("none,otlp", True, ["none"]),
        ("zipkin, nonsense", False, ["zipkin", "nonsense"]),
    ],
)
def test_each_value_does_what_it_says_or_is_spoken_of(signal: str, value: str, sent: bool, others: list[str]) -> None:
    """Each signal is sent where OTLP is among its exporters, or none is named; what has no effect is named."""
    variables = {f"OTEL_{signal.upper()}_EXPORTER": value, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    assert is_sent(variables, signal) == sent
    endpoints = {endpoint.signal for endpoint in endpoints_from_environment(variables)}
    if metrics_from_environment(variables) is not None:
        endpoints.add("metrics")
    assert endpoints == {*SIGNALS} - (set() if sent else {signal})
    found = list(without_effect(variables))
    assert len(found) == bool(others)
    for name, message, fix in found:
        assert (name, all(repr(other) in message for other in others), "otlp" in fix) == (signal, True, True)
        assert ("are not sent" in message) != sent


def test_configure_and_run_say_so_once(tmp_path: Path) -> None:
    """A program that asks for the console is told where to look instead, by configure() and by `otelsync run`."""
    said = "OTEL_TRACES_EXPORTER names 'console', which otelsync does not have, so traces are not sent: set it to otlp"
    code = "import otelsync; otelsync.configure(); otelsync.shutdown()"
    variables = environment(tmp_path, OTEL_TRACES_EXPORTER="console", OTELSYNC_SHIP="off")
    command = [sys.executable, "-c", code]
    alone = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (alone.returncode, (alone.stdout + alone.stderr).count(said)) == (0, 1)
    ended = run(tmp_path, sys.executable, "-c", code, OTEL_TRACES_EXPORTER="console")
    assert (ended.returncode, (ended.stdout + ended.stderr).count(said)) == (0, 1)
