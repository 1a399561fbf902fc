"""Runs a number of programs into a home of their own, and compares every view of each with the truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otlp_server import OtlpServer, eventually, otlp_server

from random_syncs import views
from random_syncs.model import Figures, truth
from random_syncs.trees import Node

PATIENCE: Final = 300.0
TESTS: Final = Path(__file__).parent.parent


@dataclass
class Finding:
    """A program, and what views say of its run that is not so."""

    program: Node
    true: Figures
    said: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([str(self.program), f"true: {self.true}", *self.said])


def compare(programs: Sequence[Node], folder: Path, *, log_level: str = "WARNING") -> list[Finding]:
    """Run the programs; returns those of which a view says what is not so."""
    all_views = run(programs, folder, log_level=log_level)
    return [found for program in programs if (found := judge(program, all_views)).said]


def run(programs: Sequence[Node], folder: Path, *, log_level: str = "WARNING") -> Views:
    """Run the programs, whose pipelines have names of their own, into a home in `folder`."""
    home = folder / "home"
    home.mkdir(parents=True)
    with otlp_server() as server:
        _record(programs, folder, home, server, log_level)
    return Views(home, folder, server)


def _record(programs: Sequence[Node], folder: Path, home: Path, server: OtlpServer, log_level: str) -> None:
    environment = _environment(home) | {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTELSYNC_STORE": "on"}
    with (folder / "shipper.txt").open("wb") as log:
        shipper = subprocess.Popen(
            [sys.executable, "-m", "otelsync.cli", "ship"], env=environment, stdout=log, stderr=log
        )
        try:
            eventually(lambda: b"shipping" in (folder / "shipper.txt").read_bytes())
            run_programs(programs, folder, log_level=log_level)
            shipper.send_signal(signal.SIGTERM)
            assert shipper.wait(PATIENCE) == 0, (folder / "shipper.txt").read_text()[-4000:]
        finally:
            shipper.kill()
            shipper.wait()


def run_programs(programs: Sequence[Node], folder: Path, *, log_level: str = "WARNING") -> None:
    """Run the programs into the home in `folder`, and ship nothing."""
    gates, path = folder / "gates", folder / "programs.json"
    gates.mkdir()
    path.write_text(json.dumps([program.as_json() for program in programs]))
    with (folder / "programs.txt").open("wb") as output:
        ran = subprocess.run(
            [sys.executable, "-m", "random_syncs.interpreter", folder / "home", path, gates, log_level],
            cwd=TESTS,
            env=_environment(folder / "home"),
            stdout=subprocess.DEVNULL,
            stderr=output,
            timeout=PATIENCE,
        )
    assert ran.returncode == 0, (folder / "programs.txt").read_text()[-4000:]


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    return kept | {"OTELSYNC_HOME": str(home), "OTELSYNC_REPORTS": "off"}


class Views:
    """All views of all runs of a home."""

    def __init__(self, home: Path, folder: Path, server: OtlpServer) -> None:
        self._home, self._folder = home, folder
        self._stored = views.in_the_store(home)
        self._spans = views.spans_counted(home)
        self._exported = views.exported(server.spans)
        self._listed, self._ids = views.listed(home)
        self._counters = views.Counters(server.metrics)

    def of(self, pipeline: str) -> dict[str, Figures | str]:
        """What each view says of the run of a pipeline; text: what is wrong with it from the start."""
        said: dict[str, Figures | str] = {"spans": self._spans.get(pipeline, "none")}
        for name, spans in (("store", self._stored), ("OTLP", self._exported)):
            of_it = spans.get(pipeline, [])
            said[name] = of_it[0] if len(of_it) == 1 else f"{len(of_it)} spans of the pipeline"
        if pipeline not in self._ids:
            return said | {"list": "is not there"}
        said["list"] = self._listed[pipeline]
        said |= views.shown(self._home, self._ids[pipeline])
        said["report"] = views.reported(self._home, self._ids[pipeline], self._folder / "reports")
        said["metrics"] = self._counters.figures(pipeline)
        return said


def judge(program: Node, all_views: Views, true: Figures | None = None) -> Finding:
    """Compare what all views say of a program with the truth."""
    true = true or truth(program)
    found = Finding(program, true)
    for view, said in all_views.of(program.name).items():
        if isinstance(said, str):
            found.said.append(f"{view}: {said}")
            continue
        # Metrics know actions alone; a stage whose items were fetched by hand says more or less than its spans.
        fetched = view != "metrics" and not (
            view == "spans" and any("fetched" in node.counts for node in program.all())
        )
        found.said += [f"{view}: {each}" for each in views.differences(true, said, fetched=fetched)]
    return found
