"""Stages of processes that fork: the span that goes out and the views say what all processes have recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from any_order import completed, counts, plain
from otlp_server import OtlpServer, otlp_server

from otelsync.shipping.shipper import Shipper
from otelsync.store.runs import find_run, open_store
from otelsync.store.writing import StoreSink
from otelsync.testing.reading import spans_in_journal

HEAD = """
import os, signal, sys, time
from contextlib import suppress
import otelsync

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

def item(number, action="created"):
    with otelsync.item("order", number) as order:
        order.set(action=action)

def repo(name, fails, items=1):
    with suppress(ValueError), otelsync.repo(name):
        for number in range(items):
            item(number)
        if fails:
            raise ValueError("no")
"""

PROGRAMS = {
    "both repos of a forked pool fail": (
        """
        with otelsync.pipeline("p"):
            child(lambda: repo("a", True))
            child(lambda: repo("b", True))
        """,
        ("failure", {"fetched": 2, "created": 2}, 2),
    ),
    "one of them fails": (
        """
        with otelsync.pipeline("p"):
            child(lambda: repo("a", True))
            child(lambda: repo("b", False, 3))
        """,
        ("partial", {"fetched": 4, "created": 4}, 1),
    ),
    "the parent's own part fails, the child's does not": (
        """
        with otelsync.pipeline("p"):
            repo("a", True)
            child(lambda: repo("b", False))
        """,
        ("partial", {"fetched": 2, "created": 2}, 1),
    ),
    "a child's items below the parent's repo": (
        """
        with otelsync.pipeline("p"), otelsync.repo("a"):
            item(1)
            child(lambda: [item(2), item(3, "failed"), item(4, "creatd")])
        """,
        ("partial", {"fetched": 4, "created": 2, "failed": 1, "creatd": 1}, 1),
    ),
    "a child that is killed in mid-repo": (
        """
        def work():
            with otelsync.repo("a"):
                item(1), item(2)
                os.kill(os.getpid(), signal.SIGKILL)
        with otelsync.pipeline("p"):
            child(work)
            repo("b", False)
        """,
        ("partial", {"fetched": 3, "created": 3}, 1),
    ),
    "a child of a child": (
        """
        def work():
            with otelsync.repo("a"):
                child(lambda: [item(1), item(2, "failed")])
        with otelsync.pipeline("p"):
            child(work)
        """,
        ("partial", {"fetched": 2, "created": 1, "failed": 1}, 1),
    ),
    "all parts of a child's repo fail in its own child": (
        """
        def work():
            with otelsync.repo("a"):
                child(lambda: item(2, "failed"))
        with otelsync.pipeline("p"):
            child(work)
        """,
        ("failure", {"fetched": 1, "failed": 1}, 1),
    ),
    "the program itself is killed": (
        """
        with otelsync.pipeline("p"):
            with otelsync.repo("a") as done:
                done.count(created=1)
            child(lambda: item(7))
            with otelsync.repo("b"):
                for number in range(4):
                    item(number)
                os.kill(os.getpid(), signal.SIGKILL)
        """,
        ("interrupted", {"fetched": 6, "created": 6}, 1),
    ),
    "counts by hand in a repo that is killed": (
        """
        with otelsync.pipeline("p"), otelsync.repo("a") as repo:
            item(1)
            repo.count(created=2, failed=1)
            repo.count(created=3)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        ("interrupted", {"fetched": 7, "created": 6, "failed": 1}, 1),
    ),
    "a child that is killed in an item": (
        """
        def work():
            item(2)
            with otelsync.api_call("details"):
                item(3)
                os.kill(os.getpid(), signal.SIGKILL)
        with otelsync.pipeline("p"), otelsync.repo("a"):
            with otelsync.item("order", 1) as order:
                child(work)
                order.set(action="updated")
        """,
        ("partial", {"fetched": 3, "created": 2, "updated": 1}, 1),
    ),
    "a stage in an item of a child": (
        """
        def work():
            with otelsync.item("order", 1) as order:
                with otelsync.api_call("details") as call:
                    call.count(updated=2)
                    item(2), item(3, "skipped"), item(4, "failed")
                order.set(action="unchanged")
        with otelsync.pipeline("p"), otelsync.repo("a"):
            child(work)
            item(5)
        """,
        (
            "partial",
            {"fetched": 7, "created": 2, "updated": 2, "skipped": 1, "unchanged": 1, "failed": 1},
            1,
        ),
    ),
    "a recovery in a child": (
        """
        def work():
            repo("a", True)
            repo("a", False)
        with otelsync.pipeline("p"):
            child(work)
        """,
        ("success", {"fetched": 2, "created": 2}, 0),
    ),
}


