"""Measure what a start costs, in CPU and memory: ``python -m benchmarks.start [--rounds 9]``.

A script of 100 records and the shipper beside it (to the local store, to an HTTP endpoint, and where nothing was
recorded), ``import otelsync``, `otelsync run` of short programs, and `otelsync list`; bare Python beside them. Each
round runs each of them once, in processes of its own with their bytecode cached, and adds up user and system time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from statistics import median
from typing import Final, NamedTuple

from benchmarks import children, report
from benchmarks.measurement import FOREIGN_SETTINGS
from benchmarks.sink import sink_process

_SCRIPT: Final = """
import os, otelsync
otelsync.configure(service_name="start", log_stream=open(os.devnull, "w"))
with otelsync.pipeline("start"), otelsync.repo("acme/api"):
    for number in range({items}):
        with otelsync.pull_request(number, state="open") as pr:
            pr.set(action="created")
"""
_IDLE: Final = "import os, otelsync\notelsync.configure(service_name='start', log_stream=open(os.devnull, 'w'))"
_RUN: Final = ("-m", "otelsync.cli", "run", "--service-name", "start")
_BARE: Final = "bare Python"
_REQUESTS: Final = "a program that imports requests"


class Took(NamedTuple):
    """CPU in milliseconds and the greatest resident memory in MB, of a process and of those that outlived it."""

    cpu: float
    memory: float
    beside_cpu: float = 0.0
    beside_memory: float = 0.0


class Start(NamedTuple):
    """One row: arguments of Python, variables, and the row that it is compared with."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str] = {}
    above: str = ""


def starts(python: str, endpoint: str) -> dict[str, Start]:
    """Return all that is measured, by name; `endpoint`: of an OTLP/HTTP server."""
    script, no_reports = ("-c", _SCRIPT.format(items=98)), {"OTELSYNC_REPORTS": "off"}
    return {
        _BARE: Start(("-c", "pass")),
        "import otelsync": Start(("-c", "import otelsync"), above=_BARE),
        "configure(), and nothing recorded": Start(("-c", _IDLE), no_reports, _BARE),
        "100 records, local store": Start(script, no_reports, _BARE),
        "100 records, local store and report": Start(script, {}, _BARE),
        "100 records, OTLP/HTTP": Start(script, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, _BARE),
        "otelsync run of true": Start((*_RUN, "true")),
        "otelsync run of bare Python": Start((*_RUN, python, "-c", "pass"), above=_BARE),
        _REQUESTS: Start(("-c", "import requests")),
        "otelsync run of it": Start((*_RUN, python, "-c", "import requests"), above=_REQUESTS),
        "otelsync list": Start(("-m", "otelsync.cli", "list"), above=_BARE),
    }


def measure(start: Start, environment: Mapping[str, str]) -> Took:
    """Run one to its end, and to that of all that it leaves behind.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-", ignore_cleanup_errors=True) as home:
        done = subprocess.run(
            [sys.executable, "-I", "-S", children.__file__, sys.executable, *start.arguments],
            env={**environment, "HOME": home, "XDG_STATE_HOME": home, **start.variables},
            cwd=home,
            capture_output=True,
            text=True,
            check=True,
        )
    (status, cpu, memory), *beside = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"{start.arguments} failed: {done.stderr[-2000:]}")
    # A shipper is forked from a process that the kernel counts the script's memory for.
    return Took(cpu, memory, sum(cpu for _, cpu, _ in beside), min((memory for *_, memory in beside), default=0.0))


def interleaved(rounds: int) -> dict[str, list[Took]]:
    """Measure each start once a round, after one round that only fills the caches."""
    with sink_process() as sink:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}
        rows = starts(sys.executable, sink.url)
        results: dict[str, list[Took]] = {name: [] for name in rows}
        for number in range(rounds + 1):
            for name, start in rows.items():
                took = measure(start, environment)
                if number:
                    results[name].append(took)
                    figures = f"{took.cpu:7.1f} {took.beside_cpu:7.1f} ms"
                    print(f"round {number}/{rounds}  {name:<36} {figures}", file=sys.stderr, flush=True)
    return results


def table(rows: Mapping[str, Start], results: Mapping[str, list[Took]]) -> str:
    """Return the medians; what a start adds to another one is the median of the differences of each round."""
    lines = [["start", "CPU ms", "(min - max)", "added ms", "MB", "shipper ms", "(min - max)", "MB"]]
    for name, took in results.items():
        above = results.get(rows[name].above, [])
        added = [one.cpu - other.cpu for one, other in zip(took, above, strict=False)]
        beside = [each.beside_cpu for each in took]
        has_shipper = any(beside)
        lines.append(
            [
                name,
                *_figures([each.cpu for each in took]),
                f"{median(added):+.0f}" if added else "",
                f"{median(each.memory for each in took):.1f}",
                *(_figures(beside) if has_shipper else ("", "")),
                f"{median(each.beside_memory for each in took):.1f}" if has_shipper else "",
            ]
        )
    return report.draw(lines)


def _figures(values: list[float]) -> tuple[str, str]:
    return f"{median(values):.0f}", f"({min(values):.0f} - {max(values):.0f})"


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(table(starts("", ""), interleaved(rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
