"""A broker that is down: the caller gets the exception that it would get, and its trace is as if it had been told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import Broker
from celery import Celery, chain, group
from hosts import refusing_port
from kombu.exceptions import OperationalError
from opentelemetry import trace
from workers import Caller, drawn, publishing_app, traces

import otelsync


@pytest.fixture(params=["redis", "rabbitmq"])
def down(request: pytest.FixtureRequest) -> Iterator[Celery]:
    """An app whose broker is down."""
    with refusing_port() as port:
        schemes = {"redis": f"redis://127.0.0.1:{port}/0", "rabbitmq": f"amqp://guest:guest@127.0.0.1:{port}//"}
        url = schemes[request.param]
        with publishing_app(Broker(request.param, url, "cache+memory://", "")) as app:
            app.conf.task_publish_retry = False
            app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
            yield app


WAYS: dict[str, Callable[[Celery], object]] = {
    "delay": lambda app: app.tasks["add"].delay(1, 2),
    "send_task": lambda app: app.send_task("far", (7,)),
    "signature": lambda app: app.tasks["add"].s(1, 2).apply_async(),
    "group": lambda app: group(app.tasks["add"].s(1, 1), app.tasks["add"].s(2, 2))(),
    "chain": lambda app: chain(app.tasks["add"].s(1, 1), app.tasks["add"].s(2))(),
}
TREE = """
sync.stage caller
  apply_async/add   ERROR type=OperationalError
  sync.stage after  [success]"""


@pytest.mark.parametrize("way", WAYS)
def test_a_publish_that_fails(tmp_path: Path, down: Celery, way: str) -> None:
    """The caller's exception is what it is without otelsync; the publish is an error, it has ended, and what follows
    is not below it."""
    with pytest.raises(OperationalError) as plain:
        WAYS[way](down)
    caller = Caller(tmp_path, down)
    try:
        with otelsync.stage("caller"):
            before = trace.get_current_span()
            with pytest.raises(OperationalError) as traced:
                WAYS[way](down)
            assert trace.get_current_span() is before
            with otelsync.stage("after"):
                pass
        tree = TREE.replace("add", "far") if way == "send_task" else TREE
        assert drawn(traces(tmp_path), "error.type") == tree
    finally:
        caller.end()
    assert (type(traced.value), str(traced.value)) == (type(plain.value), str(plain.value))
    assert type(traced.value.__cause__) is type(plain.value.__cause__)
