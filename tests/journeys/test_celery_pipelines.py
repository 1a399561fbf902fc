"""A pipeline whose body is a canvas: one trace, and one end, written when the last task has ended, wherever that is."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery_app
import pytest
import redis
import sync_tasks as sync
from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.utils import uuid
from otlp_server import eventually
from trace_tree import Node, spans_in_store
from workers import PATIENCE, Caller, Worker, drawn, publishing_app, traces, worker

import otelsync
from otelsync.integrations.celery.tally_store import TALLIES
from otelsync.shipping.shipper import Shipper
from otelsync.store.writing import StoreSink

CREWS = ("redis-prefork", "rabbitmq-prefork", "redis-threads")


class Crew:
    """A worker, and this process as its dispatcher."""

    def __init__(self, running: Worker, app: Celery) -> None:
        self.worker = running
        self.home = running.home
        self.app = app

    def nodes(self, trace_id: str) -> list[Node]:
        """What was recorded of a trace; of a span that began here and ended there, the end."""
        nodes = [node for node in traces(self.home) if node.trace_id == trace_id]
        ended = [node.span_id for node in nodes if node.ended]
        assert len(set(ended)) == len(ended), "a span was written twice"
        return [node for node in nodes if node.ended or node.span_id not in ended]

    def ends(self, trace_id: str) -> list[Node]:
        """The runs by which tasks have ended for good."""
        runs = [node for node in self.nodes(trace_id) if node.name.startswith("run/") and node.ended]
        return [n for n in runs if n.attributes["sync.outcome"] != "retry" and "sync.replaced" not in n.attributes]

    def pipeline(self, trace_id: str) -> Node | None:
        """The pipeline's span, if it has ended."""
        found = [node for node in self.nodes(trace_id) if node.name.startswith("sync.pipeline") and node.ended]
        return found[0] if found else None

    def wait_for(self, trace_id: str) -> Node:
        """The pipeline's span, when it has ended."""
        deadline = time.monotonic() + PATIENCE
        while (node := self.pipeline(trace_id)) is None:
            assert time.monotonic() < deadline, drawn(self.nodes(trace_id)) + "\n" + self.worker.log
            time.sleep(0.02)
        return node

    def told(self, trace_id: str) -> str:
        """All that is known of a trace, for a test that fails."""
        known = drawn(self.nodes(trace_id), "celery.state", "error.type", "sync.tasks.failed", "sync.tasks.cancelled")
        return f"{known}\n{self.worker.log}"

    def expect(self, trace_id: str, tree: str, *shown: str) -> Node:
        """Hold that the trace comes to look like `tree`, and return the pipeline's span."""
        node = self.wait_for(trace_id)
        deadline = time.monotonic() + PATIENCE
        while (found := drawn(self.nodes(trace_id), *shown)) != tree and time.monotonic() < deadline:
            time.sleep(0.02)
        assert found == tree
        return node


