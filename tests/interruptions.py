"""Interrupt a piece of code at every point at which CPython lets something else in, one point a run.

A signal handler, and the exception that it raises, comes where a function begins, and behind each call; a call can also
fail before it has done anything, as with a RecursionError or a system call that a signal ended. These points are what
``sys.setprofile`` tells of, and an exception that a profile function raises comes out of the very same instruction.
A line trace would also interrupt where nothing ever does, between two assignments or in front of ``__exit__``.

    places = Places(folder_of_our_code)
    for point in places.visit(work):        # work() sets everything up anew, calls what is interrupted and returns
        ...                                 # look at what work() left behind, interrupted at `point`

Only the thread that calls is interrupted. What is not called there is not seen: type calls such as ``Path(...)``.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from opentelemetry import trace

_EVENTS: Final = {"call": "at the beginning of", "return": "at the end of", "c_call": "before", "c_return": "behind"}
_NEVER_FAIL: Final = frozenset(("__exit__", "release", "reset", "set"))
"""Locks are released, and context variables set, whatever happens: something may come behind that, not instead."""
_HARMLESS: Final = frozenset(
    ("append", "extend", "get", "getattr", "isinstance", "len", "max", "pop", "setdefault")
) | {
    "callable",
    "hasattr",
    "perf_counter",
}
"""C functions that raise nothing where a wrapper calls them, with values of its own or the library's."""
_MOST: Final = 100_000


class Interrupted(Exception):  # noqa: N818  (named as Celery names its own)
    """Comes where a signal handler would raise, as Celery's SoftTimeLimitExceeded does."""


class FaultOfOursError(Exception):
    """Stands for a fault of ours: it comes out of what our own code has called."""


def interrupt() -> None:
    """Raise, as a signal handler does."""
    raise Interrupted


def fail() -> None:
    """Raise, as what our own code calls may do by a fault of ours."""
    raise FaultOfOursError


class Struck:
    """A signal, and a handler that raises; before that it may record."""

    def __init__(self) -> None:
        self.records = False
        self.raised = 0

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Raise, as the handler of Celery's soft time limit does."""
        if self.records:
            logging.getLogger("handler").warning("stopping")
            with trace.get_tracer("handler").start_as_current_span("of the handler"):
                pass
        self.raised += 1
        raise Interrupted

    def strike(self) -> None:
        """Let the signal come here."""
        signal.raise_signal(signal.SIGUSR1)


class Places:
    """The points inside of some code.

    Args:
        inside: Files, or folders of files; what they call is interrupted as well, where it begins and ends.
        do: What happens at the point: by default :class:`Interrupted` is raised. It may record, raise, or both.
        visits: How often a place is interrupted at most: its first visits, and its last one.
        ends: Whether functions are interrupted where they return, as if C code had called them. A function that Python
            code calls is not: CPython looks where one begins, and behind a call of C.
    """

    is_signal = True
    """True if what is raised comes as from a signal handler, which is given the frame that it interrupts."""

    def __init__(self, *inside: Path, do: Callable[[], object] = interrupt, visits: int = 1, ends: bool = True) -> None:
        self._inside = tuple(str(path) for path in inside)
        self._do = do
        self._visits = visits
        self._events = _EVENTS if ends else {event: name for event, name in _EVENTS.items() if event != "return"}

    def visit(self, work: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> Iterator[str]:
        """Call `work` once for each point; each time yield the point's name, after `work` has ended.

        Before each time `prepare` is called, which is not interrupted. `work` is first called without an interruption,
        to see which points there are. An Interrupted that leaves `work` has been dealt with; whatever else it raises
        passes.
        """
        prepare()
        names = self._names(work)
        total, seen = Counter(names), Counter[str]()
        for number, name in enumerate(names):
            seen[name] += 1
            if seen[name] <= self._visits or seen[name] == total[name]:
                prepare()
                yield self.run(work, number)

    def run(self, work: Callable[[], object], number: int) -> str:
        """Call `work` with an interruption at the point of that number; return its name, "" if `work` ended before."""
        points: Counter[str] = Counter()
        interrupted = ""

        def profile(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal interrupted
            if name := self._name(frame, event, argument):
                points[name] += 1
                if points.total() > number:
                    sys.setprofile(None)
                    interrupted = f"{name}, for the {points[name]}. time"
                    if not self.is_signal:
                        del frame  # a function that was given the frame is taken for a signal handler
                    self._do()

        self._profiled(work, profile)
        return interrupted

    def _names(self, work: Callable[[], object]) -> list[str]:
        names: list[str] = []

        def profile(frame: FrameType, event: str, argument: Any) -> None:
            if name := self._name(frame, event, argument):
                names.append(name)

        self._profiled(work, profile)
        assert 0 < len(names) < _MOST, f"{len(names)} points to interrupt"
        return names

    def _profiled(self, work: Callable[[], object], profile: Callable[[FrameType, str, Any], None]) -> None:
        before, collects = sys.getprofile(), gc.isenabled()
        gc.disable()  # a callback of hypothesis's runs with each collection, and there CPython swallows exceptions
        sys.setprofile(profile)
        try:
            work()
        except Interrupted:
            pass
        finally:
            sys.setprofile(before)
            if collects:
                gc.enable()

    def _name(self, frame: FrameType, event: str, argument: Any) -> str:
        """Name a point, by file, line and function; "" for one that is not to be interrupted."""
        where: FrameType | None = frame
        if event in ("call", "return") and not self._is_inside(frame):
            where = frame.f_back
        if frame.f_code.co_name == "<genexpr>" and event == "call":
            return ""  # it may be closed before its end, where nothing comes in
        if event not in self._events or where is None or not self._is_inside(where):
            return ""
        if event == "c_call" and argument.__name__ in _NEVER_FAIL:
            return ""
        what = argument.__name__ if event.startswith("c_") else frame.f_code.co_qualname
        return f"{Path(where.f_code.co_filename).name}:{where.f_lineno} {_EVENTS[event]} {what}"

    def _is_inside(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(self._inside)


class Faults(Places):
    """The points at which a fault of ours can arise: where our code calls something, and where it begins.

    Args:
        inside: As for :class:`Places`.
        wrappers: Functions, by their qualified names, that hold nothing but the flow around a call of the library's:
            they call that, guards of ours, each other, and C functions that do not fail there.
    """

    is_signal = False

    def __init__(self, *inside: Path, wrappers: frozenset[str]) -> None:
        super().__init__(*inside, do=fail, ends=False)
        self._wrappers = wrappers

    def _name(self, frame: FrameType, event: str, argument: Any) -> str:
        caller = frame if event.startswith("c_") else frame.f_back
        if event == "call" and (frame.f_code.co_qualname in self._wrappers or caller is None):
            return ""
        if caller is not None and caller.f_code.co_qualname in self._wrappers and self._is_inside(caller):
            if event == "call" and not self._is_inside(frame):
                return ""  # the library's own faults reach the host, and a guard is where ours end
            if event.startswith("c_") and argument.__name__ in _NEVER_FAIL | _HARMLESS:
                return ""
        return super()._name(frame, event, argument)
