from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from journal_files import JournalFile, log, resource, scope, span
from otlp_server import Answer, OtlpServer, eventually, otlp_server

from otelsync.journal.batch import Batch
from otelsync.journal.format import CLOSED, LOG, SEALED, SPAN
from otelsync.journal.names import list_segments
from otelsync.journal.writer import Journal
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.shipping.checkpoint import NAME, load
from otelsync.shipping.ledger import Ledger, read_ledger
from otelsync.shipping.outlet import Backoff
from otelsync.shipping.ownership import Ownership
from otelsync.shipping.shipper import Shipper
from otelsync.shipping.shipper_thread import ShipperThread
from otelsync.store.writing import StoreSink

QUICK = Backoff(0.005, 0.02)


class Shelf:
    """A store in memory, exact about where each batch begins, that can be told to fail."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.spans: list[bytes] = []
        self.logs: list[bytes] = []
        self.failure: Exception | None = None
        self.batches: list[Batch] = []

    def deliver(self, batch: Batch) -> None:
        if self.failure is not None:
            raise self.failure
        if batch.end <= self.position(batch.journal):
            return
        self.batches.append(batch)
        for group in batch.groups:
            self.spans += group.spans
            self.logs += group.logs
        self.positions[batch.journal] = batch.end

    def position(self, journal: str) -> int:
        return self.positions.get(journal, 0)

    def forget(self, journal: str) -> None:
        del self.positions[journal]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


@pytest.fixture
def shippers() -> Iterator[list[Shipper]]:
    """Shippers that are closed when the test ends."""
    made: list[Shipper] = []
    yield made
    for shipper in made:
        shipper.close()


def sinks(server: OtlpServer, *signals: str, timeout: float = 10.0) -> list[OtlpSink]:
    return [
        OtlpSink(OtlpEndpoint(name, f"{server.url}/v1/{name}", timeout=timeout))  # type: ignore[arg-type]
        for name in signals or ("traces", "logs")
    ]


def reconciled(directory: Path) -> Ledger:
    ledger = read_ledger(directory)
    assert ledger.reconciles, str(ledger)
    return ledger


def account(directory: Path, sink: str, signal: str = "span") -> dict[str, object]:
    [found] = [a for a in reconciled(directory).accounts if (a.sink, a.signal) == (sink, signal)]
    return {"recorded": found.recorded, "shipped": found.shipped, "dropped": found.dropped, "pending": found.pending}


def test_everything_goes_everywhere_and_the_file_is_deleted(
    tmp_path: Path, server: OtlpServer, shippers: list[Shipper]
) -> None:
    """Spans and logs of a dead process reach every sink once; then the file goes, and the ledger still knows."""
    file = JournalFile(tmp_path, alive=False).spans(30).logs(20).write()
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server), store=shelf))
    assert shipper.drain(120)
    assert server.numbers == list(range(1, 31))
    assert server.logs == list(range(1, 21))
    assert (shelf.spans, len(shelf.logs)) == ([span(n) for n in range(1, 31)], 20)
    assert not file.path.exists()
    assert account(tmp_path, "traces") == {"recorded": 30, "shipped": 30, "dropped": {}, "pending": 0}
    assert account(tmp_path, "logs", "log")["shipped"] == 20
    assert account(tmp_path, "store", "log")["shipped"] == 20


def test_sinks_stay_together(tmp_path: Path, server: OtlpServer, shippers: list[Shipper]) -> None:
    """Sinks that are equally far are given the same records at a time, so that these are parsed once."""
    JournalFile(tmp_path, alive=False).spans(100).write()
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server), store=shelf, max_batch_records=12))
    assert shipper.drain(120)
    assert [batch.spans for batch in shelf.batches] == [10, *[12] * 7, 6]
    sizes = [len(r.message.resource_spans[0].scope_spans[0].spans) for r in server.received]  # type: ignore[union-attr]
    assert sizes == [10, *[12] * 7, 6]


def test_a_living_process_is_followed(tmp_path: Path, shippers: list[Shipper]) -> None:
    """New records are taken as they come; the file stays as long as its process may write to it."""
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, store=shelf))
    journal = Journal(tmp_path)
    number = journal.scope(journal.resource(resource()), scope())
    for index in range(1, 6):
        journal.append(SPAN, number, span(index))
        assert shipper.drain(120)
        assert len(shelf.spans) == index
    assert journal.path is not None
    assert journal.path.exists()
    journal.close()
    assert shipper.drain(120)
    assert list_segments(tmp_path) == {}
    assert account(tmp_path, "store") == {"recorded": 5, "shipped": 5, "dropped": {}, "pending": 0}


def test_a_shipper_goes_on_where_another_stopped(tmp_path: Path, server: OtlpServer) -> None:
    """What has been taken is not sent again by the next shipper."""
    file = JournalFile(tmp_path).spans(5).write()
    for expected in (5, 8):
        shipper = Shipper(tmp_path, otlp=sinks(server))
        assert shipper.drain(120)
        shipper.close()
        assert server.numbers == list(range(1, expected + 1))
        file.spans(3, first=6).write()


def test_only_one_shipper_owns_a_directory(tmp_path: Path, shippers: list[Shipper]) -> None:
    """A second shipper, in this process or another, does nothing until the first is closed."""
    JournalFile(tmp_path, alive=False).spans(1).write()
    shelf = Shelf()
    owner, other = Shipper(tmp_path), Shipper(tmp_path, store=shelf)
    shippers += [owner, other]
    assert owner.own()
    assert not other.own()
    program = f"""
        from pathlib import Path
        from otelsync.shipping.ownership import Ownership
        print(Ownership(Path({str(tmp_path)!r})).acquire())
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.check_output(run, text=True).strip() == "False"
    assert not other.step()
    owner.close()
    assert other.drain(120)
    assert len(shelf.spans) == 1