@pytest.fixture(scope="module", params=CREWS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A worker for all tests of this module."""
    system, pool = request.param.split("-")
    broker = request.getfixturevalue(system).broker()
    home = tmp_path_factory.mktemp(request.param)
    with (
        worker(home, broker, "-I", "sync_tasks", pool=pool, concurrency=3) as started,
        publishing_app(broker) as app,
    ):
        yield Crew(started, app)
        assert started.end() == 0, started.log


@pytest.fixture
def crew(running: Crew) -> Iterator[Crew]:
    """The worker, with this process recording into the same home."""
    caller = Caller(running.home, running.app)
    running.app.set_current()
    yield running
    caller.end()


def dispatch(canvas: Signature[Any], **attributes: Any) -> otelsync.stages.pipeline.Pipeline:
    with otelsync.pipeline("p", **attributes) as run:
        run.dispatch(canvas)
    return run


def test_a_group_is_the_body_of_a_pipeline(crew: Crew) -> None:
    """The tasks nest under the pipeline, whose span is written by the last of them, with all that it began with."""
    with otelsync.stage("caller"), otelsync.pipeline("p", team_id=7) as run:
        run.count(skipped=2)
        result = run.dispatch(group(sync.sync_repo.s(f"acme/{n}", created=n) for n in (1, 2, 3)))
    assert sum(result.get(timeout=PATIENCE)) == 6
    node = crew.expect(
        run.trace_id,
        """
sync.stage caller
  sync.pipeline p          [success] team_id=7
    apply_async/sync.repo
      run/sync.repo        [success]
        sync.repo acme/1   [success]
    apply_async/sync.repo
      run/sync.repo        [success]
        sync.repo acme/2   [success]
    apply_async/sync.repo
      run/sync.repo        [success]
        sync.repo acme/3   [success]""",
        "team_id",
    )
    assert node.span_id == run.span_id
    assert {key: value for key, value in node.attributes.items() if key.startswith(("sync.items", "sync.tasks"))} == {
        "sync.items.fetched": 8,
        "sync.items.created": 6,
        "sync.items.skipped": 2,
        "sync.tasks.succeeded": 3,
        "sync.tasks.failed": 0,
        "sync.tasks.cancelled": 0,
    }
    assert {n.attributes["sync.id"] for n in crew.nodes(run.trace_id) if n.name.startswith("sync.repo")} == {
        run.sync_id
    }


def canvases() -> dict[str, tuple[Callable[[], Signature[Any]], int]]:
    """Canvases of all kinds, with the number of tasks that each runs."""
    repo = sync.sync_repo
    return {
        "single": (lambda: repo.s("acme/a"), 1),
        "chain": (lambda: chain(*[repo.si(f"acme/{n}") for n in range(4)]), 4),
        "group": (lambda: group(repo.s(f"acme/{n}") for n in range(4)), 4),
        "chord": (lambda: chord([repo.s("acme/a"), repo.s("acme/b")], sync.summarise.s()), 3),
        "chord of chains": (
            lambda: chord([chain(repo.si("acme/a"), repo.si("acme/b")), repo.s("acme/c")], sync.summarise.s()),
            4,
        ),
        "chain with a group and a chord": (
            lambda: chain(
                repo.si("acme/a"),
                group(repo.si("acme/b"), repo.si("acme/c")),
                sync.summarise.s(),
                chord([repo.si("acme/d"), repo.si("acme/e")], sync.summarise.s()),
            ),
            7,
        ),
        "links": (lambda: repo.s("acme/a").on_error(sync.summarise.s()).set(link=sync.summarise.s()), 2),
        "errbacks": (lambda: group(sync.fail.si().on_error(repo.si("acme/b")), repo.s("acme/a")), 2),  # a mere call
        "retries": (lambda: group(sync.flaky.s(2), repo.s("acme/a")), 2),
        "published by a task": (lambda: sync.fan_out.s("by itself"), 3),
        "replaced": (lambda: sync.fan_out.s("replace"), 1),
        "replaced by a group": (lambda: sync.fan_out.s("replace by group"), 2),
    }


@pytest.mark.parametrize("kind", list(canvases()))
def test_every_canvas_ends_once(crew: Crew, kind: str) -> None:
    """Whatever the canvas, the pipeline ends once: after the last task, and not before."""
    make, count = canvases()[kind]
    run = dispatch(make())
    node = crew.wait_for(run.trace_id)
    tasks = [node.attributes[f"sync.tasks.{how}"] for how in ("succeeded", "failed", "cancelled")]
    assert sum(tasks) == count
    # Where the tasks were quicker than dispatch() itself, this process ended the pipeline, before they were shipped.
    eventually(lambda: len(crew.ends(run.trace_id)) >= count, PATIENCE)
    assert len(crew.ends(run.trace_id)) == count
    expected = "partial" if kind == "errbacks" else "success"
    assert node.attributes["sync.outcome"] == expected, crew.told(run.trace_id)


def test_outcomes(crew: Crew) -> None:
    """Failure if nothing succeeded, partial if something failed, and the counts of all; expired is not succeeded."""
    late: dict[str, Any] = {"expires": datetime.now(UTC) - timedelta(seconds=10)}
    revoked = uuid()
    assert crew.app.control.revoke(revoked, reply=True, timeout=PATIENCE, limit=1)
    runs = {
        "all fail": dispatch(group(sync.fail.s(), sync.fail.s())),
        "one fails": dispatch(group(sync.fail.s(), sync.summarise.s())),
        "one expires": dispatch(group(sync.summarise.s(), sync.summarise.s().set(**late))),
        "one is revoked": dispatch(group(sync.summarise.s(), sync.summarise.s().set(task_id=revoked))),
        "a header fails": dispatch(chord([sync.fail.s(), sync.sync_repo.s("acme/a")], sync.summarise.s())),
        "repos fail, tasks do not": dispatch(group(sync.sync_repo.s(f"acme/{n}", created=0) for n in range(2))),
        "items fail": dispatch(sync.sync_repo.s("acme/a", created=3, failed=1)),
        "retries run out": dispatch(sync.flaky.s(5, retries=1)),
        "ignored": dispatch(group(sync.end.s("ignore"), sync.end.s("reject"))),
    }
    nodes = {name: crew.wait_for(run.trace_id) for name, run in runs.items()}
    assert {name: (node.attributes["sync.outcome"], node.status) for name, node in nodes.items()} == {
        "all fail": ("failure", "ERROR"),
        "one fails": ("partial", ""),
        "one expires": ("partial", ""),
        "one is revoked": ("partial", ""),
        "a header fails": ("partial", ""),
        "repos fail, tasks do not": ("failure", "ERROR"),
        "items fail": ("partial", ""),
        "retries run out": ("failure", "ERROR"),
        "ignored": ("failure", "ERROR"),
    }
    assert nodes["all fail"].message == "none of 2 tasks succeeded"
    assert nodes["repos fail, tasks do not"].message == "all 2 parts failed"


DISPATCHER = """
    import os, signal, sys
    sys.path.insert(0, {journeys!r})
    import celery_app, otelsync, sync_tasks as sync
    from celery import group
    otelsync.configure(service_name="dispatcher", home={home!r}, ship="off", log_level="WARNING")
    otelsync.instrument("celery")
    celery_app.app.set_current()
    with otelsync.pipeline("p", team_id=7) as run:
        run.count(skipped=2)
        run.dispatch(group(sync.wait.s({until!r}), sync.sync_repo.s("acme/a")))
        print(run.trace_id, run.span_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dispatcher_that_dies_changes_nothing(crew: Crew, tmp_path: Path) -> None:
    """A dispatcher that is killed right after dispatch() leaves no orphan: the last task ends the pipeline."""
    until = tmp_path / "until"
    program = DISPATCHER.format(journeys=str(Path(celery_app.__file__).parent), home=str(crew.home), until=str(until))
    command = [sys.executable, "-c", textwrap.dedent(program)]
    environment = {**os.environ, **crew.worker.broker.environment}
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert child.returncode == -signal.SIGKILL
    trace_id, span_id = child.stdout.split()
    shipped = crew.home / "journals" / "dispatcher"
    until.touch()
    node = crew.wait_for(trace_id)
    assert (node.span_id, node.attributes["sync.outcome"], node.attributes["team_id"]) == (span_id, "success", 7)
    assert (node.attributes["sync.items.skipped"], node.attributes["sync.tasks.succeeded"]) == (2, 2)
    assert not [n for n in spans_shipped_from(shipped) if n.ended and n.name.startswith("sync.pipeline")]


def spans_shipped_from(directory: Path) -> list[Node]:
    """What a shipper makes of the journals that a dead process has left."""
    store = directory.parent / "dispatcher.db"
    shipper = Shipper(directory, store=StoreSink(store))
    assert shipper.drain(PATIENCE)
    shipper.close()
    return spans_in_store(store)


@pytest.mark.parametrize("running", CREWS[:2], indirect=True)
def test_a_process_that_is_killed_holds_up_no_pipeline(crew: Crew, tmp_path: Path) -> None:
    """A task whose process was killed, timed out or revoked has ended for good, and the pipeline with it."""
    limited: dict[str, Any] = {"time_limit": 1}
    never = str(tmp_path / "never")
    with otelsync.pipeline("p") as run:
        result: Any = run.dispatch(
            group(sync.wait.s(never).set(**limited), sync.wait.s(never), sync.sync_repo.s("acme/a"))
        )
    waiting = result.children[1]
    deadline = time.monotonic() + PATIENCE
    while len([n for n in crew.nodes(run.trace_id) if n.name == "run/sync.wait"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    crew.app.control.revoke(waiting.id, terminate=True, signal="SIGKILL")
    node = crew.expect(
        run.trace_id,
        """
sync.pipeline p          [partial]
  apply_async/sync.repo
    run/sync.repo        [success]
      sync.repo acme/a   [success]
  apply_async/sync.wait
    run/sync.wait        [cancelled]
  apply_async/sync.wait
    run/sync.wait        [failure]""",
    )
    assert [node.attributes[f"sync.tasks.{how}"] for how in ("succeeded", "failed", "cancelled")] == [1, 1, 1]


def test_nothing_is_left_of_a_pipeline(crew: Crew) -> None:
    """When a pipeline has ended, its tally is gone."""
    run = dispatch(sync.sync_repo.s("acme/a"))
    crew.wait_for(run.trace_id)
    if crew.worker.broker.system == "redis":
        with closing(redis.Redis.from_url(crew.worker.broker.url)) as client:
            assert list(client.scan_iter("otelsync:*")) == []
    else:
        with closing(sqlite3.connect(crew.home / TALLIES)) as connection:
            assert connection.execute("SELECT * FROM runs").fetchall() == []
            assert connection.execute("SELECT * FROM outstanding").fetchall() == []
