from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from journal_files import JournalFile, span
from stored import batch, store
from stored import span as stored_span

from otelsync.doctor import backlog, home
from otelsync.doctor.findings import Finding, worst
from otelsync.doctor.variables import read
from otelsync.journal.format import SPAN
from otelsync.settings import Settings
from otelsync.shipping.ownership import Ownership, owner

IS_ROOT = os.geteuid() == 0
needs_mount = pytest.mark.skipif(not IS_ROOT, reason="only root may mount")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a service whose journal directory is there."""
    made = Settings.from_environment({}, home=tmp_path / "home", service_name="sync")
    made.journal.mkdir(parents=True, mode=0o700)
    made.journals.chmod(0o700)
    made.home.chmod(0o700)
    return made


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A file system in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@contextmanager
def owned_elsewhere(path: Path) -> Iterator[int]:
    """Another process that ships a directory; yields its number."""
    program = (
        "import sys; from pathlib import Path; from otelsync.shipping.ownership import Ownership;"
        "owner = Ownership(Path(sys.argv[1])); print(owner.acquire(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process.pid
        process.communicate()


def of(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def test_a_directory_that_can_be_written(settings: Settings) -> None:
    """Files are made, mapped and locked, and nothing is left."""
    found = of(home.examine_journal(settings))
    assert worst(found.values()) == "ok" or set(found) & {"nearly_full"}
    assert found["writable"].status == "ok"
    assert list(settings.journal.iterdir()) == []


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    """Nothing is made of the home that was not there, and shippers see nothing among the journals."""
    missing = Settings.from_environment({}, home=tmp_path / "home", service_name="sync")
    assert of(home.examine_journal(missing))["writable"].status == "ok"
    assert list(tmp_path.iterdir()) == []
    missing.journals.mkdir(parents=True)
    with home.temporary(missing.journal, but_not=missing.journals) as place:
        assert place.parent == missing.home


def test_a_read_only_directory(settings: Settings) -> None:
    """What cannot be written is a problem, with the reason and a fix for it."""
    if IS_ROOT:
        with mounted(settings.journal, "ro,size=64k"):
            found = of(home.examine_journal(settings))
    else:
        settings.journal.chmod(0o500)
        found = of(home.examine_journal(settings))
    assert found["unwritable"].status == "problem"
    assert "Read-only file system" in found["unwritable"].message or not IS_ROOT
    assert "OTELSYNC_HOME" in found["unwritable"].fix


@needs_mount
def test_a_full_directory(settings: Settings) -> None:
    """Where not even one journal fits, that is said, and how to get room."""
    with mounted(settings.journal, "size=64k,mode=700"):
        found = of(home.examine_journal(settings))
    assert found["full"].status == "problem"
    assert "free some space" in found["full"].fix


@needs_mount
def test_a_nearly_full_directory(settings: Settings) -> None:
    """Less room than a journal may take is a warning."""
    with mounted(settings.journal, "size=100m,mode=700"):
        found = of(home.examine_journal(settings))
    assert found["nearly_full"].status == "warning"
    assert "OTELSYNC_JOURNAL_MAX_BYTES" in found["nearly_full"].fix


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A home that is a file is named."""
    (tmp_path / "home").write_text("")
    found = home.examine_journal(Settings.from_environment({}, home=tmp_path / "home", service_name="sync"))
    assert [finding.code for finding in found] == ["unwritable"]
    assert str(tmp_path / "home") in found[0].message


def test_a_directory_that_others_may_read(settings: Settings) -> None:
    """What is recorded is nobody else's business."""
    settings.journal.chmod(0o755)
    found = of(home.examine_journal(settings))["not_private"]
    assert (found.status, found.fix) == ("warning", f"chmod 700 {settings.journal}")


@pytest.mark.skipif(not IS_ROOT, reason="only root may give directories away")
def test_a_directory_of_another_user(settings: Settings) -> None:
    """Another owner is a warning."""
    os.chown(settings.journal, 12345, -1)
    assert "12345" in of(home.examine_journal(settings))["other_owner"].message


def waiting(settings: Settings, *, alive: bool = False, version: int = 1) -> JournalFile:
    """A journal with a span that nobody has taken."""
    journal = JournalFile(settings.journal, alive=alive)
    journal.version = version
    journal.add(SPAN, 0, span(1))
    journal.write()
    return journal


def found_waiting(settings: Settings, **environment: str) -> dict[str, Finding]:
    asked = read(environment, home=settings.home, service_name="sync")
    assert asked.settings is not None
    return of(backlog.examine(asked.settings))


def test_nothing_waits(settings: Settings) -> None:
    """An empty directory has nothing to say, nor one that is not there."""
    assert set(found_waiting(settings)) == {"empty"}
    settings.journal.rmdir()
    assert set(found_waiting(settings)) == {"empty"}


