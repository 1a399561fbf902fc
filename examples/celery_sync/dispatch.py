"""The dispatcher: begins the pipeline, hands it to the workers, and could end at once; here it waits for the result."""

from __future__ import annotations

import sys

from celery import chord

import otelsync

from .tasks import summarise, sync_repository

PATIENCE = 120
"""Seconds."""


def main(names: list[str]) -> None:
    """Dispatch one task a repository, and the summary after them all."""
    with otelsync.pipeline("github.onboarding", repositories=len(names)) as run:
        result = run.dispatch(chord([sync_repository.s(name) for name in names], summarise.s()))
    print(f"{run.sync_id}: dispatched")
    print(f"{run.sync_id}: {result.get(timeout=PATIENCE)}")


if __name__ == "__main__":
    main(sys.argv[1:])
