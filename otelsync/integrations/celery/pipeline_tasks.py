"""The tasks of a dispatched pipeline: noted when published, taken out when ended; the last one ends the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from celery import Celery
from opentelemetry.trace import SpanContext, SpanKind

from otelsync.integrations.celery.activation import log
from otelsync.integrations.celery.headers import from_traceparent
from otelsync.integrations.celery.tally import Claim
from otelsync.integrations.celery.tally_store import at_store, quietly, say_once, tally_of
from otelsync.recording.scope import SyncScope
from otelsync.recording.tracer import Tracer
from otelsync.stages.pipeline import Pipeline
from otelsync.stages.stage import current_tracer

_SUCCEEDED: Final = frozenset(("success", "partial"))
_MOST_INCOMPLETE: Final = 1_000
_LARGEST: Final = 1024 * 1024
"""Characters in the longest details that are read."""

incomplete: Final[set[str]] = set()
"""Runs of which a task could not be put into the tally."""


def published(app: Celery, run: str, task_id: str) -> bool:
    """Note that a task of a dispatched pipeline is going to be published; False if that was known. Never raises.

    Args:
        app: The app that publishes.
        run: The key from the task's envelope.
        task_id: The task's id.
    """
    added = at_store(lambda: tally_of(app).add(run, _member(task_id)), None)
    if added is None and len(incomplete) < _MOST_INCOMPLETE:
        incomplete.add(run)
    return bool(added)


def unpublished(app: Celery, run: str, task_id: str) -> None:
    """Take back a :func:`published` that returned True, as the message did not go out. Never raises."""
    take_out(app, run, _member(task_id), {})


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
    take_out(app, run, _member(task_id), {**(counts or {}), f"tasks.{kind}": 1})


def _member(task_id: str) -> str:
    return f"task:{task_id}"


def take_out(app: Celery, run: str, member: str, figures: Mapping[str, int]) -> None:
    """Take a member out of a tally, and end the pipeline with the last.

    Never put off: a member that is not taken out keeps its pipeline open.
    """
    try:
        claim = quietly(lambda: tally_of(app).remove(run, member, figures))
    except Exception as error:
        say_once(error)
        return
    end(claim)


def end(claim: Claim | None) -> None:
    if claim is not None:
        try:
            _finish(claim)
        except Exception:
            log.debug("a dispatched pipeline could not be ended", exc_info=True)


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
