"""The demo: a real worker under `otelsync run`, a pipeline of a chord of repositories, and its trace.

Run by ``python -m examples.celery_sync``. It starts a GitHub-shaped server and a worker, and needs no other server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from examples.github_sync.double import process

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".demo" / "celery"
FAULTS = ("502@/repos/acme/billing-api/pulls/23/reviews#*", "slow=0.4@/repos/acme/billing-api/pulls/31/commits")
OTELSYNC = [sys.executable, "-m", "otelsync.cli"]
RUN = [*OTELSYNC, "run", "--service-name", "github-sync"]
WORKER_PATIENCE = 30


def main(home: Path = HOME, *, repositories: int = 4) -> int:
    """Sync the largest recorded repositories in a worker of two processes, and show the run; 0 if there is one."""
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("queue", "control", "done", "results"):
        (home / folder).mkdir(parents=True, mode=0o700)
    print("Starting a GitHub-shaped server and a Celery worker (the first time, pip fetches 36 MB).", flush=True)
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    try:
        with process.started(["--generated", "1x40", "--log", str(home / "github-double.log"), *faults]) as double:
            largest = sorted(double.repositories, key=lambda name: -double.repositories[name])[:repositories]
            environment = {
                **os.environ,
                "CELERY_SYNC_HOME": str(home),
                "GITHUB_API_URL": double.url,
                "OTELSYNC_HOME": str(home / "otelsync"),
                "OTELSYNC_STORE": "on",
                "OTELSYNC_REPORTS_DIR": str(home / "reports" / "sync"),
            }
            with _worker(home, environment):
                _run([*RUN, sys.executable, "-m", "examples.celery_sync.dispatch", *largest], environment)
    except process.DoubleFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    code = _run([*OTELSYNC, "show"], environment)
    for report in (home / "reports").glob("sync/*/_SYNC_SUMMARY.md"):
        print(f"\nreport\n  {report}")
    return code


@contextmanager
def _worker(home: Path, environment: dict[str, str]) -> Iterator[None]:
    """A worker for the length of the block; its log is in ``worker.log``."""
    celery = [sys.executable, "-m", "celery", "-A", "examples.celery_sync.tasks", "worker", "-c", "2", "-l", "INFO"]
    command = [*RUN, "--log-format", "json", *celery]
    with (
        (home / "worker.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT) as worker,
    ):
        try:
            yield
        finally:
            worker.terminate()
            try:
                worker.wait(WORKER_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
