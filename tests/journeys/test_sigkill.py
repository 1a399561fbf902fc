"""SIGKILL: whatever a process had finished when it was killed arrives, whole and once."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from hosts import Tally, command, found_at_endpoint, found_in_store, host, reconciled
from otlp_server import otlp_server

SEEDS = (101, 102)
KILLS = 100
"""By seed."""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_200_kills_lose_nothing(tmp_path: Path) -> None:
    """Of 200 processes killed while they record and ship, every finished span and log record is delivered, none torn,
    none twice in the store, and what was open is closed as interrupted."""
    with otlp_server() as server, ExitStack() as stack:
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
        home = tmp_path / "home"
        killers = [stack.enter_context(host(home, "die_at_random", tmp_path, seed, KILLS, **options)) for seed in SEEDS]
        for killer in killers:
            assert killer.answer() == "all dead", killer.log
            assert killer.log == ""
        command(killers[0].environment, "ship", "--once", "--timeout", "600")
        delivered, stored = found_at_endpoint(server), found_in_store(killers[0].store)
    tally = Tally()
    tallies = [path for seed in SEEDS for path in tmp_path.glob(f"{seed}-*")]
    for path in tallies:
        tally.read(path)
    about = f"with the seeds {SEEDS}"
    assert len(tallies) == KILLS * len(SEEDS)
    assert len(tally.spans) > 20 * len(tallies), "they were killed before they had recorded anything to speak of"
    for found in (delivered, stored):
        assert tally.spans - found.spans.keys() == set(), about
        assert tally.logs - found.logs.keys() == set(), about
        assert (found.torn, found.open) == ([], set()), about
        assert tally.begun - tally.spans - found.interrupted <= set(found.spans), about
        unfinished = tally.begun - tally.spans
        assert unfinished - found.spans.keys() == set(), about
        # A stage may have ended, and its process before it could be put down.
        assert len(unfinished - found.interrupted) <= len(tallies), about
        assert found.interrupted & tally.spans == set(), about
    assert [span for span, count in stored.spans.items() if count > 1] == [], about
    assert [number for number, count in stored.logs.items() if count > 1] == [], about
    ledger = reconciled(killers[0].journal)
    assert (ledger.corrupted_bytes, list(killers[0].journal.glob("*.journal"))) == (0, []), str(ledger)
    assert [account.pending for account in ledger.accounts] == [0] * 4, str(ledger)
    assert [account.dropped for account in ledger.accounts] == [{}] * 4, str(ledger)
