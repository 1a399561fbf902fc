"""Sources of what is shown: the local store, and beside it what journals hold that nobody has stored.

Journals are read where they are, and nothing is moved. A little is read anew each time, in memory; what is more is
kept in a store of its own, in `store.db.unshipped`, which goes as soon as the journals go on without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otelsync.cli import caught_up
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
            with suppress(OSError), caught_up.alone(aside, waits=False):
                caught_up.sweep(aside)
        return [settings.store_file]  # the usual case; what follows takes time to import
    from otelsync.journal.segment import make_private
    from otelsync.shipping.looking import is_being_stored
    from otelsync.store.connection import in_memory

    waiting = [directory for directory in directories if not is_being_stored(directory)]
    if not waiting:
        return [settings.store_file]
    try:
        if _bytes_of(waiting, settings.store_file) <= MOST_IN_MEMORY:
            place = in_memory()
            _look(waiting, _opened(place, settings.store_file), None)
        else:
            make_private(aside)
            with caught_up.alone(aside):
                place = _caught_up(waiting, aside, settings.store_file)
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


def _caught_up(directories: Sequence[Path], aside: Path, store: Path) -> Path:
    """Return a store in the directory `aside` that has what journals hold: the current one, or a new one beside it."""
    from otelsync.errors import StoreError

    names = {segment.name for each in directories for series in list_segments(each).values() for segment in series}
    sink: StoreSink | None = None
    copy = caught_up.current(aside)
    if copy is not None:
        in_use = caught_up.held(copy)
        with suppress(StoreError):  # of another version
            sink = _opened(copy / "store.db", store)
            sink = None if sink.is_outdated(names) else sink
        if sink is None:
            os.close(in_use)
    if copy is None or sink is None:
        copy = caught_up.new(aside)
        in_use = caught_up.held(copy)
        sink = _opened(copy / "store.db", store)
    _at_the_end(os.close, in_use)
    _look(directories, sink, copy)
    caught_up.make_current(copy)
    caught_up.sweep(aside, but=copy)
    return copy / "store.db"


def _opened(place: Path, store: Path) -> StoreSink:
    """Open the store at `place`, which may be in memory, until the command has ended."""
    from otelsync.store.writing import StoreSink

    sink = StoreSink(place, beside=store)
    _at_the_end(sink.close)
    return sink


def _at_the_end(call: Callable[..., object], *arguments: object) -> None:
    """Call something when the command has ended; where there is none, it is the process."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(partial(call, *arguments))


def _look(directories: Sequence[Path], sink: StoreSink, kept: Path | None) -> None:
    """Read the journals into a store, which is in the directory `kept` unless it is in memory."""
    from otelsync.shipping.looking import Look

    deadline = time.monotonic() + PATIENCE
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
