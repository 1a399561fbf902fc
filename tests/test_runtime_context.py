"""The runtime context: OpenTelemetry's contexts behave as before, and are given back."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator

import opentelemetry.context as context_api
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from recorded import Recorded

import otelsync
from otelsync.recording import runtime_context

KEY = context_api.create_key("test")


@pytest.fixture
def installed() -> Iterator[None]:
    runtime_context.install()
    yield
    runtime_context.uninstall()


@pytest.mark.usefixtures("installed")
def test_contexts_nest_and_are_restored() -> None:
    """attach() makes a context current, detach() what was current before."""
    assert context_api.get_current() == {}
    outer = context_api.attach(context_api.set_value(KEY, 1))
    inner = context_api.attach(context_api.set_value(KEY, 2))
    assert context_api.get_value(KEY) == 2
    context_api.detach(inner)
    assert context_api.get_value(KEY) == 1
    context_api.detach(outer)
    assert context_api.get_value(KEY) is None


def test_what_was_attached_before_stays_current() -> None:
    """Installing in the middle of a context keeps it, and its token works afterwards."""
    token = context_api.attach(context_api.set_value(KEY, "before"))
    runtime_context.install()
    try:
        assert context_api.get_value(KEY) == "before"
        inner = context_api.attach(context_api.set_value(KEY, "inside"))
        assert context_api.get_value(KEY) == "inside"
        context_api.detach(inner)
        assert context_api.get_value(KEY) == "before"
        context_api.detach(token)
        assert context_api.get_value(KEY) is None
    finally:
        runtime_context.uninstall()


def test_installing_twice_is_installing_once() -> None:
    """A second install() does nothing, and one uninstall() leaves the original behind."""
    original = context_api._RUNTIME_CONTEXT
    runtime_context.install()
    first = context_api._RUNTIME_CONTEXT
    runtime_context.install()
    assert context_api._RUNTIME_CONTEXT is first
    assert runtime_context.installed()
    runtime_context.uninstall()
    assert context_api._RUNTIME_CONTEXT is original
    runtime_context.uninstall()
    assert not runtime_context.installed()


@pytest.mark.usefixtures("installed")
def test_contexts_of_threads_and_tasks_are_apart() -> None:
    """What is attached in a copied context stays there, and its token is of no use elsewhere."""
    copied = contextvars.copy_context()
    token = copied.run(context_api.attach, context_api.set_value(KEY, 1))
    assert context_api.get_value(KEY) is None
    assert copied.run(context_api.get_value, KEY) == 1
    with pytest.raises(ValueError, match="different Context"):
        context_api._RUNTIME_CONTEXT.detach(token)


@pytest.mark.usefixtures("installed")
def test_a_wrong_token_is_reported_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """OpenTelemetry's own detach() logs a token of another context and raises nothing."""
    token = contextvars.copy_context().run(context_api.attach, context_api.set_value(KEY, 1))
    with caplog.at_level(logging.ERROR):
        context_api.detach(token)
    assert "Failed to detach context" in caplog.text


def test_a_span_of_ours_is_a_context_to_everybody(recorded: Recorded) -> None:
    """In a stage get_current() is a context with its span, the same object each time, and what was set around it."""
    token = context_api.attach(context_api.set_value(KEY, "around"))
    with otelsync.stage("s") as stage:
        context = context_api.get_current()
        assert context is context_api.get_current()
        assert trace.get_current_span(context) is stage.span
        assert context[KEY] == "around"
        inner = context_api.attach(context_api.set_value(KEY, "inside"))
        assert trace.get_current_span() is stage.span
        context_api.detach(inner)
        assert context_api.get_value(KEY) == "around"
    context_api.detach(token)
    assert context_api.get_current() == {}
    assert recorded.tree() == "\nsync.stage s  [success]"


def test_a_context_is_kept_for_later(recorded: Recorded) -> None:
    """A context that was taken in a stage can be attached when the stage is over: what begins there is below it."""
    with otelsync.pipeline("p") as run:
        context = context_api.get_current()
    token = context_api.attach(context)
    with otelsync.stage("late"):
        pass
    context_api.detach(token)
    late = recorded.span("sync.stage late")
    assert late.parent_id == run.span_id
    assert late.attributes["sync.id"] == run.sync_id


def test_a_foreign_span_is_attached_and_left(recorded: Recorded) -> None:
    """A remote parent that is attached is the parent of stages, and gone when it is detached."""
    remote = NonRecordingSpan(SpanContext(0xABC, 0xDEF, True, TraceFlags(1)))
    with trace.use_span(remote), otelsync.stage("below"):
        pass
    with otelsync.stage("alone"):
        pass
    assert (
        recorded.tree()
        == """
sync.stage below  [success] <- 0000000000000def
sync.stage alone  [success]"""
    )
    assert recorded.span("sync.stage below").trace_id == f"{0xABC:032x}"
