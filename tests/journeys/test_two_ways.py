"""Whole programs by the journal and by the standard way: the same trace, and the same records, arrive by both."""

from __future__ import annotations

import sys
from pathlib import Path

import both_ways
import pytest
from both_ways import STANDARD, WAYS, Taken, program
from brokers import RedisServer
from order_sync_site import Board, Site, serving
from otlp_grpc_server import grpc_server
from otlp_server import otlp_server
from supervised import OTELSYNC, PATIENCE
from workers import publishing_app, worker

from otelsync.testing import assert_span_tree

TESTS = Path(__file__).parent.parent

TASKS = """
import sys
sys.path.insert(0, {tests!r})
import otelsync
otelsync.configure(log_format="json")
from celery import chain, chord
from celery_here import add, make_app, outcome, working
app = make_app()

@app.task(name="synced")
def synced(number):
    with otelsync.item("order", number) as order:
        order.set(action="created")
        otelsync.get_logger("app").info("order.synced", number=number)
    return number

with working(app):
    tasks = app.tasks
    with otelsync.pipeline("nightly"), otelsync.repo("acme/api"), otelsync.sync_context(team_id=7):
        outcome(synced.delay(1))
        outcome(chain(synced.s(2), tasks["add"].s(3)).apply_async())
        outcome(tasks["fail"].delay())
        outcome(tasks["again"].delay(1))
"""

TREE = """
sync.pipeline nightly       [{outcome}]
  sync.repo acme/api        [{outcome}]
    apply_async/add         -> run/synced
      run/add               [success]
    apply_async/again
      run/again             [retry]
    apply_async/again       -> run/again
      run/again             [success]
    apply_async/fail
      run/fail              [failure]
    apply_async/synced
      run/synced            [success]
        sync.order
    apply_async/synced
      run/synced            [success]
        sync.order
"""
"""The trace. The shipper of a journal completes what several processes, or tasks, share; the standard way cannot."""

FORKS = """
import multiprocessing, os
import otelsync
otelsync.configure(log_format="json")

def work(number):
    with otelsync.item("order", number) as order:
        order.set(action="created")
        otelsync.get_logger("app").info("worked", number=number)

with otelsync.pipeline("forking"):
    with otelsync.repo("acme/before"):
        pass
    otelsync.flush(60)
    with otelsync.repo("acme/waiting"):
        pass
    pid = os.fork()
    if pid == 0:
        with otelsync.repo("acme/forked"):
            work(0)
        os._exit(0 if otelsync.flush(60) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    children = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""

FORKED = """
sync.pipeline forking     [success]
  sync.repo acme/before   [success]
  sync.repo acme/waiting  [success]
  sync.repo acme/forked   [success]
    sync.order
  sync.order
  sync.order
"""

UNDER_RUN = """
import logging
import otelsync
from opentelemetry import trace
with trace.get_tracer("library").start_as_current_span("before"):
    pass
otelsync.configure(service_name="renamed", redact_keys=["colour"])
with otelsync.pipeline("p") as run, otelsync.repo("acme/api"):
    run.set(colour="pink")
    logging.getLogger("app").warning("said")
raise SystemExit(3)
"""


RUN = """
before
sync.pipeline p       [success] colour=[redacted]
  sync.repo acme/api  [success]
"""

TWO_PROCESSES = """
import subprocess, sys
import otelsync
with otelsync.pipeline("outer"):
    subprocess.run([sys.executable, "-c", {code!r}], check=True)
"""


@pytest.mark.parametrize("name", WAYS)
def test_tasks(tmp_path: Path, name: str) -> None:
    """Publishes and runs of Celery tasks nest in the run, with outcomes and retries, and so do their records."""
    taken = both_ways.run(tmp_path, name, *program(TASKS.format(tests=str(TESTS))))
    assert (taken.returncode, taken.stderr) == (0, "")
    tree = TREE.format(outcome="success" if name == STANDARD else "partial")
    assert_span_tree(taken.spans, tree, in_order=False, roll=99)
    synced = [log for log in taken.logs if log.event == "order.synced"]
    names = {span.span_id: span.name for span in taken.spans}
    assert [names[log.span_id] for log in synced] == ["sync.order"] * 2
    (pipeline,) = [span for span in taken.spans if not span.parent_id]
    for record in (*[span.attributes for span in taken.spans], *[log.attributes for log in synced]):
        assert record["sync.id"] == pipeline.attributes["sync.id"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_pools(tmp_path: Path, redis: RedisServer, pool: str) -> None:
    """What the processes of a worker's pool have not sent yet when they are shut down is sent then."""
    broker = redis.broker()
    with otlp_server() as server:
        ours = both_ways.environment(tmp_path / "home", STANDARD, server)
        late = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_BLRP_SCHEDULE_DELAY": "600000"}
        named = {name: value for name, value in ours.items() if name.startswith("OTEL")} | late
        with worker(tmp_path / "worker", broker, pool=pool, environment=named) as running:
            with publishing_app(broker) as app:
                results = [app.send_task("add", (number, 1)) for number in range(4)]
                assert [result.get(timeout=PATIENCE) for result in results] == [1, 2, 3, 4]
            assert running.end() == 0, running.log
        assert [span.name for span in both_ways.spans_of(server)] == ["run/add"] * 4
        assert "there is no journal, as OTELSYNC_JOURNAL is off" in running.log


