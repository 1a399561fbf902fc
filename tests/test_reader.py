from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_files import DEAD_PID, JournalFile, log, record, resource, scope, span

from otelsync.journal import reader
from otelsync.journal.batch import Batch
from otelsync.journal.format import CLOSED, LOG, SEALED, SPAN
from otelsync.journal.header import JournalError, JournalHeader, UnknownVersionError, process_alive
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer, own_writer
from otelsync.journal.reader import JournalReader
from otelsync.journal.writer import Journal


@contextmanager
def opened(path: Path, patience: float = 0.0) -> Iterator[JournalReader]:
    reader = JournalReader(path, patience=patience)
    try:
        yield reader
    finally:
        reader.close()


def read_all(path: Path, start: int = 512, **bounds: int) -> list[Batch]:
    batches: list[Batch] = []
    with opened(path) as reader:
        while (batch := reader.read(start, **bounds)) is not None:
            batches.append(batch)
            start = batch.end
    return batches


def test_a_writer_that_ends_while_we_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it commits between our look at the header and our look at the process is no damage."""
    file = JournalFile(tmp_path, alive=False)
    file.committed = file.end
    file.write(size=64 * 1024)

    def ends(_header: JournalHeader) -> bool:
        file.spans(20)
        file.committed = file.end
        file.write(size=64 * 1024)
        return False

    monkeypatch.setattr(reader, "process_alive", ends)
    with opened(file.path) as journal:
        assert (journal.header.damaged, journal.header.committed) == (False, file.end)
        batch = journal.read(512)
        assert batch is not None
        assert (batch.spans, batch.corrupted_bytes) == (20, 0)


def bodies(batches: list[Batch], what: str = "spans") -> list[bytes]:
    return [body for batch in batches for group in batch.groups for body in getattr(group, what)]


def lost(batches: list[Batch]) -> int:
    return sum(batch.corrupted_bytes for batch in batches)


def test_reads_records_in_order_grouped_by_scope(tmp_path: Path) -> None:
    """Records come in their order, by scope, with the resource and the scope that they were recorded under."""
    file = JournalFile(tmp_path)
    file.define(1, resource("other"), 7, scope("requests"))
    file.spans(2).logs(1).spans(1, first=3, ref=7).write()
    [batch] = read_all(file.path)
    first, second = batch.groups
    assert (first.resource, first.scope) == (resource(), scope())
    assert first.spans == [span(1), span(2)]
    assert first.logs == [log(1)]
    assert (second.resource, second.scope) == (resource("other"), scope("requests"))
    assert second.spans == [span(3)]
    assert (batch.journal, batch.start, batch.end) == (file.name, 512, file.end)
    assert (batch.spans, batch.logs, batch.corrupted_bytes) == (3, 1, 0)


def test_reads_what_the_journal_writes(tmp_path: Path) -> None:
    """The reader and the real writer agree, also across segments and when the series is closed."""
    journal = Journal(tmp_path)
    number = journal.scope(journal.resource(resource()), scope())
    for index in range(1, 3001):
        journal.append(SPAN, number, span(index, padding=100))
        journal.append(LOG, number, log(index))
    journal.close()
    [segments] = list_segments(tmp_path).values()
    assert len(segments) > 1
    batches = [batch for segment in segments for batch in read_all(tmp_path / segment.name)]
    assert bodies(batches) == [span(index, padding=100) for index in range(1, 3001)]
    assert bodies(batches, "logs") == [log(index) for index in range(1, 3001)]
    assert {group.scope for batch in batches for group in batch.groups} == {scope()}


def test_stages_that_begin_and_end_are_told_apart(tmp_path: Path) -> None:
    """A span's start is not a finished span, and its end is both a finished span and an end."""
    file = JournalFile(tmp_path).begin(1).finish(1).spans(1, first=2).write()
    batches = read_all(file.path)
    assert bodies(batches, "started") == [span(1, name="sync.repo", ended=False)]
    assert bodies(batches, "ended") == [span(1, name="sync.repo")]
    assert bodies(batches) == [span(1, name="sync.repo"), span(2)]


@pytest.mark.parametrize("bounds", [{"max_records": 3}, {"max_bytes": 200}, {"max_bytes": 13}, {"max_records": 1}])
def test_a_batch_keeps_to_its_bounds(tmp_path: Path, bounds: dict[str, int]) -> None:
    """However small the bounds, every record comes exactly once."""
    file = JournalFile(tmp_path).spans(20).write()
    batches = read_all(file.path, **bounds)
    assert bodies(batches) == [span(number) for number in range(1, 21)]
    assert len(batches) > 6


