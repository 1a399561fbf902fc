"""A pipeline whose body is a Celery canvas: handed over by its dispatcher, ended by whoever finishes its last task.

The dispatcher opens a tally, publishes the canvas with the tally's key in every message, releases the pipeline's span
and then its own hold. Each worker puts in what it publishes and takes out what has ended for good. Whoever takes out
the last one is given what the tally held, and writes the span.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from celery import Celery
from celery.canvas import Signature, maybe_signature
from opentelemetry.trace import Span, SpanContext, SpanKind

from otelsync.errors import DispatchError
from otelsync.hooks.host_errors import forgive, hand_back
from otelsync.integrations.celery.activation import activate, log
from otelsync.integrations.celery.continuation import RUN, Run
from otelsync.integrations.celery.headers import Envelope, from_traceparent, to_traceparent
from otelsync.integrations.celery.tally import HOLD, Claim
from otelsync.integrations.celery.tally_store import at_store, quietly, say_once, tally_of
from otelsync.recording.runtime_context import current_scope, leave
from otelsync.recording.scope import SyncScope
from otelsync.recording.span import RecordedSpan
from otelsync.recording.tracer import Tracer
from otelsync.stages.pipeline import Pipeline
from otelsync.stages.stage import Collector, current_tracer

if TYPE_CHECKING:
    from celery.result import AsyncResult, GroupResult

    Result = AsyncResult[Any] | GroupResult

_SUCCEEDED: Final = frozenset(("success", "partial"))
_MOST_INCOMPLETE: Final = 1_000
_LARGEST: Final = 1024 * 1024
"""Characters in the longest details that are read."""

_incomplete: Final[set[str]] = set()
"""Runs of which a task could not be put into the tally."""


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
    if key in _incomplete:  # with a task that is in no tally the pipeline would end before it
        _incomplete.discard(key)
        at_store(lambda: tally_of(app).discard(key), None)
        return
    details, figures = _details(pipeline, span), pipeline.hand_over()
    span.release()
    _take_out(app, key, HOLD, figures, otherwise=Claim(details, figures))


# Its tasks, wherever they run


def published(app: Celery, run: str, task_id: str) -> bool:
    """Note that a task of a dispatched pipeline is going to be published; False if that was known. Never raises.

    `run` is the key from the task's envelope.
    """
    added = at_store(lambda: tally_of(app).add(run, f"task:{task_id}"), None)
    if added is None and len(_incomplete) < _MOST_INCOMPLETE:
        _incomplete.add(run)
    return bool(added)


def unpublished(app: Celery, run: str, task_id: str) -> None:
    """Take back a :func:`published` that returned True, as the message did not go out. Never raises."""
    _take_out(app, run, f"task:{task_id}", {})


def ended(app: Celery, run: str, task_id: str, outcome: str, counts: Mapping[str, int] | None = None) -> None:
    """Note that a task has ended for good; whoever notes the last one ends the pipeline. Never raises.

    `outcome` is ``success``, ``partial``, ``failure``, ``cancelled`` or ``interrupted``, and never ``retry``;
    `counts` are those of its :class:`Collector`, if it has run.
    """
    kind = "succeeded" if outcome in _SUCCEEDED else "cancelled" if outcome == "cancelled" else "failed"
    figures = Collector().as_part(outcome) if counts is None else counts
    _take_out(app, run, f"task:{task_id}", {**figures, f"tasks.{kind}": 1})


def put_back(app: Celery, run: str, attempt: str, counts: Mapping[str, int]) -> None:
    """Note what an attempt has counted that another one follows: its items count as well. Never raises."""
    figures = {name: number for name, number in counts.items() if not name.startswith("parts.")}
    member = f"attempt:{attempt}"
    is_new = bool(figures) and at_store(lambda: tally_of(app).add(run, member), False)
    if is_new:
        _take_out(app, run, member, figures)


def _take_out(app: Celery, run: str, member: str, figures: Mapping[str, int], otherwise: Claim | None = None) -> None:
    """Take a member out of a tally, and end the pipeline with the last, or by `otherwise` if nobody can be asked.

    Never put off: a member that is not taken out keeps its pipeline open.
    """
    try:
        claim = quietly(lambda: tally_of(app).remove(run, member, figures))
    except Exception as error:
        hand_back(error)
        say_once(error)
        claim = otherwise
    if claim is not None:
        try:
            _finish(claim)
        except Exception as error:
            forgive(error, "a dispatched pipeline could not be ended")


# What it is made of, while nobody holds it


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


def _finish(claim: Claim) -> None:
    """End the pipeline: its span, under its own ids, and the record that says how it went."""
    tracer = current_tracer()
    found = _read_details(claim.details)
    if found is None or not isinstance(tracer, Tracer):
        log.warning("a dispatched pipeline cannot be ended here: what is known of it cannot be read, or recorded")
        return
    name, own, parent, start, attributes, scope = found
    span = tracer.start_span_as(
        own,
        f"{Pipeline.KIND} {name}",
        parent=parent,
        kind=SpanKind.INTERNAL,
        attributes=attributes,
        start_time=start,
        scope=SyncScope(scope),
    )
    Pipeline(name, {}).finish_dispatched(span, claim.figures, start)


_Found = tuple[str, SpanContext, SpanContext | None, int, dict[str, Any], dict[str, Any]]


def _read_details(text: str) -> _Found | None:
    """Read what the dispatcher said of the pipeline; None if it is something else. A store is no safer than a queue."""
    try:
        said = orjson.loads(text) if len(text) <= _LARGEST else None
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    own, name, start = from_traceparent(said.get("own")), said.get("name"), said.get("start")
    attributes, scope = said.get("attributes"), said.get("scope")
    if own is None or not isinstance(name, str) or type(start) is not int or not 0 < start < 2**63:
        return None
    if not isinstance(attributes, dict) or not isinstance(scope, dict):
        return None
    return name, own, from_traceparent(said.get("parent")), start, attributes, scope