def test_the_ownership_ends_with_its_process(tmp_path: Path) -> None:
    """A killed owner leaves a directory that anybody can own."""
    program = f"""
        from pathlib import Path
        from otelsync.shipping.ownership import Ownership
        ownership = Ownership(Path({str(tmp_path)!r}))
        print(ownership.acquire(), flush=True)
        input()
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        ownership = Ownership(tmp_path)
        assert not ownership.acquire()
        child.kill()
        child.wait()
        assert ownership.acquire()
        ownership.release()


def test_a_failing_sink_holds_up_no_other(tmp_path: Path, server: OtlpServer, shippers: list[Shipper]) -> None:
    """While one endpoint hangs, the store takes everything."""
    server.always = Answer(hang=True)
    file = JournalFile(tmp_path, alive=False).spans(50).write()
    shelf = Shelf()
    shippers.append(
        shipper := Shipper(tmp_path, otlp=sinks(server, "traces"), store=shelf, max_batch_records=5, backoff=QUICK)
    )
    deadline = time.monotonic() + 120
    while len(shelf.spans) < 50:
        shipper.step()
        assert time.monotonic() < deadline
    assert len(server.received) == 1
    assert file.path.exists()
    assert account(tmp_path, "traces") == {"recorded": 50, "shipped": 0, "dropped": {}, "pending": 50}
    assert account(tmp_path, "store")["pending"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503),
        Answer(429, headers={"retry-after": "0"}),
        Answer(drop=True),
        Answer(hang=True),
        Answer(trickle=True),
    ],
)
def test_nothing_is_lost_while_an_endpoint_is_down(
    tmp_path: Path, server: OtlpServer, shippers: list[Shipper], caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    """Retries go on until the endpoint is back; its failing and its recovery are said once each."""
    caplog.set_level(logging.INFO, "otelsync.shipping")
    server.always = answer
    JournalFile(tmp_path, alive=False).spans(20).logs(5).write()
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server, "traces", timeout=0.05), backoff=QUICK))
    deadline = time.monotonic() + 120
    while len(server.received) < 4:
        assert time.monotonic() < deadline
        assert not shipper.drain(0.05)
    assert account(tmp_path, "traces")["pending"] == 20
    server.always = Answer()
    assert shipper.drain(120)
    assert sorted(set(server.numbers)) == list(range(1, 21))
    assert account(tmp_path, "traces") == {"recorded": 20, "shipped": 20, "dropped": {}, "pending": 0}
    messages = [record.getMessage() for record in caplog.records]
    assert len([m for m in messages if "stay in the journal" in m]) == 1
    assert len([m for m in messages if "works again" in m]) == 1


def test_a_process_without_room_for_a_thread_sends_later(
    tmp_path: Path, server: OtlpServer, shippers: list[Shipper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives no thread, the records wait, and go out when it does."""
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def refuse_at_first(thread: threading.Thread) -> None:
        if thread.name == "otelsync-traces" and len(refused) < 3:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_at_first)
    JournalFile(tmp_path, alive=False).spans(20).write()
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server, "traces"), backoff=QUICK))
    eventually(lambda: shipper.drain(1))
    assert (len(refused), server.numbers) == (3, list(range(1, 21)))