def test_a_record_beyond_the_bound_comes_alone(tmp_path: Path) -> None:
    """A record that is longer than a batch may be is a batch of its own."""
    file = JournalFile(tmp_path)
    file.add(SPAN, 0, span(1, padding=3_000_000))
    file.spans(1, first=2).write()
    batches = [batch for batch in read_all(file.path, max_bytes=4096) if batch.spans]
    assert [batch.spans for batch in batches] == [1, 1]


def test_starting_in_the_middle_knows_the_definitions(tmp_path: Path) -> None:
    """A fresh reader that starts mid-file gives the same groups as one that has read it all."""
    file = JournalFile(tmp_path).spans(3)
    middle = file.end
    file.spans(2, first=4).write()
    [batch] = read_all(file.path, start=middle)
    assert batch.groups[0].resource == resource()
    assert batch.groups[0].scope == scope()
    assert batch.groups[0].spans == [span(4), span(5)]


def test_a_damaged_offset_hides_no_record_of_a_dead_process(tmp_path: Path) -> None:
    """Nobody writes any more: whole records behind the committed offset are read, though it points into one of them."""
    file = JournalFile(tmp_path, alive=False).spans(20)
    file.committed = 700
    file.write(size=65536)
    batches = read_all(file.path)
    assert bodies(batches) == [span(number) for number in range(1, 21)]
    assert sum(batch.corrupted_bytes for batch in batches) == 0


def test_a_count_that_cannot_be_is_left_out(tmp_path: Path) -> None:
    """A damaged counter of dropped records must not make the sums of the ledger too long to be written."""
    file = JournalFile(tmp_path)
    file.dropped[:3] = [5, 6, 2**63]
    file.write()
    reader = JournalReader(file.path)
    reader.close()
    assert reader.header.dropped == {"span": {"journal_full": 5}, "log": {"journal_full": 6}}


def test_only_committed_records_are_read(tmp_path: Path) -> None:
    """What lies behind the committed offset does not exist yet, and is read once it does."""
    file = JournalFile(tmp_path).spans(1)
    file.committed = file.end
    file.spans(1, first=2).write()
    with opened(file.path) as reader:
        first = reader.read(512)
        assert first is not None
        assert reader.read(first.end) is None
        file.committed = None
        file.change(0, file.header())
        reader.refresh()
        assert bodies([b for b in [reader.read(first.end)] if b]) == [span(2)]


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    """Nothing behind the limit is read."""
    file = JournalFile(tmp_path).spans(2)
    limit = file.end
    file.spans(2, first=3).write()
    with opened(file.path) as reader:
        batch = reader.read(512, limit=limit)
        assert batch is not None
        assert batch.end == limit
        assert batch.spans == 2
        assert reader.read(limit, limit=limit) is None


def test_a_damaged_body_is_skipped_and_counted(tmp_path: Path) -> None:
    """A record with a wrong checksum is lost, with as many bytes as it had; those around it are delivered."""
    file = JournalFile(tmp_path, alive=False).spans(1)
    damaged = file.add(SPAN, 0, span(2))
    file.spans(2, first=3).write()
    file.change(damaged + 20, b"\xff\xff")
    batches = read_all(file.path)
    assert bodies(batches) == [span(1), span(3), span(4)]
    assert lost(batches) == len(record(SPAN, 0, span(2)))


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\x00\x00", b"\x01\x00\x00\x00"])
def test_a_damaged_length_loses_one_record(tmp_path: Path, length: bytes) -> None:
    """A length that overruns, or is too short, costs its own record and no other."""
    file = JournalFile(tmp_path, alive=False).spans(1)
    damaged = file.add(SPAN, 0, span(2))
    file.spans(3, first=3).logs(1).write()
    file.change(damaged, length)
    batches = read_all(file.path)
    assert bodies(batches) == [span(1), span(3), span(4), span(5)]
    assert bodies(batches, "logs") == [log(1)]
    assert lost(batches) == len(record(SPAN, 0, span(2)))


def test_damage_to_the_last_record_loses_the_rest_of_the_file(tmp_path: Path) -> None:
    """Where no further record can be found, the reading ends and the rest is counted."""
    file = JournalFile(tmp_path, alive=False).spans(1)
    damaged = file.add(SPAN, 0, span(2))
    file.write()
    file.change(damaged, b"\xff" * 16)
    batches = read_all(file.path)
    assert bodies(batches) == [span(1)]
    assert lost(batches) == file.end - damaged


