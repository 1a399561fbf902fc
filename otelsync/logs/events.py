"""The catalogue of log events: what each is called, its id, its level, its fields, and what it says.

A record of an event that is known here carries its id. otelsync's own are in :mod:`otelsync.logs.own_events`; an
application declares its own in the same way:

    catalogue = Catalogue("gc", source=__name__)
    FETCHED = catalogue.event(1, "pull_request.fetched", level="debug", fields=("number",), says="One was fetched.")

    log.info(FETCHED, number=7)  # or by its name, log.info("pull_request.fetched", number=7)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import EllipsisType, MappingProxyType
from typing import Final

from otelsync.errors import CatalogueError
from otelsync.levels import LEVELS

_PREFIX: Final = re.compile(r"[a-z][a-z0-9]")
_MOST: Final = 999


class Event(str):
    """The name of a log event, and what the catalogue says of it."""

    __slots__ = ("fields", "id", "is_open", "level", "says", "source")

    id: str
    """Such as ``st-001``."""
    level: str
    fields: tuple[str, ...]
    """Those that its records can have, beside what every record carries."""
    is_open: bool
    """True if there can be further fields, which the caller names."""
    says: str
    """One sentence."""
    source: str
    """The module that logs it."""

    @property
    def is_message(self) -> bool:
        """True if it is known by its text, a format of the standard library's logging, and not by a name."""
        return " " in self or "%" in self


Fields = tuple[str | EllipsisType, ...]


class Catalogue:
    """The events of one source file.

    Args:
        prefix: How their ids begin: a letter, and a letter or digit. No two source files share one.
        source: The module that logs them: ``__name__``.
        retired: Numbers of events that are no more. None is ever used again, so that an id found in an old log has
            one meaning.

    Raises:
        CatalogueError: The prefix cannot be used, or another source file has it.
    """

    source: str

    def __init__(self, prefix: str, *, source: str, retired: Iterable[int] = ()) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise CatalogueError(f"{prefix!r} is no prefix; use a letter, and a letter or digit, such as 'gc'")
        before = _catalogues.get(prefix)
        if before is not None and before.source != source:
            raise CatalogueError(f"the prefix {prefix!r} is that of {before.source}; choose another for {source}")
        self.prefix = prefix
        self.source = source
        self._retired = frozenset(retired)
        self._events: dict[int, Event] = {}
        if before is not None:  # its module is loaded anew
            _forget(before)
        _catalogues[prefix] = self

    def __iter__(self) -> Iterator[Event]:
        """The events, by number."""
        return iter([event for _, event in sorted(self._events.items())])

    def event(self, number: int, name: str, *, level: str, fields: Fields = (), says: str) -> Event:
        """Declare an event.

        Args:
            number: From 1 to 999; the id is made of it.
            name: Such as ``pull_request.fetched``; or a whole format of the standard library's logging.
            level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
            fields: The names of its fields. ``...`` among them: and others, which the caller names.
            says: One sentence for whoever reads the log.

        Returns:
            The name, which can be logged as it is.

        Raises:
            CatalogueError: The number or the name is taken, or one of the values cannot be used.
        """
        self._check(number, name, level)
        event = Event(name)
        event.id = f"{self.prefix}-{number:03d}"
        event.level = level
        event.fields = tuple(field for field in fields if isinstance(field, str))
        event.is_open = ... in fields
        event.says = says
        event.source = self.source
        self._events[number] = _known[name] = event
        for tell in _listeners:
            tell()
        return event

    def _check(self, number: int, name: str, level: str) -> None:
        if not 1 <= number <= _MOST:
            raise CatalogueError(f"{self.prefix}: {number} is no number of an event; use 1 to {_MOST}")
        taken = self._events.get(number)
        if taken is not None or number in self._retired:
            owner = f"that of {str(taken)!r}" if taken is not None else "retired"
            raise CatalogueError(f"{self.prefix}-{number:03d} is {owner}; {name!r} needs a number of its own")
        if not name or name in _known:
            owner = f" is {_known[name].id} already" if name in _known else " is no name"
            raise CatalogueError(f"{self.prefix}-{number:03d}: {name!r}{owner}")
        if level not in LEVELS:
            raise CatalogueError(f"{self.prefix}-{number:03d}: {level!r} is no level; use {', '.join(LEVELS)}")


_catalogues: dict[str, Catalogue] = {}
_known: dict[str, Event] = {}
_listeners: list[Callable[[], None]] = []

known: Final[Mapping[str, Event]] = MappingProxyType(_known)
"""All events that have been declared so far, by name."""


def catalogues() -> list[Catalogue]:
    """All catalogues that have been made so far, by prefix."""
    return [catalogue for _, catalogue in sorted(_catalogues.items())]


def undeclared(names: Iterable[str]) -> list[str]:
    """Those of `names` that look like names of events and stand in no catalogue; each once, in order."""
    return list(dict.fromkeys(name for name in names if looks_like_name(name) and name not in _known))


def looks_like_name(text: str) -> bool:
    """Return whether a record's event is a name, such as ``page.read`` or ``spawning_worker``, and no message.

    >>> looks_like_name("page.read"), looks_like_name("Starting sync for acme/api")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


_NAME: Final = re.compile(r"(?a)[a-z][a-z0-9]*(?:[._][a-z0-9]+)*")


def on_declaration(tell: Callable[[], None]) -> None:
    """Call `tell` whenever an event is declared or forgotten: ids that were looked up before may be others now."""
    _listeners.append(tell)


def _forget(catalogue: Catalogue) -> None:
    for event in catalogue:
        _known.pop(event, None)
    for tell in _listeners:
        tell()
