"""TCP connections to a host by name, within a deadline: slow name servers and dead addresses cost the rest nothing.

Addresses are tried in turn, each a moment after the one before it, and the first that answers is taken: so one that
is dead takes no time from one that is not. Source: https://www.rfc-editor.org/rfc/rfc8305 ("Happy Eyeballs").
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

STAGGER: Final = 0.25
"""Seconds from the beginning of one attempt to that of the next; RFC 8305, section 8."""
_UNDER_WAY: Final = frozenset((0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY))


class Address(NamedTuple):
    """An address of a host, with its port."""

    family: int
    place: Any
    """As the socket module takes it."""


class NotConnectedError(OSError):
    """There is no connection; the message says why. `cause` is what the last attempt came to."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class UnknownNameError(NotConnectedError):
    """The host's name is not known."""


class NameTimeoutError(NotConnectedError):
    """The host's name was not resolved in time."""


class ConnectTimeoutError(NotConnectedError):
    """No address has answered in time."""


def connect(host: str, port: int, deadline: float, *, last: Address | None = None) -> tuple[socket.socket, Address]:
    """Connect to a host until `deadline`, in ``time.monotonic()``. Raises NotConnectedError.

    `last`: an address to try after all others, as it has just failed.
    """
    addresses = resolve(host, port, deadline)
    return race(sorted(addresses, key=lambda address: address == last), deadline)


@dataclass
class _Lookup:
    """A question to the system's resolver, which may be waiting for the answer longer than anybody else."""

    done: threading.Event = field(default_factory=threading.Event)
    found: list[Address] = field(default_factory=list)
    error: str = ""

    def ask(self, host: str, port: int, flags: int = 0) -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
            self.found = [Address(family, place) for family, _, _, _, place in answers]
        except (OSError, UnicodeError) as error:
            self.error = getattr(error, "strerror", None) or str(error)
        finally:
            self.done.set()


_lookups: dict[tuple[int, str, int], _Lookup] = {}
"""Questions under way, by process, host and port: a hanging resolver is asked once, however often it is waited for."""


def resolve(host: str, port: int, deadline: float) -> list[Address]:
    """Addresses of a host, families in turn. Raises UnknownNameError or NameTimeoutError."""
    lookup = _Lookup()
    lookup.ask(host, port, socket.AI_NUMERICHOST)
    if not lookup.found:
        lookup = _ask_in_thread(host, port)
        if not lookup.done.wait(max(deadline - time.monotonic(), 0.0)):
            raise NameTimeoutError(f"the name {host!r} was not resolved in time")
    if not lookup.found:
        raise UnknownNameError(f"the name {host!r} is not known ({lookup.error})")
    return _in_turn(lookup.found)


def _ask_in_thread(host: str, port: int) -> _Lookup:
    key = (os.getpid(), host, port)
    lookup = _lookups.get(key)
    if lookup is not None:
        return lookup
    lookup = _lookups[key] = _Lookup()

    def ask() -> None:
        try:
            lookup.ask(host, port)
        finally:
            _lookups.pop(key, None)

    try:
        threading.Thread(target=ask, name="otelsync-name", daemon=True).start()
    except RuntimeError:  # no more threads, or the interpreter is ending
        ask()
    return lookup


def _in_turn(addresses: Sequence[Address]) -> list[Address]:
    """Addresses with families in turn, beginning with that of the first; RFC 8305, section 4."""
    first = [address for address in addresses if address.family == addresses[0].family]
    others = [address for address in addresses if address.family != addresses[0].family]
    mixed = chain.from_iterable(zip_longest(first, others))
    return [address for address in dict.fromkeys(mixed) if address is not None]


def race(addresses: Sequence[Address], deadline: float) -> tuple[socket.socket, Address]:
    """Connect to the first address that answers until `deadline`. Raises NotConnectedError."""
    now = time.monotonic()
    with _Race(addresses, min(STAGGER, max(deadline - now, 0.0) / (len(addresses) + 1))) as running:
        while (now := time.monotonic()) < deadline:
            winner = running.step(now, deadline)
            if winner is not None:
                winner[0].setblocking(True)
                return winner
        raise ConnectTimeoutError("no connection in time", running.error)


class _Race:
    """Attempts that run side by side."""

    def __init__(self, addresses: Sequence[Address], stagger: float) -> None:
        self.error: OSError | None = None
        self._stagger = stagger
        self._waiting = deque(addresses)
        self._next_at = 0.0
        self._running: dict[socket.socket, Address] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for loser in self._running:
            loser.close()

    def step(self, now: float, deadline: float) -> tuple[socket.socket, Address] | None:
        """Begin the next attempt if it is due, and wait for news. Raises NotConnectedError if there are no more."""
        if self._waiting and (now >= self._next_at or not self._running):
            self._next_at = now + self._stagger
            self._begin(self._waiting.popleft())
        if not self._running:
            if not self._waiting:
                raise NotConnectedError((self.error and self.error.strerror) or "no address", self.error)
            return None
        until = min(deadline, self._next_at) if self._waiting else deadline
        for key, _ in self._selector.select(max(until - now, 0.0)):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            self._selector.unregister(connection)
            address = self._running.pop(connection)
            failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not failure:
                return connection, address
            connection.close()
            self._note(failure)
        return None

    def _begin(self, address: Address) -> None:
        try:
            connection = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # a family that this machine does not have
            self.error = error
            return
        try:
            connection.setblocking(False)
            failure = connection.connect_ex(address.place)
            if failure in _UNDER_WAY:
                self._selector.register(connection, selectors.EVENT_WRITE)
                self._running[connection] = address
                return
            self._note(failure)
        except OSError as error:
            self.error = error
        with suppress(OSError):
            connection.close()

    def _note(self, failure: int) -> None:
        self.error = OSError(failure, os.strerror(failure))  # of the class that stands for the number
        self._next_at = 0.0
