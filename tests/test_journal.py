"""The journal's writer: nothing torn, nothing lost uncounted, and the host unharmed whatever happens to the files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trace_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_files import log, resource, scope, span

from otelsync.journal.format import (
    CLOSED,
    ENCODE_ERROR,
    LARGEST_RECORD,
    LOG,
    OPEN,
    SEALED,
    SPAN,
    SPAN_END,
    SPAN_RELEASED,
    SPAN_START,
    SPAN_VERDICT,
)
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import boot_id, start_ticks
from otelsync.journal.reader import JournalReader
from otelsync.journal.writer import Journal


def opened(directory: Path, *, max_bytes: int = 1 << 28, max_directory_bytes: int = 1 << 30) -> Journal:
    """A journal with one resource and one scope, number 0."""
    journal = Journal(directory, max_bytes=max_bytes, max_directory_bytes=max_directory_bytes)
    journal.scope(journal.resource(resource()), scope())
    return journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = opened(tmp_path / "journal")
    yield journal
    journal.close()


def write(journal: Journal, number: int, *, padding: int = 0) -> None:
    journal.append(SPAN, 0, span(number, padding=padding))


def read(directory: Path) -> list[int]:
    """The numbers of the spans in the journal, as they stand there."""
    return [int(node.span_id, 16) for node in trace_tree.spans_in_journal(directory)]


def states(directory: Path) -> list[int]:
    found = []
    for segments in list_segments(directory).values():
        for segment in segments:
            reader = JournalReader(directory / segment.name)
            reader.close()
            found.append(reader.header.state)
    return found


def write_until(journal: Journal, happened: Callable[[], bool], first: int) -> int:
    """Write small spans, numbered from `first`, until something has happened; returns the next number."""
    deadline = time.monotonic() + 120
    number = first
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        write(journal, number)
        number += 1
        time.sleep(0.005)
    return number


def test_records_come_back_as_they_were_written(journal: Journal) -> None:
    """Spans, starts, ends and logs are read with their scope, in order."""
    journal.append(SPAN_START, 0, span(1, ended=False))
    journal.append(SPAN, 0, span(2))
    journal.append(SPAN_END, 0, span(1))
    journal.append(LOG, 0, log(3))
    (batch,) = trace_tree.batches(journal.directory)
    (group,) = batch.groups
    assert (group.resource, group.scope) == (resource(), scope())
    assert (group.started, group.spans, group.ended, group.logs) == (
        [span(1, ended=False)],
        [span(2), span(1)],
        [span(1)],
        [log(3)],
    )


def test_header_and_modes(journal: Journal) -> None:
    """The file says who writes it and is for its owner alone."""
    write(journal, 1)
    assert journal.path is not None
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.directory.stat().st_mode & 0o777 == 0o700
    assert journal.path.name == f"{journal.series}-000000.journal"
    reader = JournalReader(journal.path)
    reader.close()
    writer = reader.header.writer
    assert (writer.pid, writer.start_ticks, writer.boot_id) == (os.getpid(), start_ticks(os.getpid()), boot_id())
    assert (reader.header.sequence, reader.header.state, reader.header.damaged) == (0, OPEN, False)


def test_nothing_is_made_before_the_first_record(tmp_path: Path) -> None:
    """A journal that is given nothing leaves no file and no directory."""
    opened(tmp_path / "journal").close()
    assert not (tmp_path / "journal").exists()


def test_files_rotate_and_each_stands_alone(journal: Journal) -> None:
    """A full file is sealed, the next is twice as large and repeats the definitions; nothing is lost between them."""
    for number in range(1, 801):
        write(journal, number, padding=1000)
    paths = sorted(journal.directory.iterdir())
    assert [path.stat().st_size for path in paths] == [256 * 1024, 512 * 1024, 1024 * 1024]
    assert states(journal.directory) == [SEALED, SEALED, OPEN]
    assert read(journal.directory) == list(range(1, 801))
    assert {node.resource["service.name"] for node in trace_tree.spans_in_journal(journal.directory)} == {"sync"}
    journal.close()
    assert states(journal.directory) == [SEALED, SEALED, CLOSED]
    reader = JournalReader(paths[-1])
    reader.close()
    assert paths[-1].stat().st_size == reader.header.committed


def test_closing_is_no_end(journal: Journal) -> None:
    """What is written after close() begins a further file; closing twice is no error."""
    write(journal, 1)
    journal.close()
    journal.close()
    write(journal, 2)
    assert read(journal.directory) == [1, 2]
    assert journal.dropped == {}


KINDS = (SPAN, SPAN_START, LOG, SPAN_VERDICT, SPAN_RELEASED)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 90_000)), max_size=40))
def test_any_sequence_of_records_is_read_back(script: list[tuple[int, int, int]]) -> None:
    """Whatever kinds, scopes and sizes follow one another, each scope's records come back whole and in order."""
    with tempfile.TemporaryDirectory() as directory:
        journal = opened(Path(directory))
        for number in range(1, 4):
            journal.scope(0, scope(f"scope {number}"))
        expected: dict[tuple[int, int], list[bytes]] = {}
        for number, (kind, ref, size) in enumerate(script, 1):
            body = log(number) if kind == LOG else span(number, padding=size, ended=kind == SPAN)
            journal.append(kind, ref, body)
            expected.setdefault((kind, ref), []).append(body)
        journal.close()
        names = {scope(): 0} | {scope(f"scope {number}"): number for number in range(1, 4)}
        found: dict[tuple[int, int], list[bytes]] = {}
        for batch in trace_tree.batches(Path(directory)):
            for group in batch.groups:
                held = (group.spans, group.started, group.logs, group.verdicts, group.released)
                for kind, bodies in zip(KINDS, held, strict=True):
                    if bodies:
                        found.setdefault((kind, names[group.scope]), []).extend(bodies)
        assert found == expected
        assert journal.dropped == {}


