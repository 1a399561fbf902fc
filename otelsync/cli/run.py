"""``otelsync run``: run a program, record it, and ship what it records."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from otelsync.cli import options
from otelsync.cli.announcing import announce
from otelsync.configuration.destinations import endpoints_of, has_destination
from otelsync.configuration.journal_place import spool_for
from otelsync.configuration.mistakes import in_environment
from otelsync.configuration.way import explained, why_not_by_journal
from otelsync.hooks.own_messages import finish
from otelsync.hooks.putting_off import UNUSED_BY_SHIPPERS, put_off
from otelsync.hooks.python_path import without_bootstrap
from otelsync.run.child import CannotStartError, Child, end_like, run_instead
from otelsync.run.environment import environment_of_program
from otelsync.run.survivors import adopt_orphans, ship_detached, survivors
from otelsync.settings import Settings, names_service
from otelsync.settings.program_name import service_of

if TYPE_CHECKING:
    from otelsync.run.attendance import Attendance


@click.command(name="run", context_settings={"allow_interspersed_args": False})
@click.option("--service-name", help="What the service is called. [OTEL_SERVICE_NAME; else by the command]")
@click.option("--endpoint", help="The OTLP endpoint. [OTEL_EXPORTER_OTLP_ENDPOINT]")
@options.home_option
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    help="Seconds for the last records after the program's end. [OTELSYNC_SHUTDOWN_TIMEOUT; 5]",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    help="Render the program's log records; otherwise its own logging stays.",
)
@options.metrics_options
@click.option("--supervise/--no-supervise", default=True, help="Become the program; a process beside it ships.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    command: tuple[str, ...],
    service_name: str | None,
    endpoint: str | None,
    home: Path | None,
    shutdown_timeout: float | None,
    log_format: str | None,
    metrics_port: int | None,
    metrics_host: str | None,
    supervise: bool,
) -> None:
    """Run COMMAND, record it, and ship what it records. Options go before COMMAND, which keeps its own.

    Exit code and signals are the program's.
    """
    if service_name is None and not names_service(os.environ):
        service_name = service_of(command)
    settings = Settings.from_environment(
        service_name=service_name,
        endpoint=endpoint,
        home=home,
        shutdown_timeout=shutdown_timeout,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
    )
    for mistake in in_environment(settings):
        announce(mistake)
    settings = replace(_by_its_way(settings), ship="off" if supervise else "process")
    if settings.journalling != "off" and not settings.disabled:
        settings = replace(settings, journal_spool=spool_for(settings))
    environment = environment_of_program(settings, os.environ, log_format=log_format)
    if not hasattr(os, "fork"):  # Windows: what `exec` starts there is another process, and nobody waits for it
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    try:
        if supervise and hasattr(signal, "sigwaitinfo"):  # macOS has none; it has no journals to ship from either
            _supervise(command, settings, environment)
        finish()
        run_instead(command, environment)
    except CannotStartError as error:
        announce(str(error))
        finish()
        sys.exit(error.exit_code)


def _by_its_way(settings: Settings) -> Settings:
    """Let all processes of the program go the way that is found here, and say which, if that is not the journal's."""
    why = "" if settings.disabled else why_not_by_journal(settings)
    if not why:
        return settings
    announce(explained(why, endpoints_of(settings)))
    return replace(settings, journalling="off")


def _supervise(command: tuple[str, ...], settings: Settings, environment: dict[str, str]) -> NoReturn:
    os.environ.pop("PYTHONPATH", None)
    os.environ.update(without_bootstrap(environment))  # the shipper, too, goes by the options of the command line
    # Raises for what cannot work, before anything is started.
    wants_shipper = not settings.disabled and settings.journalling != "off" and has_destination(settings)
    adopt_orphans()
    child = Child(command, environment)
    attendance = _attend(settings) if wants_shipper else None
    status = child.wait()
    if attendance is not None:
        announce(attendance.end(settings.patience))
        _leave_to_another(settings, attendance)
    finish()
    end_like(status)


def _attend(settings: Settings) -> Attendance | None:
    """Ship beside the program. Where that cannot be, the program goes on, and its records wait in the journal."""
    try:
        put_off(*UNUSED_BY_SHIPPERS)
        from otelsync.run.attendance import Attendance

        logging.basicConfig(format="otelsync: %(message)s", level=logging.WARNING)
        logging.getLogger("otelsync.shipping.metrics.server").setLevel(logging.INFO)  # which port it has
        return Attendance(settings)
    except Exception as error:
        announce(f"cannot ship what is recorded: {error}; the records stay in {settings.journal}")
        return None


def _leave_to_another(settings: Settings, attendance: Attendance) -> None:
    """Let another process ship for those that outlive the program, unless all of them end with us."""
    pids = [] if os.getpid() == 1 else survivors(settings.journal, besides=attendance.reporting)
    if not pids:
        return
    try:
        shipper = ship_detached([f"--until-gone={pid}" for pid in pids])
    except OSError as error:
        announce(f"{len(pids)} of this run go on, and nobody ships for them: {error}")
        return
    announce(
        f"{len(pids)} process{'es' * (len(pids) > 1)} of this run go{'es' * (len(pids) == 1)} on "
        f"({', '.join(map(str, pids))}); process {shipper} ships for them"
    )
