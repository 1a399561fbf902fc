"""A Celery app whose broker, results and worker are all in this process, for tests of one trace at a time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, _state
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.utils import uuid
from opentelemetry import trace
from otlp_server import eventually
from recorded import Recorded
from trace_tree import Node, beginning_only, draw

import otelsync
from otelsync.recording.runtime_context import current_scope

PATIENCE = 120.0
"""Seconds after which a task that gives no result has failed its test."""


class ExpectedError(Exception):
    """What a task may raise as its author said."""


def add(x: int, y: int = 1) -> int:
    """The sum."""
    return x + y


def total(numbers: list[int]) -> int:
    """The sum of what the headers of a chord gave."""
    return sum(numbers)


def note(task_id: Any) -> Any:
    """What is linked to another task, or goes before one."""
    return task_id


def fail() -> None:
    """Fail."""
    raise ValueError("no such record")


def expected() -> None:
    """Fail as announced."""
    raise ExpectedError("as announced")


def stop(how: str) -> None:
    """End by one of the exceptions that mean something to Celery, or to the process."""
    raise {
        "ignore": Ignore(),
        "reject": Reject("unwanted"),
        "late": SoftTimeLimitExceeded(1),
        "exit": SystemExit(1),
    }[how]


def again(self: Task[Any, Any], failures: int, max_retries: int = 3) -> int:
    """Have itself retried until it has failed so many times."""
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0, max_retries=max_retries)
    return failures


def replaced(self: Task[Any, Any], how: str) -> None:
    """Put a task, or a chain, in its own place."""
    other = self.app.tasks["add"]
    raise self.replace(other.s(1, 2) if how == "task" else other.s(1, 2) | other.s(3))


def outer(self: Task[Any, Any]) -> str:
    """Publish a task from inside a stage."""
    with otelsync.stage("work"):
        return str(self.app.tasks["add"].delay(1, 2).id)


def where(self: Task[Any, Any]) -> list[Any]:
    """What a task is told: the fields of the sync, the headers of its message, and the ids that are current."""
    span = trace.get_current_span().get_span_context()
    return [current_scope().attributes, dict(self.request.headers or {}), trace.format_span_id(span.span_id)]


def make_app(results: str = "cache+memory://", **options: Any) -> Celery:
    """An app with a task of each kind."""
    app = Celery("here", broker="memory://", backend=results, set_as_current=False)
    app.conf.update(
        result_chord_retry_interval=0.05,
        task_default_queue=f"here-{uuid()}",  # the broker in memory is one for all apps of this process
        worker_hijack_root_logger=False,
        **options,
    )
    plain: tuple[Callable[..., Any], ...] = (add, total, note, fail, stop)
    for function in plain:
        app.task(name=function.__name__, shared=False)(function)
    bound: tuple[Callable[..., Any], ...] = (again, replaced, outer, where)
    for function in bound:
        app.task(name=function.__name__, shared=False, bind=True)(function)
    app.task(name="expected", shared=False, throws=(ExpectedError,))(expected)
    app.task(name="silent", shared=False, ignore_result=True)(add)
    with pytest.MonkeyPatch.context() as patch:  # other modules of tests share tasks of the same names with every app
        finalizers = _state._on_app_finalizers  # type: ignore[attr-defined]
        builtin = {finalizer for finalizer in finalizers if finalizer.__module__ == "celery.app.builtins"}
        patch.setattr(_state, "_on_app_finalizers", builtin)
        app.finalize()
    return app


@contextmanager
def working(app: Celery) -> Iterator[Celery]:
    """A worker for `app`, with one thread, instrumented by us."""
    otelsync.instrument("celery")
    level = logging.getLogger().level  # the worker sets another
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=PATIENCE):
                yield app
    finally:
        logging.getLogger().setLevel(level)
        app.close()
        otelsync.uninstrument("celery")


def outcome(result: Any) -> Any:
    """What came of a task: its result, or its exception."""
    return result.get(timeout=PATIENCE, interval=0.01, propagate=False)


def expect(recorded: Recorded, tree: str, *shown: str) -> None:
    """Hold that this is what was traced, as soon as everything has ended.

    The worker works while the caller still publishes, so of siblings those come first that the caller published, then
    those that Celery published as a consequence, then runs; each by their start.
    """

    def drawn() -> str:
        return "\n" + draw(map(_in_turn, recorded.spans), *shown, roll=99)

    try:
        eventually(lambda: drawn() == tree)
    except AssertionError:
        raise AssertionError(f"expected:{tree}\n\ntraced:{drawn()}") from None


def _in_turn(node: Node) -> Node:
    return replace(beginning_only(node, "sync.stage here"), start=node.start + _turn(node))


def _turn(node: Node) -> int:
    if node.name.startswith("run/"):
        return 2**62
    return 2**61 if node.links else 0


def results_in_files(directory: Path) -> str:
    """A result backend that knows nothing of chords, so that Celery polls for their headers."""
    directory.mkdir()
    return f"file://{directory}"
