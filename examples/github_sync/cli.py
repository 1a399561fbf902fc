"""The command line ``github-sync``."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import otelsync

from . import migrating, onboarding, status
from .celery_app import make_folders, settings
from .database import engine_for
from .settings import SettingsError
from .status import TeamStatus
from .wiring import pool_for

EXITS: Final = {"success": 0, "partial": 2, "failure": 1, "running": 0}
"""Exit statuses, by outcome."""
_POLL: Final = 0.5
_COLORS: Final = {"Waiting": "dim", "Syncing": "cyan", "Synced": "green", "Error": "red"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Sync pull requests from GitHub into a database, in Celery workers."""
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
def show_status(team: str, as_json: bool) -> None:
    """Show how far a team's sync is. The exit status is 0 for success or running, 2 for partial, 1 for failure."""
    found = _read(team)
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


def _celery(command: str, arguments: tuple[str, ...]) -> None:
    """Become a Celery process under `otelsync run`."""
    celery = [sys.executable, "-m", "celery", "-A", "examples.github_sync.celery_app:app", command, *arguments]
    words = [sys.executable, "-m", "otelsync.cli", "run", "--service-name", f"github-sync-{command}", *celery]
    sys.stdout.flush()
    os.execv(sys.executable, words)


def _follow(team: str, start: Any, *, wait: bool) -> None:
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
    began, spoken = time.monotonic(), ""
    while not result.ready():
        line = _line(_read(team))
        if line != spoken:
            click.echo(f"{time.monotonic() - began:6.0f} s  {line}")
            spoken = line
        time.sleep(_POLL)
    found = _read(team)
    _show(found)
    sys.exit(EXITS[found.outcome])


def _line(found: TeamStatus) -> str:
    done = sum(repository.badge in ("Synced", "Error") for repository in found.repositories)
    pulls = sum(repository.completed for repository in found.repositories)
    blocked = max((limit.blocked_until for limit in found.limits), default=0.0)
    waiting = f", waiting {blocked - time.time():.0f} s for a rate limit" if blocked > time.time() else ""
    return f"{found.phase}: {done} of {len(found.repositories)} repositories, {pulls:,} pull requests{waiting}"


def _read(team: str) -> TeamStatus:
    try:
        standings = pool_for(settings).standings()
    except SettingsError:
        standings = {}
    return status.read(engine_for(settings.database_url), team, standings)


def _show(found: TeamStatus) -> None:
    table = Table(title=f"{found.team}: {found.outcome}" + (f", {found.phase}" if found.phase else ""))
    for name in ("repository", "", "pull requests", "failed", "error"):
        table.add_column(name)
    for each in found.repositories:
        color = _COLORS.get(each.badge, "")
        pulls = f"{each.completed:,}" + (f" of {each.total:,}" if each.total is not None else "")
        table.add_row(
            escape(each.full_name),
            f"[{color}]{each.badge}[/]" if color else each.badge,
            pulls,
            str(each.dead_letters or ""),
            escape(each.error or ""),
        )
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
