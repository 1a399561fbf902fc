"""The clock of spans: the wall clock as it stood when a trace began in this process, and the monotonic time since.

So a duration is the time that passed, whatever is done to the wall clock meanwhile, and a child lies within its parent.
A forked child goes on with it: the monotonic clock is the same there.
"""

from __future__ import annotations

from time import monotonic_ns, time_ns
from typing import Final

from opentelemetry.trace import Span

from otelsync.journal.native import native


def offset_now() -> int:
    """Nanoseconds that the wall clock is ahead of the monotonic one."""
    return time_ns() - monotonic_ns()


def _present_in_python(offset: int, earliest: int) -> int:
    """The monotonic clock plus `offset`, and never before `earliest`; nanoseconds since the epoch."""
    now = monotonic_ns() + offset
    return now if now > earliest else earliest


present: Final = native.present if native else _present_in_python


def present_of(span: object) -> int:
    """The present by the clock of a span; by the wall clock if it is none of ours."""
    trace = getattr(span, "trace", None)
    return present(trace.offset, 0) if trace is not None else time_ns()


def elapsed_of(span: Span, until: int | None = None) -> int | None:
    """Nanoseconds since a span of ours began, until now or then; None if it is none of ours, or has not begun."""
    trace = getattr(span, "trace", None)
    start = getattr(span, "start_time", None)
    if trace is None or start is None:
        return None
    end: int = present(trace.offset, start) if until is None else until
    return max(0, end - int(start))
