"""What comes from outside stays what it is: it makes no line, no field, no file and no run of its own."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from recorded import Recorded

import otelsync
from otelsync import vocabulary
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


IDENTITY: Final = ("sync.id", "sync.pipeline", "sync.customer", "sync.repo", "sync.board")
"""Attributes that say of which run and groups a record is; the last one of a group that is not there."""
FORGED: Final = dict.fromkeys(
    (
        *IDENTITY,
        *("sync_id", "sync_pipeline", "sync_customer", "sync_repo", "pipeline", "customer", "repo", "board"),
        *("id", "trace_id", "span_id", "service", "logger", "level", "timestamp", "sync"),
    ),
    OTHER,
)


def _say_with_forgeries() -> None:
    """Give them in each way in which a record gets fields, twice, as what comes again goes another way."""
    for _ in range(2):
        otelsync.get_logger("app").warning("by otelsync", **FORGED)
        otelsync.get_logger("app", **{name: OTHER for name in FORGED if name != "logger"}).warning("from the start")
        otelsync.get_logger("app").bind(**FORGED).warning("bound")
        for name in FORGED:
            otelsync.get_logger("app").warning("one alone", **{name: OTHER})
        structlog.get_logger("app").warning("by structlog", **FORGED)
        with structlog.contextvars.bound_contextvars(**FORGED):
            otelsync.get_logger("app").warning("in the context")
        logging.getLogger("app").warning("by logging", extra=FORGED)
        with otelsync.sync_context(**FORGED):
            otelsync.get_logger("app").warning("in a sync context")
            logging.getLogger("app").warning("by logging in a sync context")
            with otelsync.stage("inside"):
                otelsync.get_logger("app").warning("in a stage in a sync context")
        otelsync.get_logger("app").error("failed", exc_info=ValueError("x"), **FORGED)


@pytest.mark.parametrize("form", ["json", "console", "keep"])
def test_no_field_moves_a_record_to_another_run_or_group(record: Any, form: str) -> None:
    """Whatever it is called and however it is given, inside a group, inside a run, and outside any."""
    recorded: Recorded = record(**({"logging": "keep"} if form == "keep" else {"log_format": form}))
    _say_with_forgeries()
    with otelsync.pipeline("p") as run:
        own = {"sync.id": run.sync_id, "sync.pipeline": "p"}
        _say_with_forgeries()
        with otelsync.group("customer", "GREYSON"), otelsync.repo("acme/api") as repo:
            repo_id = repo.span_id
            _say_with_forgeries()
    inside = own | {"sync.customer": "GREYSON", "sync.repo": "acme/api"}
    otelsync.shutdown()
    of_app = [line.attributes for line in recorded.logs if line.logger == "app"]
    found = {tuple((name, line[name]) for name in IDENTITY if name in line) for line in of_app}
    assert found == {(), tuple(own.items()), tuple(inside.items())}
    of_stages = [span.attributes for span in recorded.spans if span.name == "sync.stage inside"]
    spans = {(span.get("sync.id"), span.get("sync.pipeline"), vocabulary.groups_of(span)) for span in of_stages}
    groups = (("customer", "GREYSON"), ("repo", "acme/api"))
    assert spans == {(None, None, ()), (run.sync_id, "p", ()), (run.sync_id, "p", groups)}
    if form == "json":
        of_run = [line for line in recorded.lines if line["logger"] == "app" and "sync_id" in line]
        assert {(line["trace_id"], line["sync_id"], line["pipeline"]) for line in of_run} == {
            (run.trace_id, run.sync_id, "p"),
        }
        of_group = [line for line in of_run if line["span_id"] == repo_id]
        assert {(line["customer"], line["repo"], line["repo_"]) for line in of_group if "repo_" in line} == {
            ("GREYSON", "acme/api", OTHER),
        }
    shipper = Shipper(recorded.journal, store=StoreSink(recorded.home / "store.db"))
    assert shipper.drain(120)
    shipper.close()
    with closing(sqlite3.connect(recorded.home / "store.db")) as store:
        assert {each for (each,) in store.execute("SELECT DISTINCT sync_id FROM logs")} == {None, run.sync_id}
        assert {each for (each,) in store.execute("SELECT DISTINCT sync_id FROM runs")} == {None, run.sync_id}


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
