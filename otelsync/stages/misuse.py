"""Misuse by which something would be lost without a word: warned of once a process, with the fix.

A warning never ends the host. A decorator that cannot work raises, as that is at definition, before anything runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Final, Protocol
from weakref import WeakSet

from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, Span

from otelsync import in_force
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.journal import forks
from otelsync.vocabulary import ACTIONS


class Begun(Protocol):
    """A stage, as far as its misuse matters."""

    is_part_of_run: bool
    span: Span

    @property
    def name(self) -> str:
        """The name that it was given."""


NOT_BEGUN: Final = NonRecordingSpan(INVALID_SPAN_CONTEXT)
"""The span of a stage that was used before its ``with``."""

running: Final[WeakSet[Begun]] = WeakSet()
"""Pipelines that run in this process."""

_log = own_logger("otelsync")
_warned: set[str] = set()
_MOST_WARNED: Final = 100
_LONGEST: Final = 60
_unrecorded = 0


def warn_once(kind: str, message: str, *values: object) -> None:
    """Warn of a kind of misuse, with the line of the program that it comes from, unless that was done before."""
    if kind in _warned:
        return
    _warned.add(kind)
    try:
        _log.warning("%s%s", message % values if values else message, _place())
    except Exception as error:  # of a handler that the host has added
        hand_back(error)


def forget() -> None:
    """Warn anew of everything from now on: for tests, of which each is to find what another would."""
    global _unrecorded
    _warned.clear()
    _unrecorded = 0


def warn_of_adrift(stage: Begun) -> None:
    """Warn of a part of a run that begins outside any pipeline while one runs here, if it is recorded at all."""
    if stage.is_part_of_run and stage.span.is_recording():
        warn_once(
            "adrift",
            "%s %r began outside any pipeline, while one runs in this process: it is no part of that run. A new thread "
            "begins without context: start it with otelsync.propagate(function), or use otelsync.executor(pool)",
            type(stage).__name__,
            stage.name,
        )


def warn_of_actions(items: Iterable[str]) -> None:
    """Warn of each action of an item, or '' for none, that is none of the usual ones, as it may be misspelt."""
    for action in items:
        if action and action not in ACTIONS and len(_warned) < _MOST_WARNED:
            warn_once(
                f"action {action}",
                "the action %r is none of %s: such items count under that name. Correct it, if it is misspelt",
                action[:_LONGEST],
                ", ".join(ACTIONS),
            )


def before_with(stage: Begun, name: str) -> object:
    """Return what a stage that has not begun has for an attribute that it gets when it begins, and warn.

    Raises:
        AttributeError: There is no such attribute.
    """
    if name != "span" and not (name == "sync_id" and hasattr(type(stage), "dispatch")):
        raise AttributeError(f"{type(stage).__name__!r} object has no attribute {name!r}", name=name, obj=stage)
    stage.__dict__.setdefault("span", NOT_BEGUN)  # so that the stage, once it begins, forgets what was set before
    warn_once(
        "before with",
        "%s %r was used before its `with` block began, so what was said of it is lost: write `with otelsync...(...) as "
        "handle:`, and use the handle inside",
        type(stage).__name__,
        stage.name,
    )
    return NOT_BEGUN if name == "span" else ""


def note_unrecorded(span: Span) -> None:
    """Count a stage that began where nothing is configured, and nobody else records it."""
    global _unrecorded
    if in_force.settings() is None and not span.is_recording():
        _unrecorded += 1


def warn_of_unrecorded() -> None:
    """Warn of stages that began before configure(), which is called now."""
    global _unrecorded
    count, _unrecorded = _unrecorded, 0
    if count:
        warn_once(
            "unrecorded",
            "%s began before otelsync.configure(), and %s not recorded: call it first",
            f"{count:,} stages" if count > 1 else "1 stage",
            "were" if count > 1 else "was",
        )


def refuse_function(name: object, example: str) -> None:
    """Refuse a function or class that is just being defined: its decorator was written without parentheses.

    One that is there already may stand for a name; that is warned of.

    Args:
        name: What was given for a name, or for another first argument.
        example: The decorator as it should be.

    Raises:
        TypeError: It is one.
    """
    try:
        qualname = getattr(name, "__qualname__", None)
    except Exception as error:  # of its __getattr__
        hand_back(error)
        return
    if not isinstance(qualname, str):
        return  # no more than an object that can be called, such as a mock
    message = f"a stage was given {qualname}, and not a name: did you forget the parentheses? Write {example}"
    if _is_being_defined(name, qualname):
        raise TypeError(message)
    warn_once("function for a name", message)


def _is_being_defined(definition: object, qualname: str) -> bool:
    """Return whether a function or class has no place yet in its module; one in a function never has."""
    module = getattr(definition, "__module__", None)
    found: object = sys.modules.get(module) if isinstance(module, str) else definition
    for name in qualname.split("."):
        found = getattr(found, name, None) if found is not definition else found
    return found is not definition


def refuse_undecoratable(function: object) -> None:
    """Refuse what a decorator cannot run as a stage: a class, or a method that is wrapped already.

    Raises:
        TypeError: It is one.
    """
    if isinstance(function, type):
        raise TypeError(
            f"the class {function.__qualname__} cannot be decorated, as a stage is one call of a function: decorate "
            "a method of it, such as run() or __call__()"
        )
    if not callable(function):
        fix = "put the decorator below it" if isinstance(function, (classmethod, property)) else "decorate a function"
        raise TypeError(f"{type(function).__name__} cannot be decorated: {fix}")


def _place() -> str:
    """Return the line of the program that has called into otelsync, in parentheses; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package != "otelsync":
            return f" ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


def _begin_in_child() -> None:
    """After a fork: the parent's pipelines run there, and its stages are its own."""
    global _unrecorded
    _unrecorded = 0
    running.clear()


forks.in_child(_begin_in_child)
