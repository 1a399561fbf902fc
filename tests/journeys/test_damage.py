"""Damage to disk, directory and files: the host is unharmed, the loss is counted and said once, the rest arrives."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import Host, account, command, found_at_endpoint, found_in_store, host, reconciled
from journal_files import JournalFile, log, span
from otlp_server import eventually, otlp_server
from trace_tree import spans_in_store

from otelsync.journal.format import CLOSED, LOG, SEALED, SPAN
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.shipping.checkpoint import NAME
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.shipper import Shipper
from otelsync.store.writing import StoreSink

IS_ROOT = os.geteuid() == 0


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A file system in memory at `directory`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


@contextmanager
def small_disk(running: Host) -> Iterator[None]:
    """A journal directory with room for 3 MB as root, else one in which from now on no further journal can be made."""
    if IS_ROOT:
        running.journal.mkdir(parents=True, exist_ok=True)
        with mounted(running.journal, "size=3m,mode=700"):
            yield
    else:
        running.record(1)
        running.ask("limit_files", 100_000)
        yield


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """A directory in which nothing can be made."""
    if IS_ROOT:
        with mounted(directory, "ro,size=64k"):
            yield
    else:
        directory.chmod(0o500)
        try:
            yield
        finally:
            directory.chmod(0o700)


def drain(running: Host) -> None:
    command(running.environment, "ship", "--once", "--timeout", "300")


def lost(running: Host) -> int:
    """How many spans the ledger says were lost. All others must be in the store, once and whole.

    A stage of which only the beginning could be written is both: lost, and closed as interrupted.
    """
    counted = account(running.journal, "store")
    found = found_in_store(running.store)
    assert (counted.recorded, counted.pending) == (running.recorded + len(found.interrupted), 0), str(counted)
    assert sum(found.spans.values()) == len(found.spans) == counted.shipped
    assert (found.torn, found.open) == ([], set())
    return sum(counted.dropped.values())


def recovered(running: Host) -> bool:
    """Record a little, and see whether it has come to a file."""
    before = sum(read_ledger(running.journal).accounts[0].dropped.values())
    running.record(1)
    return sum(read_ledger(running.journal).accounts[0].dropped.values()) == before


def test_a_full_disk_while_nobody_ships(tmp_path: Path) -> None:
    """What does not fit is counted and said once; what was recorded before, and after there is room again, arrives."""
    with host(tmp_path / "home", SHIP="off") as running, small_disk(running):
        running.record(30_000)
        running.ask("limit_files", 0)
        drain(running)
        eventually(lambda: recovered(running))
        assert running.end() == 0
        drain(running)
        assert lost(running) > 1000
        assert running.warnings("cannot write to") == 1
        assert running.warnings("No space left on device" if IS_ROOT else "File too large") == 1
        assert running.warnings("host.said") == sum(running.messages().values()) - 1


def test_a_full_disk_while_a_thread_ships(tmp_path: Path) -> None:
    """Shipping makes room on a full disk, and the checkpoint that did not fit harms nobody."""
    with host(tmp_path / "home") as running, small_disk(running):
        for _ in range(4):
            running.record(15_000)
        assert running.end() == 0
        drain(running)
        lost(running)
        assert running.warnings("cannot write the checkpoint") <= 1


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """A host without a journal works on; that it loses records is said once, and at the end how many."""
    home = tmp_path / "home"
    journal = home / "journals" / "host"
    journal.mkdir(parents=True)
    with read_only(journal), host(home, JOURNAL="on") as running:
        running.record(3000)
        assert running.end() == 0
        assert running.warnings("cannot write to") == 1
        assert running.warnings("3000 spans and 4 log records were lost") == 1
    drain(running)  # else the store may not be there yet
    assert found_in_store(running.store).spans == {}


def test_a_directory_that_becomes_read_only(tmp_path: Path) -> None:
    """What cannot be written meanwhile is counted and said once; then recording goes on."""
    with host(tmp_path / "home", SHIP="off") as running:
        running.record(1000)
        with read_only(running.journal):
            running.record(20_000)
        drain(running)
        eventually(lambda: recovered(running))
        assert running.end() == 0
    drain(running)
    assert 1000 < lost(running) < 20_000
    assert running.warnings("cannot write to") == 1


def remove(directory: Path) -> None:
    """Remove a directory in which a shipper is making and renaming files."""
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:  # one has gone, or come, since it was listed
            continue
        return


def test_a_directory_that_is_removed_between_records(tmp_path: Path) -> None:
    """What a thread ships survives that the directory is removed again and again: nothing is lost, nothing twice."""
    with host(tmp_path / "home") as running:
        for spans in (500, 3000, 1, 5000, 2000):
            running.record(spans)
            assert running.ask("flush", 60) == "True", running.log
            remove(running.journal)
        running.record(10)
        assert running.end() == 0
    drain(running)  # the end of a program waits for the shipper beside it a few seconds, or not at all
    found = found_in_store(running.store)
    assert sum(found.spans.values()) == len(found.spans) == running.recorded
    assert running.warnings("somebody removed") <= 1
    reconciled(running.journal)


def test_a_directory_that_is_removed_while_recording(tmp_path: Path) -> None:
    """The host goes on; what was recorded since the last removal arrives, and the ledger adds up."""
    with host(tmp_path / "home") as running:
        running.record(1)
        for _ in range(5):
            running.begin_recording(10_000)
            eventually(lambda: list(running.journal.glob("*.journal")))
            shutil.rmtree(running.journal, ignore_errors=True)
            running.answer()
        eventually(lambda: running.record(1) and running.journal.exists())
        before = len(spans_in_store(running.store))
        running.record(3000)
        assert running.ask("flush", 60) == "True", running.log
        assert running.end() == 0
    drain(running)
    found = found_in_store(running.store)
    assert sum(found.spans.values()) == len(found.spans) <= running.recorded
    assert len(found.spans) >= before + 3000
    assert (found.torn, found.open) == ([], set())
    assert running.warnings("somebody removed") <= 1
    reconciled(running.journal)


def test_an_idle_writer_survives_a_shortened_file(tmp_path: Path) -> None:
    """A host that has not written for a tenth of a second survives that somebody cuts its file, and counts the loss."""
    with host(tmp_path / "home", SHIP="off") as running:
        running.record(100)
        idle_since = time.monotonic()
        eventually(lambda: time.monotonic() > idle_since + 0.2)  # documented: sooner it would be SIGBUS
        (file,) = running.journal.glob("*.journal")
        os.truncate(file, 600)
        running.record(100)
        assert running.end() == 0
    drain(running)
    assert lost(running) == 100
    assert running.warnings("somebody shortened") == 1


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped"])
def test_a_damaged_checkpoint(tmp_path: Path, damage: str) -> None:
    """Without its checkpoint the next shipper says so once and delivers again what the journals hold; the store, which
    keeps an account of its own, has nothing twice."""
    dice = random.Random(7)
    with otlp_server() as server:
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
        with host(tmp_path / "home", SHIP="thread", **options) as killed:
            killed.record(2000)
            assert killed.ask("flush", 60) == "True", killed.log
            killed.kill()
        content = bytearray((killed.journal / NAME).read_bytes())
        if damage == "flipped":
            digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
            content[dice.choice(digits)] ^= 1
        (killed.journal / NAME).write_bytes(content[: {"emptied": 0, "cut": len(content) // 2}.get(damage)])
        with host(tmp_path / "home", **options) as running:
            running.record(1000)
            assert running.ask("flush", 60) == "True", running.log
            assert running.end() == 0
        assert {len(s) for s in (found_in_store(running.store).spans, found_at_endpoint(server).spans)} == {3000}
    assert sum(found_in_store(running.store).spans.values()) == 3000
    assert running.warnings("delivered again") == 1
    reconciled(running.journal)


class Damaged:
    """The journal of a dead process, in two files, damaged at random."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.intact: set[int] = set()
        ends = (SEALED, self.dice.choice((0, CLOSED)))
        files = [
            JournalFile(directory, alive=False, nonce=f"{seed:08x}", sequence=n, state=end)
            for n, end in enumerate(ends)
        ]
        for number, file in enumerate(files):
            ranges = {}
            for index in range(1, 201):
                span_number = number * 1000 + index
                start = file.add(SPAN, 0, span(span_number, padding=self.dice.randrange(300)))
                ranges[span_number] = range(start, file.end)
                file.add(LOG, 0, log(span_number))
            file.write(size=self.dice.choice((0, 512 * 1024)))
            touched = self.harm(file.path)
            self.intact |= {
                n for n, r in ranges.items() if touched.isdisjoint(r) and r.stop <= file.path.stat().st_size
            }

    def harm(self, path: Path) -> set[int]:
        """Damage one file; the offsets that were changed."""
        content = bytearray(path.read_bytes())
        used = len(content.rstrip(b"\0"))
        touched: set[int] = set()
        if self.dice.random() < 0.3:
            del content[self.dice.randrange(1, used) :]
        for _ in range(self.dice.randrange(1, 6)):
            start = self.dice.choice((self.dice.randrange(used), self.dice.randrange(64, 72)))
            for at in range(start, start + self.dice.choice((1, 1, 8, 2000))):
                # The version stays: a file of another version is another release's, and is left alone.
                if at < min(len(content), used) and not 8 <= at < 12:
                    content[at] ^= self.dice.randrange(1, 256)
                    touched.add(at)
        path.write_bytes(content)
        return touched


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_of_a_dead_process(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever was flipped in a journal, or cut off: each record that is still whole is delivered, once; the loss is
    counted, and said once a file."""
    directory = tmp_path / "journals"
    directory.mkdir()
    damaged = Damaged(directory, seed)
    with otlp_server() as server:
        shipper = Shipper(
            directory,
            otlp=[OtlpSink(OtlpEndpoint("traces", f"{server.url}/v1/traces"))],
            store=StoreSink(tmp_path / "s"),
        )
        assert shipper.drain(60)
        shipper.close()
        numbers = server.numbers
    assert damaged.intact - set(numbers) == set(), seed
    assert len(numbers) == len(set(numbers))
    assert {node.span_id for node in spans_in_store(tmp_path / "s")} == {f"{n:016x}" for n in numbers}
    ledger = reconciled(directory)
    assert (ledger.corrupted_bytes > 0) or len(damaged.intact) == 400, seed
    assert list(directory.glob("*.journal")) == []
    assert sum("damaged and lost" in record.message for record in caplog.records) <= 2