def test_a_scope_that_is_defined_late_is_known(journal: Journal) -> None:
    """A scope that is defined while a file is being written is defined there before it is used."""
    write(journal, 1)
    number = journal.scope(journal.resource(resource("other")), scope("late"))
    journal.append(SPAN, number, span(2))
    assert [(node.scope, node.resource["service.name"]) for node in trace_tree.spans_in_journal(journal.directory)] == [
        ("otelsync", "sync"),
        ("late", "other"),
    ]


def test_there_is_room_for_65536_scopes(journal: Journal) -> None:
    """Further scopes share the last one; no record is lost for it."""
    for number in range(1, 0x10001):
        ref = journal.scope(0, scope(f"{number}"))
    assert ref == journal.scope(0, scope("one more")) == 0xFFFF
    journal.append(SPAN, ref, span(1))
    (node,) = trace_tree.spans_in_journal(journal.directory)
    assert node.scope == f"{0xFFFF}"


def test_threads_share_it(journal: Journal) -> None:
    """Records of many threads, across many files, are all there and none is torn."""
    threads, records = 4, 2000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work(thread: int) -> None:
            for number in range(records):
                write(journal, thread * records + number + 1, padding=number % 300)

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(read(journal.directory)) == list(range(1, threads * records + 1))
    assert journal.dropped == {}


def test_a_signal_handler_records_in_the_middle_of_an_append(journal: Journal) -> None:
    """A handler that records while the same thread does neither deadlocks nor tears what that thread writes."""
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        write(journal, 1_000_000_000 + handled, padding=700)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    deadline = time.monotonic() + 120
    written = 0
    try:
        while (handled < 200 or written < 3000) and time.monotonic() < deadline:
            written += 1
            write(journal, written, padding=500)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled >= 200
    numbers = read(journal.directory)
    assert [number for number in numbers if number <= written] == list(range(1, written + 1))
    assert sorted(number for number in numbers if number > written) == [
        1_000_000_000 + n for n in range(1, handled + 1)
    ]


def test_forked_children_write_files_of_their_own(journal: Journal) -> None:
    """Each child goes on in a series of its own, though it ends without a word; the parent's goes on too."""
    write(journal, 1)
    children = []
    for child in range(1, 5):
        pid = os.fork()
        if pid == 0:
            for number in range(500):
                write(journal, child * 1000 + number, padding=200)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    write(journal, 2)
    assert len(list_segments(journal.directory)) == 5
    assert sorted(read(journal.directory)) == [1, 2] + [c * 1000 + n for c in range(1, 5) for n in range(500)]


def test_what_is_over_the_bound_is_dropped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process writes no more than its bound, counts by signal what it drops, says so once, and goes on later."""
    journal = opened(tmp_path, max_bytes=300 * 1024)
    with caplog.at_level(logging.WARNING, "otelsync.journal"):
        for number in range(1, 501):
            write(journal, number, padding=1000)
        for number in range(7):
            journal.append(LOG, 0, log(number) + b"\x12\x80\x10" + b"\0" * 2048)
    kept = read(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 300 * 1024
    assert kept == list(range(1, len(kept) + 1))
    dropped = 500 - len(kept)
    assert journal.dropped == {"journal_full": (dropped, 7)}
    assert trace_tree.dropped(tmp_path) == {"span": {"journal_full": dropped}, "log": {"journal_full": 7}}
    assert [record.message for record in caplog.records] == [
        f"recording: the journal in {tmp_path} is full; records are dropped and counted until some are shipped"
    ]
    sorted(tmp_path.iterdir())[0].unlink()  # as the shipper does
    write_until(journal, lambda: any("000002" in path.name for path in tmp_path.iterdir()), 1000)
    journal.close()


def test_the_bound_on_the_directory_counts_everybody_s_files(tmp_path: Path) -> None:
    """Files of other processes leave less room; without any, records are counted though there is no file."""
    (tmp_path / "1-1-00000000-000000.journal").write_bytes(b"\0" * 200_000)
    journal = opened(tmp_path, max_directory_bytes=200_000)
    write(journal, 1)
    assert journal.dropped == {"journal_full": (1, 0)}
    assert journal.path is None
    journal.close()


def test_drops_without_a_file_reach_the_next_one(tmp_path: Path) -> None:
    """What was dropped before there was a file stands in the header of the first."""
    journal = opened(tmp_path)
    journal.drop(ENCODE_ERROR, SPAN)
    journal.drop(ENCODE_ERROR, LOG)
    write(journal, 1)
    journal.drop(ENCODE_ERROR, LOG)
    assert trace_tree.dropped(tmp_path) == {"span": {"encode_error": 1}, "log": {"encode_error": 2}}
    assert journal.dropped == {"encode_error": (1, 2)}
    journal.close()


def test_a_record_that_is_too_large_is_counted(journal: Journal) -> None:
    """A record over 4 MiB is dropped and counted, one just below is written, and both leave the rest alone."""
    write(journal, 1)
    write(journal, 2, padding=LARGEST_RECORD)
    write(journal, 3, padding=LARGEST_RECORD - 1000)
    write(journal, 4)
    assert read(journal.directory) == [1, 3, 4]
    assert journal.dropped == {"too_large": (1, 0)}


def test_a_full_disk_is_counted_and_said_once(tmp_path: Path) -> None:
    """Where the system refuses to grow a file, the host goes on and the loss is counted in the last file it has."""
    code = """
