"""Messages that a worker's main process refuses: an unknown task, a body that cannot be read, a wrong content type.

None of them becomes a request, so none has a run. Celery writes an ERROR record and goes on; here that record gets a
run span to stand in, which says why the task never began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from time import time_ns
from typing import Any, Final

from celery.exceptions import NotRegistered
from celery.worker.consumer import Consumer
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from otelsync.hooks.host_errors import forgive, hand_back
from otelsync.hooks.patching import Patch
from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery import dispatched
from otelsync.integrations.celery.activation import Tracers, activate, note_error, start, with_parent
from otelsync.integrations.celery.headers import Envelope, from_traceparent, read
from otelsync.recording.runtime_context import leave
from otelsync.vocabulary import SYNC_ATTEMPT, SYNC_OUTCOME, SYNC_REDELIVERED

_METHODS: Final = ("on_unknown_task", "on_unknown_message", "on_invalid_task", "on_decode_error")
"""Methods of Celery's consumer that are called with a message that becomes no request."""
_NO_TASK: Final = "unknown"
"""Name of the task of a message that names none."""


class UnknownMessageError(Exception):
    """A message that is none of Celery's."""


class Refusals:
    """Puts a run span around the refusal of a message."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        self._patches: list[Patch] = []

    def switch_on(self) -> None:
        """Record refusals from now on, by consumers that are made later."""
        for name in _METHODS:
            if name in vars(Consumer):
                patch = Patch(Consumer, name)
                patch.put(self._watched(patch))
                self._patches.append(patch)

    def switch_off(self) -> None:
        """Leave Celery's consumer as it was."""
        for patch in self._patches:
            patch.undo()
        self._patches.clear()

    def _watched(self, patch: Patch) -> Callable[..., Any]:
        method = patch.before

        @wraps(method)
        def refuse(consumer: Any, *args: Any, **options: Any) -> Any:
            refusal = self._begin(consumer, args, options) if patch.is_on else None
            if refusal is None:
                return method(consumer, *args, **options)
            try:
                return method(consumer, *args, **options)
            finally:
                refusal.end()

        return refuse

    def _begin(self, consumer: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> _Refusal | None:
        try:
            given = [*args, *options.values()]
            message = next(each for each in given if hasattr(each, "delivery_info"))
            error = next((each for each in given if isinstance(each, Exception)), None)
            return _Refusal(self._tracers, consumer.app, message, error or UnknownMessageError("no message of Celery"))
        except Exception as error:
            forgive(error, "a message that was refused has no span")
            return None


class _Refusal:
    """A refusal that is going on: its span is current until the end."""

    def __init__(self, tracers: Tracers, app: Any, message: Any, error: Exception) -> None:
        said = _said_by(message)
        name = said.get("task")
        self._task_id = said.get("id")
        self._app = app
        self._envelope = read(said)
        if isinstance(error, KeyError) and isinstance(name, str):
            error = NotRegistered(name)  # as Celery tells whoever waits for the result
        parent: SpanContext | None = from_traceparent(said.get("traceparent"))
        scope = self._envelope.sync_scope
        context = with_parent(parent, scope, Context())
        found = _described(app, message, said, self._envelope)
        label = f"run/{name}" if isinstance(name, str) else f"run/{_NO_TASK}"
        self._span: Span = start(tracers.current(), label, SpanKind.CONSUMER, context, found)
        note_error(self._span, error)
        self._token = activate(self._span, scope, context)

    def end(self) -> None:
        """End the span, and tell a dispatched pipeline that this task will never run."""
        try:
            leave(self._token)
            self._span.end()
            if self._envelope.run is not None and isinstance(self._task_id, str):
                dispatched.ended(self._app, self._envelope.run, self._task_id, "failure")
        except Exception as error:
            forgive(error, "the refusal of a message was not recorded")


def _said_by(message: Any) -> Mapping[str, Any]:
    """Return what a message says of its task: its headers, or, in the first protocol, its body."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    if "task" in headers:
        return headers
    try:
        body = message.payload
    except Exception as error:  # it cannot be decoded, or is in a form that this worker refuses
        hand_back(error)
        body = None
    return {**body, **headers} if isinstance(body, dict) else headers


def _described(app: Any, message: Any, said: Mapping[str, Any], envelope: Envelope) -> dict[str, Any]:
    """Return the attributes of the run, as far as the message says them."""
    info = message.delivery_info if isinstance(message.delivery_info, dict) else {}
    retries = said.get("retries")
    found = {
        **of.of_context({**said, "delivery_info": info}),
        of.ACTION: "run",
        of.TASK_NAME: said.get("task"),
        of.OPERATION: "process",
        of.SYSTEM: of.system_of(app),
        of.STATE: "FAILURE",
        SYNC_OUTCOME: "failure",
        SYNC_ATTEMPT: retries + 1 if isinstance(retries, int) else 1,
        SYNC_REDELIVERED: bool(info.get("redelivered")) or None,
        **of.waits(envelope.published, of.planned(said.get("eta"), app.timezone), time_ns()),
    }
    return {key: value for key, value in found.items() if value is not None}
