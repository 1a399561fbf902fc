"""The application for tests: the double, real workers under `otelsync run`, and the command line, in one home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from otlp_server import eventually
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from examples.github_sync import status
from examples.github_sync.database import engine_for
from examples.github_sync.double import process
from examples.github_sync.settings import Settings
from examples.github_sync.tables import PullRequest, Table, TrackedRepository

ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 900.0
CLI: Final = (sys.executable, "-m", "examples.github_sync")


class App:
    """An installation of the application."""

    def __init__(self, home: Path, api_url: str, variables: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.repositories: Mapping[str, int] = {}
        """Repositories of the double, with the number of their pull requests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "GITHUB", "SYNC_"))}
        self.environment = {
            **kept,
            "GITHUB_SYNC_HOME": str(home),
            "GITHUB_API_URL": api_url,
            "GITHUB_TOKENS": "token-one",
            "OTELSYNC_HOME": str(home / "otelsync"),
            "OTELSYNC_STORE": "on",
            "OTELSYNC_REPORTS_DIR": str(home / "reports"),
            "PYTHONPATH": str(ROOT),
            **(variables or {}),
        }

    def run(self, *arguments: str, expected: int = 0) -> str:
        """Run the command line, which ends with the `expected` status; returns what it prints."""
        ran = subprocess.run(
            [*CLI, *arguments],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ran.returncode == expected, (ran.returncode, ran.stdout[-3000:], ran.stderr[-3000:])
        return ran.stdout

    def otelsync(self, *arguments: str) -> str:
        """Run a command of otelsync's; returns what it prints."""
        command = [sys.executable, "-m", "otelsync.cli", *arguments]
        ran = subprocess.run(
            command, env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=PATIENCE
        )
        assert ran.returncode == 0, (ran.stdout[-3000:], ran.stderr[-3000:])
        return ran.stdout

    @contextmanager
    def worker(self, processes: int = 2, command: Sequence[str] = CLI) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker for the length of the block; its log is ``worker.log``.

        `command`: what stands before ``worker`` on the command line; by default it runs under `otelsync run`.
        """
        words = [*command, "worker", "-c", str(processes), "-l", "INFO"]
        path = self.home / "worker.log"
        with path.open("ab") as log:
            said = log.tell()
            running = subprocess.Popen(words, stdout=log, stderr=log, env=self.environment, cwd=self.home)
        try:
            eventually(lambda: running.poll() is not None or b"ready." in path.read_bytes()[said:])
            assert running.poll() is None, path.read_text()[-3000:]
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(120)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()

    @cached_property
    def engine(self) -> Engine:
        """The database. Its connections are closed at the end of `app`."""
        return engine_for(Settings.from_environment(self.environment).database_url)

    def rows(self, table: type[Table]) -> int:
        """Return the number of rows of a table."""
        with Session(self.engine) as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def pulls(self) -> dict[str, int]:
        """Return the numbers of stored pull requests, by repository."""
        with Session(self.engine) as session:
            found = session.execute(
                select(TrackedRepository.full_name, func.count(PullRequest.id))
                .join(PullRequest, PullRequest.repository_id == TrackedRepository.repository_id)
                .group_by(TrackedRepository.full_name)
            )
            return {row[0]: row[1] for row in found}

    def status(self, team: str) -> dict[str, Any]:
        """Return what `status --json` says, but for the limits."""
        return status.read(self.engine, team, {}).as_dict()


@contextmanager
def app(home: Path, *double: str, **variables: str) -> Iterator[App]:
    """Start the double with these arguments; yields an application that asks it."""
    home.mkdir(parents=True, exist_ok=True)
    with process.started(["--log", str(home / "double.log"), *double]) as server:
        installed = App(home, server.url, variables)
        installed.repositories = server.repositories
        try:
            yield installed
        finally:
            installed.engine.dispose()
