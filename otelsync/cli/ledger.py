"""``otelsync ledger``: what became of every record, by journal, signal and sink."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.shipping.ledger import Account, Ledger, read_ledger
from otelsync.text.printable import pad, printable


@click.command(name="ledger")
@options.json_option("A JSON object: journal, signal, sink.")
@options.home_option
def command(as_json: bool, home: Path | None) -> None:
    """Account for every record: recorded = shipped + folded + dropped + pending."""
    settings = options.settings_of(home)
    ledgers = {directory.name: read_ledger(directory) for directory in settings.journal_directories()}
    if as_json:
        click.echo(json.dumps({name: ledger.as_dict() for name, ledger in ledgers.items()}, indent=2))
        return
    if not ledgers:
        click.echo(f"nothing has been recorded under {printable(settings.home)} yet")
        return
    click.echo(_row(("journal", "signal", "sink"), ("recorded", "shipped", "folded", "dropped", "pending")))
    for name, ledger in ledgers.items():
        _print(printable(name, 40), ledger)


def _print(name: str, ledger: Ledger) -> None:
    for account in ledger.accounts:
        figures = (account.recorded, account.shipped, account.folded, sum(account.dropped.values()), account.pending)
        row = _row((name, account.signal, account.sink), [f"{figure:,}" for figure in figures])
        click.echo(row + _remarks(account))
    if not ledger.accounts:
        for signal, count in ledger.recorded.items():
            dropped = ledger.dropped.get(signal, {})
            figures = (count, 0, 0, sum(dropped.values()), count - sum(dropped.values()))
            click.echo(_row((name, signal, "none yet"), [f"{figure:,}" for figure in figures]) + _reasons(dropped))
    if ledger.corrupted_bytes:
        click.echo(f"{name}: {ledger.corrupted_bytes:,} bytes were damaged; how many records that was is not known")
    for remark in ledger.remarks:
        click.echo(f"{name}: {printable(remark, 200)}")


def _row(names: tuple[str, str, str], figures: tuple[str, ...] | list[str]) -> str:
    journal, signal, sink = names
    return pad(journal, 24) + f"  {signal:<6}  {sink:<8}" + "".join(f"{figure:>13}" for figure in figures)


def _remarks(account: Account) -> str:
    return _reasons(account.dropped, *(() if account.reconciles else ("does not add up",)))


def _reasons(dropped: Mapping[str, int], *others: str) -> str:
    remarks = [*(f"{reason} {count:,}" for reason, count in dropped.items()), *others]
    return f"  ({', '.join(remarks)})" if remarks else ""
