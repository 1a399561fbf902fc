"""Losses: however a worker or a child of it ends, what it had finished is delivered, and what it was at is told."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from brokers import Broker, RabbitServer, RedisServer
from celery import group
from hosts import account, command, reconciled, refusing_port
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otlp_server import Answer, OtlpServer, eventually, otlp_server
from trace_tree import Node
from workers import PATIENCE, Caller, Worker, descendants, publishing_app, traces, worker

import otelsync

AT_LEAST_ONCE = {"CONF_TASK_ACKS_LATE": "on", "CONF_TASK_REJECT_ON_WORKER_LOST": "on"}
"""Celery's settings with which a task that was lost runs again."""
LONG = 500.0
"""Seconds that 1,000 forks of a worker may take: by itself Celery takes about 0.1 s of CPU for each."""
MARGIN = 5.0
"""Seconds. Beyond its deadline a process may need them on a busy machine to end."""


@contextmanager
def caller(home: Path, broker: Broker) -> Iterator[Caller]:
    """What publishes to the workers of one home."""
    with publishing_app(broker) as app:
        publishing = Caller(home, app)
        try:
            yield publishing
        finally:
            publishing.end()


def runs(home: Path, task: str) -> list[Node]:
    """The spans of all runs of a task."""
    return [node for node in traces(home) if node.name == f"run/{task}"]


def delivered_runs(server: OtlpServer, task: str) -> dict[str, str]:
    """The runs of a task that an endpoint has accepted, each once: span id and trace id."""
    spans = [span for span in server.spans if span.name == f"run/{task}"]
    found = {span.span_id.hex(): span.trace_id.hex() for span in spans}
    assert len(found) == len(spans)
    return found


def delivered_logs(server: OtlpServer, begin: str) -> list[tuple[str, str]]:
    """The messages that begin so, of the log records that an endpoint has accepted, each with its span's id."""
    return [
        (record.body.string_value, record.span_id.hex())
        for request in list(server.accepted)
        if isinstance(request.message, ExportLogsServiceRequest)
        for of_resource in request.message.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
        if record.body.string_value.startswith(begin)
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_1000_tasks_each_in_a_process_of_its_own(tmp_path: Path, redis: RedisServer) -> None:
    """With a new child for every task, each of 1,000 runs and what it logged is delivered, once."""
    home, broker = tmp_path / "home", redis.broker()
    with otlp_server() as server:
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
        with worker(home, broker, "--max-tasks-per-child=1", concurrency=4, environment=options) as running:
            with caller(home, broker) as publishing:
                group(publishing.task("say").s(number) for number in range(1000)).apply_async(ignore_result=True)
            eventually(lambda: len(delivered_runs(server, "say")) == 1000, LONG)
            assert running.end() == 0, running.log
        by_span = delivered_runs(server, "say")
        said = delivered_logs(server, "said ")
    assert sorted(message for message, _ in said) == sorted(f"said {number}" for number in range(1000))
    assert {span_id for _, span_id in said} == by_span.keys()
    assert len(set(by_span.values())) == 1  # they are a group
    ledger = reconciled(home / "journals" / "worker")
    assert [(of.pending, of.dropped) for of in ledger.accounts] == [(0, {})] * len(ledger.accounts), str(ledger)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["redis", "rabbitmq"])
def test_50_killed_children(tmp_path: Path, system: str, request: pytest.FixtureRequest) -> None:
    """Of 50 tasks in mid-run whose child is killed each leaves a run that was interrupted, with what it had finished
    below it; the run that follows is its sibling, and says that it was delivered again."""
    home, broker = tmp_path / "home", request.getfixturevalue(system).broker()
    with (
        worker(home, broker, concurrency=10, environment=AT_LEAST_ONCE) as running,
        caller(home, broker) as publishing,
    ):
        shown = ("sync.attempt", "sync.redelivered", "error.type")
        results = []
        for number in range(50):
            with otelsync.stage("caller") as here:
                results.append((here.trace_id, publishing.task("die").delay(str(tmp_path / str(number)), 0.2)))
        for trace_id, result in results:
            assert result.get(timeout=PATIENCE, interval=0.05) == "survived"
            publishing.expect(
                trace_id,
                """
sync.stage caller
  apply_async/die
    run/die             [interrupted] attempt=1
      apply_async/note
        run/note        [success] attempt=1
    run/die             [success] attempt=1 redelivered=True""",
                *shown,
            )
        assert running.end() == 0, running.log
    assert len(runs(home, "die")) == 100
    reconciled(home / "journals" / "worker")


