"""The demo: a sync of real, recorded pull requests, with a rate limit and some faults on the way, and its trace."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from pathlib import Path

import otelsync
from otelsync.shipping.ledger import read_ledger
from otelsync.views.waterfall import render_run

from .client import GithubClient
from .database import connect
from .double import process
from .progress import display
from .sync import GithubSync, Summary

HOME = Path(__file__).parents[2] / ".demo"
SERVICE = "github-sync"

_WORTH_SHOWING = 3
_FAULTS = (
    "primary=3@150",
    "502@/repos/acme/billing-api/pulls/7/files",
    "slow=0.6@/repos/acme/billing-api/pulls/31/commits",
    "502@/repos/acme/billing-api/pulls/23/reviews#*",
)


def run(home: Path = HOME, *, everything: bool = False) -> int:
    """Run the demo with everything that it writes in `home`; the exit code is that of the sync.

    Without `everything`, recorded repositories of one or two pull requests are left out, so that the waterfall fits a
    screen.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    for name in ("github.db", "github.db-wal", "github.db-shm", "github-sync.log", "github-double.log"):
        (home / name).unlink(missing_ok=True)
    print("Starting a GitHub-shaped server on loopback (the first time, pip fetches 36 MB).", flush=True)
    arguments = ["--generated", "1x40", "--log", str(home / "github-double.log")]
    for fault in _FAULTS:
        arguments += ["--fault", fault]
    try:
        with process.started(arguments) as double:
            names = [name for name, size in double.repositories.items() if everything or size >= _WORTH_SHOWING]
            summary = _sync(double.url, names, home)
    except process.DoubleFailedError as error:
        print(error, file=sys.stderr)
        return 1
    _show(summary, home)
    return summary.exit_code


def _sync(url: str, names: list[str], home: Path) -> Summary:
    with (home / "github-sync.log").open("w", encoding="utf-8") as log:
        otelsync.configure(
            service_name=SERVICE,
            home=home,
            journal_dir=home / "journals" / SERVICE,
            store="on",
            store_path=home / "store.db",
            reports_dir=home / "reports" / "sync",
            log_format="json",
            log_stream=log,
        )
        try:
            with (
                connect(home / "github.db") as engine,
                display(len(names)) as shown,
                closing(GithubClient(url, "demo-token", on_wait=shown.waiting)) as client,
            ):
                return GithubSync(client, engine, shown).run(names)
        finally:
            otelsync.shutdown(timeout=10)


def _show(summary: Summary, home: Path) -> None:
    """The waterfall with its slowest and failed parts, then where everything is and how to go on from here."""
    print()
    width = shutil.get_terminal_size((120, 40)).columns
    render_run(home / "store.db", summary.sync_id, width=width, color=sys.stdout.isatty(), hints=False)
    print("\nledger")
    for account in read_ledger(home / "journals" / SERVICE).accounts:
        print(f"  {account}")
    report = home / "reports" / "sync" / summary.sync_id
    if report.exists():
        print(f"\nreport\n  {_short(report / '_SYNC_SUMMARY.md')}\n  {_short(report / 'waterfall.html')}")
    print(f"\nlogs\n  {_short(home / 'github-sync.log')} (the server's: {_short(home / 'github-double.log')})")
    print("\nlook further, in this directory")
    at = f"--home {_short(home)}"
    for command in (f"show {summary.sync_id} --all", f"logs {summary.sync_id} --level ERROR", "list", "ledger"):
        print(f"  .venv/bin/otelsync {command} {at}")
    print(f"  sqlite3 {_short(home / 'github.db')} 'SELECT state, count(*) FROM pull_requests GROUP BY state'")


def _short(path: Path) -> Path:
    """The path as one would type it here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
