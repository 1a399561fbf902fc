"""Runs programs whose groups are tasks of a real Celery worker, and compares every view of each with the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from brokers import Broker
from otlp_server import eventually, otlp_server
from workers import worker

from random_syncs import views
from random_syncs.comparing import PATIENCE, TESTS, Finding, Views, judge
from random_syncs.interpreter import SERVICE
from random_syncs.trees import Node


def compare_canvases(programs: Sequence[Node], folder: Path, broker: Broker) -> list[Finding]:
    """Run the programs; returns those of which a view says what is not so."""
    all_views = run_canvases(programs, folder, broker)
    return [found for program in programs if (found := judge(program, all_views)).said]


def run_canvases(programs: Sequence[Node], folder: Path, broker: Broker) -> Views:
    """Run the programs, whose pipelines have names of their own, into a home in `folder`."""
    home = folder / "home"
    home.mkdir(parents=True)
    (folder / "gates").mkdir()
    path = folder / "programs.json"
    path.write_text(json.dumps([program.as_json() for program in programs]))
    with otlp_server() as server:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_SERVICE_NAME": SERVICE,
            "LOG_LEVEL": "WARNING",
            "TEST_GATES": str(folder / "gates"),
        }
        with worker(home, broker, app="random_syncs.tasks", directory=TESTS, environment=environment) as running:
            command: list[str | Path] = [sys.executable, "-m", "random_syncs.publishing", home, path]
            ran = subprocess.run(
                command, cwd=TESTS, env=running.environment, capture_output=True, text=True, timeout=PATIENCE
            )
            assert ran.returncode == 0, ran.stderr[-4000:] + running.log[-4000:]
            with suppress(AssertionError):  # what has not ended by then is found out
                eventually(lambda: _all_ended(home, programs), 20)
            assert running.end() == 0, running.log[-4000:]
        return Views(home, folder, server)


def _all_ended(home: Path, programs: Sequence[Node]) -> bool:
    stored = views.in_the_store(home)
    return all([each.outcome for each in stored.get(program.name, [])] not in ([], ["running"]) for program in programs)
