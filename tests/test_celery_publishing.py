"""Publishes: the span is open and current while the message is sent, and the message carries what it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, group, signals
from celery_here import make_app
from kombu.exceptions import OperationalError
from opentelemetry import baggage, context, trace
from recorded import Recorded

import otelsync
from otelsync.hooks.opentelemetry_api import RANDOM_TRACE_ID
from otelsync.integrations.celery.headers import parse


@pytest.fixture
def app(recorded: Recorded) -> Iterator[Celery]:
    """An app without a worker, instrumented."""
    assert recorded
    otelsync.instrument("celery")
    with make_app("disabled://") as app:
        yield app
    otelsync.uninstrument("celery")


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """The headers of each message, as they go to the broker."""
    seen: list[dict[str, Any]] = []

    def look(headers: dict[str, Any], **_: Any) -> None:
        seen.append(headers | {"current": trace.get_current_span().get_span_context()})

    signals.after_task_publish.connect(look)
    yield seen
    signals.after_task_publish.disconnect(look)


def test_what_a_publish_says(app: Celery, recorded: Recorded) -> None:
    """A publish span has upstream's names, and ours for the transport and the queue."""
    result = app.tasks["add"].delay(1, 2)
    span = recorded.span("apply_async/add")
    queue = app.conf.task_default_queue
    assert span.attributes == {
        "celery.action": "apply_async",
        "celery.task_name": "add",
        "messaging.destination.name": queue,
        "messaging.destination_kind": "queue",
        "messaging.message.id": result.id,
        "messaging.operation.type": "send",
        "messaging.system": "memory",
    }
    assert (span.kind, span.scope) == (4, "opentelemetry.instrumentation.celery")


@pytest.mark.parametrize("how", ["delay", "send_task", "unknown", "named", "signature"])
def test_the_span_is_current_while_the_message_is_sent(
    app: Celery, recorded: Recorded, sent: list[dict[str, Any]], how: str
) -> None:
    """However a task is published, by whatever name, the span covers it and its ids are in the message."""
    with otelsync.stage("here"):
        if how == "delay":
            app.tasks["add"].delay(1)
        elif how == "signature":
            app.signature("add", (1,)).apply_async()
        elif how == "named":
            app.send_task(name="add", args=(1,))
        else:
            app.send_task("add" if how == "send_task" else "elsewhere.add", (1,))
    name = "elsewhere.add" if how == "unknown" else "add"
    assert recorded.tree() == f"\nsync.stage here{' ' * (len(name) - 1)}  [success]\n  apply_async/{name}"
    span = recorded.span(f"apply_async/{name}")
    (headers,) = sent
    assert headers["traceparent"] == f"00-{span.trace_id}-{span.span_id}-{1 | RANDOM_TRACE_ID:02x}"
    assert trace.format_span_id(headers["current"].span_id) == span.span_id
    envelope = parse(headers["otelsync"])
    assert envelope is not None
    assert envelope.origin is not None
    assert trace.format_span_id(envelope.origin.span_id) == span.parent_id
    assert envelope.published > 0


def test_a_broker_that_is_down(recorded: Recorded) -> None:
    """The caller gets the exception as ever, the span ends with ERROR, and what was current is current again."""
    otelsync.instrument("celery")
    try:
        with make_app("disabled://") as app, otelsync.stage("here") as here:
            app.conf.update(broker_url="amqp://127.0.0.1:1//", task_publish_retry=False, broker_transport_options={})
            with pytest.raises(OperationalError):
                app.tasks["add"].apply_async((1,), retry=False)
            assert trace.get_current_span() is here.span
    finally:
        otelsync.uninstrument("celery")
    span = recorded.span("apply_async/add")
    assert (span.ended, span.status) == (True, "ERROR")
    assert span.attributes["error.type"] == "OperationalError"
    assert recorded.tree() == "\nsync.stage here    [success]\n  apply_async/add  ERROR"


def test_headers_of_users_survive(app: Celery, recorded: Recorded, sent: list[dict[str, Any]]) -> None:
    """What a user puts into the headers is there, and the dict that the user passed is as it was."""
    mine = {"mine": "kept"}
    app.tasks["add"].apply_async((1,), headers=mine)
    assert mine == {"mine": "kept"}
    assert sent[0]["mine"] == "kept"
    assert recorded.span("apply_async/add").ended


def test_baggage_does_not_grow(app: Celery, sent: list[dict[str, Any]]) -> None:
    """A task that is sent again and again with the headers that came carries the same baggage each time."""
    token = context.attach(baggage.set_baggage("team", "7"))
    try:
        headers: dict[str, Any] = {}
        for _ in range(5):
            app.tasks["add"].apply_async((1,), headers=headers)
            headers = {key: sent[-1][key] for key in ("baggage", "otelsync", "traceparent")}
    finally:
        context.detach(token)
    assert {headers["baggage"] for headers in sent} == {"team=7"}
    assert len({len(headers["otelsync"]) for headers in sent}) == 1


def test_celerys_own_tasks_have_no_span(app: Celery, recorded: Recorded, sent: list[dict[str, Any]]) -> None:
    """Its tasks that do nothing a user asked for leave no span, but carry where they belong; those that work do."""
    with otelsync.stage("here") as here:
        app.send_task("celery.chord_unlock")
        app.send_task("celery.backend_cleanup")
        app.tasks["add"].map([1, 2]).delay()
    assert recorded.tree() == "\nsync.stage here           [success]\n  apply_async/celery.map"
    envelope = parse(sent[0]["otelsync"])
    assert envelope is not None
    assert envelope.origin is not None
    assert trace.format_span_id(envelope.origin.span_id) == here.span_id


def test_a_lazy_group(app: Celery, recorded: Recorded) -> None:
    """A group that is made from a generator is published as ever."""
    add = app.tasks["add"]
    group(add.s(n) for n in range(3)).delay()
    assert recorded.tree(roll=9).count("apply_async/add") == 3
