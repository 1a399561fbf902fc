"""Messages that no task comes of: each has a run that failed, with Celery's record of it, and fails its pipeline."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.utils import uuid
from opentelemetry import propagate
from otlp_server import eventually
from workers import PATIENCE, Caller, Worker, publishing_app, trace, worker

import otelsync
from otelsync.testing.reading import logs_in
from otelsync.vocabulary import ERROR_TYPE, SYNC_OUTCOME


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Worker, Celery]]:
    """A prefork worker that takes JSON alone."""
    broker = request.getfixturevalue("redis").broker()
    with worker(tmp_path_factory.mktemp("refused"), broker, concurrency=1) as started, publishing_app(broker) as app:
        yield started, app


@pytest.fixture
def caller(running: tuple[Worker, Celery]) -> Iterator[Caller]:
    """This process, which publishes."""
    started, app = running
    caller = Caller(started.home, app)
    yield caller
    caller.end()


def send(app: Celery, body: bytes, content_type: str = "application/json", **headers: Any) -> None:
    """Send a message to the worker's queue; its headers name the span that is current."""
    propagate.inject(headers)
    with app.producer_or_acquire() as producer:
        queue = app.conf.task_default_queue
        producer.publish(
            body,
            headers=headers,
            content_type=content_type,
            content_encoding="utf-8",
            exchange=queue,
            routing_key=queue,
            correlation_id=headers.get("id"),
        )


def of_task(name: str) -> dict[str, Any]:
    """Headers of a task's message."""
    task_id = uuid()
    return {"task": name, "id": task_id, "root_id": task_id, "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"}


WHOLE = json.dumps([[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()
FIRST_PROTOCOL = {"task": "nobody.knows", "id": "b7e1ad3c-6b0e-4a37-8a8f-4f55a2a2b9a0", "args": [], "kwargs": {}}

MESSAGES: dict[str, tuple[Callable[[Celery], Any], str, str]] = {
    "unknown task": (lambda app: app.send_task("nobody.knows"), "run/nobody.knows", "NotRegistered"),
    "unknown task in the first protocol": (
        lambda app: send(app, json.dumps(FIRST_PROTOCOL).encode()),
        "run/nobody.knows",
        "NotRegistered",
    ),
    "wrong content type": (
        lambda app: send(app, pickle.dumps(((), {}, {})), "application/x-python-serialize", **of_task("add")),
        "run/add",
        "ContentDisallowed",
    ),
    "unknown content type": (lambda app: send(app, b"?", "application/x-none", **of_task("add")), "run/add", ""),
    "body that is no JSON": (lambda app: send(app, b"{", **of_task("add")), "run/add", "DecodeError"),
    "arguments that are none": (lambda app: send(app, b'{"args": 1, "kwargs": 2}', **of_task("add")), "run/add", ""),
    "no message of Celery": (lambda app: send(app, b'{"order": 4711}'), "run/unknown", "UnknownMessageError"),
    "no time to run at": (lambda app: send(app, WHOLE, **of_task("add"), eta="when I say so"), "run/add", ""),
    "a body that the pool cannot read": (
        lambda app: app.tasks["add"].apply_async((1, 2), serializer="fragile"),
        "run/add",
        "DecodeError",
    ),
    "a time beyond all clocks": (
        lambda app: send(app, WHOLE, **of_task("add"), eta="0001-01-01T00:00:00+14:00"),
        "run/add",
        "",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_refused(caller: Caller, name: str) -> None:
    """Its run is a failure that says why, the pipeline is none the less red, and the record of it leads there."""
    publish, run_name, error_type = MESSAGES[name]
    with otelsync.pipeline("sync") as run:
        publish(caller.app)

    def runs() -> list[Any]:
        return [n for n in trace(caller.home, run.trace_id) if n.name.startswith("run/") and n.ended]

    eventually(runs, PATIENCE)
    [ended] = runs()
    eventually(lambda: [log for log in logs_in(caller.home) if log.span_id == ended.span_id], PATIENCE)
    assert (ended.name, ended.attributes[SYNC_OUTCOME], ended.failed) == (run_name, "failure", True), ended
    assert ended.attributes[ERROR_TYPE] == error_type or not error_type, ended.attributes
    assert ended.message


def test_no_green_run_with_a_task_that_nobody_knows(caller: Caller, running: tuple[Worker, Celery]) -> None:
    """`otelsync list` says that the run failed, with its error."""
    with otelsync.pipeline("of-nobody") as run:
        caller.app.send_task("nobody.knows")
    eventually(lambda: any(n.name == "run/nobody.knows" for n in trace(caller.home, run.trace_id)), PATIENCE)
    caller.end()
    command = [sys.executable, "-m", "otelsync.cli", "list"]
    listed = subprocess.run(command, env=running[0].environment, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in listed.splitlines() if "of-nobody" in line]
    assert "failure" in line
