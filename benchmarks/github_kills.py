"""The GitHub sync whose workers are killed: the same rows in the end, little done twice, and a report that says so.

The processes of a worker, its supervisor's included, are killed at random moments and started again. RabbitMQ is the
broker: it gives the tasks of a connection that is gone to the next one. A moment is a number of pages that the double
has served, and up to half a second more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import github_remains
from benchmarks.celery_worker import descendants
from benchmarks.github_remains import Digest, Reported
from benchmarks.github_sync import PROCESSES, TEAM, WAYS, Size, onboard, pages, say, start, wait_for_end
from benchmarks.tests_parts import App, app, rabbitmq_server

API_CALL: Final = "sync.api PullRequests"
_POLL: Final = 0.02
_LATER: Final = 0.5


@dataclass
class Killed:
    """An onboarding whose workers were killed: how often, how many pages it took, and what has remained."""

    kills: int
    wall: float
    pages: int
    rows: dict[str, Digest]
    reported: Reported
    violations: int

    def wrong(self, rows: dict[str, Digest], least: int, processes: int) -> list[str]:
        """Return what is not as it should be, after a run that left these `rows` and took as few pages as can be."""
        unlike = [name for name, digest in self.rows.items() if digest != rows[name]]
        said = [f"other rows in {', '.join(unlike)}"] if unlike else []
        again = self.pages - least
        if again > self.kills * processes:
            said.append(f"{again} pages were asked for again, more than one a process that was killed")
        if again > self.reported.interrupted[API_CALL]:
            said.append(
                f"{again} pages were asked for again, of {self.reported.interrupted[API_CALL]} interrupted calls"
            )
        if not self.reported.outcomes["interrupted"] or not self.reported.reconciles:
            said.append(f"the report names no interruption, or does not reconcile: {self.reported}")
        if self.violations:
            said.append(f"{self.violations} requests were early, or two at a time on a token")
        return said


def onboard_killed(installed: App, kills: int, least: int, dice: random.Random, processes: int = PROCESSES) -> Killed:
    """Onboard the team of `installed` with so many kills, while the first `least` pages are served."""
    moments = sorted(dice.randrange(least) for _ in range(kills))
    began = time.monotonic()
    with installed.worker(processes) as worker:
        sync_id = start(installed)
        killed = _kill_after(installed, worker, moments[0], dice)
    for moment in moments[1:]:
        with installed.worker(processes) as worker:
            killed += _kill_after(installed, worker, moment, dice)
    with installed.worker(processes) as worker:
        wait_for_end(installed, worker)
    wall = time.monotonic() - began
    return Killed(
        killed,
        wall,
        pages(installed),
        github_remains.rows(installed.engine),
        github_remains.reported(installed, sync_id),
        github_remains.violations(installed),
    )


def _kill_after(installed: App, worker: subprocess.Popen[bytes], moment: int, dice: random.Random) -> int:
    """Kill the processes of a worker when so many pages are served, and a little later; 0 where it was over before."""
    while pages(installed) < moment:
        if installed.status(TEAM)["phase"] == "completed":
            return 0
        time.sleep(_POLL)
    time.sleep(dice.uniform(0, _LATER))
    kill([worker.pid, *descendants(worker.pid)])
    worker.wait()
    return 1


def kill(pids: Sequence[int]) -> None:
    """Kill processes at once: none has the time to notice that another is gone."""
    for what in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, what)


def compare(size: Size, kills: int, seed: int) -> int:
    """Onboard without and with kills, and print what differs; the exit code is 1 where anything is wrong."""
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as scratch:
        plain = onboard(WAYS["otelsync"], size, Path(scratch) / "undisturbed")
        say(f"undisturbed: {plain.wall:.1f} s, {plain.pages} pages  {'; '.join(plain.wrong)}")
        (Path(scratch) / "rabbitmq").mkdir()
        with rabbitmq_server(Path(scratch) / "rabbitmq") as server:
            broker = {"CELERY_BROKER_URL": server.broker().url, **github_remains.TOKENS}
            with app(Path(scratch) / "killed", *size.double, **broker) as installed:
                installed.run("add", TEAM, *size.names)
                done = onboard_killed(installed, kills, plain.pages, random.Random(seed))
    again = done.pages - plain.pages
    print(f"{size.repos} x {size.prs:,} pull requests, {done.kills} kills of the worker and all its processes")
    print(
        f"  undisturbed {plain.wall:.1f} s and {plain.pages} pages; with kills {done.wall:.1f} s and {done.pages} pages"
    )
    print(f"  {again} pages were asked for again, {again / max(1, done.kills):.2f} a kill of {PROCESSES} processes")
    print(f"  repositories in the report: {dict(done.reported.outcomes)}; items {done.reported.items}")
    print(f"  interrupted spans: {dict(done.reported.interrupted)}")
    print(f"  {done.rows['pull_requests'][0]:,} pull requests are stored")
    wrong = [*plain.wrong, *done.wrong(plain.rows, plain.pages, PROCESSES)]
    print("\n".join(f"INVALID {each}" for each in wrong) or "  all rows are the same")
    return 1 if wrong else 0
