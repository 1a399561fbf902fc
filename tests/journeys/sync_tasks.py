"""Tasks of a sync that use otelsync's stages, for a worker that is told to include this module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import Task, group, shared_task
from celery.exceptions import Ignore, Reject

import otelsync


@shared_task(name="sync.repo")
def sync_repo(name: str, created: int = 1, failed: int = 0) -> int:
    """One repository's share of a run, which fails if nothing was created."""
    with otelsync.repo(name) as repo:
        repo.count(created=created, failed=failed)
        if not created:
            repo.fail("nothing came")
    return created


@shared_task(name="sync.summary")
def summarise(*_args: object) -> str:
    """What comes after all repositories."""
    with otelsync.stage("summary"):
        return "done"


@shared_task(name="sync.fail")
def fail(*_args: object) -> None:
    """Fail for good."""
    raise ValueError("no")


@shared_task(name="sync.flaky", bind=True)
def flaky(self: Task[Any, Any], failures: int, *, retries: int = 3) -> str:
    """Have itself retried a few times, from inside a stage."""
    with otelsync.repo("acme/flaky") as repo:
        if self.request.retries < failures:
            raise self.retry(exc=ConnectionError("not yet"), countdown=0, max_retries=retries)
        repo.count(created=1)
    return "done"


@shared_task(name="sync.wait")
def wait(until: str) -> None:
    """Wait for a file."""
    while not Path(until).exists():
        time.sleep(0.01)


@shared_task(name="sync.fan_out", bind=True)
def fan_out(self: Task[Any, Any], how: str) -> object:
    """Publish more from inside: by itself, or in its own place."""
    repos = [sync_repo.s(f"acme/{letter}") for letter in "ab"]
    if how == "replace":
        self.replace(repos[0])
    if how == "replace by group":
        self.replace(group(repos))
    for repo in repos:
        repo.apply_async()
    return None


@shared_task(name="sync.end")
def end(how: str) -> None:
    """End without a result."""
    if how == "ignore":
        raise Ignore()
    raise Reject("no", requeue=False)


@shared_task(name="sync.wait_in_stage")
def wait_in_stage(until: str) -> None:
    """Wait for a file inside a stage."""
    with otelsync.stage("waiting"):
        wait(until)
