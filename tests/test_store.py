from __future__ import annotations

import itertools
import json
import logging
import os
import random
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span
from stored import START, SYNC_ID, TRACE, batch, group, log, span, store

from otelsync.errors import StoreError
from otelsync.journal.batch import Batch, Group
from otelsync.store.connection import in_memory
from otelsync.store.histogram import bounds, buckets, percentile
from otelsync.store.rows import Decoder
from otelsync.store.runs import open_store
from otelsync.store.writing import StoreSink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store.db"


@pytest.fixture
def sink(path: Path) -> Iterator[StoreSink]:
    sink = StoreSink(path)
    yield sink
    sink.close()


def rows(path: Path, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query, parameters).fetchall()


def run_of(path: Path) -> dict[str, Any]:
    """The only row of `runs`."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT * FROM runs").fetchall()
        return dict(row)


def whole_run() -> list[bytes]:
    return [
        span("sync.pr", 4, 3, 1, 2, vcs__change__id="1", sync__action="created"),
        span("sync.pr", 5, 3, 2, 4, error="ValueError: no title", vcs__change__id="2"),
        span("sync.api list", 3, 2, 0, 5),
        span("sync.repo acme/api", 2, 1, 0, 6, sync__outcome="partial"),
        span("sync.pipeline nightly", 1, 0, 0, 8, sync__outcome="partial", sync__pipeline="nightly"),
    ]


def test_a_batch_of_more_services_than_are_remembered(path: Path, sink: StoreSink) -> None:
    """Each run has the name of its service, however many come at once, and in the next batch again."""
    for turn in range(2):
        groups = [
            group(span("sync.pipeline p", 1, trace=f"{number + turn * 2000 + 1:032x}"), service=f"service-{number}")
            for number in range(1100)
        ]
        sink.deliver(Batch("1-1-aaaaaaaa-000000.journal", turn, turn + 1, groups))
    assert rows(path, "SELECT service, count(*) FROM runs GROUP BY service HAVING count(*) <> 2") == []
    assert rows(path, "SELECT count(DISTINCT service) FROM runs") == [(1100,)]


def test_a_span_becomes_a_row(path: Path, sink: StoreSink) -> None:
    """Ids are hexadecimal text, attributes a JSON object, what a span does not have is NULL."""
    sink.deliver(batch(span("sync.pr", 4, 3, 1, 2, sync=None, vcs__change__id="4711", tries=2, ratio=0.5, new=True)))
    assert rows(path, "SELECT * FROM spans") == [
        (
            TRACE,
            "0000000000000004",
            "0000000000000003",
            "sync.pr",
            1,
            START + 1_000_000,
            START + 2_000_000,
            0,
            None,
            1,
            1,
            '{"vcs.change.id":"4711","tries":2,"ratio":0.5,"new":true}',
            None,
            None,
            None,
            0,
            1,
        )
    ]
    assert rows(path, "SELECT * FROM resources") == [(1, '{"service.name":"github-sync"}')]
    assert rows(path, "SELECT * FROM scopes") == [(1, "otelsync", "0.1.0")]


def test_status_events_and_links_are_kept(path: Path, sink: StoreSink) -> None:
    """A span with everything has it in its row, the rest as JSON arrays."""
    event = Span.Event(time_unix_nano=START, name="exception", attributes=[_pair("n", AnyValue(int_value=1))])
    link = Span.Link(trace_id=bytes(15) + b"\x02", span_id=bytes(7) + b"\x03", trace_state="a=b")
    sink.deliver(batch(span("GET", 9, 3, error="boom", events=[event], links=[link])))
    ((status, message, events, links),) = rows(path, "SELECT status, status_message, events, links FROM spans")
    assert (status, message) == (2, "boom")
    assert json.loads(events) == [{"timeUnixNano": str(START), "name": "exception", "attributes": {"n": 1}}]
    assert json.loads(links) == [
        {"traceId": "0" * 31 + "2", "spanId": "0" * 15 + "3", "traceState": "a=b", "attributes": {}}
    ]


def test_a_log_record_becomes_a_row(path: Path, sink: StoreSink) -> None:
    """The body is the event, the scope's name the logger, the severity text the level."""
    sink.deliver(batch(logs=[log("sync.repo.completed", 2, 3, repo="acme/api")]))
    columns = "trace_id, span_id, sync_id, time_ns, severity, level, logger, event, json_extract(attributes, '$.repo')"
    assert rows(path, f"SELECT {columns} FROM logs") == [
        (
            TRACE,
            "0000000000000002",
            SYNC_ID,
            START + 3_000_000,
            9,
            "INFO",
            "otelsync",
            "sync.repo.completed",
            "acme/api",
        )
    ]