def test_retry_after_is_kept_to(tmp_path: Path, server: OtlpServer, shippers: list[Shipper]) -> None:
    """An endpoint that asks for a pause is not asked again before it is over, not even in a hurry."""
    server.answers.append(Answer(503, headers={"retry-after": "3600"}))
    JournalFile(tmp_path, alive=False).spans(1).write()
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server, "traces"), backoff=QUICK))
    assert not shipper.drain(0.2)
    assert not shipper.drain(0.2)
    assert len(server.received) == 1


def test_what_the_endpoint_refuses_is_counted(
    tmp_path: Path, server: OtlpServer, shippers: list[Shipper], caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal and a partial success are drops with a reason, and said once."""
    server.poisoned = {10: 400, 21: 400}
    server.answers.append(Answer(rejects=3))
    JournalFile(tmp_path, alive=False).spans(38).write()
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server, "traces"), max_batch_records=10))
    assert shipper.drain(120)
    assert account(tmp_path, "traces") == {
        "recorded": 38,
        "shipped": 33,
        "dropped": {"rejected": 2, "partial_success": 3},
        "pending": 0,
    }
    assert len([r for r in caplog.records if "HTTP 400" in r.getMessage()]) <= 2


def test_a_store_that_fails_is_tried_again(
    tmp_path: Path, shippers: list[Shipper], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a store raises, the records wait for it."""
    JournalFile(tmp_path, alive=False).spans(3).write()
    shelf = Shelf()
    shelf.failure = RuntimeError("disk on fire")
    shippers.append(shipper := Shipper(tmp_path, store=shelf, backoff=QUICK))
    assert not shipper.drain(0.2)
    assert len([r for r in caplog.records if "disk on fire" in r.getMessage()]) == 1
    shelf.failure = None
    assert shipper.drain(120)
    assert len(shelf.spans) == 3
    reconciled(tmp_path)


def test_the_stores_own_account_goes_first(tmp_path: Path) -> None:
    """After a crash between the store's commit and the checkpoint nothing is stored twice, and the counts fit."""
    file = JournalFile(tmp_path).spans(4)
    stored = file.end
    file.spans(4, first=5).write()
    shelf = Shelf()
    shelf.positions[file.name] = stored
    shipper = Shipper(tmp_path, store=shelf)
    assert shipper.drain(120)
    assert shelf.spans == [span(n) for n in range(5, 9)]
    assert account(tmp_path, "store")["shipped"] == 8
    shipper.close()
    emptied = Shelf()
    shipper = Shipper(tmp_path, store=emptied)
    assert shipper.drain(120)
    assert len(emptied.spans) == 8
    assert account(tmp_path, "store")["shipped"] == 8
    shipper.close()


def test_a_file_that_is_accounted_for_is_not_counted_again(tmp_path: Path, shippers: list[Shipper]) -> None:
    """A crash between the account and the deletion costs nothing: the next shipper only deletes."""
    file = JournalFile(tmp_path, alive=False).spans(3).write()
    saved = file.path.read_bytes()
    shipper = Shipper(tmp_path, store=(shelf := Shelf()))
    assert shipper.drain(120)
    shipper.close()
    checkpoint = load(tmp_path)
    assert checkpoint is not None
    checkpoint.retired.append(file.name)
    from otelsync.shipping import checkpoint as checkpoints

    checkpoints.save(tmp_path, checkpoint)
    file.path.write_bytes(saved)
    assert account(tmp_path, "store")["recorded"] == 3
    shippers.append(again := Shipper(tmp_path, store=shelf))
    assert again.drain(120)
    assert not file.path.exists()
    assert account(tmp_path, "store") == {"recorded": 3, "shipped": 3, "dropped": {}, "pending": 0}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":2}', b'{"version":1,"files":7}', b"\xff" * 100])
def test_a_damaged_checkpoint_means_starting_afresh(
    tmp_path: Path, shippers: list[Shipper], caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """Without a checkpoint everything is delivered again rather than not at all, and it is said."""
    (tmp_path / NAME).write_bytes(content)
    JournalFile(tmp_path, alive=False).spans(2).write()
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, store=shelf))
    assert shipper.drain(120)
    assert len(shelf.spans) == 2
    assert len([r for r in caplog.records if "delivered again" in r.getMessage()]) == 1
    reconciled(tmp_path)