def run(home: Path, body: str, **options: object) -> Path:
    """Run a program that records, in a process of its own; returns its journal."""
    said = "".join(f", {key}={value!r}" for key, value in options.items())
    configure = f"otelsync.configure(service_name='forks', home={str(home)!r}{said})\n"
    code = HEAD + configure + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, -9), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return home / "journals" / "forks"


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as server:
        yield server


@pytest.mark.parametrize("title", PROGRAMS)
@pytest.mark.parametrize("records", [2, 4096])
def test_the_pipeline_says_what_all_processes_did(tmp_path: Path, title: str, records: int) -> None:
    """Its span, in the order in which the journals are read in whatever portions, and its account agree."""
    body, (outcome, items, errors) = PROGRAMS[title]
    journal = run(tmp_path, body, ship="off")
    shipper = Shipper(journal, store=StoreSink(tmp_path / "store.db"), max_batch_records=records)
    assert shipper.drain(120)
    shipper.close()
    with open_store(tmp_path / "store.db") as store:
        found = find_run(store)
        (text,) = store.execute("SELECT attributes FROM spans WHERE name = 'sync.pipeline p'").fetchone()
        ended = store.execute("SELECT span_id, count(*) FROM spans GROUP BY span_id HAVING count(*) > 1").fetchall()
    assert (found.outcome, found.account and found.account.totals, found.errors) == (outcome, items, errors)
    attributes = json.loads(text)
    assert (attributes["sync.outcome"], counts(attributes)) == (outcome, items)
    assert ended == []


@pytest.mark.parametrize("title", [title for title in PROGRAMS if "killed" not in title])
def test_it_says_so_in_whatever_order_the_files_are_read(tmp_path: Path, title: str) -> None:
    """All of a child's file may be read before that of the parent, or any part of it."""
    body, (outcome, items, _) = PROGRAMS[title]
    journal = run(tmp_path, body, ship="off")
    for seed in range(100):
        (told,) = [span for span in completed(journal, seed) if span.name == "sync.pipeline p"]
        assert (plain(told)["sync.outcome"], counts(plain(told))) == (outcome, items), seed


@pytest.mark.parametrize("title", PROGRAMS)
def test_the_span_that_goes_out_says_the_same(tmp_path: Path, server: OtlpServer, title: str) -> None:
    """The program ships itself; where it was killed, another shipper goes on."""
    body, (outcome, items, _) = PROGRAMS[title]
    run(tmp_path, body, endpoint=server.url)
    command = [sys.executable, "-m", "otelsync.cli", "ship", "--once", "--home", str(tmp_path)]
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
    subprocess.run(command, env=environment, timeout=300, check=True, capture_output=True)
    found = [plain(span) for span in server.spans if span.name == "sync.pipeline p"]
    assert [(each["sync.outcome"], counts(each)) for each in found] == [(outcome, items)]


def test_a_shipper_that_is_replaced_in_the_middle_forgets_nothing(tmp_path: Path) -> None:
    """What had ended in the open stages stands in the checkpoint."""
    journal = run(tmp_path, PROGRAMS["a child's items below the parent's repo"][0], ship="off")
    for _ in range(40):
        shipper = Shipper(journal, store=StoreSink(tmp_path / "store.db"), max_batch_records=1)
        shipper.step()
        shipper.close()
    with open_store(tmp_path / "store.db") as store:
        found = find_run(store)
        assert found.outcome == "partial"
        (text,) = store.execute("SELECT attributes FROM spans WHERE name = 'sync.repo a'").fetchone()
    assert counts(json.loads(text)) == {"fetched": 4, "created": 2, "failed": 1, "creatd": 1}


def test_a_journal_that_nobody_has_shipped_reads_the_same(tmp_path: Path) -> None:
    """Tests that look into journals see the ends that a shipper would write."""
    journal = run(tmp_path, PROGRAMS["both repos of a forked pool fail"][0], ship="off")
    (span,) = [span for span in spans_in_journal(journal) if span.name == "sync.pipeline p"]
    assert (span.attributes["sync.outcome"], span.status) == ("failure", "ERROR")
    assert span.attributes["sync.parts.failed"] == 2