def test_a_run_is_summed_up(path: Path, sink: StoreSink) -> None:
    """One row tells what `list` shows, with the times of the pipeline's span."""
    sink.deliver(batch(*whole_run(), logs=[log("done", 1, 9)]))
    assert run_of(path) == {
        "trace_id": TRACE,
        "sync_id": SYNC_ID,
        "pipeline": "nightly",
        "service": "github-sync",
        "root_span_id": "0000000000000001",
        "start_ns": START,
        "end_ns": START + 8_000_000,
        "outcome": "partial",
        "spans": 5,
        "errors": 1,
        "logs": 1,
        "first_ns": START,
        "last_ns": START + 9_000_000,
        "root_name": "sync.pipeline nightly",
    }


def test_a_running_pipeline_has_no_end(path: Path, sink: StoreSink) -> None:
    """A run whose pipeline has begun and not ended can be told by its missing end."""
    sink.deliver(
        batch(*whole_run()[:2], started=[span("sync.pipeline nightly", 1, end=None, sync__pipeline="nightly")])
    )
    run = run_of(path)
    assert (run["pipeline"], run["end_ns"], run["outcome"], run["spans"]) == ("nightly", None, None, 2)


def test_the_pipeline_counts_as_the_root_wherever_it_stands(path: Path, sink: StoreSink) -> None:
    """A run inside somebody else's trace has its own pipeline's outcome, which its parts decide."""
    sink.deliver(batch(span("POST /sync", 9, 0, 0, 20, sync=None)))
    sink.deliver(
        batch(
            span("sync.pipeline inner", 2, 1, 5, 6, sync__outcome="failure", sync__pipeline="inner"),
            span("sync.pipeline nightly", 1, 9, 1, 10, sync__outcome="success", sync__pipeline="nightly"),
            start=1,
            end=2,
        )
    )
    run = run_of(path)
    assert (run["root_span_id"], run["pipeline"], run["outcome"]) == ("0000000000000001", "nightly", "failure")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_runs_row_does_not_depend_on_the_order(tmp_path: Path, order: Sequence[int]) -> None:
    """Whichever of its records come first, the run is the same in the end."""
    batches = [
        batch(*whole_run()[:3]),
        batch(*whole_run()[3:]),
        batch(started=[span("sync.pipeline nightly", 1, end=None, sync__pipeline="nightly")]),
    ]
    outcomes = []
    for number, way in enumerate((range(3), order)):
        path = tmp_path / str(number) / "store.db"
        sink = StoreSink(path)
        for position, index in enumerate(way):
            batches[index].start, batches[index].end = position, position + 1
            sink.deliver(batches[index])
        sink.close()
        outcomes.append((run_of(path), rows(path, "SELECT span_id, end_ns FROM spans ORDER BY span_id")))
    assert outcomes[0] == outcomes[1]


def test_a_batch_is_stored_once(path: Path, sink: StoreSink) -> None:
    """A batch at or below the checkpoint is ignored, whatever it holds."""
    sink.deliver(batch(*whole_run(), logs=[log("once")], start=512, end=900))
    sink.deliver(batch(*whole_run(), logs=[log("once")], start=512, end=900))
    sink.deliver(batch(span("late", 77), start=512, end=700))
    assert sink.position("1-1-aaaaaaaa-000000.journal") == 900
    assert rows(path, "SELECT (SELECT count(*) FROM spans), (SELECT count(*) FROM logs)") == [(5, 1)]
    assert run_of(path)["spans"] == 5