def test_a_changed_digit_is_damage_too(tmp_path: Path, shippers: list[Shipper]) -> None:
    """A checkpoint that can be read and says something else would skip records: its checksum tells."""
    file = JournalFile(tmp_path).spans(3).write()
    with closing(Shipper(tmp_path, store=Shelf())) as first:
        assert first.drain(120)
    content = (tmp_path / NAME).read_bytes()
    assert b":%d" % file.end in content
    (tmp_path / NAME).write_bytes(content.replace(b":%d" % file.end, b":%d" % (file.end + 1000)))
    shippers.append(again := Shipper(tmp_path, store=(shelf := Shelf())))
    assert again.drain(120)
    assert shelf.spans == [span(n) for n in (1, 2, 3)]


def test_a_checkpoint_that_cannot_be_written_stops_nobody(
    tmp_path: Path, shippers: list[Shipper], caplog: pytest.LogCaptureFixture
) -> None:
    """Delivery goes on from memory; no file is deleted whose account is not on disk; it is said once."""
    (tmp_path / f"{NAME}.tmp").mkdir()
    file = JournalFile(tmp_path, alive=False).spans(2).write()
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, store=shelf))
    for _ in range(5):
        shipper.step()
    assert len(shelf.spans) == 2
    assert file.path.exists()
    assert len([r for r in caplog.records if "cannot write the checkpoint" in r.getMessage()]) == 1
    (tmp_path / f"{NAME}.tmp").rmdir()
    assert shipper.drain(120)
    assert not file.path.exists()
    reconciled(tmp_path)


