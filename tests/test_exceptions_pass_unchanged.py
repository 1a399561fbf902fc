"""Exceptions that pass through stages: recorded where they arose, and what the program made them."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from recorded import Recorded

import otelsync
from otelsync.recording import exceptions


class PlainError(Exception):
    """Made by the program."""


class SlottedError(Exception):
    """Cannot be referred to weakly."""

    __slots__ = ("code",)


class SecretiveError(Exception):
    """Shows no ``__dict__``, and is equal to anything."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise AttributeError("nothing to see")

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        raise TypeError("unhashable")


class AttributedError(Exception):
    """Carries what the program has set."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = 7


KINDS: list[Callable[[], BaseException]] = [
    lambda: ValueError("no"),
    ValueError,
    lambda: OSError(2, "no file"),
    lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "no"),
    lambda: PlainError("no"),
    lambda: SlottedError("no"),
    lambda: SecretiveError("no"),
    lambda: AttributedError("no"),
    lambda: ExceptionGroup("both", [ValueError(1), PlainError(2)]),
]
NAMES = ["ValueError", "no arguments", "OSError", "Unicode", "Plain", "Slotted", "Secretive", "Attributed", "group"]
each_kind = pytest.mark.parametrize("make", KINDS, ids=NAMES)


def raised_through(error: BaseException) -> BaseException:
    """Let an exception pass three stages of a run."""
    try:
        with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.pull_request(7):
            raise error
    except BaseException as caught:
        return caught


def recorded_in(recorded: Recorded) -> list[str]:
    return [span.name for span in recorded.spans if "exception" in [name for name, *_ in span.events]]


@each_kind
def test_an_exception_is_recorded_once_and_left_as_it_is(recorded: Recorded, make: Callable[[], Any]) -> None:
    """Nothing is set on it, and it is recorded in the innermost stage alone."""
    error = make()
    secretive = isinstance(error, SecretiveError)
    before = None if secretive else dict(vars(error))
    pickled = pickle.loads(pickle.dumps(error))
    assert raised_through(error) is error
    assert recorded_in(recorded) == ["sync.pr"]
    assert error.__cause__ is error.__context__ is None
    assert getattr(error, "__notes__", None) is None
    if not secretive:
        assert vars(error) == before
        assert vars(pickle.loads(pickle.dumps(error))) == vars(pickled)
    assert b"otelsync" not in pickle.dumps(error).replace(__name__.encode(), b"")


@each_kind
def test_an_exception_is_freed_when_the_program_lets_go_of_it(recorded: Recorded, make: Callable[[], Any]) -> None:
    """Nor does anything keep its frames alive, with what they hold."""
    assert recorded

    class Held:
        pass

    def run() -> weakref.ref[Held]:
        held = Held()
        raised_through(make())
        return weakref.ref(held)

    seen = run()
    gc.collect()
    assert seen() is None


@each_kind
def test_another_exception_in_the_same_place_of_memory_is_another(recorded: Recorded, make: Callable[[], Any]) -> None:
    """Ids of objects come again as soon as one is freed: each exception is recorded where it arose."""
    with otelsync.pipeline("p"):
        for number in range(50):
            try:
                with otelsync.stage(f"outer {number}"):
                    try:
                        with otelsync.stage(f"inner {number}"):
                            raise make()
                    except Exception:
                        pass
                    raise make()
            except Exception:
                pass
    assert len(recorded_in(recorded)) == 100


def test_memory_of_exceptions_is_bounded(recorded: Recorded) -> None:
    """Thousands that are all kept by the program leave a few hundred entries."""
    assert recorded
    kept = [raised_through(ValueError(number)) for number in range(600)]
    assert len(kept) == 600
    assert len(exceptions._recorded._known) <= exceptions._MOST


def test_an_exception_that_is_raised_again_in_another_run(recorded: Recorded) -> None:
    """There it arises anew, however long ago it passed the first; an exception of the module's own comes so."""
    error = ValueError("a constant")
    raised_through(error)
    raised_through(error)
    assert recorded_in(recorded) == ["sync.pr", "sync.pr"]


def test_an_exception_that_threads_share(recorded: Recorded) -> None:
    """Each trace records it; none is harmed by the others."""
    error = PlainError("shared")
    threads = [threading.Thread(target=raised_through, args=(error,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(recorded_in(recorded)) == {"sync.pr"}
    assert vars(error) == {}
