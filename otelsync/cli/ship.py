"""``otelsync ship``: ship what services record until stopped, or once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

import click

from otelsync.cli import options
from otelsync.cli.announcing import announce
from otelsync.cli.progress_line import ProgressLine
from otelsync.configuration.destinations import make_metrics, make_reports, make_shipper, wants_metrics
from otelsync.errors import ConfigurationError, OtelsyncError
from otelsync.hooks.own_messages import finish
from otelsync.journal.process_identity import Writer, boot_id, start_ticks
from otelsync.settings import Settings
from otelsync.shipping.writers import anyone_writing

if TYPE_CHECKING:
    from otelsync.reports.automatic import RunReports
    from otelsync.shipping.metrics.service import MetricsService
    from otelsync.shipping.shipper import Shipper

_LAST_METRICS: Final = 1.0
"""Seconds for the last metrics, at the least."""
_PAUSE: Final = 0.5
"""Seconds between two looks for directories of further services."""
_TOLD_EVERY: Final = 0.3
"""Seconds between two looks at how much has been shipped."""


@click.command(name="ship")
@click.option("--once", is_flag=True, help="Ship what is there, then end.")
@click.option("--service", help="Whose journal; otherwise those of all services under the home directory.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds for the last records."
)
@click.option("--until-gone", type=int, multiple=True, hidden=True, help="End when these processes have.")
@options.metrics_options
@options.home_option
def command(
    once: bool,
    service: str | None,
    timeout: float,
    until_gone: tuple[int, ...],
    metrics_port: int | None,
    metrics_host: str | None,
    home: Path | None,
) -> None:
    """Ship what services record to the OTLP endpoint and the local store, until SIGTERM or SIGINT."""
    settings = Settings.from_environment(
        home=home, service_name=service, metrics_port=metrics_port, metrics_host=metrics_host
    )
    if service is not None:
        settings = replace(settings, journal_dir=settings.journal)
    told: SimpleQueue[int] = SimpleQueue()  # an Event's lock may be held by the very code that a signal interrupts
    metrics = _metrics(settings, is_successor=bool(until_gone))
    reports = make_reports(settings)
    stations: dict[Path, _Station] = {}
    take_up = partial(_take_up, settings, stations, partial(_Station, metrics=metrics, reports=reports))
    if not once:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.put(number))
        announce(f"shipping {settings.journal_dir or settings.journals}")
        awaited = [Writer(pid, start_ticks(pid), boot_id()) for pid in until_gone]
        _ship_until(told, take_up, stations, awaited)
    take_up()
    deadline = time.monotonic() + timeout
    try:
        is_drained = _drain(stations, deadline, timeout, tells=once)
    finally:
        if reports is not None:
            reports.close(deadline)
        if metrics is not None:
            metrics.close(max(_LAST_METRICS, deadline - time.monotonic()))
        finish()
    if not is_drained:
        sys.exit(1)


def _metrics(settings: Settings, *, is_successor: bool) -> MetricsService | None:
    """Count the records of all services, if anybody reads metrics. A successor waits for the port."""
    if not wants_metrics(settings):
        return None
    metrics = make_metrics(settings)
    if not is_successor:
        try:
            metrics.open()
        except OSError as error:
            fix = "set another port (0: any that is free), or end who has it"
            raise ConfigurationError("--metrics-port", settings.metrics_port, f"{error.strerror}; {fix}") from error
        if metrics.url:
            announce(f"metrics on {metrics.url}")
    metrics.start()
    return metrics


class _Station:
    """The shipper of one directory, in a thread of its own, which ends with the process whatever it is waiting for."""

    def __init__(self, settings: Settings, metrics: MetricsService | None, reports: RunReports | None) -> None:
        self.directory = settings.journal
        self.drained = False
        self._make = make_shipper(settings, metrics=metrics, reports=reports)
        self._shipper: Shipper | None = None
        self._stopping = threading.Event()
        self._stop_by = 0.0
        self.thread = threading.Thread(target=self._run, name=f"otelsync-ship-{self.directory.name}", daemon=True)
        self.thread.start()

    def stop(self, deadline: float) -> None:
        """Begin to ship the last records."""
        self._stop_by = deadline
        self._stopping.set()
        if self._shipper is not None:
            self._shipper.wake()

    def _run(self) -> None:
        try:
            shipper = self._shipper = self._make()
        except OtelsyncError as error:
            announce(str(error))
            return
        try:
            shipper.run(self._stopping)
            self.drained = shipper.drain(max(0.0, self._stop_by - time.monotonic()))
        finally:
            shipper.close()


def _ship_until(
    told: SimpleQueue[int], take_up: Callable[[], None], stations: Iterable[Path], awaited: Sequence[Writer]
) -> None:
    """Ship until told to stop; or, if processes are awaited, until they have ended and nobody records any more."""
    while True:
        take_up()
        with suppress(Empty):
            told.get(timeout=_PAUSE)
            return
        if awaited and not any(writer.alive() for writer in awaited) and not any(map(anyone_writing, stations)):
            return


def _take_up(settings: Settings, stations: dict[Path, _Station], begin: Callable[[Settings], _Station]) -> None:
    """Begin with the directories that are new."""
    for directory in settings.journal_directories():
        if directory not in stations:
            stations[directory] = begin(replace(settings, journal_dir=directory))


def _drain(stations: Mapping[Path, _Station], deadline: float, timeout: float, *, tells: bool) -> bool:
    """Ship the last records, and tell a terminal how far that is; return whether all of them were shipped in time."""
    from otelsync.shipping.bytes_taken import BytesTaken

    with ProgressLine() as line:
        journals = BytesTaken(stations) if tells and line.is_shown else None
        for station in stations.values():
            station.stop(deadline)
        for station in stations.values():
            while station.thread.is_alive() and (left := deadline + 1.0 - time.monotonic()) > 0:
                station.thread.join(left if journals is None else min(left, _TOLD_EVERY))
                if journals is not None:
                    line.show("shipping", journals.taken // 1024, journals.at_first // 1024, " KiB")
    late = [station.directory.name for station in stations.values() if not station.drained]
    if late:
        announce(
            f"not everything was shipped within {timeout:g} s: {', '.join(late)}; the rest stays in the journal,"
            " and `otelsync ledger` says how much it is"
        )
    return not late
