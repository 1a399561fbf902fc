"""Messages of otelsync itself, which wait for nobody: a pipe that is not read holds up neither shipping nor recording.

A message is logged where it arises, if what shows it takes it at once. Otherwise a thread logs it as soon as it is
taken; that thread alone waits, and there is one only while messages are waiting. What a program writes itself, and what
it logs, goes its own way.
"""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.room_to_write import has_room

_OURS: Final = "otelsync-"
"""Beginning of the names of threads that ship."""
_MOST: Final = 100
"""Messages that wait, at most. Further ones are counted."""
_PAUSE: Final = 0.2
"""Seconds between two looks at whether messages are taken."""
_POLL: Final = 0.02
_AT_THE_END: Final = 0.5
"""Seconds, at most, that the end of a program waits for messages to be taken."""
_AROUND: Final = 500
"""Bytes that a handler may add to a message."""
_TRACEBACK: Final = 8000

Ready = Callable[[], bool | None]
"""Tells whether a message would be taken at once; None: that is not known."""


def own_logger(name: str) -> logging.Logger:
    """Return a logger for messages of otelsync. In our modules it takes the place of :func:`logging.getLogger`."""
    logger = logging.getLogger(name)
    logger.addFilter(_courtesy)
    return logger


def speak(is_ready: Ready, message: Callable[[], object]) -> None:
    """Show a message at once if it is taken, otherwise from a thread."""
    if not _voice.is_waiting and is_ready():
        message()
    else:
        _voice.take(is_ready, message)


def finish(timeout: float = _AT_THE_END) -> None:
    """Wait until the messages that are waiting were taken, for `timeout` seconds and half a second at most."""
    deadline = time.monotonic() + min(timeout, _AT_THE_END)
    while _voice.is_waiting and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_POLL, left))


class _Voice:
    """Speaks for threads that must not wait. Locks are none but its own, and a signal handler may come in between."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Ready, Callable[[], object]]] = deque()
        self._unheard = 0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def is_waiting(self) -> bool:
        """True if messages are waiting."""
        return bool(self._waiting) and self._pid == os.getpid()

    @property
    def is_here(self) -> bool:
        """True in its own thread."""
        return self._thread is not None and self._thread.ident == threading.get_ident()

    def take(self, is_ready: Ready, message: Callable[[], object]) -> None:
        """Show a message as soon as it is taken."""
        if self._pid != os.getpid():  # what the parent's thread has to say is not the child's
            self._begin()
        if len(self._waiting) >= _MOST:
            self._unheard += 1
            return
        self._waiting.append((is_ready, message))
        with self._lock:
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._speak, name="otelsync-messages", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending: the next message tries again
            self._thread = None
            hand_back(error)

    def _speak(self) -> None:
        if hasattr(signal, "pthread_sigmask"):  # signals are for the threads that were there before
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            if not self._waiting:
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return
            is_ready, message = self._waiting[0]
            if is_ready() is False:
                time.sleep(_PAUSE)
                continue
            try:
                message()
            except Exception as error:  # of a handler that the program has added
                hand_back(error)
            if len(self._waiting) == 1 and self._unheard:
                unheard, self._unheard = self._unheard, 0
                self._waiting.append(_as_record(unheard))
            self._waiting.popleft()


def _as_record(unheard: int) -> tuple[Ready, Callable[[], object]]:
    """Make the message that others were dropped."""
    text = "%d messages of otelsync were dropped, as nobody took them for too long"
    record = _log.makeRecord(_log.name, logging.WARNING, __file__, 0, text, (unheard,), None)
    return partial(_is_taken, record), partial(_log.handle, record)


class _Courtesy(logging.Filter):
    """Lets a record through to the handlers if they take it at once, or in the thread that may wait."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _voice.is_here:
            return True
        is_taken = _is_taken(record)
        if not _voice.is_waiting and (is_taken or (is_taken is None and not _ships())):
            return True
        logger = logging.getLogger(record.name)
        _voice.take(partial(_is_taken, record), partial(contextvars.copy_context().run, logger.handle, record))
        return False


def _ships() -> bool:
    """Return whether this thread ships: it waits for no handler of which nothing is known."""
    return threading.current_thread().name.startswith(_OURS)


def _is_taken(record: logging.LogRecord) -> bool | None:
    size = _length(record) + _AROUND + (_TRACEBACK if record.exc_info else 0)
    is_known = True
    for handler in _handlers(record):
        if isinstance(handler, logging.NullHandler) or getattr(handler, "waits_for_nobody", False):
            continue
        streams = [handler.stream] if hasattr(handler, "stream") else [sys.__stdout__, sys.__stderr__]
        answers = [has_room(stream, size) for stream in streams]
        if False in answers:
            return False
        is_known = is_known and hasattr(handler, "stream") and None not in answers
    return is_known or None


def _length(record: logging.LogRecord) -> int:
    try:
        return len(record.getMessage())
    except Exception as error:  # a value that cannot be shown
        hand_back(error)
        return _AROUND


def _handlers(record: logging.LogRecord) -> Iterator[Any]:
    """Handlers that get a record, as :meth:`logging.Logger.callHandlers` finds them."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    are_none = True
    while logger is not None:
        for handler in logger.handlers:
            are_none = False
            if record.levelno >= handler.level:
                yield handler
        logger = logger.parent if logger.propagate else None
    if are_none and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
        yield logging.lastResort


_voice: Final = _Voice()
_courtesy: Final = _Courtesy()
_log: Final = own_logger("otelsync")