def test_damage_is_counted_and_the_rest_delivered(
    tmp_path: Path, shippers: list[Shipper], caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged record is lost alone; the loss stands in the ledger and is said once."""
    file = JournalFile(tmp_path, alive=False).spans(2)
    damaged = file.add(SPAN, 0, span(3))
    file.spans(2, first=4).write()
    file.change(damaged + 15, b"\xff\xff")
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, store=shelf))
    assert shipper.drain(120)
    assert shelf.spans == [span(n) for n in (1, 2, 4, 5)]
    ledger = reconciled(tmp_path)
    assert ledger.corrupted_bytes == 12 + len(span(3))
    assert len([r for r in caplog.records if "damaged and lost" in r.getMessage()]) == 1


def test_segments_of_a_series_are_shipped_in_order(tmp_path: Path, shippers: list[Shipper]) -> None:
    """A stage that begins in one segment and ends in the next is not an orphan."""
    JournalFile(tmp_path, alive=False, sequence=0, state=SEALED).begin(1).spans(500, first=10).write()
    JournalFile(tmp_path, alive=False, sequence=1, state=CLOSED).finish(1).write()
    shelf = Shelf()
    shippers.append(shipper := Shipper(tmp_path, store=shelf, max_batch_records=7))
    assert shipper.drain(120)
    assert len(shelf.spans) == 501
    assert list_segments(tmp_path) == {}


def test_a_killed_process_loses_nothing(tmp_path: Path, server: OtlpServer, shippers: list[Shipper]) -> None:
    """What a process recorded before SIGKILL arrives, and what it had begun is closed."""
    program = f"""
        import os, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from journal_files import resource, scope, span
        from otelsync.journal.format import SPAN, SPAN_START
        from otelsync.journal.writer import Journal
        journal = Journal(Path({str(tmp_path)!r}))
        number = journal.scope(journal.resource(resource()), scope())
        journal.append(SPAN_START, number, span(5000, ended=False))
        for index in range(1, 1001):
            journal.append(SPAN, number, span(index))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert child.returncode == -signal.SIGKILL
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server)))
    assert shipper.drain(120)
    assert sorted(server.numbers) == [*range(1, 1001), 5000]
    reconciled(tmp_path)


def test_the_directory_may_vanish_and_come_back(tmp_path: Path, shippers: list[Shipper]) -> None:
    """A directory that is removed while it is shipped harms nothing; shipping goes on when it is there again."""
    directory = tmp_path / "journals"
    directory.mkdir()
    JournalFile(directory).spans(2).write()
    shelf = Shelf()
    shippers.append(shipper := Shipper(directory, store=shelf))
    assert shipper.drain(120)
    shutil.rmtree(directory)
    assert not shipper.step()
    directory.mkdir()
    JournalFile(directory, nonce="feedbeef").spans(3, first=3).write()
    eventually(lambda: shipper.step() or len(shelf.spans) == 5)
    assert shipper.drain(120)
    assert len(shelf.spans) == 5
    reconciled(directory)


def test_a_journal_that_is_removed_under_its_writer_loses_nothing(tmp_path: Path, shippers: list[Shipper]) -> None:
    """The writer puts its file back, and the shipper goes on in it where it was."""
    directory = tmp_path / "journals"
    journal = Journal(directory)
    number = journal.scope(journal.resource(resource()), scope())
    journal.append(SPAN, number, span(1))
    shelf = Shelf()
    shippers.append(shipper := Shipper(directory, store=shelf))
    assert shipper.drain(120)
    shutil.rmtree(directory)
    last = 1

    def back() -> bool:
        nonlocal last
        last += 1
        journal.append(SPAN, number, span(last))
        return directory.exists()

    eventually(back)
    assert shipper.drain(120)
    journal.close()
    assert shipper.drain(120)
    assert shelf.spans == [span(n) for n in range(1, last + 1)]
    reconciled(directory)


def test_a_file_that_vanishes_is_accounted_for(tmp_path: Path, server: OtlpServer, shippers: list[Shipper]) -> None:
    """What one sink had taken and another had not is dropped for the latter, by name."""
    server.always = Answer(503)
    file = JournalFile(tmp_path).spans(4).write()
    shipper = Shipper(tmp_path, otlp=sinks(server, "traces"), store=Shelf(), backoff=QUICK)
    assert not shipper.drain(0.1)
    shipper.close()
    file.path.unlink()
    reconciled(tmp_path)
    shippers.append(again := Shipper(tmp_path, otlp=sinks(server, "traces"), store=Shelf(), backoff=QUICK))
    assert again.drain(120)
    assert account(tmp_path, "traces") == {"recorded": 4, "shipped": 0, "dropped": {"vanished": 4}, "pending": 0}


