"""Spans and log records so far, of this process and all others that share its home, and how to ask for them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack

import otelsync.logs.own_events  # noqa: F401  # declares them
from otelsync.logs import events
from otelsync.testing.drawing import POLL, Drawn, span_tree
from otelsync.testing.reading import logs_in, spans_in
from otelsync.testing.records import Log, Span
from otelsync.vocabulary import EVENT_ID

_ID: Final = re.compile(r"(?a)[a-z][a-z0-9]-[0-9]{3}")
T = TypeVar("T")


class Recorded:
    """The spans and log records of a home: what its journals and its store hold at the moment of asking.

    Args:
        home: What ``OTELSYNC_HOME`` names, of any number of processes, running or ended.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.home)!r})"

    @property
    def spans(self) -> list[Span]:
        """All spans, by their start; those that have not ended, if they are stages that have begun."""
        return spans_in(self.home)

    @property
    def logs(self) -> list[Log]:
        """All log records, by time."""
        return logs_in(self.home)

    @property
    def events(self) -> list[str]:
        """The names of all log events, by time: ``["sync.pipeline.started", "sync.repo.started", ...]``."""
        return [log.event for log in self.logs]

    def find(self, name: str, attributes: Mapping[str, Any] | None = None) -> Span:
        """The only span of that name that has these attributes.

        Raises:
            AssertionError: There is none, or more than one; the message shows what there is.
        """
        __tracebackhide__ = True
        found = self.find_all(name, attributes)
        if len(found) != 1:
            wanted = f"{name!r} with {dict(attributes)}" if attributes else repr(name)
            drawn = self.tree(attributes=tuple(attributes or ())) or "nothing"
            raise AssertionError(f"{len(found) or 'no'} spans are {wanted}; recorded so far:\n\n{drawn}")
        return found[0]

    def find_all(self, name: str, attributes: Mapping[str, Any] | None = None) -> list[Span]:
        """The spans of that name that have these attributes, by their start."""
        wanted = dict(attributes or {}).items()
        return [span for span in self.spans if span.name == name and wanted <= span.attributes.items()]

    def tree(self, **options: Unpack[Drawn]) -> str:
        """All that was traced, drawn; options as of :func:`~otelsync.testing.span_tree`."""
        return span_tree(self, **options)

    def wait_for(self, condition: Callable[[Recorded], T], *, within: float = 20.0) -> T:
        """Wait until a condition holds of what was recorded, here or elsewhere.

        Args:
            condition: Holds if what it returns is true. An AssertionError, as of :meth:`find`, means not yet.
            within: Seconds that it may take. There is no wait beyond what is needed.

        Returns:
            What the condition returned.

        Raises:
            AssertionError: It did not come true in that time; the message shows what was recorded until then.
        """
        __tracebackhide__ = True
        deadline = time.monotonic() + within
        while True:
            why: AssertionError | None = None
            try:
                if result := condition(self):
                    return result
            except AssertionError as error:
                why = error
            if time.monotonic() >= deadline:
                raise AssertionError(f"it did not come true within {within:g} s; recorded:\n\n{self.tree()}") from why
            time.sleep(POLL)


def undeclared_events(logs: Iterable[Log]) -> list[str]:
    """The names of events among `logs` that stand in no catalogue; each once, in order.

    A record of an event that was known where it was logged carries its id: in another process there may be other
    catalogues than here. What does not look like a name is a message, and needs no declaration.
    """
    return events.undeclared(log.event for log in logs if not _ID.fullmatch(str(log.attributes.get(EVENT_ID, ""))))
