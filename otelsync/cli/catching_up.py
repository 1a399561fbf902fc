"""Sources of what is shown: the local store, and beside it what journals hold that nobody has stored.

Journals are read where they are, and nothing is moved. A little is read anew each time, in memory; what is more is
kept in a store of its own, `store.db.unshipped`, which goes as soon as the journals go on without it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otelsync.configuration.destinations import wants_store
from otelsync.errors import OtelsyncError
from otelsync.journal.names import list_segments
from otelsync.settings import Settings

if TYPE_CHECKING:
    from otelsync.store.writing import StoreSink

PATIENCE: Final = 60.0
"""Seconds for all journals. What is not read within them is read at the next look."""
MOST_IN_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of journals, and of what the local store has of their runs, that are read anew at each look."""
_BYTES_A_SPAN: Final = 400
"""Of the local store, roughly."""
_SUFFIX: Final = ".unshipped"


def stores(settings: Settings) -> list[Path]:
    """Return what to look into, the first first: what journals hold, if runs are stored at all, and the local store.

    What goes wrong with journals is said, and ends nothing.
    """
    directories = [directory for directory in settings.journal_directories() if list_segments(directory)]
    aside = settings.store_file.with_name(settings.store_file.name + _SUFFIX)
    if not directories or not wants_store(settings):
        if aside.exists():
            shutil.rmtree(aside, ignore_errors=True)
        return [settings.store_file]  # the usual case; what follows takes time to import
    from otelsync.shipping.looking import is_being_stored
    from otelsync.store.connection import in_memory

    waiting = [directory for directory in directories if not is_being_stored(directory)]
    if not waiting:
        return [settings.store_file]
    try:
        is_little = _bytes_of(waiting, settings.store_file) <= MOST_IN_MEMORY
        place = in_memory() if is_little else aside / "store.db"
        with _alone(None if is_little else aside):
            _look(waiting, place, settings.store_file, None if is_little else aside)
    except (OtelsyncError, OSError) as error:
        click.echo(f"otelsync: what waits in journals cannot be shown: {error}", err=True)
        return [settings.store_file]
    return [place, settings.store_file]


def store_with(settings: Settings, wanted: str | None) -> Path:
    """Return the one of the stores that has the run which is meant, the latest if None.

    Raises:
        RunNotFoundError: More than one is called so.
        StoreError: One cannot be read.
    """
    from otelsync.store.several import store_of

    return store_of(stores(settings), wanted)


def _look(directories: Sequence[Path], place: Path, store: Path, kept: Path | None) -> None:
    """Read the journals into the store at `place`, which is in the directory `kept` unless it is in memory."""
    from otelsync.errors import StoreError
    from otelsync.shipping.looking import Look
    from otelsync.store.writing import StoreSink

    deadline = time.monotonic() + PATIENCE
    sink: StoreSink | None = None
    with suppress(StoreError):  # of another version
        sink = StoreSink(place, beside=store)
    names = {segment.name for each in directories for series in list_segments(each).values() for segment in series}
    if sink is None or sink.is_outdated(names):
        if sink is not None:
            sink.close()
        if kept is not None:
            shutil.rmtree(kept, ignore_errors=True)
        sink = StoreSink(place, beside=store)
    _keep_open(sink)
    for directory in directories:
        memory = None if kept is None else kept / sha256(os.fsencode(directory)).hexdigest()[:16]
        try:
            has_all = Look(directory, sink, memory).read(deadline)
        except OSError as error:
            click.echo(f"otelsync: {directory.name} cannot be read: {error}", err=True)
            continue
        if not has_all:
            message = f"otelsync: {directory.name} is not shown whole yet: so much waits there; look again, or ship it"
            click.echo(message, err=True)


def _keep_open(sink: StoreSink) -> None:
    """Keep the store, which may be in memory, until the command has ended."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(sink.close)


def _bytes_of(directories: Sequence[Path], store: Path) -> int:
    """Estimate how much there is to be read: the journals, and what the store has of runs that go on."""
    from otelsync.errors import RunNotFoundError
    from otelsync.journal.spool import path_of
    from otelsync.store.runs import open_store

    found = 0
    for directory in directories:
        for segment in chain.from_iterable(list_segments(directory).values()):
            with suppress(OSError):
                found += path_of(directory, segment.name).stat().st_size
    with suppress(RunNotFoundError), open_store(store) as stored:
        (spans,) = stored.execute("SELECT total(spans) FROM runs WHERE end_ns IS NULL").fetchone()
        found += int(spans) * _BYTES_A_SPAN
    return found


@contextmanager
def _alone(directory: Path | None) -> Iterator[None]:
    """Let one command at a time bring the store in `directory` up to date. None: nobody else knows it."""
    if directory is None:
        yield
        return
    import fcntl  # where there is none, there are no journals either

    from otelsync.journal.segment import make_private

    make_private(directory)
    fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
