"""Orphans: spans whose process died are closed, as whoever knows best says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from interruptions import Places
from journal_files import BEGIN, TRACE_ID, JournalFile, resource, scope, span
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from otlp_server import otlp_server
from trace_tree import Node, draw, spans_in_store

from otelsync.journal.format import CLOSED, SPAN_START
from otelsync.journal.names import list_segments
from otelsync.journal.writer import Journal
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.recording.provider import TracerProvider
from otelsync.recording.tracer import Tracer
from otelsync.shipping import checkpoint, orphans, stage_ends
from otelsync.shipping.checkpoint import Checkpoint, load
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.looking import Look
from otelsync.shipping.shipper import Shipper
from otelsync.store.writing import StoreSink

TASK = SpanContext(0xFEED, 0xBEEF, True, TraceFlags(1))


class Shop:
    """A journal directory, and shippers from it to one store."""

    def __init__(self, path: Path) -> None:
        self.journal = path / "journal"
        self.journal.mkdir()
        self._store = path / "store.db"

    def shipper(self, records: int = 4096) -> Shipper:
        return Shipper(self.journal, store=StoreSink(self._store), max_batch_records=records)

    def drain(self, records: int = 4096) -> list[Node]:
        """Ship everything with a shipper of its own; returns what the store holds then."""
        shipper = self.shipper(records)
        assert shipper.drain(120)
        shipper.close()
        return spans_in_store(self._store)

    @property
    def checkpoint(self) -> Checkpoint:
        found = load(self.journal)
        assert found is not None
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def provider(shop: Shop) -> Iterator[TracerProvider]:
    """A provider that writes to the shop's journal."""
    journal = Journal(shop.journal)
    yield TracerProvider(journal, shutdown_on_exit=False)
    journal.close()


def found(nodes: list[Node], number: int) -> Node:
    (node,) = [node for node in nodes if node.span_id == f"{number:016x}"]
    return node


def test_open_stages_of_a_dead_process_are_closed(shop: Shop) -> None:
    """A stage that was open when its process died becomes a span with the same ids that says so."""
    file = JournalFile(shop.journal, alive=False).begin(1, name="sync.pipeline x").begin(2, parent=1)
    file.finish(2, parent=1).begin(3, parent=1).spans(1, first=1_000_000).logs(1).write()
    nodes = shop.drain()
    assert len(nodes) == 4
    for number, items in ((1, {"sync.items.fetched": 2}), (3, {})):
        node = found(nodes, number)
        assert (node.status, node.attributes) == ("ERROR", {"sync.outcome": "interrupted", **items})
        assert node.start == BEGIN + number
        assert node.ended
    assert found(nodes, 3).parent_id == found(nodes, 1).span_id
    assert found(nodes, 1).name == "sync.pipeline x"
    ledger = read_ledger(shop.journal)
    assert ledger.reconciles
    assert [(account.recorded, account.shipped) for account in ledger.accounts if account.signal == "span"] == [(4, 4)]
    assert list_segments(shop.journal) == {}


OPEN = """
import sys, otelsync
otelsync.configure(service_name="sync", home=sys.argv[1], ship="off", log_level="ERROR")
with otelsync.pipeline("nightly"):
    with otelsync.repo("acme/api"):
        print("open", flush=True)
        sys.stdin.read()
"""