def test_of_a_batch_that_overlaps_only_what_is_new_is_stored(path: Path, sink: StoreSink) -> None:
    """Spans and log records that were stored already are left out, the others are stored, and the sums are right."""
    run = whole_run()
    sink.deliver(batch(*run[:3], logs=[log("one", 2)], start=512, end=900))
    sink.deliver(batch(*run, logs=[log("one", 2), log("two", 2)], start=700, end=1200))
    assert sink.position("1-1-aaaaaaaa-000000.journal") == 1200
    assert rows(path, "SELECT event FROM logs ORDER BY id") == [("one",), ("two",)]
    assert rows(path, "SELECT sum(count), sum(failed) FROM siblings") == [(5, 1)]
    assert (run_of(path)["spans"], run_of(path)["logs"]) == (5, 2)


def test_a_span_recorded_twice_is_one_row(path: Path, sink: StoreSink) -> None:
    """The same id in one batch or in two, from one journal or from two: one row, and counted once."""
    one = span("sync.pr", 4, 3, vcs__change__id="1")
    sink.deliver(batch(one, one))
    sink.deliver(batch(one, span("sync.pr", 5, 3), journal="2-2-bbbbbbbb-000000.journal"))
    assert rows(path, "SELECT span_id FROM spans ORDER BY 1") == [("0000000000000004",), ("0000000000000005",)]
    assert rows(path, "SELECT count FROM siblings") == [(2,)]
    assert run_of(path)["spans"] == 2


def test_a_pipeline_that_two_have_ended_is_one_row(path: Path, sink: StoreSink) -> None:
    """The first end stands, even if the second one claims another start."""
    sink.deliver(batch(*whole_run()))
    sink.deliver(batch(span("sync.pipeline nightly", 1, 0, 1, 9, sync__outcome="failure"), start=1, end=2))
    assert rows(path, "SELECT count(*) FROM spans WHERE span_id = '0000000000000001'") == [(1,)]
    assert run_of(path)["outcome"] == "partial"


def test_an_open_span_is_replaced_by_its_end(path: Path, sink: StoreSink) -> None:
    """A stage that has begun is a row without an end, which its end fills in."""
    sink.deliver(batch(started=[span("sync.repo acme/api", 2, 1, end=None)]))
    assert rows(path, "SELECT end_ns, status FROM spans") == [(None, 0)]
    assert rows(path, "SELECT * FROM siblings") == []
    sink.deliver(batch(span("sync.repo acme/api", 2, 1, 0, 6, error="x", sync__outcome="failure"), start=1, end=2))
    assert rows(path, "SELECT end_ns, status, json_extract(attributes, '$.\"sync.outcome\"') FROM spans") == [
        (START + 6_000_000, 2, "failure")
    ]
    assert rows(path, "SELECT count, failed FROM siblings") == [(1, 1)]


@pytest.mark.parametrize("together", [True, False])
def test_an_ended_span_never_opens_again(path: Path, sink: StoreSink, together: bool) -> None:
    """A beginning that is read after the end changes nothing."""
    ended, begun = span("sync.repo acme/api", 2, 1, 0, 6), span("sync.repo acme/api", 2, 1, end=None)
    if together:
        sink.deliver(batch(ended, started=[begun]))
    else:
        sink.deliver(batch(ended))
        sink.deliver(batch(started=[begun], start=1, end=2))
    assert rows(path, "SELECT end_ns FROM spans") == [(START + 6_000_000,)]


def test_siblings_are_summed_up(path: Path, sink: StoreSink) -> None:
    """One row a parent and name: count, failures, first and last instant, total, the slowest one, a histogram."""
    parent = span("sync.api list", 3, 2, end=None)
    sink.deliver(batch(*(span("sync.pr", n, 3, n, n + 2) for n in range(10, 15)), started=[parent]))
    sink.deliver(batch(*(span("sync.pr", n, 3, n, n + 4, error="x") for n in range(20, 23)), start=1, end=2))
    ((*sums, durations),) = rows(
        path,
        "SELECT parent_span_id, under, name, count, failed, start_ns, end_ns, total_ns, slowest_ns, slowest_span_id,"
        " awaiting, durations FROM siblings",
    )
    ms = 1_000_000
    assert sums == [
        "0000000000000003",
        "",
        "sync.pr",
        8,
        3,
        START + 10 * ms,
        START + 26 * ms,
        22 * ms,
        4 * ms,
        "0000000000000014",
        0,
    ]
    (two,), (four,) = buckets([2 * ms]), buckets([4 * ms])
    assert json.loads(durations) == {str(two): 5, str(four): 3}