@pytest.mark.slow
def test_children_killed_at_once(tmp_path: Path, redis: RedisServer) -> None:
    """A child that is killed before the worker knows that it has begun: the worker may give its task to another child
    then, without a second delivery. There are two runs all the same, each with an id of its own, and the second says
    what it is."""
    home, broker = tmp_path / "home", redis.broker()
    with (
        worker(home, broker, concurrency=10, environment=AT_LEAST_ONCE) as running,
        caller(home, broker) as publishing,
    ):
        die = publishing.task("die")
        results = [die.delay(str(tmp_path / str(number)), 0.0) for number in range(50)]
        for result in results:
            assert result.get(timeout=PATIENCE, interval=0.05) == "survived"
        assert running.end() == 0, running.log
    found = runs(home, "die")
    assert len({run.span_id for run in found}) == len(found) == 100
    outcomes = defaultdict(list)
    for run in sorted(found, key=lambda run: run.start):
        outcomes[run.parent_id].append((run.attributes["sync.outcome"], run.attributes.get("sync.redelivered")))
    assert list(outcomes.values()) == [[("interrupted", None), ("success", True)]] * 50


@dataclass
class Tally:
    """What tasks have put down: the ids of spans, and to which task each belongs."""

    begun: dict[str, int] = field(default_factory=dict)
    inside: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def __init__(self, path: Path) -> None:
        self.begun, self.inside, self.done = {}, {}, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            what, number, span_id = line.split()
            getattr(self, what)[span_id] = int(number)


@pytest.mark.slow
def test_20_killed_workers(tmp_path: Path, rabbitmq: RabbitServer) -> None:
    """Of 20 workers that are killed under load, half of them with what supervises them, every finished span is
    delivered; what they were at was interrupted; and where it runs again it says so, beside the run before it."""
    home, broker, tally = tmp_path / "home", rabbitmq.broker(), tmp_path / "tally"
    dice = random.Random(20)
    tasks = 1000
    with caller(home, broker) as publishing:
        for number in range(tasks):
            publishing.task("work").apply_async((number, str(tally), dice.uniform(0.02, 0.1)), ignore_result=True)
        for turn in range(10):
            killed_under_load(home, broker, tally, dice, whole=turn % 2 == 1)
        with worker(home, broker, concurrency=8, environment=AT_LEAST_ONCE) as last:
            last.wait_until(lambda: len(set(Tally(tally).done.values())) == tasks)
            assert last.end() == 0, last.log
        environment = last.environment
        command(environment, "ship", "--once", "--timeout", "300")
        found = traces(home)
    holds_what_was_put_down(found, Tally(tally))
    ledger = reconciled(home / "journals" / "worker")
    assert [(of.pending, of.dropped) for of in ledger.accounts] == [(0, {})] * len(ledger.accounts), str(ledger)


