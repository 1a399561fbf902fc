"""What comes from outside stays what it is: it makes no line, no field, no file and no run of its own."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from recorded import Recorded

import otelsync
from otelsync.configuration import ship_beside
from otelsync.errors import StoreError
from otelsync.journal.belonging import make_file
from otelsync.shipping.shipper import Shipper
from otelsync.shipping.writers import announce
from otelsync.store.connection import connect
from otelsync.store.writing import StoreSink

LINE: Final = "\n2026-11-27T19:09:00Z [critical ] forged \x1b[31m\r\x85\u2028\u202e"
OTHER: Final = "202611220616-SYNC-E6E4BC9E"


class TwoLinesError(Exception):
    def __str__(self) -> str:
        return f"first{LINE}"


def test_no_value_makes_a_line_of_the_console(record: Any) -> None:
    """Names, values, loggers and stages are of one line; lines of an exception are set in."""
    recorded: Recorded = record(log_format="console")
    log = otelsync.get_logger(f"app{LINE}")
    log.warning(f"event{LINE}", **{f"key{LINE}": LINE}, nested={LINE: [LINE]})
    logging.getLogger(f"plain{LINE}").warning("%s", LINE)
    with pytest.raises(TwoLinesError), otelsync.pipeline(f"p{LINE}"), otelsync.repo(LINE):
        raise TwoLinesError from KeyError(LINE)
    try:
        raise TwoLinesError
    except TwoLinesError:
        log.exception("failed")
    text = recorded.output.getvalue().decode()
    assert not any(character in text for character in "\x1b\r\x85\u2028\u202e")
    lines = text.splitlines()
    assert not [line for line in lines if line.startswith("2026-11-27T19:09:00Z")]
    assert [line for line in lines if line.startswith("  2026-11-27T19:09:00Z")]


def test_a_payload_files_no_record_under_another_run(recorded: Recorded) -> None:
    """Not inside a value, and not as a field of that name."""
    log = otelsync.get_logger("app")
    log.warning("nested", payload={"sync.id": OTHER, "list": [{"sync.id": OTHER}]}, text=f'"sync.id":"{OTHER}"')
    log.warning("field", **{"sync.id": OTHER, "sync_id": OTHER})
    with otelsync.pipeline("p") as run:
        log.warning("within", **{"sync.id": OTHER, "sync_id": OTHER}, payload={"sync.id": OTHER})
        logging.getLogger("plain").warning("plain", extra={"sync.id": OTHER})
        own = run.sync_id
    otelsync.shutdown()
    shipper = Shipper(recorded.journal, store=StoreSink(recorded.home / "store.db"))
    assert shipper.drain(120)
    shipper.close()
    with closing(sqlite3.connect(recorded.home / "store.db")) as store:
        found = dict(store.execute("SELECT event, sync_id FROM logs WHERE level = 'WARNING'"))
    assert found == {"nested": None, "field": None, "within": own, "plain": own}
    assert recorded.line("within")["sync_id"] == own
    assert recorded.line("within")["sync_id_"] == OTHER


@pytest.mark.parametrize("mask", [0, 0o077])
def test_no_file_is_made_behind_a_link(tmp_path: Path, mask: int) -> None:
    """Whoever put it there chose another file: nothing of it is made or written, and what is made is ours alone."""
    before = os.umask(mask)
    try:
        journal, aim = tmp_path / "journal", tmp_path / "aim"
        journal.mkdir()
        make_file(journal / "file")
        announce(journal)
        assert {oct(path.stat().st_mode & 0o777) for path in journal.iterdir()} == {"0o600"}
        for path in journal.iterdir():
            path.unlink()
            path.symlink_to(aim)
        with pytest.raises(OSError, match="symbolic links"):
            make_file(journal / "file")
        with pytest.raises(OSError, match="symbolic links"):
            announce(journal)
        (tmp_path / "store.db").symlink_to(aim)
        with pytest.raises(StoreError, match="a link that leads nowhere"):
            connect(tmp_path / "store.db")
        assert not aim.exists()
    finally:
        os.umask(before)


def test_a_link_to_a_store_on_another_disk_is_followed(tmp_path: Path) -> None:
    """One that leads to a file was made on purpose."""
    (tmp_path / "disk").mkdir()
    connect(tmp_path / "disk" / "store.db").close()
    (tmp_path / "store.db").symlink_to(tmp_path / "disk" / "store.db")
    connect(tmp_path / "store.db").close()


def test_a_shipper_that_cannot_begin_writes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last word may be root's, in the directory of somebody else."""
    monkeypatch.setattr("sys.argv", ["ship_beside.py", str(tmp_path)])
    ship_beside.leave_word(ValueError("first"))
    assert "first" in (tmp_path / "shipper.log").read_text()
    (tmp_path / "shipper.log").unlink()
    (tmp_path / "shipper.log").symlink_to(tmp_path / "aim")
    with pytest.raises(OSError, match="symbolic links"):
        ship_beside.leave_word(ValueError("second"))
    assert not (tmp_path / "aim").exists()
