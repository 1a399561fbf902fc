"""Exceptions of the host that arise in the middle of our code: they belong to it, and go on to it.

A signal handler runs wherever the main thread is, and what it raises (Celery's ``SoftTimeLimitExceeded``, a
``TimeoutError``) comes out of whatever was called there. So does what another thread sends with
``PyThreadState_SetAsyncExc`` (RQ's ``JobTimeoutException``). A guard of ours must not take them for faults of ours:
each asks here, once its state is whole. Nothing is asked unless there is an exception.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from opcode import opname
from types import CodeType, FrameType, TracebackType
from typing import Final, NoReturn

_CHECKPOINTS: Final = frozenset(("RESUME", "JUMP_BACKWARD"))
"""Instructions that raise nothing themselves: there the interpreter looks for signals and for what threads sent."""
_CALLS: Final = frozenset(("CALL", "PRECALL", "CALL_KW", "CALL_FUNCTION_EX"))
"""Instructions behind which it looks as well."""
_OURS: Final = __name__.partition(".")[0]
_CALLED: Final = frozenset((_OURS, "builtins", "opentelemetry", "orjson", "structlog"))
"""Packages of which our code is made, besides the standard library: they raise exceptions of their own."""
_DEEPEST: Final = 8
_VARARGS: Final = 0x04
"""The flag of code that takes ``*args``; it is :data:`inspect.CO_VARARGS`, whose module takes 4 ms to import."""

_log: Final = logging.getLogger("otelsync")


def hand_back(error: BaseException) -> None:
    """Raise what is the host's: the exception itself, or the one that caused it; return if it is neither.

    A library that we call may have wrapped it, as orjson wraps what its ``default`` function raises. What is no
    `Exception`, such as ``KeyboardInterrupt``, is always the host's.
    """
    theirs = of_host(error)
    if theirs is not None:
        raise theirs


def of_host(error: BaseException) -> BaseException | None:
    """Return what :func:`hand_back` raises; None if the exception is ours."""
    seen: BaseException | None = error
    for _ in range(_DEEPEST):
        if seen is None:
            return None
        if not isinstance(seen, Exception) or belongs_to_host(seen):
            return _without_wrapping(seen, error)
        seen = seen.__cause__
    return None


def raise_sent(sent: BaseException, error: Exception) -> NoReturn:
    """Raise what another thread has sent, and a library has wrapped in `error` before it had a traceback.

    From here on its traceback ends in this function, by which every other guard on its way knows it.
    """
    raise _without_wrapping(sent, error)


def forgive(error: Exception, message: str, *values: object) -> None:
    """Hand back an exception of the host's; log any other at DEBUG, which never raises.

    Args:
        error: What a guard has caught.
        message: What failed and what goes on, with places for `values`.
        values: What it was about.
    """
    hand_back(error)
    try:
        _log.debug(message, *values, exc_info=error)
    except Exception as another:  # of a handler that the host has added
        hand_back(another)


def belongs_to_host(error: BaseException) -> bool:
    """Return whether an exception was raised by a signal handler, or sent by another thread."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        if _is_handler(last.tb_next.tb_frame, last.tb_frame):
            return True
        last = last.tb_next
    return last is not None and (last.tb_frame.f_code is raise_sent.__code__ or _was_sent(error, last))


def has_entered(error: BaseException, function: Callable[..., object]) -> bool:
    """Return whether an exception came out of a call of a Python function, and from behind its very beginning."""
    code: CodeType = function.__code__
    place = error.__traceback__
    while place is not None:
        if place.tb_frame.f_code is code:
            return opname[code.co_code[place.tb_lasti]] not in ("RESUME", "COPY_FREE_VARS", "MAKE_CELL")
        place = place.tb_next
    return False


def _without_wrapping(sent: BaseException, error: BaseException) -> BaseException:
    """Take an exception out of those raised from it: it is raised while they are handled, and so its own context."""
    wrapping: BaseException | None = error
    for _ in range(_DEEPEST):
        if wrapping is None or wrapping is sent:
            break
        further = wrapping.__cause__
        if further is sent:
            wrapping.__cause__ = wrapping.__context__ = None
        wrapping = further
    return sent


def _is_handler(frame: FrameType, interrupted: FrameType) -> bool:
    """Return whether a frame is that of a signal handler, or trace function: it was given the interrupted one."""
    code, values = frame.f_code, frame.f_locals
    given = [values.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & _VARARGS:
        given.extend(values.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount]) or ())
    return any(each is interrupted for each in given)


def _was_sent(error: BaseException, last: TracebackType) -> bool:
    """Return whether an exception comes from nowhere: no code has raised it where it arose."""
    code = last.tb_frame.f_code.co_code
    if not 0 <= last.tb_lasti < len(code):
        return False
    instruction = opname[code[last.tb_lasti]]
    if instruction in _CHECKPOINTS:
        return True
    if instruction not in _CALLS or error.args or error.__cause__ is not None:  # it is made without arguments
        return False
    return _is_known(last.tb_frame.f_globals.get("__name__")) and not _is_known(type(error).__module__)


def _is_known(module: object) -> bool:
    package = str(module).partition(".")[0]
    return package in _CALLED or package in sys.stdlib_module_names
