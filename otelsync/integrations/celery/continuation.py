"""The task that runs here, and the publishes that are Celery's own continuation of it.

Celery goes on with a canvas from within the worker that has just run a part of it: the next step of a chain, a
callback, an errback, a chord's body, the next attempt. Such a publish belongs where the canvas was first published, and
not below the part that happened to come before. What the body of a task publishes belongs to the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, TypeAlias

from celery.app.task import Context
from opentelemetry.trace import SpanContext

from otelsync.integrations.celery.headers import Envelope, from_traceparent, read
from otelsync.integrations.celery.run_spans import decided

HIDDEN: Final = frozenset(
    (
        "celery.accumulate",
        "celery.backend_cleanup",
        "celery.chain",
        "celery.chord",
        "celery.chord_unlock",
        "celery.group",
    )
)
"""Celery's own tasks that do nothing a user asked for. The others run the user's: map, starmap and chunks."""


Ids: TypeAlias = SpanContext | Callable[[], SpanContext | None] | None


class Run:
    """A task that runs here.

    Args:
        request: What came with the message; its header is read when it is first needed.
        own: Its run span, or what makes its span context; None if it has none here.
        parent: The parent of its run span, the same way; None if there is none.
    """

    __slots__ = ("_envelope", "_own", "_parent", "continues", "replaced", "request", "task_id")

    def __init__(
        self,
        task_id: object,
        request: Mapping[str, Any],
        *,
        envelope: Envelope | None = None,
        own: Ids = None,
        parent: Ids = None,
        continues: bool = False,
    ) -> None:
        self.task_id = task_id
        self.request = request
        self._own = own
        self._parent = parent
        self.continues = continues
        """True if everything that is published now is a continuation."""
        self.replaced = False
        """True if the task has put another in its own place."""
        self._envelope = envelope

    @property
    def envelope(self) -> Envelope:
        """Our header of its message."""
        if self._envelope is None:
            self._envelope = read(self.request)
        return self._envelope

    @property
    def own(self) -> SpanContext | None:
        """Its run span, though it may run in another process."""
        if callable(self._own):
            self._own = self._own()
        return self._own or decided(self.request)

    @property
    def parent(self) -> SpanContext | None:
        """The parent of its run span."""
        if callable(self._parent):
            self._parent = self._parent()
        return self._parent

    @property
    def origin(self) -> SpanContext | None:
        """Place of its continuations: where its canvas was first published, as far as that is known."""
        return self.envelope.origin or self.parent or self.own or from_traceparent(self.request.get("traceparent"))

    def is_continued_by(self, options: Mapping[str, Any]) -> bool:
        """Return whether a publish with these options of ``send_task`` is a continuation.

        A retry keeps the id of the task. In callbacks and in the next step of a chain Celery names the task as the
        parent itself; in what a body publishes it leaves that to ``send_task``.
        """
        return self.continues or (
            self.task_id is not None and self.task_id in (options.get("task_id"), options.get("parent_id"))
        )


RUN: Final[ContextVar[Run | None]] = ContextVar("otelsync_celery_run", default=None)
"""The innermost task that runs here."""


def continuing(mark: Callable[..., Any]) -> Callable[..., Any]:
    """Let what a backend publishes while it marks a task as done, failed or revoked be a continuation of that task.

    Args:
        mark: ``Backend.mark_as_done`` or one of its kind, which has the task's request in `request`. In the worker's
            main process it is called for tasks that run elsewhere, or not at all.
    """

    @wraps(mark)
    def marked(backend: Any, task_id: Any, *args: Any, **options: Any) -> Any:
        request = options.get("request") or (args[1] if len(args) > 1 else None)
        if not isinstance(request, Context) or not (request.chord or request.errbacks or request.chain):
            return mark(backend, task_id, *args, **options)
        run = RUN.get()
        if run is None or run.task_id != task_id:
            run = Run(task_id, vars(request))
        return _call_continuing(run, mark, backend, task_id, *args, **options)

    return marked


def replacing(on_replace: Callable[..., Any]) -> Callable[..., Any]:
    """Let what a task puts in its place be a continuation of it: all of it, though only its end has the task's id."""

    @wraps(on_replace)
    def replaced(task: Any, signature: Any) -> Any:
        run = RUN.get()
        if run is None or run.task_id != task.request.id:
            return on_replace(task, signature)
        run.replaced = True
        return _call_continuing(run, on_replace, task, signature)

    return replaced


def call_as_continuation(options: Mapping[str, Any], function: Callable[..., Any], /, *args: Any, **given: Any) -> Any:
    """Call what publishes a whole canvas; if its `options` say that it goes on with a task, then all of it does."""
    run = RUN.get()
    if run is None or run.continues or not run.is_continued_by(options):
        return function(*args, **given)
    return _call_continuing(run, function, *args, **given)


def _call_continuing(run: Run, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
    before, outer = run.continues, RUN.get()
    try:
        run.continues = True
        RUN.set(run)
        return function(*args, **options)
    finally:
        run.continues = before
        RUN.set(outer)
