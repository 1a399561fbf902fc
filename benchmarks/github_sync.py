"""Tracing's share of a real application: the GitHub sync of 50 repositories of 1,000 pull requests each.

    python -m benchmarks.github_sync [--repos 50] [--prs 1000] [--rounds 1] [--ways plain otelsync otel]
    python -m benchmarks.github_sync --kills 20

Celery workers of four processes onboard a team from the double of GitHub: as they are, under `otelsync run`, and under
``opentelemetry-instrument`` with its instrumentations of Celery, requests and SQLAlchemy as they come. The figure is
the CPU time of the worker's processes, from when they are ready to their end, and apart from it that of the process
that supervises them. Databases, the report and the metrics have to agree. With ``--kills`` the whole tree of the
worker's processes is killed so many times at random moments; see github_kills.py.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import requests

from benchmarks import github_remains
from benchmarks.celery_worker import Cpu, cpu_of
from benchmarks.github_remains import Digest, Reported
from benchmarks.report import draw
from benchmarks.sink import Counts, sink_process
from benchmarks.tests_parts import App, app
from examples.github_sync.double.generator import names

ROOT: Final = Path(__file__).parents[1]
TEAM: Final = "red"
PROCESSES: Final = 4
LONGEST: Final = 300.0
"""Seconds that an onboarding may stand still."""
_POLL: Final = 0.5
_YEAR: Final = 24 * 330
_CELERY: Final = (sys.executable, "-m", "celery", "-A", "examples.github_sync.celery_app:app")
_WITHOUT: Final = ("env", f"PYTHONPATH={ROOT / 'benchmarks' / 'without'}:{ROOT}")
"""Without otelsync: its stages do nothing; see benchmarks/without."""


@dataclass(frozen=True)
class Way:
    """A way of running the workers: what the table says, the command, what it is told, and what is beside it."""

    title: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    supervised: bool = False


_RUN: Final = (sys.executable, "-m", "otelsync.cli", "run", "--service-name", "github-sync")
_INSTRUMENT: Final = str(Path(sys.executable).parent / "opentelemetry-instrument")
_THEIRS: Final = (
    ("OTEL_PYTHON_DISTRO", "distro"),
    ("OTEL_PYTHON_CONFIGURATOR", "configurator"),
    ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis,httpx"),
    ("OTEL_METRICS_EXPORTER", "none"),
)
_OURS: Final = (("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis,httpx,sqlalchemy"),)
WAYS: Final = {
    "plain": Way("Celery", (*_WITHOUT, *_CELERY)),
    "otelsync": Way("otelsync run", (*_RUN, *_CELERY), _OURS, supervised=True),
    "otelsync-sql": Way("otelsync run, SQLAlchemy's too", (*_RUN, *_CELERY), _THEIRS[2:3], supervised=True),
    "otel": Way("opentelemetry-instrument", (*_WITHOUT, _INSTRUMENT, *_CELERY), _THEIRS),
}


@dataclass(frozen=True)
class Size:
    """The double's size: repositories, pull requests each, and the day of the newest."""

    repos: int
    prs: int
    until: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    @property
    def total(self) -> int:
        """Return the number of all pull requests."""
        return self.repos * self.prs

    @property
    def double(self) -> list[str]:
        """Return the arguments of the double; all pull requests are of the last eleven months."""
        hours = max(1, _YEAR * 10 // (self.prs * 11))
        said = ["--no-recordings", "--repos", str(self.repos), "--pulls", str(self.prs), "--hours", str(hours)]
        return [*said, "--until", self.until]

    @property
    def names(self) -> list[str]:
        """Return the names of the repositories."""
        return names(self.repos)


@dataclass
class Onboarded:
    """An onboarding that has ended; `wrong` says what does not agree."""

    wall: float
    cpu: Cpu
    rows: dict[str, Digest]
    pages: int
    """Requests for pages that the double has served, those that were asked for again included."""
    arrived: Counts = field(default_factory=Counts)
    reported: Reported | None = None
    metrics: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def variables_for(way: Way, sink: str, port: int) -> dict[str, str]:
    """Return the environment of a way's workers."""
    return {
        **github_remains.TOKENS,
        "PYTHONDONTWRITEBYTECODE": "",  # or each child would compile what it imports
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTELSYNC_METRICS_PORT": str(port),
        "OTELSYNC_SHUTDOWN_TIMEOUT": "300",
        "OTELSYNC_REPORTS": "off",  # it is made afterwards: the process that makes it is none of the worker
        **dict(way.variables),
    }


def onboard(way: Way, size: Size, home: Path, processes: int = PROCESSES) -> Onboarded:
    """Onboard a team from the beginning to the end of both phases."""
    port = free_port()
    with sink_process() as sink, app(home, *size.double, **variables_for(way, sink.url, port)) as installed:
        installed.run("add", TEAM, *size.names)
        with installed.worker(processes, way.command) as worker:
            begin, began = cpu_of(worker.pid, supervised=way.supervised), time.monotonic()
            sync_id = start(installed)
            wait_for_end(installed, worker)
            wall = time.monotonic() - began
            metrics = _settled(port, size.total) if way.supervised else Counter[str]()
            taken = end(worker, supervised=way.supervised) - begin
        done = Onboarded(wall, taken, github_remains.rows(installed.engine), pages(installed), sink.counts())
        done.metrics = metrics
        if way.supervised:
            done.reported = github_remains.reported(installed, sync_id)
    done.wrong = wrong(done, size)
    return done


def start(installed: App) -> str:
    """Start an onboarding; returns its sync id."""
    return installed.run("sync", TEAM, "--no-wait").split(":")[0]


def wait_for_end(installed: App, worker: subprocess.Popen[bytes]) -> None:
    """Wait until both phases are over. Raises RuntimeError where it goes no further, or the worker has ended."""
    seen, until = "", 0.0
    while (status := installed.status(TEAM))["phase"] != "completed":
        now = f"{status['phase']} {[each['completed'] for each in status['repositories']]}"
        if now != seen:
            seen, until = now, time.monotonic() + LONGEST
        if time.monotonic() > until or worker.poll() is not None:
            raise RuntimeError(f"it goes no further than {seen}: {(installed.home / 'worker.log').read_text()[-3000:]}")
        time.sleep(_POLL)


def end(worker: subprocess.Popen[bytes], *, supervised: bool) -> Cpu:
    """End a worker in good order, and return what it has taken in all."""
    worker.terminate()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # its figures stay until it is reaped
    return cpu_of(worker.pid, supervised=supervised)


def pages(installed: App) -> int:
    """Return the number of GraphQL requests that the double has served."""
    said = requests.get(f"{installed.environment['GITHUB_API_URL']}/_double/counts", timeout=60).json()
    return int(said["graphql"])


def _settled(port: int, expected: int) -> Counter[str]:
    """Return the items of the metrics, when all have been counted, or after a minute."""
    until = time.monotonic() + 60
    while (found := github_remains.counted(port)).total() < expected and time.monotonic() < until:
        time.sleep(_POLL)
    return found


def wrong(done: Onboarded, size: Size) -> list[str]:
    """Return what does not agree: with what there is to be synced, and among database, report and metrics."""
    stored = done.rows["pull_requests"][0]
    said = [f"{stored:,} of {size.total:,} pull requests are stored"] if stored != size.total else []
    if done.rows["dead_letters"][0]:
        said.append(f"{done.rows['dead_letters'][0]} could not be stored")
    if done.reported is not None:
        if (done.reported.items["created"], done.reported.items["fetched"]) != (size.total, size.total):
            said.append(f"the report counts {done.reported.items}")
        if not done.reported.reconciles:
            said.append("the report does not reconcile")
        if done.metrics != {"created": size.total}:
            said.append(f"the metrics count {dict(done.metrics)}")
    return said


def free_port() -> int:
    """Return a port that nobody has."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def interleaved(ways: Sequence[str], size: Size, rounds: int) -> dict[str, list[Onboarded]]:
    """Run each way once a round, each time with everything anew; the order changes from round to round."""
    results: dict[str, list[Onboarded]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as scratch:
        for number in range(1, rounds + 1):
            for name in random.Random(number).sample(list(ways), len(ways)):
                done = onboard(WAYS[name], size, Path(scratch) / f"{number}-{name}")
                results[name].append(done)
                say(
                    f"round {number}/{rounds}  {name:<13} {done.wall:7.1f} s, worker {done.cpu.worker:7.2f} s of CPU, "
                    f"supervisor {done.cpu.supervisor:6.2f} s  {done.pages} pages, {done.arrived.spans.total():,} spans"
                    f"  {'; '.join(done.wrong)}"
                )
    return results


def table(results: dict[str, list[Onboarded]], size: Size) -> str:
    """Return one line a way: medians over the rounds, and the median of what each round says of the share."""
    header = ["", "wall, s", "CPU of the worker, s", "ms a PR", "added", "supervisor, s", "spans that arrived"]
    drawn = [header]
    for name, rounds in results.items():
        worker = median(each.cpu.worker for each in rounds)
        shares = [
            each.cpu.worker / plain.cpu.worker - 1
            for each, plain in zip(rounds, results.get("plain", []), strict=False)
            if name != "plain"
        ]
        row = [WAYS[name].title, f"{median(each.wall for each in rounds):.1f}", f"{worker:.2f}"]
        row.append(f"{worker * 1000 / size.total:.2f}")
        row.append(f"{median(shares):+.1%} ({min(shares):+.1%} to {max(shares):+.1%})" if shares else "")
        row.append(f"{median(each.cpu.supervisor for each in rounds):.2f}" if WAYS[name].supervised else "")
        row.append(f"{median(each.arrived.spans.total() for each in rounds):,.0f}" if name != "plain" else "")
        drawn.append(row)
    return draw(drawn)


def differences(results: dict[str, list[Onboarded]]) -> list[str]:
    """Return what went wrong in a round, and each database whose rows are not those of the first one."""
    all_runs = [
        (f"{name}, round {number}", one) for name, runs in results.items() for number, one in enumerate(runs, 1)
    ]
    said = [f"INVALID {title}: {what}" for title, one in all_runs for what in one.wrong]
    first = all_runs[0][1].rows
    for title, one in all_runs:
        unlike = [name for name, digest in one.rows.items() if digest != first[name]]
        said += [f"INVALID {title}: other rows in {', '.join(unlike)}"] if unlike else []
    return said


def say(line: str) -> None:
    """Print what has happened."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run what was asked for; the exit code is 1 where something does not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.github_sync", description=__doc__)
    parser.add_argument("--repos", type=int, default=50)
    parser.add_argument("--prs", type=int, default=1000, help="pull requests a repository")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain", "otelsync", "otel"])
    parser.add_argument("--kills", type=int, default=0, help="kill the worker's processes so many times")
    parser.add_argument("--seed", type=int, default=14, help="of the moments of the kills")
    asked = parser.parse_args()
    size = Size(asked.repos, asked.prs)
    if asked.kills:
        from benchmarks import github_kills

        return github_kills.compare(size, asked.kills, asked.seed)
    results = interleaved(asked.ways, size, asked.rounds)
    invalid = differences(results)
    title = f"{size.repos} x {size.prs:,} pull requests, {asked.rounds} rounds"
    print("\n".join([title, table(results, size), *invalid]))
    return 1 if invalid else 0


if __name__ == "__main__":
    sys.exit(main())
