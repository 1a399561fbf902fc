"""Before anything is shown: what journals still hold is brought into the store, if nobody else is doing so.

So a run can be looked at whose process was killed, or which had no shipper. A living shipper is left to its work.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain

import click

from otelsync.configuration.destinations import DESTINATIONS, make_shipper, wants_store
from otelsync.errors import OtelsyncError
from otelsync.settings import Settings

PATIENCE = 20.0
"""Seconds for one journal directory."""


def catch_up(settings: Settings) -> None:
    """Store what is pending, if runs are stored at all. What goes wrong is said, and ends nothing."""
    waiting = [directory for directory in settings.journal_directories() if any(directory.glob("*.journal"))]
    if not waiting or not wants_store(settings):
        return  # the usual case; what follows takes time to import
    for directory in waiting:
        try:
            _catch_up(replace(settings, journal_dir=directory))
        except (OtelsyncError, OSError) as error:
            click.echo(f"otelsync: {directory.name} is not up to date: {error}", err=True)


def _catch_up(settings: Settings) -> None:
    from otelsync.shipping.checkpoint import Checkpoint, CheckpointError, load

    checkpoint = Checkpoint()
    with suppress(CheckpointError):
        checkpoint = load(settings.journal) or checkpoint
    if (settings.journal / DESTINATIONS).exists() or set(checkpoint.sinks) - {"store"}:
        _store_alone(settings)
        return
    with closing(make_shipper(settings, store=True)()) as shipper:
        if shipper.own() and not shipper.drain(PATIENCE):
            click.echo(f"otelsync: {settings.journal.name} is not up to date yet: run otelsync ship --once", err=True)


def _store_alone(settings: Settings) -> None:
    """Copy records into the store without moving any cursor: whoever ships them does not find them gone."""
    from otelsync.journal.header import JournalError
    from otelsync.journal.names import list_segments
    from otelsync.journal.reader import JournalReader
    from otelsync.store.writing import StoreSink

    with closing(StoreSink(settings.store_file, with_pending=True)) as sink:
        for segment in chain.from_iterable(list_segments(settings.journal).values()):
            try:
                reader = JournalReader(settings.journal / segment.name, patience=0)
            except (OSError, JournalError):
                continue  # gone, or not a journal: for its shipper to say
            with closing(reader):
                while (batch := reader.read(sink.position(segment.name))) is not None:
                    sink.deliver(batch)