def test_a_file_of_another_version_is_left_alone(tmp_path: Path, shippers: list[Shipper]) -> None:
    """A file that another release wrote is neither shipped nor deleted, but set aside."""
    file = JournalFile(tmp_path, alive=False)
    file.version = 9
    file.spans(1).write()
    shippers.append(shipper := Shipper(tmp_path, store=Shelf()))
    assert shipper.drain(120)
    assert [path.name for path in tmp_path.glob("*.other-version")] == [f"{file.name}.other-version"]


def test_sinks_may_come_and_go(tmp_path: Path, server: OtlpServer) -> None:
    """A sink that is added later starts with what is there, one that is taken away is not waited for."""
    JournalFile(tmp_path, alive=False, nonce="00000001").spans(3).write()
    first = Shipper(tmp_path, store=Shelf())
    assert first.drain(120)
    first.close()
    JournalFile(tmp_path, alive=False, nonce="00000002").spans(2).write()
    second = Shipper(tmp_path, otlp=sinks(server, "traces"))
    assert second.drain(120)
    second.close()
    assert account(tmp_path, "traces") == {"recorded": 2, "shipped": 2, "dropped": {}, "pending": 0}
    assert reconciled(tmp_path).recorded["span"] == 5


def test_the_real_store_takes_each_record_once(tmp_path: Path, server: OtlpServer) -> None:
    """With the local store and an endpoint that is down, restarts store nothing twice and leave nothing behind."""
    directory, path = tmp_path / "journals", tmp_path / "store.db"
    directory.mkdir()
    file = JournalFile(directory, alive=False)
    server.always = Answer(503)
    for _ in range(3):
        file.spans(20, first=file.end).logs(20).write()
        shipper = Shipper(directory, otlp=sinks(server), store=StoreSink(path), backoff=QUICK)
        assert not shipper.drain(0.2)
        shipper.close()
    server.always = Answer()
    shipper = Shipper(directory, otlp=sinks(server), store=StoreSink(path), backoff=QUICK)
    assert shipper.drain(120)
    shipper.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (60,)
        assert connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)
    assert account(directory, "store")["shipped"] == 60
    assert account(directory, "store", "log")["shipped"] == 60


@pytest.fixture
def threads() -> Iterator[list[ShipperThread]]:
    """Shipper threads that are stopped when the test ends."""
    started: list[ShipperThread] = []
    yield started
    for thread in started:
        thread.stop(5.0)


def recorder(directory: Path, count: int, *, first: int = 1) -> Journal:
    journal = Journal(directory)
    number = journal.scope(journal.resource(resource()), scope())
    for index in range(first, first + count):
        journal.append(SPAN, number, span(index))
        journal.append(LOG, number, log(index))
    return journal


def test_the_thread_ships_by_itself(tmp_path: Path, server: OtlpServer, threads: list[ShipperThread]) -> None:
    """Once started it needs no push."""
    threads.append(thread := ShipperThread(tmp_path, lambda: Shipper(tmp_path, otlp=sinks(server)), interval=0.05))
    thread.start()
    thread.start()
    journal = recorder(tmp_path, 10)
    eventually(lambda: len(server.spans) == 10 and len(server.logs) == 10)
    journal.close()


def test_flush_waits_for_what_this_process_recorded(
    tmp_path: Path, server: OtlpServer, threads: list[ShipperThread]
) -> None:
    """After flush has said True, everything recorded before is with the endpoint, however long the interval."""
    threads.append(thread := ShipperThread(tmp_path, lambda: Shipper(tmp_path, otlp=sinks(server)), interval=3600))
    thread.start()
    journal = recorder(tmp_path, 100)
    assert thread.flush(20)
    assert server.numbers == list(range(1, 101))
    journal.close()


def test_flush_and_stop_keep_to_their_time(tmp_path: Path, server: OtlpServer) -> None:
    """Against an endpoint that hangs for an hour they return, say False, and the thread ends; nothing is lost."""
    server.always = Answer(hang=True)
    make = lambda: Shipper(tmp_path, otlp=sinks(server, timeout=3600))  # noqa: E731  (a def is no clearer)
    thread = ShipperThread(tmp_path, make, interval=0.01)
    thread.start()
    journal = recorder(tmp_path, 5)
    eventually(lambda: server.received)
    assert not thread.flush(0.1)
    assert not thread.stop(0.5)
    eventually(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("otelsync-") and t.name != "otelsync-nudges"]
    )
    assert account(tmp_path, "traces")["pending"] == 5
    journal.close()