def test_a_lost_definition_does_not_lose_the_records(tmp_path: Path) -> None:
    """Records whose scope or resource is not known are delivered without one."""
    file = JournalFile(tmp_path)
    file.spans(1, ref=9).write()
    [batch] = read_all(file.path)
    [group] = batch.groups
    assert (group.resource, group.scope, group.spans) == (b"", b"", [span(1)])


def test_kinds_and_flags_of_a_later_release_are_skipped_and_counted(tmp_path: Path) -> None:
    """An intact record that this release does not understand is counted as unreadable, and harms nothing."""
    file = JournalFile(tmp_path).spans(1)
    file.add(42, 0, b"later")
    file.add(SPAN, 0, span(2), flags=1)
    file.spans(1, first=3).write()
    batches = read_all(file.path)
    assert bodies(batches) == [span(1), span(3)]
    assert lost(batches) == len(record(42, 0, b"later")) + len(record(SPAN, 0, span(2)))


def test_a_living_writer_is_given_time(tmp_path: Path) -> None:
    """An unreadable record of a living process is not yet damage: it is read when it has become readable."""
    file = JournalFile(tmp_path).spans(1)
    late = file.add(SPAN, 0, span(2))
    file.write()
    file.change(late + 14, b"\0\0\0\0")
    with opened(file.path, patience=60.0) as reader:
        first = reader.read(512)
        assert first is not None
        assert first.end == late
        assert reader.read(late) is None
        file.write()
        assert bodies([b for b in [reader.read(late)] if b]) == [span(2)]


def test_patience_with_a_living_writer_ends(tmp_path: Path) -> None:
    """A record that stays unreadable is damage after all."""
    file = JournalFile(tmp_path)
    damaged = file.add(SPAN, 0, span(1))
    file.spans(1, first=2).write()
    file.change(damaged + 14, b"\0\0\0\0")
    with opened(file.path, patience=0.01) as reader:
        assert reader.read(damaged) is None
        deadline = time.monotonic() + 120
        while (batch := reader.read(damaged)) is None:
            assert time.monotonic() < deadline
        assert batch.corrupted_bytes > 0
        assert bodies([b for b in [reader.read(batch.end)] if b]) == [span(2)]


@pytest.mark.parametrize("state", [SEALED, CLOSED])
def test_no_patience_with_a_file_that_is_complete(tmp_path: Path, state: int) -> None:
    """Damage in a sealed or closed file is damage at once."""
    file = JournalFile(tmp_path, state=state)
    damaged = file.add(SPAN, 0, span(1))
    file.write()
    file.change(damaged + 14, b"\0\0\0\0")
    with opened(file.path, patience=60.0) as reader:
        batch = reader.read(damaged)
        assert batch is not None
        assert batch.corrupted_bytes > 0


def test_an_offset_beyond_the_file_is_not_believed(tmp_path: Path) -> None:
    """A committed offset behind the end of the file is cut to the file, and the difference is known."""
    file = JournalFile(tmp_path, alive=False).spans(2)
    file.committed = file.end + 1000
    file.write()
    with opened(file.path) as reader:
        assert reader.header.committed == file.end
        assert reader.header.missing == 1000
    assert bodies(read_all(file.path)) == [span(1), span(2)]


@pytest.mark.parametrize("harm", ["magic", "committed", "header size"])
def test_behind_a_damaged_header_the_records_are_found(tmp_path: Path, harm: str) -> None:
    """A header that cannot be believed costs no record, and unused space is not called damage."""
    file = JournalFile(tmp_path, alive=False).spans(3).write(size=8192)
    at, content = {"magic": (0, b"GARBAGE!"), "committed": (64, bytes(8)), "header size": (12, b"\1")}[harm]
    file.change(at, content)
    with opened(file.path) as reader:
        assert reader.header.damaged
        assert reader.header.writer.pid == DEAD_PID
    batches = read_all(file.path)
    assert bodies(batches) == [span(1), span(2), span(3)]
    assert lost(batches) == 0


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    """A file of another format version is not guessed at."""
    file = JournalFile(tmp_path)
    file.version = 2
    file.write()
    with pytest.raises(UnknownVersionError, match="version 2"):
        JournalReader(file.path)


def test_a_file_that_shrinks_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """What is cut off while it is read is lost, and nothing else."""
    file = JournalFile(tmp_path, alive=False).spans(2)
    kept = file.end
    file.spans(5, first=3).write()
    with opened(file.path) as reader:
        os.truncate(file.path, kept + 5)
        found, at = [], 512
        while (batch := reader.read(at)) is not None:
            assert batch.end > at
            found.append(batch)
            at = batch.end
        assert bodies(found) == [span(1), span(2)]