def killed_under_load(home: Path, broker: Broker, tally: Path, dice: random.Random, *, whole: bool) -> None:
    """Start two workers, and kill each after it has begun to work: all of its processes, or all below the first."""
    pair = [
        Worker(home, broker, "-n", f"{name}@%h", "--prefetch-multiplier=2", environment=AT_LEAST_ONCE)
        for name in ("one", "two")
    ]
    try:
        for one in pair:
            one.wait_until_ready()
        before = len(Tally(tally).begun)
        eventually(lambda: len(Tally(tally).begun) > before + 4, PATIENCE)
        for one in pair:
            time.sleep(dice.uniform(0.0, 0.1))  # a random moment, not a condition
            if whole:
                one.kill()
            else:
                for pid in descendants(one.process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                assert one.process.wait(PATIENCE) == -signal.SIGKILL
    finally:
        for one in pair:
            one.kill()


def holds_what_was_put_down(found: list[Node], tally: Tally) -> None:
    """Hold that all that was put down has come."""
    ids = [node.span_id for node in found]
    assert len(ids) == len(set(ids))
    spans = {node.span_id: node for node in found}
    assert tally.inside.keys() - spans.keys() == set()
    assert tally.begun.keys() - spans.keys() == set()
    by_publish = defaultdict(list)
    for span_id in tally.begun:
        run = spans[span_id]
        by_publish[run.parent_id].append(run)
        outcomes = ["success"] if span_id in tally.done else []
        # It may have been killed after its last words, and before its end.
        assert run.attributes["sync.outcome"] in [*outcomes, "interrupted"]
        assert run.ended
    for publish, attempts in by_publish.items():
        assert spans[publish].name == "apply_async/work"
        _first, *again = sorted(attempts, key=lambda run: run.start)
        assert all(run.attributes.get("sync.redelivered") is True for run in again)
    interrupted = [run for run in spans.values() if run.attributes.get("sync.outcome") == "interrupted"]
    assert len(interrupted) >= 20, "they were killed when they did nothing"
    late = [run for run in interrupted if run.span_id in tally.done]
    assert len(late) <= len(interrupted) / 2


@pytest.mark.slow
def test_an_endpoint_that_is_down_from_start_to_end(tmp_path: Path, redis: RedisServer) -> None:
    """What a worker recorded while nobody took it is delivered by ``otelsync ship --once`` when somebody does."""
    home, broker = tmp_path / "home", redis.broker()
    with refusing_port() as port:
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTELSYNC_SHUTDOWN_TIMEOUT": "1"}
        with worker(home, broker, environment=options) as running:
            with caller(home, broker) as publishing:
                group(publishing.task("say").s(number) for number in range(100)).apply_async(ignore_result=True)
            running.wait_until(lambda: running.log.count("] succeeded in ") == 100)
            assert running.end() == 0, running.log
    journal = home / "journals" / "worker"
    left = account(journal, "traces")
    assert (left.pending, left.shipped) == (left.recorded, 0)
    assert left.recorded >= 100
    with otlp_server(port=port) as server:
        command(running.environment, "ship", "--once", "--timeout", "300")
        assert len(delivered_runs(server, "say")) == 100
        assert len(delivered_logs(server, "said ")) == 100
    for signal_, sink in (("span", "traces"), ("log", "logs")):
        after = account(journal, sink, signal_)
        assert (after.shipped, after.pending, after.dropped) == (after.recorded, 0, {})


def test_an_endpoint_that_hangs(tmp_path: Path, redis: RedisServer) -> None:
    """When the worker has ended, ``otelsync run`` waits for the endpoint until its deadline, and no longer."""
    home, broker = tmp_path / "home", redis.broker()
    with otlp_server() as server:
        server.always = Answer(hang=True)
        options = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTELSYNC_SHUTDOWN_TIMEOUT": "2"}
        with worker(home, broker, environment=options) as running:
            with caller(home, broker) as publishing:
                group(publishing.task("say").s(number) for number in range(10)).apply_async(ignore_result=True)
            running.wait_until(lambda: running.log.count("] succeeded in ") == 10)
            (child,) = [pid for pid in descendants(running.process.pid) if parent_of(pid) == running.process.pid]
            running.process.send_signal(signal.SIGTERM)
            eventually(lambda: not Path(f"/proc/{child}").exists(), PATIENCE)
            ended = time.monotonic()
            assert running.process.wait(PATIENCE) == 0, running.log
            assert time.monotonic() - ended < 2 + MARGIN
    assert account(home / "journals" / "worker", "traces").pending >= 10


def parent_of(pid: int) -> int:
    """The process that has started another, or has taken it in."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
