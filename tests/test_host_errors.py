"""Exceptions of the host and of our own, told apart: the host's are handed back, whatever guard they come to."""

# ruff: noqa: ARG001, ARG002  # handlers take what they are given

from __future__ import annotations

import ast
import ctypes
import functools
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
from billiard.pool import soft_timeout_sighandler
from celery.exceptions import SoftTimeLimitExceeded

import otelsync
from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import belongs_to_host, forgive, hand_back
from otelsync.logs.fields import dumped

OURS = Path(otelsync.__file__).parent
PATIENCE = 120


class Limit(Exception):  # noqa: N818  (as programs name theirs)
    """Comes from a signal handler, or from another thread."""


def by_function(number: int, frame: FrameType | None) -> NoReturn:
    """Raise, a call further in."""
    _raise(Limit("a function"))


def _raise(error: BaseException) -> NoReturn:
    raise error


class Handlers:
    """Handlers of many forms."""

    def method(self, number: int, frame: FrameType | None) -> NoReturn:
        """Raise."""
        raise Limit("a method")

    def __call__(self, *given: object) -> NoReturn:
        """Raise."""
        raise Limit("an object")


def with_more(what: str, number: int, frame: FrameType | None) -> NoReturn:
    """Raise."""
    raise Limit(what)


@functools.wraps(by_function)
def wrapped(*args: Any, **kwargs: Any) -> NoReturn:
    """Call another handler."""
    by_function(*args, **kwargs)


def timeout(number: int, frame: FrameType | None) -> NoReturn:
    """Raise what is an OSError as well."""
    raise TimeoutError


HANDLERS: list[Callable[[int, FrameType | None], Any]] = [
    by_function,
    Handlers().method,
    Handlers(),
    functools.partial(with_more, "a partial"),
    wrapped,
    lambda *_: _raise(ValueError("a lambda")),
    timeout,
    soft_timeout_sighandler,
]


@pytest.fixture
def set_handler() -> Iterator[Callable[[Any], None]]:
    """Set the handler of a signal, for this test."""
    before = signal.getsignal(signal.SIGUSR1)

    def put(handler: Any) -> None:
        signal.signal(signal.SIGUSR1, handler)

    yield put
    signal.signal(signal.SIGUSR1, before)


@harmless
def _interrupted() -> None:
    signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: getattr(handler, "__name__", type(handler).__name__))
def test_what_a_signal_handler_raises_is_the_hosts(set_handler: Callable[[Any], None], handler: Any) -> None:
    """However the handler is written, and whatever it raises."""
    set_handler(handler)
    with pytest.raises((Limit, ValueError, TimeoutError, SoftTimeLimitExceeded)):
        _interrupted()


def test_what_another_thread_sends_is_the_hosts() -> None:
    """It arises in the middle of our code, and nothing has raised it there: RQ's limits come so, without signals."""
    for attempt in range(200):  # it comes now here, now there: in one of ten where orjson calls back
        (caught,) = _sent_to(_endless)
        assert type(caught) is Limit, attempt
        assert len(_chain_of(caught)) < 5  # and none is its own context


@harmless
def _endless(there: threading.Event) -> None:
    for number in count():
        there.set()
        dumped({"number": number, "other": {number}})


def _sent_to(work: Callable[[threading.Event], object]) -> list[BaseException | None]:
    """Send a Limit to a thread that is at work; returns what comes out of it."""
    there, caught = threading.Event(), list[BaseException | None]()

    def run() -> None:
        try:
            work(there)
            caught.append(None)
        except Limit as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert there.wait(PATIENCE)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Limit))
    thread.join(PATIENCE)
    return caught


def _chain_of(error: BaseException | None) -> list[BaseException]:
    """Return an exception and what it came from, up to 10."""
    chain: list[BaseException] = []
    while error is not None and len(chain) < 10:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def test_what_wraps_the_hosts_exception_is_undone(set_handler: Callable[[Any], None]) -> None:
    """orjson raises a TypeError from what its `default` function raises."""
    set_handler(by_function)

    class Value:
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGUSR1)
            return "a value"

    with pytest.raises(Limit):
        harmless(dumped)({"key": Value()})


class Raises:
    """A value of the program whose text cannot be made."""

    def __str__(self) -> str:
        self.look(sys._getframe(0))
        raise Limit("its text")

    def look(self, frame: FrameType) -> None:
        """Take a frame that is not interrupted."""


def _from_user_code() -> str:
    return str(Raises())


def _from_our_own() -> None:
    raise LookupError


def _from_c() -> None:
    int("x")


@pytest.mark.parametrize("fault", [_from_user_code, _from_our_own, _from_c])
def test_other_exceptions_are_not(fault: Callable[[], object]) -> None:
    """What our code raises, or a value that it was given, is contained."""
    assert harmless(fault)() is None


def test_what_ends_a_program_is_the_hosts() -> None:
    """So are exceptions that are no `Exception`."""
    with pytest.raises(KeyboardInterrupt):
        hand_back(KeyboardInterrupt())


def test_forgiving_does_not_raise_either() -> None:
    """A handler of the host's that raises harms nobody."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    log, handler = logging.getLogger("otelsync"), Broken()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        forgive(ValueError("x"), "%s failed", "it")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_an_exception_that_was_never_raised_belongs_to_nobody() -> None:
    """It has no traceback to go by."""
    assert not belongs_to_host(Limit())


# Every guard asks

ROOMS = ("hooks", "text", "journal", "recording", "logs", "stages", "integrations", "run/bootstrap")
FILES = [OURS / "redaction.py", OURS / "run/installed.py"]
FILES += [path for room in ROOMS for path in sorted((OURS / room).rglob("*.py"))]
BROAD = frozenset(("Exception", "BaseException", "OSError", "TimeoutError", "RuntimeError"))
"""Types that an exception of the host's is likely to have; a `TimeoutError` is an `OSError`."""
ASKS = frozenset(
    ("hand_back", "forgive", "expect", "despite", "_settle", "_begin_despite", "_end_despite", "finish_despite")
)
"""Functions by which a guard hands the host's exceptions back, itself or through them."""
ALONE = frozenset(
    ("process_identity.py", "names.py", "reader.py", "sitecustomize.py", "watch.py", "logged_events.py", "header.py")
)
"""Files that run in the shipper and commands, or before otelsync is there, or that look at a file in one call."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(OURS)))
def test_every_guard_asks_whose_an_exception_is(path: Path) -> None:
    """No `except` that could take one of the host's stands without a word of :mod:`otelsync.hooks.host_errors`."""
    if path.name in ALONE:
        return
    tree = ast.parse(path.read_text())
    bare = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and not _asks(node)]
    bare += [
        node.context_expr.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.withitem)
        and "suppress(" in (said := ast.unparse(node.context_expr))
        and any(name in said for name in BROAD)
    ]
    assert bare == []


def _asks(handler: ast.ExceptHandler) -> bool:
    caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else BROAD
    if not caught & BROAD:
        return True
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    called = {_last_name(node.func) for node in inside if isinstance(node, ast.Call)}
    goes_on = {"throw", "athrow"} & {node.attr for node in inside if isinstance(node, ast.Attribute)}
    return bool(called & ASKS or goes_on or isinstance(handler.body[-1], ast.Raise))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
