"""A shipper in a thread of the host: started, flushed and stopped, never noticed, never taken along by a fork."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otelsync.hooks.own_messages import own_logger
from otelsync.journal import forks
from otelsync.journal.process_identity import own_writer
from otelsync.shipping.checkpoint import arrived, positions
from otelsync.shipping.shipper import INTERVAL, Shipper

_POLL = 0.02
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 30.0

_log = own_logger("otelsync.shipping")


class ShipperThread:
    """Runs a shipper in a daemon thread. No method raises, and none waits longer than its timeout.

    After ``fork()`` the child has no such thread: what it records is shipped by the parent's, or by whoever owns the
    directory. `start` in the child begins a thread of its own, which takes over when the owner ends.

    Args:
        directory: The journal directory.
        make_shipper: Makes the shipper, in the thread that will use it.
        interval: The longest pause between two looks at the directory, in seconds.
    """

    def __init__(self, directory: Path, make_shipper: Callable[[], Shipper], *, interval: float = INTERVAL) -> None:
        self._directory = Path(directory)
        self._make_shipper = make_shipper
        self._interval = interval
        self._begin()
        _threads.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stop_by = 0.0
        self._settled = False
        self._shipper: Shipper | None = None
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """True if the thread runs, in this process."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start shipping. A second call does nothing."""
        with self._lock:
            if self.alive:
                return
            self._stopping = threading.Event()
            self._settled = False
            thread = threading.Thread(target=self._run, name="otelsync-shipper", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                _log.warning("cannot start the shipper: %s; the records stay in the journal", error)
                return
            self._thread = thread

    def flush(self, timeout: float) -> bool:
        """Wait until every sink has taken what this process had recorded so far.

        False: not within `timeout` seconds. This holds too where another process ships the directory.
        """
        deadline = time.monotonic() + timeout
        targets = positions(self._directory, own_writer())
        if self._shipper is not None:
            self._shipper.hurry()
        while not arrived(self._directory, targets):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._shipper is not None:
                self._shipper.wake()
            time.sleep(min(_POLL, left))
        return True

    def stop(self, timeout: float) -> bool:
        """Ship what this process has recorded, within `timeout` seconds, and end the thread.

        If it owns the directory, what other processes have left there is shipped too, as long as there is time: they
        may be forked children that have ended, and nobody else might come for it. False: something is left in the
        journal, for the next shipper.
        """
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return arrived(self._directory, positions(self._directory, own_writer()))
        self._stop_by = time.monotonic() + timeout
        self._stopping.set()
        if self._shipper is not None:
            self._shipper.wake()
        thread.join(timeout)
        return self._settled

    def _run(self) -> None:
        try:
            shipper = self._shipper = self._make_patiently()
            if shipper is not None:
                shipper.run(self._stopping, interval=self._interval)
                self._end(shipper)
        except Exception:
            _log.exception("the shipper ends after an unexpected error; the records stay in the journal")
        finally:
            self._shipper = None

    def _make_patiently(self) -> Shipper | None:
        """The shipper; None if it cannot be made before the thread is stopped: one that has just begun tries once."""
        pause = _FIRST_RETRY
        while True:
            try:
                with _loading:
                    return self._make_shipper()
            except Exception as error:
                if pause == _FIRST_RETRY:
                    _log.warning("the shipper cannot begin yet: %s", error)
            if self._stopping.wait(pause):
                return None
            pause = min(pause * 2, _LONGEST_RETRY)

    def _end(self, shipper: Shipper) -> None:
        """Use most of the time that is left for shipping, and the rest for closing."""
        left = max(0.0, self._stop_by - time.monotonic())
        reserve = min(0.5, left * 0.2)
        try:
            targets = positions(self._directory, own_writer())
            settled = shipper.settle(targets, left - reserve)
            if settled and shipper.own():
                settled = shipper.drain(max(0.0, self._stop_by - reserve - time.monotonic()))
            self._settled = settled
        finally:
            shipper.close(reserve)
        if not settled and not shipper.is_failing:
            _log.warning("there was no time to send everything; what is left stays in the journal and is sent later")

    def _begin_in_child(self) -> None:
        if self._shipper is not None:
            self._shipper.forget()
            # Not to be finalised: its connections and the locks around them are the parent's.
            _forgotten.append(self._shipper)
        self._begin()


_threads: weakref.WeakSet[ShipperThread] = weakref.WeakSet()
_forgotten: list[Shipper] = []

_loading = threading.Lock()
"""Held while a shipper loads modules: a child that is forked meanwhile would have halves of them for good."""
_LONGEST_LOAD: Final = 5.0
"""Seconds that a fork waits for it, at most."""
_forking = 0
"""The thread that forks and holds it; 0: none."""


def _wait_for_modules() -> None:
    global _forking
    if _loading.acquire(timeout=_LONGEST_LOAD):
        _forking = threading.get_ident()


def _go_on() -> None:
    global _forking
    if _forking == threading.get_ident():
        _forking = 0
        _loading.release()


def _begin_in_child() -> None:
    global _loading, _forking
    _loading, _forking = threading.Lock(), 0
    for thread in list(_threads):
        thread._begin_in_child()


forks.in_child(_begin_in_child)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_modules, after_in_parent=_go_on)
