"""The command line: ``python -m examples.github_sync demo`` and ``... sync owner/name ...``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import otelsync

from . import demo
from .client import GithubClient
from .database import connect
from .progress import display
from .sync import GithubSync

API_URL = "https://api.github.com"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 when the run was a success or partial, 1 when it failed."""
    options = _parser().parse_args(arguments)
    return demo.run(options.home, everything=options.all) if options.command == "demo" else _sync(options)


def _sync(options: argparse.Namespace) -> int:
    # A file: on a terminal, records would break up the progress display.
    with options.log.open("a", encoding="utf-8") as log:
        otelsync.configure(service_name="github-sync", log_stream=log)
        otelsync.instrument("requests")
        try:
            with (
                connect(options.database) as engine,
                display(len(options.repositories)) as shown,
                closing(GithubClient(options.api_url, options.token, on_wait=shown.waiting)) as client,
            ):
                sync = GithubSync(client, engine, shown, full=options.full, since=options.since)
                summary = sync.run(options.repositories)
        finally:
            otelsync.shutdown(timeout=10)
    print(f"{summary.sync_id}: {summary.outcome}; logs in {options.log}")
    return summary.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.github_sync", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("demo", help="sync recorded pull requests from a GitHub-shaped server on loopback")
    shown.add_argument("--home", type=Path, default=demo.HOME, help="where everything is written; default: .demo")
    shown.add_argument("--all", action="store_true", help="sync all recorded repositories, 98 pull requests")
    sync = commands.add_parser("sync", help="sync repositories; GITHUB_TOKEN and GITHUB_API_URL say from where")
    sync.add_argument("repositories", nargs="+", type=_full_name, metavar="OWNER/NAME")
    sync.add_argument("--database", type=Path, default=Path("github.db"), help="default: github.db")
    sync.add_argument("--log", type=Path, default=Path("github-sync.log"), help="default: github-sync.log")
    sync.add_argument("--full", action="store_true", help="compare the details of unchanged pull requests too")
    sync.add_argument("--since", type=_date, metavar="YYYY-MM-DD", help="skip pull requests last updated before")
    sync.set_defaults(api_url=os.environ.get("GITHUB_API_URL") or API_URL, token=os.environ.get("GITHUB_TOKEN") or None)
    return parser


def _full_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not OWNER/NAME, such as psf/requests")
    return text


def _date(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2024-01-31") from None


if __name__ == "__main__":
    sys.exit(main())
