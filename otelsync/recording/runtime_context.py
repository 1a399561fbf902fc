"""The current OpenTelemetry context, with a short way for our own spans.

OpenTelemetry keeps the current span in an immutable dict that is copied for each activation. Here the context variable
may hold one of our spans instead; the dict is built when somebody asks for it. Everything else behaves as before.

:func:`install` puts it in place when otelsync is configured. The entry point behind ``OTEL_PYTHON_CONTEXT`` cannot
serve: it is loaded while ``opentelemetry.context`` is half imported, which the package around this module needs.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, Final, Protocol

import opentelemetry.context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.opentelemetry_api import SPAN_KEY, RuntimeContextBase, runtime_context, use_runtime_context
from otelsync.recording.scope import EMPTY, SCOPE_KEY, SyncScope


class Activated(Protocol):
    """A span that stands for the context in which it is current."""

    scope: SyncScope | None

    def as_context(self) -> Context:
        """Return that context."""


STAYS: Final = object()


class Strayed:
    """A span that may have been left in another context than it was entered in."""

    left_for: Any = STAYS
    """The context, or the span that stands for it, that was current before; `STAYS` unless it was left elsewhere."""


CURRENT: Final[ContextVar[Context | Activated | None]] = ContextVar("otelsync_current", default=None)
"""The current context, one of our spans that stands for one, or None where nothing was attached."""


class RuntimeContext(RuntimeContextBase):  # type: ignore[misc]  # a version of the API may have none
    """Attaches and detaches contexts.

    Args:
        previous: What was in place before; what is still attached there shows where nothing is attached here.
    """

    def __init__(self, previous: Any = None) -> None:
        self.previous = previous
        self._empty = Context()

    def attach(self, context: Context) -> Token[Context]:
        """Make `context` current; the token undoes it."""
        return CURRENT.set(context)  # type: ignore[return-value, unused-ignore]  # it holds more than the interface says

    def get_current(self) -> Context:
        """The current context, built now if one of our spans stands for it."""
        current = CURRENT.get()
        if current is None:
            return self.previous.get_current() if self.previous else self._empty
        if isinstance(current, Context):
            return current
        return current.as_context()

    def detach(self, token: Token[Context]) -> None:
        """Restore what was current before.

        Raises:
            ValueError: The token was made in another `contextvars` context.
        """
        if token.var is CURRENT or self.previous is None:
            CURRENT.reset(token)  # type: ignore[arg-type, unused-ignore]
        else:
            self.previous.detach(token)


def install() -> None:
    """Put our runtime context in place. Contexts that are attached at that moment stay current."""
    runtime = runtime_context()
    if not isinstance(runtime, RuntimeContext):
        use_runtime_context(RuntimeContext(runtime))


def uninstall() -> None:
    """Put back what :func:`install` found."""
    runtime = runtime_context()
    if isinstance(runtime, RuntimeContext) and runtime.previous is not None:
        use_runtime_context(runtime.previous)


def installed() -> bool:
    """Return whether our runtime context is the one in use."""
    return isinstance(runtime_context(), RuntimeContext)


def current_scope() -> SyncScope:
    """The scope in force; an empty one outside any."""
    current = CURRENT.get()
    if current is not None and not isinstance(current, dict):
        return current.scope or EMPTY
    scope = context_api.get_value(SCOPE_KEY)
    return scope if isinstance(scope, SyncScope) else EMPTY


class _Strays:
    """Memory of whether a span may be current in a context that it was never taken out of."""

    seen = False


strays = _Strays()


def leave(token: Token[Any], span: Span | None = None) -> None:
    """Undo an activation, of `span`.

    In another `contextvars` context there is nothing to undo: a generator was left early and is closed elsewhere. The
    context that it was left in still has its span, which :func:`step_out` takes out of it later.
    """
    if token.var is CURRENT:
        try:
            CURRENT.reset(token)
        except ValueError:
            if isinstance(span, Strayed):
                span.left_for = None if token.old_value is Token.MISSING else token.old_value
                strays.seen = True
        except RuntimeError as error:  # one object was entered twice, and is left twice
            hand_back(error)
    else:
        context_api.detach(token)


def step_back(span: Any) -> None:
    """Make current what was before `span` was, where that was interrupted and no token says it; else do nothing."""
    current: Any = CURRENT.get()
    if current is span:
        CURRENT.set(span.above or span.base or None)  # an empty context is none: what is attached elsewhere shows


def step_out() -> None:
    """Take out of the current context the spans that were left in another one. Only if there are `strays`."""
    current: Any = CURRENT.get()
    while isinstance(current, Strayed) and current.left_for is not STAYS:
        current = current.left_for
        CURRENT.set(current)


def scope_in(context: Context) -> SyncScope | None:
    """The sync scope that a context carries, itself or through its span."""
    scope = context.get(SCOPE_KEY)
    if scope is None:
        scope = getattr(context.get(SPAN_KEY), "scope", None)
    return scope if isinstance(scope, SyncScope) else None


def context_of(span: Span) -> Context:
    context = set_span_in_context(span)
    scope = getattr(span, "scope", None)
    return context_api.set_value(SCOPE_KEY, scope, context) if isinstance(scope, SyncScope) else context
