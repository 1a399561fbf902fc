"""Files of another version, and files that cannot be used: said and set aside, or said and left alone."""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from journal_files import JournalFile

from otelsync.cli import main
from otelsync.configuration.destinations import make_shipper
from otelsync.settings import Settings
from otelsync.shipping import checkpoint as checkpoints
from otelsync.shipping.checkpoint import Checkpoint
from otelsync.shipping.ledger import read_ledger


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings.from_environment(home=tmp_path, service_name="jobs", reports="off")
    settings.journal.mkdir(parents=True)
    return settings


def ship(settings: Settings) -> None:
    shipper = make_shipper(settings)()
    assert shipper.own()
    assert shipper.drain(120)
    shipper.close()


def written_by_a_later_version(directory: Path) -> str:
    document = json.dumps({"version": 2, "of": "a later one"}).encode()
    text = document + b"\n%08x\n" % zlib.crc32(document)
    (directory / checkpoints.NAME).write_bytes(text)
    return text.decode()


def test_a_checkpoint_of_another_version_is_set_aside(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Its accounts are kept for the version that can read them; the ledger says where they are."""
    text = written_by_a_later_version(settings.journal)
    JournalFile(settings.journal, alive=False, state=2).spans(3).write()
    assert "another version of otelsync (its form: 2)" in read_ledger(settings.journal).remarks[0]
    with caplog.at_level(logging.WARNING):
        ship(settings)
    aside = f"{checkpoints.ASIDE}-1"
    assert (settings.journal / aside).read_text() == text
    said = (
        "shipping: shipper.json was written by another version of otelsync (its form: 2); it was moved to"
        f" {aside}, and what the journals still hold is delivered again"
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    ledger = read_ledger(settings.journal)
    assert ledger.remarks == (f"what was shipped before stands in {aside}, which could not be used",)
    assert ledger.recorded["span"] == 3
    assert aside in CliRunner().invoke(main, ["ledger", "--home", str(settings.home)]).output


@pytest.mark.parametrize("text", ["", "{}", "\x00" * 100], ids=["cut to nothing", "no checksum", "zeros"])
def test_a_damaged_checkpoint_is_set_aside(settings: Settings, text: str) -> None:
    """Nothing is written over it, and a second one goes beside the first."""
    for number in (1, 2):
        (settings.journal / checkpoints.NAME).write_text(text)
        JournalFile(settings.journal, alive=False, state=2, nonce=f"{number:08x}").spans(3).write()
        ship(settings)
        assert (settings.journal / f"{checkpoints.ASIDE}-{number}").read_text() == text


def test_a_journal_of_another_version_is_in_the_ledger(settings: Settings) -> None:
    """It is said, and set aside with all that it holds when somebody ships."""
    file = JournalFile(settings.journal, alive=False).spans(3)
    file.version = 2
    file.write()
    ledger = read_ledger(settings.journal)
    assert ledger.remarks == (
        "left alone, as it is of another version (format version 2, this release reads version 1)",
    )
    assert ledger.as_dict()["remarks"] == list(ledger.remarks)
    before = file.path.read_bytes()
    ship(settings)
    assert file.path.with_name(f"{file.path.name}.other-version").read_bytes() == before


def test_a_store_of_another_version_is_left_alone(settings: Settings) -> None:
    """Whoever looks or ships says so, with the fix; its bytes stay what they are."""
    JournalFile(settings.journal, alive=False).spans(3).write()
    with closing(sqlite3.connect(settings.store_file)) as store:
        store.executescript(
            "PRAGMA application_id = 0x4F53594E; PRAGMA user_version = 9; CREATE TABLE runs (trace_id TEXT)"
        )
    before = settings.store_file.read_bytes()
    for command in (["list"], ["show"], ["logs"], ["ship", "--once", "--timeout", "1"]):
        result = CliRunner().invoke(main, [*command, "--home", str(settings.home)])
        assert result.exit_code == 1
        assert "was written by another version of otelsync (its tables: 9); set OTELSYNC_STORE_PATH" in result.output
    assert settings.store_file.read_bytes() == before


def test_sqlite_keeps_its_temporary_data_in_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the home can be written, and nothing in it for long, there is no place for other files."""
    from otelsync.store.connection import connect
    from otelsync.store.runs import open_store

    monkeypatch.setenv("SQLITE_TMPDIR", "/nowhere")
    with closing(connect(settings.store_file)) as connection:
        assert connection.execute("PRAGMA temp_store").fetchone() == (2,)
    with open_store(settings.store_file) as store:
        assert store.execute("PRAGMA temp_store").fetchone() == (2,)


def test_totals_of_a_new_checkpoint_are_right(settings: Settings) -> None:
    """What was delivered by an account that is set aside is delivered once more, and counted once here."""
    checkpoints.save(settings.journal, Checkpoint())
    JournalFile(settings.journal, alive=False, state=2).spans(5).write()
    ship(settings)
    ledger = read_ledger(settings.journal)
    assert ledger.reconciles
    assert ledger.remarks == ()
    assert {account.signal: account.shipped for account in ledger.accounts} == {"span": 5, "log": 0}