def test_what_is_below_small_spans_is_summed_up_with_what_is_below_their_siblings(path: Path, sink: StoreSink) -> None:
    """A pull request with an API call of its own makes no rows of its own: they would be as many as the spans."""
    spans = []
    for number in range(10, 200, 10):
        spans += [
            span("GET", number + 2, number + 1),
            span("sync.api get", number + 1, number),
            span("sync.pr", number, 3),
        ]
    sink.deliver(batch(*spans, started=[span("sync.api list", 3, 2, end=None)]))
    assert rows(path, "SELECT parent_span_id, under, name, count FROM siblings ORDER BY under") == [
        ("0000000000000003", "", "sync.pr", 19),
        ("0000000000000003", "sync.pr", "sync.api get", 19),
        ("0000000000000003", "sync.pr\nsync.api get", "GET", 19),
    ]


def test_a_subtree_that_comes_in_two_batches_is_not_small(path: Path, sink: StoreSink) -> None:
    """What is known of a span's children before it comes is not lost when its ancestors come together."""
    sink.deliver(batch(span("GET", 12, 11)))
    assert rows(path, "SELECT parent_span_id, name, awaiting FROM siblings") == [("000000000000000b", "GET", 1)]
    sink.deliver(batch(span("sync.api get", 11, 10), span("sync.pr", 10, 3), start=1, end=2))
    assert rows(path, "SELECT parent_span_id, under, name, awaiting FROM siblings ORDER BY 1") == [
        ("0000000000000003", "", "sync.pr", 1),
        ("000000000000000a", "", "sync.api get", 0),
        ("000000000000000b", "", "GET", 0),
    ]


def _tree(dice: random.Random, size: int) -> list[bytes]:
    """A random trace whose spans end in any order."""
    spans = [
        span(
            dice.choice("abc"),
            n,
            dice.randrange(0, n),
            n,
            n + dice.randrange(50),
            error=dice.choice([None] * 9 + ["x"]),
        )
        for n in range(1, size)
    ]
    dice.shuffle(spans)
    return spans


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 120), st.integers(1, 60))
def test_the_sums_are_those_of_the_rows(dice: random.Random, size: int, at_a_time: int) -> None:
    """However a trace is cut into batches, and whatever is repeated, sums and rows say the same."""
    spans = _tree(dice, size)
    spans += dice.sample(spans, len(spans) // 4)
    with _temporary() as path:
        sink = StoreSink(path)
        for position, index in enumerate(range(0, len(spans), at_a_time)):
            sink.deliver(batch(*spans[index : index + at_a_time], start=position, end=position + 1))
        sink.close()
        of_rows = rows(
            path,
            "SELECT name, count(*), sum(status = 2), sum(end_ns - start_ns), max(end_ns - start_ns) FROM spans"
            " GROUP BY name",
        )
        of_sums = rows(
            path, "SELECT name, sum(count), sum(failed), sum(total_ns), max(slowest_ns) FROM siblings GROUP BY name"
        )
        assert of_rows == of_sums
        assert run_of(path)["spans"] == size - 1


def _temporary() -> Any:
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def directory() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name) / "store.db"

    return directory()


def test_all_of_a_batch_is_stored_or_nothing(path: Path, sink: StoreSink) -> None:
    """When the disk is full the batch is refused as a whole, and taken as a whole later."""
    sink.deliver(batch(*whole_run()))
    connection = sink._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = batch(*(span("sync.pr", n, 3, note="x" * 2000) for n in range(100, 200)), logs=[log("big")], start=1, end=2)
    with pytest.raises(StoreError, match="no space left for the store"):
        sink.deliver(big)
    assert sink.position(big.journal) == 1
    assert rows(path, "SELECT (SELECT count(*) FROM spans), (SELECT count(*) FROM logs)") == [(5, 0)]
    connection.execute("PRAGMA max_page_count = 1000000")
    sink.deliver(big)
    assert rows(path, "SELECT (SELECT count(*) FROM spans), (SELECT count(*) FROM logs)") == [(105, 1)]