import json, logging, resource, signal, sys
from pathlib import Path
from test_journal import opened, write
said = []
logging.getLogger("otelsync.journal").addHandler(logging.Handler())
logging.getLogger("otelsync.journal").handlers[0].emit = lambda record: said.append(record.getMessage())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = opened(Path(sys.argv[1]))
write(journal, 1, padding=1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for number in range(2, 1001):
    write(journal, number, padding=1000)
print(json.dumps([journal.dropped, said]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    dropped, said = json.loads(done.stdout)
    kept = read(tmp_path)
    assert len(kept) > 200
    assert kept == list(range(1, len(kept) + 1))
    assert dropped == {"disk": [1000 - len(kept), 0]}
    assert trace_tree.dropped(tmp_path) == {"span": {"disk": 1000 - len(kept)}, "log": {}}
    (message,) = said
    assert str(tmp_path) in message
    assert "dropped and counted" in message
    assert len(list(tmp_path.iterdir())) == 1, "a file that could not be reserved was left behind"


def test_a_directory_that_cannot_be_made_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the directory cannot be made the host goes on; once it can, so does the journal, with the count."""
    (tmp_path / "file").write_text("in the way")
    journal = opened(tmp_path / "file" / "journal")
    with caplog.at_level(logging.WARNING, "otelsync.journal"):
        for number in range(1, 11):
            write(journal, number)
    assert journal.dropped == {"disk": (10, 0)}
    assert len(caplog.records) == 1
    (tmp_path / "file").unlink()
    following = write_until(journal, lambda: journal.path is not None, 11)
    kept = read(journal.directory)
    lost = following - 1 - len(kept)
    assert trace_tree.dropped(journal.directory)["span"] == {"disk": lost}
    assert lost >= 10
    journal.close()


def test_a_removed_directory_is_written_again(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who removes the directory costs at most what was not yet seen; the series goes on under its name."""
    write(journal, 1)
    shutil.rmtree(journal.directory)
    with caplog.at_level(logging.WARNING, "otelsync.journal"):
        following = write_until(journal, journal.directory.exists, 2)
        write(journal, following)
    numbers = read(journal.directory)
    lost = journal.dropped.get("disk", (0, 0))[0]
    assert numbers[-1] == following
    assert len(numbers) + lost >= following
    assert sum("somebody removed" in record.message for record in caplog.records) == 1


def test_a_removed_file_is_put_back_at_the_end(journal: Journal) -> None:
    """However soon after a removal the series is closed, what the file held is not lost."""
    write(journal, 1)
    shutil.rmtree(journal.directory)
    write(journal, 2)
    journal.close()
    assert read(journal.directory) == [1, 2]


def test_a_shortened_file_is_left_and_counted(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who cuts the file costs what it held, which is counted; the series goes on in another file."""
    write(journal, 1)
    first = journal.path
    assert first is not None
    os.truncate(first, 600)
    with caplog.at_level(logging.WARNING, "otelsync.journal"):
        following = write_until(journal, lambda: journal.path != first, 2)
        write(journal, following)
    first.unlink()
    numbers = read(journal.directory)
    assert numbers[-1] == following
    assert journal.dropped == {"disk": (following - len(numbers), 0)}
    assert trace_tree.dropped(journal.directory)["span"] == {"disk": following - len(numbers)}
    assert sum("somebody shortened" in record.message for record in caplog.records) == 1


def test_a_killed_process_leaves_whole_records(tmp_path: Path) -> None:
    """What was appended before SIGKILL is all there, and nothing behind it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        journal = opened(tmp_path)
        number = 0
        while True:
            number += 1
            write(journal, number, padding=number % 500)
            if number % 100 == 0:
                os.write(writing, b".")
    os.close(writing)
    for _ in range(20):
        assert os.read(reading, 1) == b"."
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    numbers = read(tmp_path)
    assert len(numbers) >= 2000
    assert numbers == list(range(1, len(numbers) + 1))
