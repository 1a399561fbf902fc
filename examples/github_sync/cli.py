"""The command line ``github-sync``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

import otelsync

from . import migrating, onboarding, status
from .celery_app import make_folders, settings
from .database import engine_for
from .following import follow, table_of
from .settings import SettingsError
from .status import TeamStatus
from .wiring import pool_for

EXITS: Final = {"success": 0, "partial": 2, "failure": 1, "running": 0}
"""Exit statuses, by outcome."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Sync pull requests from GitHub into a database, in Celery workers."""
    if context.invoked_subcommand == "demo":
        return  # it has a home of its own
    make_folders()
    migrating.upgrade(settings.database_url)


@main.command()
@click.argument("team")
@click.argument("names", nargs=-1, required=True, metavar="OWNER/NAME...")
def add(team: str, names: tuple[str, ...]) -> None:
    """Track repositories for a team; `sync` brings their history."""
    try:
        onboarding.track(engine_for(settings.database_url), team, names)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    click.echo(f"{team}: {len(names)} repositories are tracked")


@main.command()
@click.argument("team")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def repos(team: str, as_json: bool) -> None:
    """List the repositories of a team."""
    found = _read(team)
    if as_json:
        click.echo(json.dumps(found.as_dict()["repositories"]))
    else:
        _show(found)


@main.command()
@click.argument("team")
@click.argument("names", nargs=-1, metavar="[OWNER/NAME...]")
@click.option("--wait/--no-wait", default=True, help="Follow the first phase to its end; the default.")
def sync(team: str, names: tuple[str, ...], wait: bool) -> None:
    """Bring the history of a team's repositories, the last 30 days first."""
    from .tasks import start_onboarding

    known = [repository.full_name for repository in _read(team).repositories]
    wanted = list(dict.fromkeys([*known, *names]))
    if not wanted:
        raise click.UsageError(f"{team} tracks nothing; github-sync add {team} OWNER/NAME")
    _follow(team, lambda: start_onboarding(team, wanted), wait=wait)


@main.command()
@click.argument("team")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end; the default.")
def incremental(team: str, wait: bool) -> None:
    """Sync what has changed since the last time."""
    from .tasks import start_incremental

    _follow(team, lambda: start_incremental(team), wait=wait)


@main.command("retry-failed")
@click.argument("team")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end; the default.")
def retry_failed(team: str, wait: bool) -> None:
    """Take up the pull requests that could not be stored."""
    from .tasks import start_retry

    _follow(team, lambda: start_retry(team), wait=wait)


@main.command("status")
@click.argument("team")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--follow", "is_followed", is_flag=True, help="Follow both phases of an onboarding to their end.")
def show_status(team: str, as_json: bool, is_followed: bool) -> None:
    """Show how far a team's sync is. The exit status is 0 for success or running, 2 for partial, 1 for failure."""
    found = _read(team)
    if is_followed and found.phase:
        found = follow(lambda: _read(team), lambda now: now.phase == "completed", sys.stdout)
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        _show(found)
    sys.exit(EXITS[found.outcome])


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run a worker under `otelsync run`; further arguments are Celery's, such as -c 4."""
    _celery("worker", arguments)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def beat(arguments: tuple[str, ...]) -> None:
    """Run the timetable: the incremental sync at 04:00 UTC."""
    _celery("beat", arguments)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def web(host: str, port: int) -> None:
    """Serve the page of the progress."""
    import uvicorn

    from .web import application

    uvicorn.run(application(settings), host=host, port=port, log_level="warning")


@main.command()
@click.option("--home", type=click.Path(path_type=Path), help="Where everything is written.  [default: .demo]")
def demo(home: Path | None) -> None:
    """Show the whole of it: a server that answers as GitHub does, a worker, an onboarding, and its trace."""
    from .demo import HOME, run

    sys.exit(run((home or HOME).absolute()))


def _celery(command: str, arguments: tuple[str, ...]) -> None:
    """Become a Celery process under `otelsync run`."""
    celery = [sys.executable, "-m", "celery", "-A", "examples.github_sync.celery_app:app", command, *arguments]
    # Log records are rendered: coloured on a terminal, one JSON object a line for whoever collects them.
    supervised = ["run", "--service-name", f"github-sync-{command}", "--log-format", "auto"]
    words = [sys.executable, "-m", "otelsync.cli", *supervised, *celery]
    sys.stdout.flush()
    os.execv(sys.executable, words)


def _follow(team: str, start: Callable[[], tuple[str, Any]], *, wait: bool) -> None:
    """Start a run and follow it; ends the process with the exit status of its outcome."""
    # A file: on a terminal, records would break up what this command prints.
    with (settings.home / "github-sync.log").open("a", encoding="utf-8") as log:
        otelsync.configure(service_name="github-sync", log_stream=log)
        otelsync.instrument("requests")
        otelsync.instrument("celery")
        try:
            sync_id, result = start()
        except (SettingsError, ValueError) as error:
            raise click.ClickException(str(error)) from None
        finally:
            otelsync.shutdown(timeout=10)
    click.echo(f"{sync_id}: dispatched")
    if not wait or result is None:
        return
    found = follow(lambda: _read(team), lambda _: bool(result.ready()), sys.stdout)
    _show(found)
    sys.exit(EXITS[found.outcome])


def _read(team: str) -> TeamStatus:
    try:
        standings = pool_for(settings).standings()
    except SettingsError:
        standings = {}
    return status.read(engine_for(settings.database_url), team, standings)


def _show(found: TeamStatus) -> None:
    Console(file=sys.stdout).print(table_of(found))