def test_a_busy_store_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes for long, a batch is refused with the reason, and taken when it has done."""
    monkeypatch.setattr("otelsync.store.connection.PATIENCE", 0.01)
    impatient = StoreSink(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is busy: another process has been writing"):
            impatient.deliver(batch(*whole_run()))
        other.execute("ROLLBACK")
    impatient.deliver(batch(*whole_run()))
    impatient.close()
    assert run_of(path)["spans"] == 5


def test_several_sinks_write_one_store(path: Path, sink: StoreSink) -> None:
    """Shippers of two services can store into one file, turn by turn, and sum up one trace together."""
    other = StoreSink(path)
    sink.deliver(batch(*whole_run()[:2]))
    other.deliver(batch(*whole_run()[2:], journal="2-2-bbbbbbbb-000000.journal"))
    other.close()
    assert run_of(path)["spans"] == 5


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_moved_aside(path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """What cannot be read is kept under another name, a new store is begun, and that is said once."""
    path.parent.mkdir()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        sink = StoreSink(path)
        sink.deliver(batch(*whole_run()))
        sink.close()
    assert run_of(path)["spans"] == 5
    assert path.with_name("store.db.damaged").read_bytes() == content
    assert [record.getMessage().count("moved to") for record in caplog.records] == [1]


def test_a_file_damaged_while_in_use_is_moved_aside(path: Path) -> None:
    """The batch that met the damage is in the new store, and positions begin anew."""
    sink = StoreSink(path)
    sink.deliver(batch(*whole_run(), start=0, end=100))
    assert sink._connection is not None
    sink._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    sink._connection.execute("PRAGMA cache_size = 0")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    sink.deliver(batch(span("sync.pr", 99, 3), start=100, end=200))
    assert sink.position("1-1-aaaaaaaa-000000.journal") == 200
    sink.close()
    assert rows(path, "SELECT span_id FROM spans") == [("0000000000000063",)]
    assert path.with_name("store.db.damaged").exists()


def test_damaged_files_are_never_overwritten(path: Path) -> None:
    """A second damaged file gets a number."""
    path.parent.mkdir()
    for _ in range(2):
        path.write_bytes(b"this is no database" * 100)
        StoreSink(path).close()
    assert sorted(file.name for file in path.parent.glob("*damaged*")) == ["store.db.damaged", "store.db.damaged-2"]


def test_another_programs_file_is_left_alone(path: Path) -> None:
    """A SQLite file with other tables is no place for ours."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE pets (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a SQLite file of another program; set OTELSYNC_STORE_PATH"):
        StoreSink(path)
    assert path.read_bytes() == before


def test_another_versions_file_is_left_alone(path: Path) -> None:
    """A store with tables that are not known is not touched."""
    StoreSink(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="was written by another version of otelsync"):
        StoreSink(path)


def test_a_store_that_is_removed_is_begun_again(path: Path, sink: StoreSink) -> None:
    """Records never go into a file that has no name any more."""
    sink.deliver(batch(*whole_run()))
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    sink.deliver(batch(*whole_run(), start=1, end=2))
    assert run_of(path)["spans"] == 5


def test_a_directory_that_cannot_be_written_is_reported(path: Path) -> None:
    """The message names the file and the fix."""
    path.parent.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # nobody: root may write anywhere
    try:
        with pytest.raises(StoreError, match="set OTELSYNC_STORE_PATH"):
            StoreSink(path)
    finally:
        os.seteuid(user)


