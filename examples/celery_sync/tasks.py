"""The tasks: one repository each, one request at a time, then a summary.

They import otelsync for its stages alone; publishes, runs, attempts and queue waits are recorded by `otelsync run`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from celery import Celery, Task

import otelsync
from examples.github_sync.client import GithubClient
from examples.github_sync.database import connect
from examples.github_sync.patience import Wait
from examples.github_sync.sync import GithubSync

HOME = Path(os.environ.get("CELERY_SYNC_HOME", ".demo/celery"))
API_URL = os.environ.get("GITHUB_API_URL", "https://api.github.com")
TOKEN = os.environ.get("GITHUB_TOKEN", "demo-token")

app = Celery("celery_sync")
app.conf.update(
    # Directories instead of a server, so that the example needs none. In earnest: redis:// or amqp://.
    broker_url=os.environ.get("CELERY_BROKER_URL", "filesystem://"),
    broker_transport_options={
        name: str(HOME / place)
        for name, place in {
            "data_folder_in": "queue",
            "data_folder_out": "queue",
            "control_folder": "control",
            "processed_folder": "done",
        }.items()
    },
    result_backend=os.environ.get("CELERY_RESULT_BACKEND", f"file://{(HOME / 'results').absolute()}"),
    result_chord_retry_interval=0.2,
    broker_connection_retry_on_startup=True,
)
log = otelsync.get_logger(__name__)

events = otelsync.Catalogue("ta", source=__name__)
COUNTED = events.event(
    1, "repository.counted", level="info", fields=("repository", "pull_requests"), says="It has so many pull requests."
)
SUMMARISED = events.event(
    2, "run.summarised", level="info", fields=("repositories", "created", "failed"), says="What became of all of them."
)


class Quiet:
    """A display that shows nothing: a worker has no terminal, and the trace tells it all."""

    def repository(self, name: str, pull_requests: int) -> None:
        """A repository begins."""
        log.info(COUNTED, repository=name, pull_requests=pull_requests)

    def advance(self) -> None:
        """A pull request is done."""

    def repository_done(self, name: str, summary: str) -> None:
        """A repository has ended."""

    def waiting(self, wait: Wait) -> None:
        """A rate limit is waited for."""


@app.task(bind=True, name="sync_repository", max_retries=3)
def sync_repository(self: Task[Any, Any], name: str) -> dict[str, Any]:
    """Sync one repository, and return its tally. It never raises past its retries, so the summary always runs."""
    with (
        the_token(),
        connect(HOME / "github.db") as engine,
        closing(GithubClient(API_URL, TOKEN)) as client,
    ):
        tally = GithubSync(client, engine, Quiet()).repository(name)
    if tally.error is not None and self.request.retries < 1:
        raise self.retry(countdown=0.5)  # the broker waits, and not this worker
    return asdict(tally)


@app.task(name="summarise")
def summarise(tallies: list[dict[str, Any]]) -> str:
    """Say in a line what became of the whole run."""
    created = sum(tally["created"] for tally in tallies)
    failed = sum(tally["failed"] for tally in tallies) + sum(tally["error"] is not None for tally in tallies)
    log.info(SUMMARISED, repositories=len(tallies), created=created, failed=failed)
    return f"{len(tallies)} repositories, {created} pull requests created, {failed} failed"


@contextmanager
def the_token() -> Iterator[None]:
    """GitHub wants one request at a time a token, whichever process makes it. Waiting for it is a stage."""
    with (HOME / "token.lock").open("w") as lock:
        with otelsync.stage("sync.token.wait"):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
