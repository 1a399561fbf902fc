"""A test's own recording: into a directory of its own, under ids that are the same each time, undone afterwards."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

import opentelemetry.context as context_api
from opentelemetry.context.context import Context

from otelsync.configuration.lifecycle import begin_for_test, set_aside, shutdown
from otelsync.recording.ids import draw_ids_from
from otelsync.recording.runtime_context import leave
from otelsync.testing.recorded import Recorded

_LEFT_OUT: Final = ("OTEL_EXPORTER_", "OTEL_TRACES_", "OTEL_LOGS_", "OTEL_METRICS_", "OTEL_SDK_DISABLED")
_PLACES: Final = ("OTELSYNC_JOURNAL_DIR", "OTELSYNC_STORE_PATH")


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
    put_back = set_aside()
    try:
        with _environment(home), _numbered_ids():
            begin_for_test(log_stream or io.BytesIO(), **{"service_name": "test", **options, "home": home})
            outside = context_api.attach(Context())  # what is current around the test is no part of its trace
            try:
                yield Recorded(home)
            finally:
                leave(outside)
                shutdown(0)
    finally:
        put_back()


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
def _numbered_ids() -> Iterator[None]:
    before = draw_ids_from(NumberedIds())
    try:
        yield
    finally:
        draw_ids_from(before)


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """The variables that lead this process and those that it starts to `home`, and to nowhere else."""
    before = dict(os.environ)
    ours = {
        "OTELSYNC_HOME": str(home.absolute()),
        "OTELSYNC_SHIP": "off",
        # What ends without a word is closed by `otelsync run`, in the store.
        "OTELSYNC_STORE": "on",
    }
    changed = [*ours, *(name for name in before if name.startswith(_LEFT_OUT) or name in _PLACES)]
    try:
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update(ours)
        yield
    finally:
        for name in changed:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