def test_a_path_below_a_file_is_reported(tmp_path: Path) -> None:
    """A parent that is no directory is an error with the fix."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="set OTELSYNC_STORE_PATH"):
        StoreSink(tmp_path / "file" / "store.db")


def test_only_the_owner_may_read(path: Path, sink: StoreSink) -> None:
    """The directory is 0700, and the file and its companions are 0600, whatever the umask."""
    sink.deliver(batch(*whole_run()))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "store.db-wal" in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_oldest_runs_make_room(path: Path) -> None:
    """Above the bound whole runs go, the oldest first; the latest stays whatever its size."""
    sink = StoreSink(path, max_bytes=400_000)
    for run in range(1, 33):
        trace = f"{run:032x}"
        spans = [span("sync.pr", n, 1, run * 1000, note="x" * 500, trace=trace) for n in range(2, 50)]
        sink.deliver(batch(*spans, logs=[log("x", 2, run * 1000, trace=trace)], start=run, end=run + 1))
    sink.close()
    kept = [int(trace, 16) for (trace,) in rows(path, "SELECT trace_id FROM runs ORDER BY 1")]
    assert kept == list(range(kept[0], 33))
    assert 2 < kept[0] < 33
    for table in ("spans", "siblings", "logs"):
        assert [int(trace, 16) for (trace,) in rows(path, f"SELECT DISTINCT trace_id FROM {table} ORDER BY 1")] == kept
    assert path.stat().st_size <= 600_000


def test_old_runs_go(path: Path) -> None:
    """A run without a sign of life for longer than the bound is deleted when the store is opened."""
    sink = StoreSink(path)
    now = (time.time_ns() - START) / 1e6
    sink.deliver(batch(span("old", 1), span("new", 1, 0, now, now + 1, trace="2" * 32)))
    sink.close()
    StoreSink(path, max_age=3600).close()
    assert rows(path, "SELECT name FROM spans") == [("new",)]


def test_a_forgotten_journal_begins_at_zero(sink: StoreSink) -> None:
    """The position of a file that is gone for good takes no room."""
    sink.deliver(batch(*whole_run(), end=900))
    sink.forget("1-1-aaaaaaaa-000000.journal")
    assert sink.position("1-1-aaaaaaaa-000000.journal") == 0


def test_what_cannot_be_decoded_is_left_out_and_said(
    path: Path, sink: StoreSink, caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage between two spans harms neither of them."""
    broken = b"\x12\x05\xff\xff\xff\xff\xff"
    with caplog.at_level(logging.WARNING):
        sink.deliver(batch(span("a", 1), broken, span("b", 2)))
    assert rows(path, "SELECT name FROM spans ORDER BY 1") == [("a",), ("b",)]
    assert "1 records of 1-1-aaaaaaaa-000000.journal could not be decoded" in caplog.text


def test_hostile_values_are_stored(path: Path, sink: StoreSink) -> None:
    """Times beyond 64 signed bits, text that is not UTF-8, an end before its start: rows, not errors."""
    far = Span(trace_id=bytes(16), span_id=bytes(8), start_time_unix_nano=2**64 - 1, end_time_unix_nano=5)
    raw = ScopeSpans(spans=[Span(trace_id=b"\1" * 16, span_id=b"\2" * 8, name="ab")]).SerializeToString()
    sink.deliver(batch(ScopeSpans(spans=[far]).SerializeToString(), raw.replace(b"ab", b"\xff\xfe")))
    assert rows(path, "SELECT name, start_ns FROM spans ORDER BY start_ns") == [("��", 0), ("", 2**63 - 1)]


def test_lost_definitions_do_not_hinder(path: Path, sink: StoreSink) -> None:
    """Records whose resource and scope were lost are stored with empty ones."""
    sink.deliver(Batch("j", 0, 1, [Group(b"", b"", [span("a", 1)], [], [log("b")])]))
    assert rows(path, "SELECT attributes FROM resources") == [("{}",)]
    assert rows(path, "SELECT logger, event FROM logs") == [("", "b")]


def _pair(key: str, value: AnyValue) -> KeyValue:
    return KeyValue(key=key, value=value)


_text = st.text(st.characters(codec="utf-8"), max_size=150)
_scalars = st.one_of(
    st.builds(lambda v: (AnyValue(string_value=v), v), _text),
    st.builds(lambda v: (AnyValue(int_value=v), v), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: (AnyValue(bool_value=v), v), st.booleans()),
    st.builds(lambda v: (AnyValue(double_value=v), v), st.floats(allow_nan=False, allow_infinity=False)),
    st.just((AnyValue(), None)),
)
_arrays = st.lists(_scalars, max_size=4).map(
    lambda items: (AnyValue(array_value=ArrayValue(values=[i[0] for i in items])), [i[1] for i in items])
)
_maps = st.dictionaries(_text, _scalars, max_size=4).map(
    lambda items: (
        AnyValue(kvlist_value=KeyValueList(values=[_pair(k, v[0]) for k, v in items.items()])),
        {k: v[1] for k, v in items.items()},
    )
)


