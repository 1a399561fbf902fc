"""A test's own recording: into a directory of its own, under ids that are the same each time, undone afterwards.

Spans and log records can be asked for meanwhile and later, of this process and all others that share its home.
"""

from __future__ import annotations

import io
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, Final, TypeVar, Unpack

import opentelemetry.context as context_api
from opentelemetry.context.context import Context

import otelsync.logs.own_events  # noqa: F401  # declares them
from otelsync.configuration.lifecycle import begin_for_test, set_aside, shutdown
from otelsync.logs import events
from otelsync.recording.ids import draw_ids_from
from otelsync.recording.runtime_context import leave
from otelsync.testing.drawing import POLL, Drawn, span_tree
from otelsync.testing.reading import Log, Span, logs_in, spans_in
from otelsync.vocabulary import EVENT_ID

_LEFT_OUT: Final = ("OTEL_EXPORTER_", "OTEL_TRACES_", "OTEL_LOGS_", "OTEL_METRICS_", "OTEL_SDK_DISABLED")
_PLACES: Final = ("OTELSYNC_JOURNAL_DIR", "OTELSYNC_STORE_PATH")
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


@contextmanager
def record(home: Path, *, log_stream: IO[Any] | None = None, **options: Any) -> Iterator[Recorded]:
    """Record this process, and all that it starts meanwhile, into `home`; nothing is sent anywhere.

    Whatever tracer provider and logging were configured before are set aside, and put back at the end. The program's
    own ``otelsync.configure()`` has its say in all but where records are kept. Ids count from 1 in this process;
    processes that it starts find ``OTELSYNC_HOME`` in their environment, and draw ids at random.

    Args:
        home: A directory of the test's own.
        log_stream: Where log records are rendered; by default nowhere.
        options: Of ``otelsync.configure()``. The service is called ``test`` unless they say otherwise.

    Raises:
        ConfigurationError: An option has a value that cannot work; nothing has changed.
    """
    with ExitStack() as undo:
        undo.callback(set_aside())
        undo.enter_context(_environment(home))
        undo.callback(draw_ids_from, draw_ids_from(NumberedIds()))
        begin_for_test(log_stream or io.BytesIO(), **{"service_name": "test", **options, "home": home})
        undo.callback(shutdown, 0)
        undo.callback(leave, context_api.attach(Context()))  # what is current around the test is no part of its trace
        yield Recorded(home)


class NumberedIds(random.Random):
    """Draws 1, 2, 3, and so on: span ids as they are, trace ids with the number at both ends, as sync ids begin so."""

    def __init__(self) -> None:
        super().__init__(0)
        self._drawn = {64: count(1), 128: count(1)}

    def getrandbits(self, bits: int, /) -> int:
        """The next number for ids of so many bits."""
        number = next(self._drawn[bits])
        return number << 96 | number if bits == 128 else number


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """The variables that lead this process and those that it starts to `home`, and to nowhere else."""
    ours = {
        "OTELSYNC_HOME": str(home.absolute()),
        "OTELSYNC_JOURNAL": "on",
        "OTELSYNC_SHIP": "off",
        # What ends without a word is closed by `otelsync run`, in the store.
        "OTELSYNC_STORE": "on",
    }
    replaced = (*ours, *_PLACES)
    before = {name: value for name, value in os.environ.items() if name in replaced or name.startswith(_LEFT_OUT)}
    for name in before:
        del os.environ[name]
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in {*ours, *before}:
            os.environ.pop(name, None)
        os.environ.update(before)


def undeclared_events(logs: Iterable[Log]) -> list[str]:
    """The names of events among `logs` that stand in no catalogue; each once, in order.

    A record of an event that was known where it was logged carries its id: in another process there may be other
    catalogues than here. What does not look like a name is a message, and needs no declaration.
    """
    return events.undeclared(log.event for log in logs if not _ID.fullmatch(str(log.attributes.get(EVENT_ID, ""))))
