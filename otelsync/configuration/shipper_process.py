"""A shipper beside the program: started with the first record, looked after, waited for. Nothing of it is in here.

The process is nobody's child. No thread, no lock, no open file and no database of it is in the program, so nothing can
be in the way of a fork, of a handler of a signal or of a program that closes what it did not open.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from otelsync.configuration import ship_beside
from otelsync.hooks.own_messages import own_logger
from otelsync.hooks.python_path import other_places
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer, boot_id, own_writer, start_ticks
from otelsync.settings import Settings
from otelsync.settings.handing_over import to_text
from otelsync.shipping.messages import RECOVERED, Messages
from otelsync.shipping.nudges import nudge
from otelsync.shipping.ownership import owner
from otelsync.shipping.writers import announce, living_writers, withdraw

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at whether somebody ships."""
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 30.0
"""Seconds before another process is started, where none has come to own the directory."""
_MOST_TRIES: Final = 4
_NUDGE_EVERY: Final = 0.25
_POLL: Final = 0.02
_PYTHON: Final = re.compile(r"python|pypy")
_RELATIVE: Final = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?(CERTIFICATE|CLIENT_KEY|CLIENT_CERTIFICATE)")
"""Variables that name files, maybe from the current directory on."""

_log = own_logger("otelsync.shipping")


class InProcess(Protocol):
    """A shipper of the program's own, where no process can be started."""

    def start(self) -> None: ...

    def flush(self, timeout: float) -> bool: ...

    def stop(self, timeout: float) -> bool: ...


class ShipperProcess:
    """Sees to it that somebody ships a directory. No method raises, and none waits longer than its timeout.

    A directory that has an owner is left to it: another program's shipper, or an ``otelsync ship``.

    Args:
        settings: Which journal, and where its records go.
        instead: Makes what ships if no process can be started for it: in an embedded interpreter or a frozen program.
    """

    def __init__(self, settings: Settings, instead: Callable[[], InProcess]) -> None:
        self._directory = settings.journal
        self._make_instead = instead
        self._instead: InProcess | None = None
        self._given = to_text(settings)
        self._patience = settings.patience
        self._environment = _environment()
        self._next_look = 0.0
        self._started = 0
        self._next_start = 0.0
        self._intermediate = 0
        self._messages: Messages | None = None
        self._said: set[str] = set()
        self._shipper: Writer | None = None
        """The process that shipped the directory when that was last looked at."""
        self._pid = os.getpid()

    def begin(self) -> None:
        """Start at once where this process is root's: its children may become another user's, who can start nothing."""
        if os.geteuid() == 0 and self._directory.is_dir():
            with suppress(OSError):
                announce(self._directory)
                self._tend()

    def look(self) -> None:
        """See to it that somebody ships, and log what the shipper has to say. Called when something is recorded.

        It may come from several threads, and again in the middle of itself, from a signal handler.
        """
        now = time.monotonic()
        if now < self._next_look and self._pid == os.getpid():
            return
        self._next_look = now + _LOOK_EVERY
        self._tend()

    def flush(self, timeout: float) -> bool:
        """Wait until every sink has taken what was recorded here so far; False: not within `timeout` seconds."""
        from otelsync.shipping.checkpoint import positions

        deadline = time.monotonic() + timeout
        targets = positions(self._directory, own_writer())
        if not targets:
            return True
        self.look()
        if self._instead is not None:
            return self._instead.flush(timeout)
        arrived = self._wait(targets, deadline)
        self._speak()
        return arrived

    def stop(self, timeout: float) -> bool:
        """Wait until what this process has recorded was shipped, and the runs that have ended have their reports.

        The latter, and what forked children have left, only where nobody else records there. False: it was not within
        `timeout` seconds; it is shipped all the same.
        """
        deadline = time.monotonic() + timeout
        withdraw(self._directory)
        if not self._has_recorded():
            return True
        self._tend()
        if self._instead is not None:
            instead, self._instead = self._instead, None
            return instead.stop(timeout or self._patience)  # it does not outlive us
        if timeout <= 0:
            nudge(self._directory)
            self._speak()
            return False
        from otelsync.shipping.checkpoint import positions

        shipped = self._wait(positions(self._directory, own_writer()), deadline)
        if shipped and not self._is_anyone_writing():
            shipped = self._wait(positions(self._directory), deadline)
            self._wait_for_end(deadline)
        self._speak()
        return shipped

    def _has_recorded(self) -> bool:
        ours = own_writer()
        return self._instead is not None or any(
            (segment.pid, segment.start_ticks) == (ours.pid, ours.start_ticks)
            for segments in list_segments(self._directory).values()
            for segment in segments
        )

    def _wait(self, targets: dict[str, int], deadline: float) -> bool:
        from otelsync.shipping.checkpoint import arrived

        nudge_at = 0.0
        while not arrived(self._directory, targets):
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= nudge_at:
                nudge_at = now + _NUDGE_EVERY
                nudge(self._directory)
            self.look()
            self._has_owner()
            time.sleep(min(_POLL, deadline - now))
        return True

    def _wait_for_end(self, deadline: float) -> None:
        """Wait for the reports, which a shipper beside a program makes before it ends. Others go on for good."""
        self._has_owner()
        shipper = self._shipper
        if shipper is None or not ship_beside.is_one(shipper.pid):
            return
        nudge(self._directory)
        while shipper.alive() and not self._is_anyone_writing() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_POLL, left))

    def _is_anyone_writing(self) -> bool:
        """Return whether another process records. The shipper does not: it writes ends for those that are gone."""
        self._has_owner()
        shipper = self._shipper.pid if self._shipper is not None and ship_beside.is_one(self._shipper.pid) else 0
        return any(writer.pid != shipper for writer in living_writers(self._directory))

    def _tend(self) -> None:
        if self._pid != os.getpid():
            self._begin_in_child()
        self._reap()
        if self._instead is not None:
            return
        if self._has_owner():
            self._started = 0
            self._next_start = 0.0
        elif time.monotonic() >= self._next_start:
            self._start()
        self._speak()

    def _has_owner(self) -> bool:
        """Return whether somebody ships. Who it was is kept: reports are made when the directory was given up."""
        pid = owner(self._directory)
        if pid:
            self._shipper = Writer(pid, start_ticks(pid), boot_id())
        return pid is not None

    def _begin_in_child(self) -> None:
        """After a fork, whoever told of it: the parent speaks for its shipper, and reaps what it has started."""
        self._pid = os.getpid()
        self._started, self._next_start, self._intermediate = 0, 0.0, 0
        self._messages = self._instead = self._shipper = None

    def _start(self) -> None:
        if self._started >= _MOST_TRIES:
            self._ship_here("no shipper that was started has begun to ship")
            return
        self._next_start = time.monotonic() + min(_FIRST_RETRY * 2**self._started, _LONGEST_RETRY)
        self._started += 1
        try:
            python, entry = _python(), _entry()
        except OSError as error:
            self._ship_here(str(error))
            return
        if self._messages is None:
            self._messages = Messages(self._directory)
        found, environment = self._environment
        given = json.dumps({**found, "journal": _absolute(str(self._directory)), "settings": self._given})
        command = [python, "-I", "-S", entry, str(self._directory)]
        try:
            self._intermediate = os.posix_spawn(
                python,
                command,
                {**environment, ship_beside.VARIABLE: given},
                file_actions=[*_silence(), *_closing()],
                setsigmask=[],
                setsigdef=[signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM],
            )
        except OSError as error:
            self._say_once(f"cannot start the shipper: {error}; the records stay in the journal until it can be")

    def _ship_here(self, why: str) -> None:
        _log.debug("a thread of this program ships: %s", why)
        self._instead = self._make_instead()
        self._instead.start()

    def _reap(self) -> None:
        """Let nothing stay in the table of processes of the one that has started the shipper, and ended."""
        pid, self._intermediate = self._intermediate, 0
        if pid:
            with suppress(OSError):  # the program has waited for any child of its own
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    self._intermediate = pid

    def _speak(self) -> None:
        """Log what its shipper has said since the last time, of each outage its beginning and its end."""
        for message in self._messages.read() if self._messages is not None else ():
            sink, _, what = message.text.partition(": ")
            if what.startswith(RECOVERED):  # a next outage is news, though its words be the same
                self._said = {text for text in self._said if not text.startswith(f"{sink}: ")}
            self._say_once(message.text, message.logger, message.level)

    def _say_once(self, text: str, logger: str = "otelsync.shipping", level: int = logging.WARNING) -> None:
        if len(self._said) > 100:
            self._said.clear()
        if text not in self._said:
            self._said.add(text)
            own_logger(logger).log(level, "%s", text)