def test_records_that_nobody_ships(settings: Settings) -> None:
    """What a process that is gone has left is a problem, and the fix is to ship it."""
    waiting(settings)
    found = found_waiting(settings)["nobody_ships"]
    assert found.status == "problem"
    assert found.message.startswith("sync: 0.01 MiB in 1 files wait")
    assert "otelsync ship --once" in found.fix


def test_records_that_somebody_ships(settings: Settings) -> None:
    """With a shipper at work the backlog is as it should be, and the shipper is named."""
    waiting(settings, alive=True)
    with owned_elsewhere(settings.journal) as pid:
        assert owner(settings.journal) == pid
        found = found_waiting(settings)["pending"]
    assert found.status == "ok"
    assert f"process {pid} (python" in found.message
    assert owner(settings.journal) is None


def test_a_shipper_that_gets_nothing_through(settings: Settings) -> None:
    """A shipper that has made no progress for long is a problem."""
    waiting(settings)
    checkpoint = settings.journal / "shipper.json"
    checkpoint.write_text("")
    os.utime(checkpoint, (1_700_000_000, 1_700_000_000))
    with owned_elsewhere(settings.journal):
        assert found_waiting(settings)["shipper_stuck"].status == "problem"


def test_looking_for_the_owner_does_not_end_its_lock(settings: Settings) -> None:
    """A process that ships a directory itself still does after it has looked who does."""
    ownership = Ownership(settings.journal)
    assert ownership.acquire()
    assert owner(settings.journal) == os.getpid()
    program = (
        "import sys; from pathlib import Path; from otelsync.shipping.ownership import owner;"
        "print(owner(Path(sys.argv[1])))"
    )
    arguments = [sys.executable, "-c", program, str(settings.journal)]
    seen = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    ownership.release()
    assert int(seen) == os.getpid()


def test_journals_of_another_version(settings: Settings) -> None:
    """What another release has written, and this one leaves alone, is said."""
    waiting(settings, version=9)
    found = found_waiting(settings)["other_version"]
    assert (found.status, found.message) == (
        "problem",
        "sync: 1 journal files were written by another version of otelsync",
    )


def test_dropped_records(settings: Settings) -> None:
    """What was lost is counted by reason."""
    journal = JournalFile(settings.journal, alive=True)
    journal.dropped[0] = 5
    journal.write()
    found = found_waiting(settings)["dropped"]
    assert found.status == "warning"
    assert "5 records have been dropped so far (journal_full 5)" in found.message


def test_nobody_ships_at_all(settings: Settings) -> None:
    """A program that leaves shipping to others needs one."""
    assert found_waiting(settings, OTELSYNC_SHIP="off")["no_shipper"].status == "warning"
    with owned_elsewhere(settings.journal):
        assert "no_shipper" not in found_waiting(settings, OTELSYNC_SHIP="off")


def test_the_store(settings: Settings) -> None:
    """A store is read and not written; none is no fault."""
    assert of([home.examine_store(settings)])["none_yet"].status == "ok"
    store(settings.store_file, batch(stored_span("sync.pipeline nightly", 1)))
    assert "1 traces" in of([home.examine_store(settings)])["readable"].message


def test_a_store_that_is_none(settings: Settings) -> None:
    """Another program's database, rubbish and another version are problems with a fix."""
    with closing(sqlite3.connect(settings.store_file)) as other:
        other.execute("CREATE TABLE things (x)")
        other.commit()
    assert "another program" in of([home.examine_store(settings)])["unusable"].message
    settings.store_file.write_bytes(b"rubbish" * 1000)
    assert of([home.examine_store(settings)])["unusable"].status == "problem"


def test_a_store_that_cannot_be_written(settings: Settings) -> None:
    """A place for the store that is read-only is a problem."""
    elsewhere = settings.home / "elsewhere"
    elsewhere.mkdir()
    moved = Settings.from_environment({}, home=settings.home, store_path=elsewhere / "store.db")
    if IS_ROOT:
        with mounted(elsewhere, "ro,size=64k"):
            found = of([home.examine_store(moved)])
    else:
        elsewhere.chmod(0o500)
        found = of([home.examine_store(moved)])
    assert found["unwritable"].status == "problem"
    assert "OTELSYNC_STORE_PATH" in found["unwritable"].fix


def test_something_else_in_the_journal_directory(settings: Settings) -> None:
    """A file with a journal's name that is none is counted, and not opened for ever."""
    path = settings.journal / "1-1-aaaaaaaa-000000.journal"
    os.mkfifo(path)
    assert found_waiting(settings)["unreadable"].status == "problem"
