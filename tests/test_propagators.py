"""A propagator that is not installed keeps nothing from starting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
import otelsync
otelsync.configure(service_name="t", ship="off")
otelsync.instrument()
from opentelemetry import propagate
print(",".join(sorted(propagate.get_global_textmap().fields)), os.environ["OTEL_PROPAGATORS"])
"""
TRACE, BOTH = "traceparent,tracestate", "baggage,traceparent,tracestate"


def run(home: Path, asked: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, sys.executable, "-c", PROGRAM],
        env=os.environ | {"OTEL_PROPAGATORS": asked, "OTELSYNC_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


@pytest.mark.parametrize(
    ("asked", "used"),
    [("b3", BOTH), ("tracecontext, b3", TRACE), ("nonsense,,baggage", "baggage"), (",", BOTH)],
)
def test_what_can_be_loaded_is_used(tmp_path: Path, asked: str, used: str) -> None:
    """One warning says what could not be loaded, and what to do; the variable stays as it is."""
    ended = run(tmp_path, asked)
    assert ended.stdout == f"{used} {asked}\n"
    assert ended.stderr.count("cannot be loaded") == 1


@pytest.mark.parametrize(("asked", "used"), [("tracecontext", TRACE), ("none", ""), ("baggage", "baggage")])
def test_what_is_installed_needs_no_words(tmp_path: Path, asked: str, used: str) -> None:
    """OpenTelemetry's own reading of the variable holds."""
    ended = run(tmp_path, asked)
    assert (ended.stdout, ended.stderr) == (f"{used} {asked}\n", "")


def test_a_program_under_supervision_starts(tmp_path: Path) -> None:
    """`otelsync run` and its program both go on."""
    ended = run(tmp_path, "b3", sys.executable, "-m", "otelsync.cli", "run")
    assert ended.stdout == f"{BOTH} b3\n"
    assert "opentelemetry-propagator-b3" in ended.stderr
