"""Runs programs whose groups are Celery tasks: ``python -m random_syncs.publishing HOME PROGRAMS``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from celery import chain, chord, group
from celery.result import AsyncResult, GroupResult

import otelsync
from random_syncs.interpreter import SERVICE
from random_syncs.tasks import sync_group
from random_syncs.trees import Node

PATIENCE: Final = 60.0


def canvas_of(program: Node) -> Any:
    """The tasks of a program."""
    signatures = [sync_group.s(child.as_json()) for child in program.children]
    how = program.kind.split()[-1]
    if how == "chain":
        return chain(*signatures)
    return chord(signatures[:-1], signatures[-1]) if how == "chord" else group(signatures)


def run(program: Node) -> Any:
    """Run a program up to where its process is done with it."""
    with otelsync.pipeline(program.name) as pipeline:
        if not program.kind.startswith("awaited"):
            return pipeline.dispatch(canvas_of(program))
        result = canvas_of(program).apply_async()
        wait_for(result)
        return result


def wait_for(result: Any) -> None:
    """Wait until a canvas is done: of a chain, until a step has failed."""
    steps = list(_steps(result))
    for step in reversed(steps):
        step.get(timeout=PATIENCE, propagate=False, interval=0.02)
        if isinstance(step, AsyncResult) and step.failed() and step is not result:
            return


def _steps(result: Any) -> Iterator[AsyncResult[Any] | GroupResult]:
    while result is not None:
        yield result
        result = result.parent


def main(home: Path, path: Path) -> None:
    """Publish the programs of a file, and wait for all of their tasks."""
    otelsync.configure(service_name=SERVICE, home=home, ship="off", log_level="WARNING", log_format="json")
    otelsync.instrument("celery")
    results = [run(Node.from_json(said)) for said in json.loads(path.read_text())]
    for result in results:
        wait_for(result)
    otelsync.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