def test_a_lack_of_time_is_no_failure_of_the_endpoint(
    tmp_path: Path, server: OtlpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A drain whose time is up before it has asked the endpoint says nothing of it, neither then nor later."""
    JournalFile(tmp_path, alive=False).spans(20).write()
    with closing(Shipper(tmp_path, otlp=sinks(server, "traces"), backoff=QUICK)) as shipper:
        for _ in range(3):
            assert not shipper.drain(-1)
        assert not shipper.is_failing
        assert shipper.drain(120)
    assert sorted(server.numbers) == list(range(1, 21))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_end_without_time_says_what_stays(
    tmp_path: Path, server: OtlpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that is stopped with no time to ship leaves the records, and one line."""
    make = lambda: Shipper(tmp_path, otlp=sinks(server, "traces"), max_batch_records=1)  # noqa: E731  (as above)
    thread = ShipperThread(tmp_path, make, interval=3600)
    thread.start()
    eventually(lambda: (tmp_path / NAME).exists())
    JournalFile(tmp_path, alive=False).spans(20).write()
    assert not thread.stop(-1)
    eventually(lambda: "what is left stays in the journal" in caplog.text)
    assert account(tmp_path, "traces")["pending"] == 20 - len(server.numbers)


def test_stop_ships_the_rest(tmp_path: Path, server: OtlpServer) -> None:
    """Stopping takes what is there, and a stopped thread can be started again."""
    thread = ShipperThread(tmp_path, lambda: Shipper(tmp_path, otlp=sinks(server)), interval=3600)
    for start in (1, 11):
        thread.start()
        journal = recorder(tmp_path, 10, first=start)
        journal.close()
        assert thread.stop(20)
        assert sorted(server.numbers) == list(range(1, start + 10))
        assert not thread.alive


def test_stop_ships_what_the_dead_have_left(tmp_path: Path, server: OtlpServer) -> None:
    """The owner's last act is to ship also what processes that are gone, such as forked children, have recorded."""
    thread = ShipperThread(tmp_path, lambda: Shipper(tmp_path, otlp=sinks(server)), interval=3600)
    thread.start()
    eventually(lambda: (tmp_path / NAME).exists())
    JournalFile(tmp_path, alive=False).begin(1).spans(5, first=2).write()
    assert thread.stop(20)
    assert sorted(server.numbers) == [1, 2, 3, 4, 5, 6]
    assert list_segments(tmp_path) == {}


def test_a_shipper_that_cannot_be_made_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The thread says so once, and can be stopped."""

    def fail() -> Shipper:
        raise RuntimeError("no store")

    thread = ShipperThread(tmp_path, fail)
    thread.start()
    eventually(lambda: [r for r in caplog.records if "no store" in r.getMessage()])
    journal = recorder(tmp_path, 1)
    assert not thread.flush(0.05)
    thread.stop(5.0)
    assert not thread.alive
    journal.close()


def test_another_process_is_waited_for(tmp_path: Path, server: OtlpServer, threads: list[ShipperThread]) -> None:
    """flush in a process that does not own the directory waits until the owner has taken its records."""
    threads.append(thread := ShipperThread(tmp_path, lambda: Shipper(tmp_path, otlp=sinks(server)), interval=0.05))
    thread.start()
    eventually(lambda: (tmp_path / NAME).exists())
    program = f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from journal_files import resource, scope, span
        from otelsync.journal.format import SPAN
        from otelsync.journal.writer import Journal
        from otelsync.shipping.shipper import Shipper
        from otelsync.shipping.shipper_thread import ShipperThread
        directory = Path({str(tmp_path)!r})
        thread = ShipperThread(directory, lambda: Shipper(directory))
        thread.start()
        journal = Journal(directory)
        number = journal.scope(journal.resource(resource()), scope())
        for index in range(1, 101):
            journal.append(SPAN, number, span(index))
        print(thread.flush(20), flush=True)
        input()
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert len(server.spans) == 100
        child.communicate("\n")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_children_are_shipped_by_their_parent(
    tmp_path: Path, server: OtlpServer, threads: list[ShipperThread]
) -> None:
    """A child has no shipper thread; it records, flushes through its parent's, and may end in os._exit."""
    threads.append(thread := ShipperThread(tmp_path, lambda: Shipper(tmp_path, otlp=sinks(server)), interval=0.02))
    thread.start()
    journal = recorder(tmp_path, 10)
    assert thread.flush(20)
    children = []
    for number in range(1, 5):
        child = os.fork()
        if child == 0:
            good = not thread.alive
            recorder(tmp_path, 100, first=number * 1000)
            good = good and (number % 2 == 0 or thread.flush(20))
            os._exit(0 if good else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    journal.close()
    eventually(lambda: len(server.spans) == 410)
    assert len(set(server.numbers)) == 410


def test_many_forks_under_load_never_deadlock(tmp_path: Path, server: OtlpServer) -> None:
    """Whatever the shipper thread is doing when a process forks, the child can start, flush and stop its own."""
    program = f"""
        import os, sys, time, warnings
        warnings.simplefilter("ignore")
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_shipper import recorder
        from otelsync.otlp.exporter import OtlpSink
        from otelsync.otlp.options import OtlpEndpoint
        from otelsync.shipping.shipper import Shipper
        from otelsync.shipping.shipper_thread import ShipperThread
        directory = Path({str(tmp_path)!r})
        endpoint = OtlpEndpoint("traces", {server.url + "/v1/traces"!r})
        thread = ShipperThread(directory, lambda: Shipper(directory, otlp=[OtlpSink(endpoint)]), interval=0.001)
        thread.start()
        for number in range(20):
            recorder(directory, 20, first=number * 100 + 1)
            child = os.fork()
            if child == 0:
                thread.start()
                recorder(directory, 20, first=number * 100 + 51)
                os._exit(0 if thread.flush(20) and thread.stop(5) else 1)
            assert os.waitpid(child, 0)[1] == 0
        print(thread.stop(20))
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert result.stdout.strip() == "True", result.stderr
    assert len(set(server.numbers)) == 800


def test_a_backlog_is_not_held_in_memory(tmp_path: Path, shippers: list[Shipper]) -> None:
    """However much is waiting while an endpoint is down, only a few batches are in memory."""
    import tracemalloc

    for sequence in range(8):
        state = SEALED if sequence < 7 else CLOSED
        JournalFile(tmp_path, alive=False, sequence=sequence, state=state).spans(200, padding=20_000).write()
    nobody = OtlpSink(OtlpEndpoint("traces", "http://127.0.0.1:1/v1/traces"))
    shippers.append(shipper := Shipper(tmp_path, otlp=[nobody], backoff=QUICK))
    tracemalloc.start()
    assert not shipper.drain(0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def test_concurrent_ledgers_always_reconcile(tmp_path: Path, server: OtlpServer, shippers: list[Shipper]) -> None:
    """Whoever reads the ledger while records are written, shipped and deleted finds that it adds up."""
    shippers.append(shipper := Shipper(tmp_path, otlp=sinks(server), store=Shelf(), max_batch_records=200))
    done = threading.Event()

    def read_on() -> int:
        count = 0
        while not done.is_set():
            reconciled(tmp_path)
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_on)
        try:
            for number in range(15):
                recorder(tmp_path, 100, first=number * 100 + 1).close()
                shipper.step()
            assert shipper.drain(60)
        finally:
            done.set()
        assert reading.result() > 0
    assert account(tmp_path, "traces")["shipped"] == 1500
