"""Takeover: when the process that ships a directory is killed, another goes on where it was."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hosts import Found, Tally, command, found_at_endpoint, found_in_store, host, reconciled
from otlp_server import eventually, otlp_server

from otelsync.shipping.checkpoint import NAME


def holds_all(found: Found, tally: Tally) -> None:
    """Hold that everything that was put down has come, and what was open has been closed."""
    assert tally.spans - found.spans.keys() == set()
    assert tally.logs - found.logs.keys() == set()
    assert (found.torn, found.open) == ([], set())
    unfinished = tally.begun - tally.spans
    assert unfinished <= found.spans.keys()
    # One stage may have ended just before its process could put that down.
    assert len(unfinished - found.interrupted) <= 1


def once(found: Found, tally: Tally) -> bool:
    """Whether nothing is there twice."""
    return {*found.spans.values(), *(found.logs[number] for number in tally.logs)} <= {1}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_process_takes_over(tmp_path: Path, seed: int) -> None:
    """Of two processes with one journal directory the one that ships is killed: the other ships all that both have
    recorded, to the endpoint at least once and to the store exactly once."""
    dice = random.Random(seed)
    home, tally = tmp_path / "home", Tally()
    with otlp_server() as server:
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
        with host(home, "record_until_killed", tmp_path / "tally", **options) as owner:
            eventually(lambda: (owner.journal / NAME).exists() and server.accepted)
            with host(home, **options) as other:
                other.record(2000)
                assert server.accepted
                time.sleep(dice.uniform(0.0, 0.2))  # a random moment, not a condition
                owner.kill()
                tally.read(tmp_path / "tally")
                other.record(2000)
                eventually(lambda: not list(owner.journal.glob(f"{owner.process.pid}-*")))
                assert other.ask("flush", 60) == "True", other.log
                assert other.end() == 0
        delivered, stored = found_at_endpoint(server), found_in_store(other.store)
    for found in (delivered, stored):
        holds_all(found, tally)
        assert len(found.spans) >= len(tally.spans) + other.recorded
        assert set(found.spans) == set(stored.spans)
    assert once(stored, tally)
    ledger = reconciled(other.journal)
    assert ledger.recorded["span"] == len(stored.spans)
    assert [(account.pending, account.dropped) for account in ledger.accounts] == [(0, {})] * 4


def test_ship_once_drains_what_a_killed_process_left(tmp_path: Path) -> None:
    """``otelsync ship --once`` delivers all that a process without a shipper had recorded when it was killed."""
    tally = Tally()
    with otlp_server() as server:
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "SHIP": "off"}
        with host(tmp_path / "home", "record_until_killed", tmp_path / "tally", **options) as killed:
            eventually(lambda: len(list(killed.journal.glob("*.journal"))) > 1)
            killed.kill()
        tally.read(tmp_path / "tally")
        assert not server.received
        for _ in range(2):
            command(killed.environment, "ship", "--once", "--timeout", "300")
        delivered, stored = found_at_endpoint(server), found_in_store(killed.store)
    for found in (delivered, stored):
        holds_all(found, tally)
        assert once(found, tally)
    assert list(killed.journal.glob("*.journal")) == []
    reconciled(killed.journal)
