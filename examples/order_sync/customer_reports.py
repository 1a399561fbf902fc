"""A Markdown file for each customer of a run: figures of its session, from otelsync's report, and of the database.

otelsync writes the report of every run, also of one that failed or was killed, and with it `summary.json`, from which
all figures of the session are. So a customer's file can be made at any time after the run: at its end, by the next run,
or by ``python -m examples.order_sync report``.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from .config import Environment
from .database import Database, Kind
from .sync_engine import PIPELINE

ALL: Final = "all"
"""The customers of a run that was for all of its environment."""
SUMMARY: Final = "_SYNC_SUMMARY.md"
_MOST: Final = 50
"""Records of each kind that are listed."""
_STATES: Final = ("SYNCED", "ERROR", "PENDING")
_MARKS: Final = {"success": "✅", "partial": "⚠️", "failure": "❌", "interrupted": "🛑"}
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>#!|~&$@]|:(?=//)|(?<=www)\.)")


def make(directory: Path, sync_id: str | None = None) -> str:
    """Let otelsync make the report of a run; without its name, of the latest. Returns its name, empty if that fails."""
    command = [sys.executable, "-m", "otelsync.cli", "report", "--json", "--output", str(directory)]
    command += [sync_id] if sync_id else []
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return str(json.loads(made.stdout)["sync_id"]) if made.returncode == 0 else ""


def write_all(directory: Path, environment: Environment, database: Database, anew: str = "") -> list[Path]:
    """Write the customers' files of each report of an environment that lacks any, and of the run named `anew`.

    Returns:
        The files.
    """
    written: list[Path] = []
    for path in sorted(directory.glob("*/summary.json")):
        try:
            summary = json.loads(path.read_text())
            if summary["pipeline"] == PIPELINE and summary["attributes"]["environment"] == environment.name:
                pages = {path.parent / _file(name, summary): name for name in _customers(summary, environment)}
                if path.parent.name == anew or not all(page.exists() for page in pages):
                    written += _write(pages, summary, database)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"order_sync: no customers' files in {path.parent}: {type(error).__name__}: {error}", file=sys.stderr)
    return written


def _customers(summary: Mapping[str, Any], environment: Environment) -> list[str]:
    """All that the run was for, also those to which it did not come."""
    called = str(summary["attributes"]["customers"])
    names = [each.name for each in environment.customers] if called == ALL else called.split(", ")
    return list(dict.fromkeys(names))


def _write(pages: Mapping[Path, str], summary: Mapping[str, Any], database: Database) -> list[Path]:
    for path, customer in pages.items():
        path.write_text("\n".join(_page(customer, summary, database)) + "\n", encoding="utf-8")
    return list(pages)


def _file(customer: str, summary: Mapping[str, Any]) -> str:
    started = datetime.fromisoformat(summary["started_at"])
    return f"{re.sub(r'[^a-z0-9_-]+', '-', customer.lower())}_{started:%Y%m%d_%H%M%S}.md"


def _page(customer: str, summary: Mapping[str, Any], database: Database) -> Iterator[str]:
    group = next((group for group in summary["groups"] if group["name"] == customer), None)
    outcome = group["outcome"] if group is not None else "not begun"
    yield f"# {_text(customer)}: {_MARKS.get(outcome, '')} {outcome}".replace(":  ", ": ")
    yield ""
    dry = "" if summary["attributes"].get("execute") == "True" else ", a dry run"
    started = datetime.fromisoformat(summary["started_at"])
    yield f"Sync {summary['sync_id']} of {started:%Y-%m-%d %H:%M:%S} UTC: {summary['outcome']}."
    yield f"Environment: {_text(summary['attributes'].get('environment'))}{dry}. [Summary]({SUMMARY})"
    yield from _session(group) if group is not None else ("", "The run did not come to this customer.")
    try:
        yield from _database(customer, str(summary["sync_id"]), database)
    except sqlite3.Error as error:
        yield from ("", "## Database", "", f"It cannot be read: {_text(error)}.")


def _session(group: Mapping[str, Any]) -> Iterator[str]:
    items = group["items"]
    counts = ", ".join(f"{items[name]} {name}" for name in ("created", "updated", "skipped", "failed") if items[name])
    yield from ("", "## Session", "", "| | |", "|---|---|")
    yield f"| records processed | {items['fetched']}{f' ({counts})' if counts else ''} |"
    yield f"| errors | {group['errors']} |"
    yield f"| execution time | {group['duration_seconds']:.2f} s |"
    yield f"| waited for limits and retries | {group['waited_seconds']:.2f} s |"
    yield f"| API operations | {group['api_calls']}, {group['api_failed']} failed, {group['resent']} sent again |"
    for error in group["own_errors"]:
        yield f"| failed by | {_text(error['type'])}: {_text(error['message'])} |"
    if group["batches"]:
        yield from ("", "| batches of | number | succeeded | failed | records |", "|---|---:|---:|---:|---:|")
    for each in group["batches"]:
        succeeded = f"{each['succeeded']}, {each['succeeded'] / max(each['count'], 1):.1%}"
        yield f"| {_text(each['name'])} | {each['count']} | {succeeded} | {each['failed']} | {each['items']} |"
    calls = [each for each in group["operations"] if each["name"].startswith("sync.api ")]
    if calls:
        yield from ("", "| API operation | calls | failed | together | slowest |", "|---|---:|---:|---:|---:|")
    for each in sorted(calls, key=lambda each: str(each["name"])):
        name, times = _text(each["name"][9:]), f"{each['total_seconds']:.3f} s | {each['slowest_seconds']:.3f} s"
        yield f"| {name} | {each['count']} | {each['failed']} | {times} |"


def _database(customer: str, sync_id: str, database: Database) -> Iterator[str]:
    kinds: tuple[tuple[Kind, str], ...] = (("order", "orders"), ("subitem", "sub-items"))
    yield from (
        "",
        "## Database",
        "",
        f"As of {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC. In brackets: by this run.",
        "",
    )
    yield from ("| | synced | error | pending |", "|---|---:|---:|---:|")
    for kind, name in kinds:
        states, own = database.states(customer, kind), database.states(customer, kind, sync_id)
        figures = " | ".join(f"{states[state]} ({own[state]})" for state in _STATES[:2])
        yield f"| {name} | {figures} | {states['PENDING']} |"
    for state, title in (("ERROR", "Errors"), ("PENDING", "Pending")):
        for kind, name in kinds:
            number = database.states(customer, kind)[state]
            if number:
                yield from ("", f"### {title}: {name}", "", "| key | title | status | reason |", "|---|---|---|---|")
                for record in database.in_state(customer, kind, state, _MOST):
                    yield _row(record.key, record.title, record.status, record.error or "")
                if number > _MOST:
                    yield from ("", f"And {number - _MOST} more.")


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


def _text(value: object) -> str:
    """Text as Markdown shows it: nothing in it is markup, and control characters are escapes."""
    text = str(value)
    text = text if len(text) <= 200 else f"{text[:200]}…"
    return _MARKDOWN.sub(r"\\\1", "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text))


def table(folder: Path) -> list[str]:
    """The customers' table of a report."""
    lines = (folder / SUMMARY).read_text(encoding="utf-8").splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith("## By customer")), len(lines))
    return list(takewhile(lambda line: not line.startswith("## "), lines[begin + 1 :]))