@contextmanager
def open_stages(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with two stages that are open and say nothing any more."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", OPEN, str(home)], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.mark.parametrize("way", ["the same shipper", "another one", "another one, after a kill"])
def test_an_interrupted_stage_ends_when_its_process_was_last_seen_alive(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at its last record, however long ago that was; the store, OTLP and a look at journals say the same."""
    if "kill" in way:
        monkeypatch.setattr(stage_ends, "_SAVE_SECONDS", 0.0)
    journal = tmp_path / "journals" / "sync"
    store, looked = tmp_path / "store.db", tmp_path / "looked.db"

    def shipper() -> Shipper:
        sink = OtlpSink(OtlpEndpoint("traces", f"{server.url}/v1/traces", timeout=600))
        return Shipper(journal, store=StoreSink(store), otlp=[sink])

    def look_and_die(writing: int) -> None:
        first = shipper()
        first.drain(600)
        seen = time.time_ns()
        first.step()
        os.write(writing, str(seen).encode())

    with otlp_server() as server, open_stages(tmp_path) as process:
        if "kill" in way:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                try:
                    look_and_die(writing)
                finally:
                    os._exit(9)
            os.waitpid(child, 0)
            os.close(writing)
            with os.fdopen(reading) as said:
                seen = int(said.read())
        else:
            first = shipper()
            assert first.drain(600)
            seen = time.time_ns()
            first.step()
            if way == "another one":
                first.close()
        process.kill()
        process.wait()
        gone = time.time_ns()
        look = Look(journal, StoreSink(looked), None)
        assert look.read(time.monotonic() + 600)
        last = first if way == "the same shipper" else shipper()
        assert last.drain(600)
        last.close()
        nodes = {node.name: node for node in spans_in_store(store)}
        assert set(nodes) == {"sync.pipeline nightly", "sync.repo acme/api"}
        sent = {span.name: span.end_time_unix_nano for span in server.spans}
    for node in nodes.values():
        assert node.attributes["sync.outcome"] == "interrupted"
        assert node.end is not None
        assert seen <= node.end <= gone
        assert sent[node.name] == node.end
    if way != "the same shipper":
        assert {node.name: node.end for node in spans_in_store(looked)} == sent


def test_a_shipper_that_is_killed_while_it_closes_stages_writes_each_end_once(tmp_path: Path) -> None:
    """Whenever that is, down to the call: the next one finds the ends that are there, and writes those that are not."""
    inside = [Path(str(module.__file__)) for module in (stage_ends, orphans, checkpoint)]
    places = Places(*inside, do=partial(os._exit, 9))
    for point in range(0, 100_000, 11):
        (tmp_path / str(point)).mkdir()
        shop = Shop(tmp_path / str(point))
        JournalFile(shop.journal, alive=False).begin(1, name="sync.pipeline x").begin(2, parent=1).spans(
            2, first=9
        ).write()
        JournalFile(shop.journal, alive=False, nonce="89abcdef").begin(3, parent=1).begin(4, parent=3).write()
        child = os.fork()
        if not child:
            places.run(shop.drain, point)
            os._exit(0)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert sorted(int(node.span_id, 16) for node in shop.drain()) == [1, 2, 3, 4, 9, 10]
        (account,) = [each for each in read_ledger(shop.journal).accounts if each.signal == "span"]
        assert (account.recorded, account.shipped, account.pending) == (6, 6, 0)
        if not was_killed:
            break
    assert point > 50


def test_open_stages_of_a_living_process_stay_open(shop: Shop) -> None:
    """As long as its process lives, nobody closes a stage; and it is remembered by the next shipper."""
    journal = Journal(shop.journal)
    number = journal.scope(journal.resource(resource()), scope())
    journal.append(SPAN_START, number, span(1, ended=False))
    assert [node.ended for node in shop.drain()] == [False]
    assert [list(series.stages) for series in shop.checkpoint.open.values()] == [[f"{1:016x}"]]
    journal.close()


@pytest.mark.parametrize("nonce", ["00000000", "ffffffff"])
@pytest.mark.parametrize("records", [1, 7, 4096])
def test_a_verdict_says_how_an_orphan_ended(shop: Shop, nonce: str, records: int) -> None:
    """A verdict in another process's journal is used, whichever is read first, however far behind it stands."""
    JournalFile(shop.journal, alive=False, nonce="77777777").begin(1, name="run/task").begin(2, parent=1).write()
    JournalFile(shop.journal, nonce=nonce).spans(50, first=100).judge(1, "cancelled").write()
    nodes = shop.drain(records)
    assert found(nodes, 1).attributes == {"sync.outcome": "cancelled"}
    assert found(nodes, 1).status == ""
    assert found(nodes, 2).attributes == {"sync.outcome": "interrupted"}
    assert shop.checkpoint.verdicts == {}


def test_a_verdict_outlives_its_shipper(shop: Shop) -> None:
    """A verdict that one shipper has read is used by the next, which reads the orphan's journal."""
    JournalFile(shop.journal, alive=False, nonce="00000000", state=CLOSED).judge(1).write()
    shop.drain()
    assert list_segments(shop.journal) == {}
    JournalFile(shop.journal, alive=False, nonce="77777777").begin(1).write()
    assert found(shop.drain(), 1).attributes == {"sync.outcome": "failure"}


def test_a_span_that_ended_by_itself_needs_no_verdict(shop: Shop) -> None:
    """A verdict on a span that was quicker than its killer changes nothing, and is forgotten."""
    JournalFile(shop.journal, nonce="00000000").judge(1).write()
    shop.drain()
    JournalFile(shop.journal, alive=False, nonce="77777777").begin(1).finish(1).write()
    (node,) = shop.drain()
    assert node.attributes == {}
    assert shop.checkpoint.verdicts == {}


def test_a_verdict_on_another_trace_is_ignored(shop: Shop) -> None:
    """A verdict counts for the span with its trace id and span id alone."""
    JournalFile(shop.journal, alive=False, nonce="77777777").begin(1).write()
    JournalFile(shop.journal, nonce="00000000").judge(1, trace_id=TRACE_ID[::-1]).write()
    (node,) = shop.drain()
    assert node.attributes == {"sync.outcome": "interrupted"}


def test_verdicts_are_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts on spans that never show up are forgotten: the oldest when there are too many, all after a while."""
    monkeypatch.setattr(orphans, "MOST_VERDICTS", 3)
    file = JournalFile(shop.journal)
    for number in range(1, 11):
        file.judge(number)
    file.write()
    shop.drain()
    assert list(shop.checkpoint.verdicts) == [f"{number:016x}" for number in (8, 9, 10)]
    monkeypatch.setattr(orphans, "VERDICT_HOURS", 0)
    file.spans(1).write()
    shop.drain()
    assert shop.checkpoint.verdicts == {}


def test_a_released_span_is_nobody_s_orphan(shop: Shop) -> None:
    """A span that another process ends is not closed when the process in which it began is gone."""
    JournalFile(shop.journal, alive=False).begin(1).begin(2, parent=1).release(1).write()
    nodes = shop.drain()
    assert [node.ended for node in (found(nodes, 1), found(nodes, 2))] == [False, True]


def test_whoever_kills_says_why(shop: Shop, provider: TracerProvider) -> None:
    """The verdict that a process gives before it kills another becomes the end of the span that was open there."""
    ready, write = os.pipe()
    child = os.fork()
    if child == 0:
        tracer = provider.get_tracer("t")
        assert isinstance(tracer, Tracer)
        first = {"celery.state": "STARTED", "celery.action": "run"}
        tracer.start_span_as(TASK, "run/task", parent=None, kind=SpanKind.CONSUMER, attributes=first).announce()
        os.write(write, b"1")
        signal.pause()
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    os.close(write)

    provider.give_verdict(
        TASK,
        outcome="failure",
        error_type="TimeLimitExceeded",
        message="after 2 s",
        attributes={"celery.state": "FAILURE"},
    )
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (node,) = shop.drain()
    assert node.attributes == {
        "celery.action": "run",
        "celery.state": "FAILURE",
        "sync.outcome": "failure",
        "error.type": "TimeLimitExceeded",
    }
    assert (node.status, node.message, node.trace_id) == ("ERROR", "after 2 s", f"{TASK.trace_id:032x}")


def test_a_span_that_was_handed_over_is_written_once(shop: Shop, provider: TracerProvider) -> None:
    """A span that is released here, and ended elsewhere under the same ids, is one span."""
    tracer = provider.get_tracer("t")
    assert isinstance(tracer, Tracer)
    child = os.fork()
    if child == 0:
        begun = tracer.start_span_as(TASK, "sync.pipeline p", parent=None, kind=SpanKind.INTERNAL)
        begun.announce()
        begun.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    shop.drain()
    tracer.start_span_as(TASK, "sync.pipeline p", parent=None, kind=SpanKind.INTERNAL).end()
    nodes = shop.drain()
    assert draw(nodes) == "sync.pipeline p"
    assert [node.ended for node in nodes] == [True]
