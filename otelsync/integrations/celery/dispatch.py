"""A pipeline whose body is a Celery canvas: handed over by its dispatcher, ended by whoever finishes its last task.

The dispatcher opens a tally, publishes the canvas with the tally's key in every message, releases the pipeline's span
and then its own hold. Each worker puts in what it publishes and takes out what has ended for good. Whoever takes out
the last one is given what the tally held, and writes the span.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

import orjson
from celery import Celery
from celery.canvas import Signature, maybe_signature
from opentelemetry.trace import Span

from otelsync.errors import DispatchError
from otelsync.integrations.celery.activation import activate, leave
from otelsync.integrations.celery.continuation import RUN, Run
from otelsync.integrations.celery.headers import Envelope, to_traceparent
from otelsync.integrations.celery.pipeline_tasks import end, incomplete
from otelsync.integrations.celery.tally import HOLD, Claim
from otelsync.integrations.celery.tally_store import at_store, quietly, say_once, tally_of
from otelsync.recording.runtime_context import current_scope
from otelsync.recording.scope import SyncScope
from otelsync.recording.span import RecordedSpan
from otelsync.stages.pipeline import Pipeline

if TYPE_CHECKING:
    from celery.result import AsyncResult, GroupResult

    Result = AsyncResult[Any] | GroupResult


def dispatch(pipeline: Pipeline, canvas: Signature[Any], options: dict[str, Any]) -> Result:
    """Publish `canvas` as the body of `pipeline`, and leave the end of its span to the last task.

    Where that cannot be done (the tally's store cannot be reached, or another provider records the spans) the canvas
    is published all the same, and the span ends with its block.

    Raises:
        DispatchError: This is no canvas.
    """
    work = maybe_signature(canvas)
    if not isinstance(work, Signature):
        raise DispatchError(f"dispatch() takes a signature, chain, group or chord, and not a {type(canvas).__name__}")
    app = cast("Celery", work.app)
    span = pipeline.span
    key = _open(app, pipeline, span) if isinstance(span, RecordedSpan) else None
    try:
        result = _publish(work, options, span, key)
    except BaseException:
        if key is not None:
            at_store(lambda: tally_of(app).discard(key), None)
        raise
    if key is not None and isinstance(span, RecordedSpan):
        _hand_over(app, key, pipeline, span)
    return result


def _open(app: Celery, pipeline: Pipeline, span: RecordedSpan) -> str | None:
    """The key of a new tally; None if there can be none."""
    if not span.get_span_context().trace_flags.sampled:
        return None
    key = secrets.token_hex(16)

    def open_tally() -> str:
        tally_of(app).open(key, _details(pipeline, span))
        return key

    return at_store(open_tally, None)


def _publish(work: Signature[Any], options: dict[str, Any], span: Span, key: str | None) -> Result:
    """Publish a canvas directly below the pipeline's span, wherever inside its block this is."""
    scope = span.scope if isinstance(span, RecordedSpan) else current_scope()
    run = Run(None, {}, envelope=Envelope(origin=span.get_span_context(), sync_scope=scope, run=key))
    outer = RUN.set(run)
    token = activate(span, scope)
    try:
        return cast("Result", work.apply_async(**options))
    finally:
        leave(token)
        RUN.reset(outer)


def _hand_over(app: Celery, key: str, pipeline: Pipeline, span: RecordedSpan) -> None:
    """Release the span, then the hold: should we die in between, nobody else has ended it by then."""
    if key in incomplete:  # with a task that is in no tally the pipeline would end before it
        incomplete.discard(key)
        at_store(lambda: tally_of(app).discard(key), None)
        return
    details, figures = _details(pipeline, span), pipeline.hand_over()
    span.release()
    try:
        claim = quietly(lambda: tally_of(app).remove(key, HOLD, figures))
    except Exception as error:
        say_once(error)
        claim = Claim(details, figures)
    end(claim)


# What a pipeline is made of, while nobody holds it


def _details(pipeline: Pipeline, span: RecordedSpan) -> str:
    """Return what the span's end is made from, by any process; free of secrets, as it goes to a store."""
    parent = span.parent
    scope = span.scope or SyncScope({})
    said = {
        "name": span.redact(pipeline.name),
        "own": to_traceparent(span.get_span_context()),
        "parent": to_traceparent(parent) if parent is not None else None,
        "start": span.start_time,
        "attributes": SyncScope(span.attributes or {}).attributes,
        "scope": scope.attributes,
    }
    return orjson.dumps(said, default=str).decode()
