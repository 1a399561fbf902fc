from __future__ import annotations

import json
from pathlib import Path

import pytest
from journal_files import JournalFile

from otelsync.journal.format import SEALED, SPAN, STATE_AT
from otelsync.journal.writer import Journal
from otelsync.shipping import checkpoint as checkpoints
from otelsync.shipping.checkpoint import STAGES, Checkpoint, FileProgress
from otelsync.shipping.ledger import Account, Ledger, read_ledger


def accounts(ledger: Ledger) -> dict[tuple[str, str], Account]:
    return {(account.sink, account.signal): account for account in ledger.accounts}


def test_an_empty_or_missing_directory_has_an_empty_ledger(tmp_path: Path) -> None:
    """Where nothing was recorded, nothing is missing."""
    for directory in (tmp_path, tmp_path / "none"):
        ledger = read_ledger(directory)
        assert ledger.reconciles
        assert ledger.recorded == {"span": 0, "log": 0}


def test_without_a_shipper_everything_is_recorded(tmp_path: Path) -> None:
    """Before anybody ships, the files alone tell what was recorded."""
    JournalFile(tmp_path).spans(3).logs(2).begin(9).write()
    ledger = read_ledger(tmp_path)
    assert ledger.recorded == {"span": 3, "log": 2}
    assert str(ledger) == "spans: 3 recorded, no sink; logs: 2 recorded, no sink"


def test_the_parts_add_up(tmp_path: Path) -> None:
    """recorded = shipped + folded + dropped + pending, by sink, over files that are there and files that are gone."""
    file = JournalFile(tmp_path)
    file.dropped[0], file.dropped[5] = 2, 1
    file.spans(4)
    cursor = file.end
    file.spans(3, first=5).logs(6).write()
    checkpoints.save(
        tmp_path,
        Checkpoint(
            sinks={"traces": ["span"], "store": ["span", "log"]},
            files={
                file.name: FileProgress(
                    {"traces": cursor, STAGES: file.end},
                    {"traces": {"span": 4}, STAGES: {"span": 7, "log": 6}},
                )
            },
            totals={
                "traces": {"span": {"recorded": 10, "shipped": 12, "rejected": 2}},
                "store": {"span": {"recorded": 10, "shipped": 10}, "log": {"recorded": 5, "shipped": 5}},
            },
            recorded={"span": 10, "log": 5},
            dropped={"span": {"disk": 3}},
            corrupted_bytes=99,
        ),
    )
    ledger = read_ledger(tmp_path)
    assert ledger.reconciles
    assert ledger.recorded == {"span": 22, "log": 12}
    by_key = accounts(ledger)
    assert by_key["traces", "span"] == Account(
        "traces", "span", 22, 12, 0, {"disk": 3, "journal_full": 2, "rejected": 2}, 3
    )
    assert by_key["store", "span"] == Account("store", "span", 22, 10, 0, {"disk": 3, "journal_full": 2}, 7)
    assert by_key["store", "log"] == Account("store", "log", 12, 5, 0, {"too_large": 1}, 6)
    assert str(by_key["traces", "span"]) == (
        "spans to traces: 22 recorded = 12 shipped + 0 folded + 7 dropped"
        " (journal_full 2, disk 3, rejected 2) + 3 pending"
    )
    assert str(ledger).endswith("99 bytes corrupted")


def test_a_sum_that_is_wrong_is_shown_as_wrong(tmp_path: Path) -> None:
    """A shipper that claims more than the files hold is found out: the ledger counts for itself."""
    file = JournalFile(tmp_path).spans(5).write()
    checkpoints.save(
        tmp_path,
        Checkpoint(
            sinks={"traces": ["span"]},
            files={file.name: FileProgress({"traces": file.end}, {"traces": {"span": 6}})},
            totals={"traces": {"span": {"shipped": 6}}},
        ),
    )
    ledger = read_ledger(tmp_path)
    assert not ledger.reconciles
    assert "5 recorded ≠ 6 shipped" in str(ledger)
    assert ledger.as_dict()["reconciles"] is False


def test_as_dict_is_json(tmp_path: Path) -> None:
    """The dictionary has one entry a signal, and below it one a sink."""
    file = JournalFile(tmp_path).spans(2).write()
    checkpoints.save(tmp_path, Checkpoint(sinks={"traces": ["span"]}))
    document = json.loads(json.dumps(read_ledger(tmp_path).as_dict()))
    assert file.path.exists()
    assert document == {
        "reconciles": True,
        "corrupted_bytes": 0,
        "remarks": [],
        "signals": {
            "span": {
                "recorded": 2,
                "sinks": {"traces": {"recorded": 2, "shipped": 0, "folded": 0, "dropped": {}, "pending": 2}},
            },
            "log": {"recorded": 0, "sinks": {}},
        },
    }


def test_files_that_are_accounted_for_are_not_counted_twice(tmp_path: Path) -> None:
    """A file that the shipper has retired and not yet deleted counts once."""
    file = JournalFile(tmp_path).spans(5).write()
    checkpoints.save(tmp_path, Checkpoint(recorded={"span": 5}, retired=[file.name]))
    assert read_ledger(tmp_path).recorded["span"] == 5


@pytest.mark.parametrize("cut", [600, 300, 0])
def test_a_shortened_file_counts_as_far_as_it_was_seen(tmp_path: Path, cut: int) -> None:
    """What the shipper had seen of a file that somebody cut off stays in the account."""
    file = JournalFile(tmp_path, alive=False).spans(10).write()
    counts = {"traces": {"span": 10}, STAGES: {"span": 10}}
    checkpoints.save(
        tmp_path,
        Checkpoint(
            sinks={"traces": ["span"]},
            files={file.name: FileProgress(dict.fromkeys(counts, file.end), counts)},
            totals={"traces": {"span": {"shipped": 10}}},
        ),
    )
    with file.path.open("r+b") as handle:
        handle.truncate(cut)
    ledger = read_ledger(tmp_path)
    assert ledger.reconciles
    assert accounts(ledger)["traces", "span"].shipped == 10


def test_damage_that_nobody_has_met_yet_is_counted(tmp_path: Path) -> None:
    """Unreadable bytes behind the shipper's cursor are in the ledger before the shipper comes to them."""
    file = JournalFile(tmp_path, alive=False)
    damaged = file.add(SPAN, 0, b"\x12\x03abc")
    file.spans(1).write()
    file.change(damaged + 13, b"\xff")
    ledger = read_ledger(tmp_path)
    assert ledger.recorded["span"] == 1
    assert ledger.corrupted_bytes == 17


def test_what_the_writer_dropped_is_in_the_ledger(tmp_path: Path) -> None:
    """A record that the real journal refuses counts as recorded and dropped, by its reason."""
    journal = Journal(tmp_path)
    scope = journal.scope(journal.resource(b"\x0a\x00"), b"\x0a\x00")
    journal.append(SPAN, scope, b"\x12\x00")
    journal.append(SPAN, scope, b"x" * (5 * 1024 * 1024))
    checkpoints.save(tmp_path, Checkpoint(sinks={"traces": ["span"]}))
    ledger = read_ledger(tmp_path)
    journal.close()
    assert ledger.reconciles
    assert accounts(ledger)["traces", "span"] == Account("traces", "span", 2, 0, 0, {"too_large": 1}, 1)


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    """The ledger takes no lock and writes nothing."""
    file = JournalFile(tmp_path, state=SEALED).spans(1).write()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    read_ledger(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert file.path.read_bytes()[STATE_AT] == SEALED