def _environment() -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the process has to find, and its environment, as they are now and from any directory."""
    environment = dict(os.environ)
    for name, value in environment.items():
        if value and _RELATIVE.fullmatch(name):
            environment[name] = _absolute(value)
    places = other_places(environment)
    if places:
        environment["PYTHONPATH"] = os.pathsep.join(map(_absolute, places))
    path = [_absolute(place) for place in sys.path if isinstance(place, str) and place]
    return {"path": path, "package": str(Path(__file__).parents[1])}, environment


def _absolute(place: str) -> str:
    try:
        return os.path.abspath(place)  # noqa: PTH100  (Path.absolute() keeps "..", and a zip may be on the way)
    except OSError:  # the current directory is gone
        return place


def _python() -> str:
    """Return the interpreter, which is looked for where Python is embedded: `sys.executable` is the server there.

    Raises:
        OSError: There is none, as in a frozen program, which would be started a second time.
    """
    if not getattr(sys, "frozen", False):
        if _PYTHON.match(Path(sys.executable or "").name):
            return sys.executable
        name = "python{}.{}".format(*sys.version_info)
        for prefix in (sys.prefix, sys.base_prefix):
            found = Path(prefix, "bin", name)
            if found.is_file():
                return str(found)
    raise OSError(f"{sys.executable or 'sys.executable'} is no Python that could be started")


def _entry() -> str:
    entry = Path(ship_beside.__file__)
    if not entry.is_file():
        raise OSError("otelsync is no directory of files")
    return str(entry)


def _silence() -> Iterator[tuple[Any, ...]]:
    """Hold none of the program's pipes: whoever reads them would wait for the shipper's end."""
    for number in range(3):
        yield os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0


def _closing() -> Iterator[tuple[Any, ...]]:
    """Hold nothing that the program hands down to its children, such as a listening socket."""
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208  (no Path for each)
    except OSError:
        return
    for number in map(int, names):
        with suppress(OSError):
            if number > 2 and os.get_inheritable(number):
                yield os.POSIX_SPAWN_CLOSE, number