def test_forks(tmp_path: Path) -> None:
    """What forked children record arrives once, below the stage that was open at the fork, and what waited then too."""
    taken = both_ways.run(tmp_path, STANDARD, *program(FORKS))
    assert (taken.returncode, taken.stderr) == (0, "")
    assert_span_tree(taken.spans, FORKED, in_order=False)
    assert sorted(log.attributes["number"] for log in taken.logs if log.event == "worked") == [0, 1, 2]


def test_forks_by_grpc(tmp_path: Path) -> None:
    """The same by grpc: a child has a channel of its own."""
    with grpc_server() as server:
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        taken = both_ways.run(tmp_path, STANDARD, *program(FORKS), **where)
    assert (taken.returncode, taken.stderr) == (0, "")
    repos = ["sync.repo acme/before", "sync.repo acme/forked", "sync.repo acme/waiting"]
    spans = ["sync.order"] * 3 + ["sync.pipeline forking", *repos]
    assert sorted(name for name in server.names if name in spans) == spans


class TestOrderSync:
    def test_arrives_by_both(self, tmp_path: Path) -> None:
        """The example that syncs orders: its trace is the same by both ways, with equal counts and outcomes."""
        trees: dict[str, tuple[str, int]] = {}
        for name in WAYS:
            home = tmp_path / name
            home.mkdir()
            with serving(Board()) as board, otlp_server() as server:
                site = Site(home, board.url)
                site.environment()
                site.fill(4)
                variables = both_ways.environment(home / "home", name, server)
                ours = {key: value for key, value in variables.items() if key.startswith(("OTEL", "OTELSYNC"))}
                finished = site.run("sync", "--execute", **ours)
                assert finished.returncode == 0
                assert ("nothing has been recorded yet" in finished.stderr) == (name == STANDARD)
                taken = Taken(both_ways.spans_of(server), both_ways.logs_of(server), "", "", 0)
                shown = ("sync.items.fetched", "sync.items.created", "sync.items.updated", "sync.action")
                said = [entry for entry in taken.said if not entry[2].startswith("there is no journal")]
                trees[name] = (taken.tree(*shown), len(said))
                assert len(taken.spans) > 20
        assert trees[STANDARD] == trees["on"]


class TestUnderRun:
    @pytest.mark.parametrize("name", WAYS)
    def test_a_program_that_configures(self, tmp_path: Path, name: str) -> None:
        """The program's configure() has its say, and the exit code is the program's."""
        taken = both_ways.run(tmp_path, name, *OTELSYNC, "run", *program(UNDER_RUN))
        assert taken.returncode == 3
        assert_span_tree(taken.spans, RUN, attributes=["colour"])
        assert "said" in [log.event for log in taken.logs]
        said = "otelsync: there is no journal, as OTELSYNC_JOURNAL is off: the SDK's own exporters send traces to "
        assert taken.stderr.count(said) == (name == STANDARD)
        assert ("all shipped" in taken.stderr) == (name != STANDARD)
        services = {span.resource["service.name"] for span in taken.spans if span.name != "before"}
        assert services == {"renamed"}

    def test_many_processes(self, tmp_path: Path) -> None:
        """Where the home cannot be written it is said once, and every process of the program sends for itself."""
        (tmp_path / "file").touch()
        code = "import otelsync\nwith otelsync.pipeline('inner'): pass"
        program = TWO_PROCESSES.format(code=code)
        taken = both_ways.run(tmp_path / "file" / "home", "auto", *OTELSYNC, "run", sys.executable, "-c", program)
        assert sorted(span.name for span in taken.spans) == ["sync.pipeline inner", "sync.pipeline outer"]
        assert taken.stderr.count("there is no journal") == 1
        assert taken.returncode == 0