@settings(deadline=None)
@given(st.dictionaries(_text, st.one_of(_scalars, _arrays, _maps), max_size=6))
def test_attributes_become_the_same_values_in_json(attributes: dict[str, tuple[AnyValue, Any]]) -> None:
    """Whatever the attributes are, parsing the JSON gives them back, the first time and from memory."""
    message = Span(trace_id=bytes(16), span_id=bytes(8), attributes=[_pair(k, v[0]) for k, v in attributes.items()])
    decoder = Decoder()
    expected = {key: value for key, (_, value) in attributes.items()}
    for _ in range(2):
        plain, detailed = decoder.spans([ScopeSpans(spans=[message]).SerializeToString()], 1, 1)
        assert not detailed
        assert json.loads(plain[0][8]) == expected


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_can_be_decoded_or_left_out(bodies: list[bytes]) -> None:
    """The decoder never raises."""
    decoder = Decoder()
    decoder.spans(bodies, 1, 1)
    decoder.logs(bodies, 1, "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AnyValue(double_value=float("nan")), "NaN"),
        (AnyValue(double_value=float("-inf")), "-Infinity"),
        (AnyValue(bytes_value=b"\x00\xff"), "AP8="),
    ],
)
def test_values_without_a_json_form_are_strings_as_in_otlp_json(value: AnyValue, expected: str) -> None:
    """NaN and infinities by name, bytes in base64."""
    message = Span(attributes=[_pair("v", value)])
    plain, _ = Decoder().spans([ScopeSpans(spans=[message]).SerializeToString()], 1, 1)
    assert json.loads(plain[0][8]) == {"v": expected}


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=200), st.floats(0.01, 1))
def test_percentiles_are_within_an_eighth(durations: list[int], fraction: float) -> None:
    """A percentile from the histogram lies in the bucket of the exact one."""
    counts: dict[int, int] = {}
    for bucket in buckets(durations):
        counts[bucket] = counts.get(bucket, 0) + 1
    found = percentile(counts, fraction, longest=max(durations))
    exact = sorted(durations)[max(int(-(-fraction * len(durations) // 1)), 1) - 1]
    assert abs(max(found, 8) - max(exact, 8)) <= max(exact, 8) / 8


@given(st.integers(0, 2**64))
def test_a_duration_lies_in_its_bucket(duration: int) -> None:
    """Bucket numbers and bounds fit each other; anything below 8 ns counts as 8 ns."""
    (bucket,) = buckets([duration])
    lower, upper = bounds(bucket)
    assert lower <= max(duration, 8) < upper


def test_the_schema_explains_itself(path: Path, sink: StoreSink) -> None:
    """Whoever opens the file finds every table's comments in it."""
    for name, text in rows(path, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"):
        assert "--" in text or name in ("resources", "scopes"), name
    assert sink.path == path


class Told:
    """Somebody who is told of runs, and looks into the store at that moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ends: list[tuple[str, str, int]] = []
        self.records: list[set[str]] = []

    def ended(self, sync_id: str, trace_id: str) -> None:
        """A run has ended."""
        ((count,),) = rows(self.path, "SELECT count(*) FROM runs WHERE trace_id = ? AND end_ns IS NOT NULL", trace_id)
        self.ends.append((sync_id, trace_id, count))

    def recorded(self, sync_ids: Collection[str]) -> None:
        """There are records of these runs."""
        self.records.append(set(sync_ids))


def test_whoever_watches_is_told_of_ends_that_are_stored(path: Path) -> None:
    """Of a pipeline's end, once it is committed, and of every further one; of no other end, and of nothing twice."""
    told = Told(path)
    sink = StoreSink(path, watch=told)
    root = span("sync.pipeline p", 1)
    sink.deliver(batch(span("sync.repo a", 2, 1), started=[span("sync.pipeline p", 1, end=None)], end=1))
    sink.deliver(batch(span("sync.pipeline inner", 3, 1, start=0.5), start=1, end=2))
    assert told.ends == []
    sink.deliver(batch(root, start=2, end=3))
    sink.deliver(batch(root, start=2, end=3))
    assert told.ends == [(SYNC_ID, TRACE, 1)]
    sink.deliver(batch(root, start=3, end=4))
    assert told.ends == [(SYNC_ID, TRACE, 1)] * 2
    other = "1" * 32
    sink.deliver(
        batch(span("run/task", 9, trace=other), span("sync.pipeline q", 8, trace="2" * 32, sync=None), start=4, end=5)
    )
    sink.close()
    assert len(told.ends) == 2
    assert told.records == [{SYNC_ID}, {SYNC_ID}, {SYNC_ID}, set(), {SYNC_ID}]


def test_whoever_watches_is_told_nothing_of_what_is_not_stored(path: Path) -> None:
    """A batch that cannot be stored has not come; when it is stored at last, its end is told once."""
    told = Told(path)
    sink = StoreSink(path, watch=told)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TRIGGER refuse BEFORE INSERT ON logs BEGIN SELECT raise(ABORT, 'refused'); END")
        other.commit()
        ended = batch(span("sync.pipeline p", 1), logs=[log("said", 1)])
        with pytest.raises(StoreError):
            sink.deliver(ended)
        assert (told.ends, told.records) == ([], [])
        other.execute("DROP TRIGGER refuse")
        other.commit()
    sink.deliver(ended)
    sink.close()
    assert told.ends == [(SYNC_ID, TRACE, 1)]


def test_what_is_stored_while_somebody_looks_is_there_once(tmp_path: Path) -> None:
    """A store beside takes a batch that the local one has had since, with its trace, and has forgotten the journal."""
    other = "f" * 32
    first = batch(span("sync.pr", 1), logs=[log("one", 1)], start=0, end=1)
    second = batch(
        span("sync.pr", 2, trace=other, sync="s2"), logs=[log("two", 2, trace=other), log("three", 2, 1, trace=other)],
        start=1, end=2,
    )  # fmt: skip
    third = batch(logs=[log("four", 2, 2, trace=other)], start=2, end=3)
    local = store(tmp_path / "store.db")
    beside = StoreSink(tmp_path / "beside.db", beside=local)
    beside.deliver(first)
    shipped = StoreSink(local)
    for each in (first, second, third):
        shipped.deliver(each)
    shipped.forget(first.journal)
    shipped.close()
    for each in (second, third):
        beside.deliver(each)
    with open_store(tmp_path / "beside.db") as looked, open_store(local) as stored:
        for table in ("logs", "spans"):
            count = f"SELECT count(*) FROM {table}"
            assert looked.execute(count).fetchone() == stored.execute(count).fetchone()
        (shown,), (there,) = (
            each.execute("SELECT logs FROM runs WHERE trace_id = ?", (other,)).fetchall() for each in (looked, stored)
        )
    assert shown == there == (3,)
    beside.close()


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_damaged_store_is_not_taken_for_the_one_beside_it(tmp_path: Path, is_kept: bool) -> None:
    """The message names it, and no other file is moved aside, however often somebody looks."""
    local = store(tmp_path / "store.db", batch(*[span("sync.pr", number) for number in range(1, 300)]))
    with closing(sqlite3.connect(local)) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = plain.execute("SELECT rootpage FROM sqlite_master WHERE name = 'spans'").fetchone()
        (size,) = plain.execute("PRAGMA page_size").fetchone()
    with local.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xaa" * size)
    place = tmp_path / "beside" / "store.db" if is_kept else in_memory()
    for _ in range(2):
        with closing(StoreSink(place, beside=local)) as beside:
            with pytest.raises(StoreError, match="move it away") as raised:
                beside.deliver(batch(span("sync.pr", 1000), start=1, end=2))
            assert str(local) in str(raised.value)
    assert not list(tmp_path.rglob("*.damaged*"))
