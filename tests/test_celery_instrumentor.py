"""Switching on and off: nothing is doubled, nothing is left behind, and the order does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import celery.app.trace
import celery.worker.consumer.consumer
import pytest
from celery import Celery, canvas, signals
from celery.app.task import Task
from celery.backends.base import Backend
from celery.worker.request import Request
from celery_here import make_app
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from recorded import Recorded

from otelsync.integrations.celery import Instrumentor

WRAPPED = [
    (Celery, "send_task"),
    (canvas.group, "apply_async"),
    (canvas.chord, "run"),
    (Task, "on_replace"),
    (Backend, "mark_as_done"),
    (Backend, "mark_as_failure"),
    (Backend, "mark_as_revoked"),
    (Request, "__init__"),
    (Request, "on_timeout"),
    (celery.app.trace, "build_tracer"),
    (celery.worker.consumer.consumer, "build_tracer"),
]


def build(*args: Any, **options: Any) -> Any:
    """What Celery builds to run a task with, as it is now."""
    return celery.app.trace.build_tracer(*args, **options)


def both() -> list[Any]:
    """Our instrumentor, and upstream's."""
    upstream: Any = CeleryInstrumentor
    return [Instrumentor(), upstream()]


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    """Leave both instrumentations off."""
    yield
    for instrumentor in both():
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def test_everything_is_put_back() -> None:
    """After uninstrument() each function of Celery is the object that it was."""
    before = [getattr(owner, name) for owner, name in WRAPPED]
    receivers = len(signals.before_task_publish.receivers or ())
    for _ in range(2):
        Instrumentor().instrument()
        assert all(getattr(owner, name) is not old for (owner, name), old in zip(WRAPPED, before, strict=True))
        Instrumentor().uninstrument()
        assert [getattr(owner, name) for owner, name in WRAPPED] == before
    assert len(signals.before_task_publish.receivers or ()) == receivers


def test_apps_that_are_there_already(recorded: Recorded) -> None:
    """A task whose tracer is built is traced from instrument() to uninstrument()."""
    with make_app("disabled://") as app:
        task: Any = app.tasks["add"]
        tracer = task.__trace__ = build("add", task, app=app)
        Instrumentor().instrument()
        assert task.__trace__("id", (1,), {}, {"id": "id"}).retval == 2
        assert recorded.tree() == "\nrun/add  [success]"
        Instrumentor().uninstrument()
        assert task.__trace__ is tracer


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_upstreams_instrumentation_doubles_nothing(recorded: Recorded, first: str) -> None:
    """Whoever is switched on first, one publish and one run are two spans; afterwards upstream's is as it was."""
    for instrumentor in both() if first == "ours" else reversed(both()):
        instrumentor.instrument()
    with make_app("disabled://") as app:
        task: Any = app.tasks["add"]
        task.delay(1)
        build("add", task, app=app)("id", (1,), {}, {"id": "id"})
    assert recorded.tree() == "\napply_async/add\nrun/add          [success]"
    Instrumentor().uninstrument()
    assert both()[1].is_instrumented_by_opentelemetry is (first == "theirs")
    assert bool(signals.task_prerun.receivers) is (first == "theirs")


def test_instances_are_their_own() -> None:
    """Ours is no other name for upstream's instrumentor."""
    assert Instrumentor() is Instrumentor()
    assert both()[0] is not both()[1]
    assert isinstance(Instrumentor(), CeleryInstrumentor)


def test_without_configure() -> None:
    """Where nothing is configured, publishing and running work, and leave nothing."""
    Instrumentor().instrument()
    with make_app("disabled://") as app:
        task: Any = app.tasks["add"]
        assert task.delay(1).id
        assert build("add", task, app=app)("id", (1,), {}, {"id": "id"}).retval == 2
