"""A Celery project like any other, which knows nothing of otelsync; the environment says where its broker is.

One of its tasks makes a span of its own, by OpenTelemetry's API.
`Broker.environment` holds what it reads. A test that publishes makes an app of its own by :func:`make_app`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import requests
from billiard import current_process
from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject
from celery.utils.log import get_task_logger
from kombu import Exchange, Queue
from kombu.serialization import register
from opentelemetry import trace

with suppress(ImportError):
    import_module("cffi.cparser")  # or else every child does it anew: most of the time that a child takes
log = get_task_logger(__name__)
tracer = trace.get_tracer(__name__)


def _read_in_main_process(text: str) -> Any:
    """Read what the processes of a pool cannot, as when such a process lacks a library or runs out of memory."""
    if current_process().name != "MainProcess":
        raise ValueError("not readable here")
    return json.loads(text)


register("fragile", json.dumps, _read_in_main_process, "application/x-fragile", "utf-8")


def make_app(environment: Mapping[str, str]) -> Celery:
    """The app, at the broker that `environment` names."""
    prefix = environment.get("TEST_PREFIX", "")
    app = Celery("journey")
    app.conf.update(
        broker_url=environment.get("TEST_BROKER", "memory://"),
        result_backend=environment.get("TEST_RESULTS", "cache+memory://"),
        accept_content=["json", "fragile"],
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=60,  # a retry that cannot be published in time is a task that Celery rejects
        control_exchange=f"{prefix}celery",
        event_exchange=f"{prefix}celeryev",
        result_chord_retry_interval=0.1,
        task_default_queue=f"{prefix}tasks",
        task_queues=[Queue(f"{prefix}tasks", Exchange(f"{prefix}tasks"), f"{prefix}tasks")],
        worker_cancel_long_running_tasks_on_connection_loss=False,
        **{name[5:].lower(): _value(text) for name, text in environment.items() if name.startswith("CONF_")},
    )
    if "TEST_BEAT" in environment:
        app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": float(environment["TEST_BEAT"])}}
    return app


def _value(text: str) -> object:
    return {"on": True, "off": False}.get(text) if text in ("on", "off") else float(text)


@shared_task(name="add")
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y


@shared_task(name="total")
def total(numbers: Iterable[int]) -> int:
    """The sum of what the headers of a chord gave."""
    return sum(numbers)


@shared_task(name="tick")
def tick() -> None:
    """What beat sends."""


@shared_task(name="fail")
def fail(message: str) -> None:
    """Fail."""
    raise ValueError(message)


@shared_task(name="leak")
def leak(text: str, *, token: str) -> None:
    """Log what it was given, and fail with it."""
    log.info("given %s and %s", text, {"token": token})
    raise ValueError(text, {"api_key": token})


@shared_task(name="give_up")
def give_up(how: str) -> None:
    """End without a result: by "ignore" or by "reject"."""
    raise Ignore() if how == "ignore" else Reject("no", requeue=False)


@shared_task(name="note")
def note() -> None:
    """What is linked to another task, and does nothing."""


@shared_task(name="say")
def say(number: int) -> int:
    """Log that this was done."""
    log.info("said %d", number)
    return number


@shared_task(name="stubborn", bind=True)
def stubborn(self: Task[Any, Any], failures: int, max_retries: int = 3) -> str:
    """Have itself retried until it has failed so many times."""
    if self.request.retries < failures:
        # At once, the next attempt can be over before Celery has stored that this one is to be retried.
        raise self.retry(exc=ConnectionError("not yet"), countdown=0.1, max_retries=max_retries)
    return "done"


@shared_task(name="replaced", bind=True)
def replaced(self: Task[Any, Any], x: int, y: int) -> None:
    """Let another task take its place."""
    self.replace(add.s(x, y))


@shared_task(name="parent")
def parent(x: int, y: int) -> str:
    """Publish a task from inside a task; its id."""
    return str(add.delay(x, y).id)


@shared_task(name="fetch")
def fetch(url: str) -> int:
    """Ask a server; the status of its answer."""
    return requests.get(url, timeout=30).status_code


@shared_task(name="hold")
def hold(begun: str, until: str) -> None:
    """Say by a file that it has begun, and go on until there is another file."""
    with Path(begun).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(until).exists():
        time.sleep(0.01)


@shared_task(name="die")
def die(marker: str, seconds: float) -> str:
    """Publish a task, then kill the process that runs this one so much later, the first time; it is run again."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        note.delay()
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@shared_task(name="work")
def work(number: int, tally: str, seconds: float) -> int:
    """Work for so long, with a span of its own inside, and put down what has begun and what is finished."""
    file = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def put(what: str, span: trace.Span) -> None:
        os.write(file, f"{what} {number} {span.get_span_context().span_id:016x}\n".encode())

    try:
        put("begun", trace.get_current_span())
        with tracer.start_as_current_span("inside") as inside:
            time.sleep(seconds / 2)
        put("inside", inside)
        log.info("worked on %d", number)
        time.sleep(seconds / 2)
        put("done", trace.get_current_span())
    finally:
        os.close(file)
    return number


app = make_app(os.environ)


@app.task(name="remote")  # of this app alone: another can but send it by name
def remote(x: int) -> int:
    """What only a worker knows."""
    return x
