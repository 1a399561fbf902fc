"""The current OpenTelemetry context, with a short way for our own spans.

OpenTelemetry keeps the current span in an immutable dict that is copied for each activation. Here the context variable
may hold one of our spans instead; the dict is built when somebody asks for it. Everything else behaves as before.

:func:`install` puts it in place when otelsync is configured. The entry point behind ``OTEL_PYTHON_CONTEXT`` cannot
serve: it is loaded while ``opentelemetry.context`` is half imported, which the package around this module needs.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

import opentelemetry.context as context_api
from opentelemetry.context.context import Context, _RuntimeContext

if TYPE_CHECKING:
    from otelsync.recording.span import RecordedSpan

CURRENT: Final[ContextVar[Context | RecordedSpan | None]] = ContextVar("otelsync_current", default=None)
"""What is current: a context, one of our spans that stands for one, or None where nothing was attached."""


class RuntimeContext(_RuntimeContext):
    """Attaches and detaches contexts.

    Args:
        previous: What was in place before; what is still attached there shows where nothing is attached here.
    """

    def __init__(self, previous: _RuntimeContext | None = None) -> None:
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
    runtime = context_api._RUNTIME_CONTEXT
    if not isinstance(runtime, RuntimeContext):
        context_api._RUNTIME_CONTEXT = RuntimeContext(runtime)


def uninstall() -> None:
    """Put back what :func:`install` found."""
    runtime = context_api._RUNTIME_CONTEXT
    if isinstance(runtime, RuntimeContext) and runtime.previous is not None:
        context_api._RUNTIME_CONTEXT = runtime.previous


def installed() -> bool:
    """Whether our runtime context is the one in use."""
    return isinstance(context_api._RUNTIME_CONTEXT, RuntimeContext)
