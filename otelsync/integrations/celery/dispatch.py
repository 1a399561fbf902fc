"""A pipeline whose body is a Celery canvas: handed over by its dispatcher, ended by whoever finishes its last task.

The dispatcher opens a tally, publishes the canvas with the tally's key in every message, releases the pipeline's span
and then its own hold. Each worker puts in what it publishes and takes out what has ended for good. Whoever takes out
the last one is given what the tally held, and writes the span.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from celery import Celery
from celery.canvas import Signature, maybe_signature
from opentelemetry.trace import Span, SpanContext, SpanKind

from otelsync.errors import DispatchError
from otelsync.integrations.celery.activation import activate, leave, log
from otelsync.integrations.celery.continuation import RUN, Run
from otelsync.integrations.celery.headers import Envelope, from_traceparent, to_traceparent
from otelsync.integrations.celery.tally import HOLD, Claim
from otelsync.integrations.celery.tally_store import at_store, quietly, say_once, tally_of
from otelsync.recording.runtime_context import current_scope
from otelsync.recording.scope import SyncScope
from otelsync.recording.span import RecordedSpan
from otelsync.recording.tracer import Tracer
from otelsync.stages import stage as stages
from otelsync.stages.stage import Pipeline, Stage

if TYPE_CHECKING:
    from celery.result import AsyncResult, GroupResult

    Result = AsyncResult[Any] | GroupResult

_SUCCEEDED: Final = frozenset(("success", "partial"))
_MOST_INCOMPLETE: Final = 1_000
_LARGEST: Final = 1024 * 1024
"""Characters in the longest details that are read."""

_incomplete: set[str] = set()
"""Runs of which a task could not be put into the tally."""


class Collector(Stage):
    """Takes the counts of the stages in a task that is a part of a dispatched pipeline, to its end."""

    def __init__(self) -> None:
        super().__init__("", {})
        self._counts = {}
        self._parent = None

    def figures(self) -> dict[str, int]:
        """What :func:`ended` adds to the pipeline."""
        return _figures_of(self)


def dispatch(pipeline: Pipeline, canvas: Signature[Any], options: dict[str, Any]) -> Result:
    """Publish `canvas` as the body of `pipeline`, and leave the end of its span to the last task.

    Where that cannot be done (the tally's store cannot be reached, or another provider records the spans) the canvas
    is published all the same, and the span ends with its block.

    Raises:
        DispatchError: The integration is not switched on, or this is no canvas.
    """
    _require_integration()
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


def published(app: Celery, run: str, task_id: str) -> bool:
    """Note that a task of a dispatched pipeline is going to be published; False if that was known. Never raises.

    Args:
        app: The app that publishes.
        run: The key from the task's envelope.
        task_id: The task's id.
    """
    added = at_store(lambda: tally_of(app).add(run, _member(task_id)), None)
    if added is None and len(_incomplete) < _MOST_INCOMPLETE:
        _incomplete.add(run)
    return bool(added)


def unpublished(app: Celery, run: str, task_id: str) -> None:
    """Take back a :func:`published` that returned True, as the message did not go out. Never raises."""
    _take_out(app, run, _member(task_id), {})


def ended(app: Celery, run: str, task_id: str, outcome: str, counts: Mapping[str, int] | None = None) -> None:
    """Note that a task has ended for good; whoever notes the last one ends the pipeline. Never raises.

    Args:
        app: The app that ran it.
        run: The key from the task's envelope.
        task_id: The task's id.
        outcome: ``success``, ``partial``, ``failure``, ``cancelled`` or ``interrupted``; never ``retry``.
        counts: Of its :class:`Collector`, if it has run.
    """
    kind = "succeeded" if outcome in _SUCCEEDED else "cancelled" if outcome == "cancelled" else "failed"
    _take_out(app, run, _member(task_id), {**(counts or {}), f"tasks.{kind}": 1})


def _member(task_id: str) -> str:
    return f"task:{task_id}"


def _require_integration() -> None:
    from otelsync.integrations.celery import Instrumentor

    instrumentor = Instrumentor._instance
    if instrumentor is None or not instrumentor.is_instrumented_by_opentelemetry:
        raise DispatchError(
            "the Celery integration is not switched on, so nobody would end the pipeline. "
            'Did you forget otelsync.instrument("celery"), or `otelsync run`?'
        )


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
    details, figures = _details(pipeline, span), _figures_of(pipeline)
    own_fetched = pipeline._counts.get("fetched")
    if own_fetched is not None:
        figures["own.fetched"] = own_fetched
    pipeline.hand_over()
    span.release()
    try:
        claim = quietly(lambda: tally_of(app).remove(key, HOLD, figures))
    except Exception as error:
        say_once(error)
        claim = Claim(details, figures)
    _end(claim)


def _take_out(app: Celery, run: str, member: str, figures: Mapping[str, int]) -> None:
    """Never put off: a member that is not taken out keeps its pipeline open."""
    try:
        claim = quietly(lambda: tally_of(app).remove(run, member, figures))
    except Exception as error:
        say_once(error)
        return
    _end(claim)


def _end(claim: Claim | None) -> None:
    if claim is not None:
        try:
            _finish(claim)
        except Exception:
            log.debug("a dispatched pipeline could not be ended", exc_info=True)


# What a pipeline is made of, while nobody holds it


def _figures_of(stage: Stage) -> dict[str, int]:
    figures = {f"items.{name}": number for name, number in stage._totals().items()}
    parts = {
        "parts": stage._parts,
        "parts_failed": stage._parts_failed,
        "items_failed": stage._items_failed - stage._counts.get("failed", 0),
    }
    return {name: number for name, number in (figures | parts).items() if number}


def _details(pipeline: Pipeline, span: RecordedSpan) -> str:
    """What the span's end is made from, by anybody; free of secrets, as it goes to a store."""
    parent = span.parent
    scope = span.scope or SyncScope({})
    said = {
        "name": span._tracer.redact(pipeline._name),
        "own": to_traceparent(span.get_span_context()),
        "parent": to_traceparent(parent) if parent is not None else None,
        "start": span.start_time,
        "attributes": SyncScope(span.attributes or {}).attributes,
        "scope": scope.attributes,
    }
    return orjson.dumps(said, default=str).decode()


def _finish(claim: Claim) -> None:
    """End the pipeline: its span, under its own ids, and the record that says how it went."""
    tracer = stages.current_tracer()
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
    _restored(name, span, claim.figures, start)._end()


def _restored(name: str, span: RecordedSpan, figures: Mapping[str, int], start: int) -> Pipeline:
    """The pipeline, as if all of it had run here."""
    pipeline = Pipeline(name, {})
    pipeline.span = span
    pipeline._clock = time.perf_counter_ns() - max(0, time.time_ns() - start)
    items = {key.partition(".")[2]: number for key, number in figures.items() if key.startswith("items.")}
    fetched = figures.get("own.fetched", items.pop("fetched", 0))
    pipeline._counts = {"fetched": fetched, **items} if fetched else items
    tasks = {kind: figures.get(f"tasks.{kind}", 0) for kind in ("succeeded", "failed", "cancelled")}
    if any(tasks.values()):
        span.set_attributes({f"sync.tasks.{kind}": number for kind, number in tasks.items()})
    pipeline._parts, pipeline._parts_failed = figures.get("parts", 0), figures.get("parts_failed", 0)
    pipeline._items_failed = figures.get("items_failed", 0) + items.get("failed", 0)
    _judge(pipeline, tasks)
    return pipeline


def _judge(pipeline: Pipeline, tasks: Mapping[str, int]) -> None:
    """Failure if nothing succeeded, neither a task nor one of the pipeline's parts; partial if something failed."""
    unsuccessful = tasks["failed"] + tasks["cancelled"]
    if unsuccessful and not tasks["succeeded"]:
        word = "task" if unsuccessful == 1 else "tasks"
        pipeline.fail(f"none of {unsuccessful} {word} succeeded")
    elif unsuccessful:
        pipeline._items_failed += 1


_Found = tuple[str, SpanContext, SpanContext | None, int, dict[str, Any], dict[str, Any]]


def _read_details(text: str) -> _Found | None:
    """What :func:`_details` said; None if it is something else. A store is no safer than a queue."""
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
