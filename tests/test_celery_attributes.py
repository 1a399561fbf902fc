"""Attributes: the same as upstream's instrumentation sets, and what it does not know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from celery.app.task import Context
from hypothesis import given
from hypothesis import strategies as st
from kombu import Exchange, Queue
from opentelemetry.instrumentation.celery.utils import set_attributes_from_context
from opentelemetry.sdk.trace import TracerProvider

from otelsync.integrations.celery.attributes import of_context, planned, waits

TEXTS = "compression correlation_id eta exchange expires hostname id queue reply_to routing_key serializer origin state"
texts = st.none() | st.text(max_size=8)
requests = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXTS.split(), texts),
        "countdown": st.none() | st.integers(0, 100),
        "priority": st.none() | st.integers(0, 9),
        "retries": st.none() | st.integers(0, 3),
        "timelimit": st.sampled_from([None, (None, None), [None, None], [30, None], (None, 20), [30, 20]]),
        "delivery_info": st.fixed_dictionaries(
            {"exchange": texts, "routing_key": texts, "priority": st.none() | st.integers(0, 9)}
        ),
        "declare": st.sampled_from([None, [Queue("a", Exchange("a"))], [Queue("b", Exchange("b", type="topic"))]]),
    },
)


def upstream(context: Any) -> dict[str, Any]:
    """What upstream's instrumentation sets on a span."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    set_attributes_from_context(span, context)
    return dict(span.attributes or {})  # type: ignore[attr-defined]


@given(requests)
def test_the_same_as_upstream(request: dict[str, Any]) -> None:
    """Users of upstream's instrumentation find each name and each value that they know."""
    got = {key: tuple(value) if isinstance(value, list) else value for key, value in of_context(request).items()}
    theirs = upstream(Context(request))
    if of_context(request).keys() - theirs.keys() == {"celery.timelimit"}:
        del got["celery.timelimit"]  # upstream left it out where one of the two is not set, until 0.62
    delivery = request.get("delivery_info") or {}
    assert theirs.pop("celery.delivery_info", None) == (str(delivery) if "delivery_info" in request else None)
    if "messaging.destination" in theirs:
        theirs["messaging.destination.name"] = theirs.pop("messaging.destination")
    theirs |= {
        f"celery.delivery_info.{name}": value for name in ("exchange", "priority") if (value := delivery.get(name))
    }
    assert got == theirs


@pytest.mark.parametrize(
    ("eta", "expected"),
    [
        (None, 0),
        ("2026-08-01T12:00:00+00:00", 1785585600),
        ("2026-08-01T14:00:00+02:00", 1785585600),
        ("2026-08-01T12:00:00", 1785585600),
        (datetime(2026, 8, 1, 12, tzinfo=UTC), 1785585600),
        ("tomorrow", 0),
        ("9" * 400, 0),
        ({}, 0),
        (17, 0),
    ],
)
def test_when_a_task_is_planned(eta: object, expected: int) -> None:
    """An ETA is a moment, in its own zone or the app's; what is none counts as none."""
    assert planned(eta, UTC) == expected * 10**9


def test_waiting_and_planned_delay_are_told_apart() -> None:
    """The wait begins when the task could have run. Clocks that differ make no negative wait."""
    second = 10**9
    assert waits(0, 0, 50 * second) == {}
    assert waits(10 * second, 0, 12 * second) == {"sync.queue.wait_seconds": 2.0}
    assert waits(10 * second, 15 * second, 16 * second) == {
        "sync.queue.wait_seconds": 1.0,
        "sync.queue.planned_delay_seconds": 5.0,
    }
    assert waits(10 * second, 0, 9 * second) == {"sync.queue.wait_seconds": 0.0}