def test_a_file_that_vanishes_is_read_to_its_end(tmp_path: Path) -> None:
    """Once it is open, a file can be removed without loss."""
    file = JournalFile(tmp_path).spans(2).write()
    with opened(file.path) as reader:
        file.path.unlink()
        reader.refresh()
        assert reader.removed
        batch = reader.read(512)
        assert batch is not None
        assert batch.spans == 2


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe, a directory or a link with a journal's name is neither waited for nor followed."""
    pipe, folder, link = (tmp_path / f"1-2-0000000{n}-000000.journal" for n in range(3))
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to("/dev/zero")
    for path in (pipe, folder, link):
        with pytest.raises((JournalError, OSError)):
            JournalReader(path)


def test_segments_are_listed_by_series_in_order(tmp_path: Path) -> None:
    """Each series has its segments in the order of their numbers."""
    for name in ("9-5-aaaaaaaa-000010", "9-5-aaaaaaaa-000002", "10-5-bbbbbbbb-000000"):
        (tmp_path / f"{name}.journal").touch()
    found = list_segments(tmp_path)
    assert [s.sequence for s in found["9-5-aaaaaaaa"]] == [2, 10]
    assert [s.pid for s in found["10-5-bbbbbbbb"]] == [10]


@pytest.mark.parametrize(
    "name",
    [
        "x.journal",
        "1-2-0123abcd-000000.journal.tmp",
        "-1-2-0123abcd-000000.journal",
        "1-2-0123ABCD-000000.journal",
        "1-2-0123abcd-0.journal",
        "1-2-0123abcd-000000.journal\n",
        "99999999999-2-0123abcd-000000.journal",
        "\u0661-2-0123abcd-000000.journal",
        "shipper.json",
    ],
)
def test_other_names_are_ignored(tmp_path: Path, name: str) -> None:
    """A file whose name is not a journal's is none of ours."""
    (tmp_path / name).touch()
    assert list_segments(tmp_path) == {}


def test_a_missing_directory_has_no_segments(tmp_path: Path) -> None:
    """A directory that is not there is an empty one."""
    assert list_segments(tmp_path / "none") == {}


def test_liveness_tells_a_process_from_another_with_its_number(tmp_path: Path) -> None:
    """A process is the one that wrote the journal only if its start time and the boot agree too."""
    me = own_writer()
    assert me.alive()
    assert not Writer(me.pid, me.start_ticks + 1, me.boot_id).alive()
    assert not Writer(me.pid, me.start_ticks, b"another boot ...").alive()
    assert not Writer(DEAD_PID, 0, bytes(16)).alive()
    file = JournalFile(tmp_path).write()
    with opened(file.path) as reader:
        assert process_alive(reader.header)


def test_a_zombie_is_dead() -> None:
    """A process that has ended and was not waited for writes no more."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_bytes().rpartition(b")")[2].split()
    writer = Writer(child.pid, int(stat[19]), own_writer().boot_id)
    assert writer.alive()
    child.kill()
    deadline = time.monotonic() + 120
    while writer.alive():
        assert time.monotonic() < deadline
    child.communicate()


def test_the_dropped_counters_are_read(tmp_path: Path) -> None:
    """What the writer dropped stands in the header, by signal and reason."""
    file = JournalFile(tmp_path)
    file.dropped[0], file.dropped[3], file.dropped[6] = 5, 7, 1
    file.write()
    with opened(file.path) as reader:
        assert reader.header.dropped == {"span": {"journal_full": 5, "encode_error": 1}, "log": {"disk": 7}}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=40)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 4000),
)
def test_no_damage_makes_it_fail_hang_or_invent(
    tmp_path: Path, damage: list[tuple[int, bytes]], cut: int | None
) -> None:
    """Whatever happened to a file, reading it ends, every span is one that was written, and offsets only grow."""
    file = JournalFile(tmp_path, alive=False).spans(20).logs(10).begin(30).finish(30)
    file.path.unlink(missing_ok=True)
    file.write(size=6000)
    for offset, content in damage:
        file.change(offset, content)
    if cut is not None:
        os.truncate(file.path, cut)
    try:
        batches = read_all(file.path)
    except UnknownVersionError:
        return
    for before, after in pairwise(batches):
        assert before.end == after.start
    written = {span(number) for number in range(1, 21)} | {span(30, name="sync.repo")}
    found = bodies(batches)
    assert set(found) <= written
    assert len(found) == len(set(found))
