"""Real Celery workers under ``otelsync run``, the program that publishes to them, and the traces that both leave."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import celery_app
import trace_tree
from brokers import Broker
from celery import Celery
from kombu import pools
from trace_tree import Node

import otelsync

JOURNEYS = Path(__file__).with_name("journeys")
PATIENCE = 180.0
"""Seconds that a worker may take for anything. Only one that hangs takes as long."""
QUICK = {"OTELSYNC_STORE": "on", "OTELSYNC_REPORTS": "off"}
"""What a worker records is in the store soon, and no report of it lies about."""
# The tests' literals must not depend on what else happens to be installed.
BARE = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis,sqlalchemy,urllib3,httpx"}
PRODUCER, CONSUMER = 4, 5
"""Kinds of spans on the wire."""


class Worker:
    """A worker in a process tree of its own, of `celery_app` if nothing else is said.

    Args:
        home: Where its journals and the store are.
        broker: Where it takes its tasks from.
        pool: Celery's name of it.
        arguments: More of its command line.
        app: Its module, in `directory`.
        beat: A ``celery beat`` instead.
        traced: Under ``otelsync run``; else as plain Celery.
        environment: More of its environment.
    """

    def __init__(
        self,
        home: Path,
        broker: Broker,
        *arguments: str,
        pool: str = "prefork",
        concurrency: int = 2,
        app: str = "celery_app",
        directory: Path = JOURNEYS,
        beat: bool = False,
        traced: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.broker = broker
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))},
            **broker.environment,
            **QUICK,
            **BARE,
            "OTELSYNC_HOME": str(home),
            "OTEL_SERVICE_NAME": "worker",
            **(environment or {}),
        }
        command = [sys.executable, "-m", "celery", "-A", app]
        if beat:
            command += ["beat", "-s", str(home / "schedule"), "--pidfile=", "-l", "INFO", *arguments]
        else:
            command += ["worker", "-P", pool, "-c", str(concurrency), "-l", "INFO", "--without-mingle", *arguments]
        if traced:
            command = [sys.executable, "-m", "otelsync.cli", "run", *command]
        self._log = home / f"output-{len(list(home.glob('output-*')))}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for something that this worker does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"it never came true:\n{self.log}"
            time.sleep(0.01)

    def wait_until_ready(self) -> None:
        """Wait until it takes tasks."""
        self.wait_until(lambda: " ready." in self.log or "beat: Starting" in self.log)

    def processes(self) -> list[int]:
        """The process that was started, and all that came of it."""
        return [self.process.pid, *descendants(self.process.pid)]

    def end(self, how: int = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        """End every process of it by SIGKILL."""
        for pid in [pid for pid in self.processes() if pid != self.process.pid] + [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that have come of a process and are there."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(") ")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, new = [], [pid]
    while new:
        new = [child for one in new for child in children.get(one, [])]
        found += new
    return found


@contextmanager
def worker(home: Path, broker: Broker, *arguments: str, **options: Any) -> Iterator[Worker]:
    """A running worker (see :class:`Worker`) that takes tasks; what is left of it at the end is killed."""
    started = Worker(home, broker, *arguments, **options)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.kill()


@contextmanager
def publishing_app(broker: Broker) -> Iterator[Celery]:
    """An app in this process. Its connections are closed at the end, which Celery leaves to the garbage collector."""
    with celery_app.make_app(broker.environment) as app:
        try:
            yield app
        finally:
            pools.reset()
            backend: Any = app.backend
            consumer = getattr(backend, "result_consumer", None)
            if consumer is not None:
                gc.collect()
                consumer.stop()
                consumer._pubsub = None  # results that somebody still holds would connect again to unsubscribe
                backend.client.close()


@dataclass(frozen=True)
class Expectation:
    """How a trace has to look, now and at the end."""

    trace_id: str
    tree: str
    shown: tuple[str, ...]


class Caller:
    """The program that publishes: this process, which records as the worker does, into the same home.

    Args:
        home: The worker's.
        app: An app at the worker's broker.
    """

    def __init__(self, home: Path, app: Celery) -> None:
        self.home = home
        self.app = app
        self.expected: list[Expectation] = []
        otelsync.configure(service_name="caller", home=home, ship="off", log_level="WARNING", log_format="json")
        otelsync.instrument("celery")

    def task(self, name: str) -> Any:
        """A task of `celery_app`."""
        return self.app.tasks[name]

    def expect(self, trace_id: str, tree: str, *shown: str) -> None:
        """Hold that a trace comes to look like `tree`; see :func:`drawn`."""
        expectation = Expectation(trace_id, tree, shown)
        deadline = time.monotonic() + PATIENCE
        while drawn(trace(self.home, trace_id), *shown) != tree and time.monotonic() < deadline:
            time.sleep(0.02)
        hold(self.home, expectation)
        self.expected.append(expectation)

    def end(self) -> None:
        """Record no more."""
        otelsync.uninstrument("celery")
        otelsync.shutdown(1)


def hold(home: Path, expected: Expectation) -> None:
    """Hold that a trace looks as expected, and that each of its spans says what spans of its kind have to."""
    nodes = trace(home, expected.trace_id)
    found = drawn(nodes, *expected.shown)
    assert found == expected.tree, f"it looks like this:\n{found}"
    for node in nodes:
        assert node.ended, node
        if node.name.startswith("run/"):
            assert node.failed == (node.attributes["sync.outcome"] in ("failure", "interrupted")), node
            assert (node.kind, node.attributes["celery.action"]) == (CONSUMER, "run"), node
            assert node.attributes["messaging.message.id"], node
        if node.name.startswith("apply_async/"):
            assert (node.kind, node.attributes["celery.action"]) == (PRODUCER, "apply_async"), node


def traces(home: Path) -> list[Node]:
    """All spans that a worker has delivered to its store, and those that the caller has recorded."""
    store = home / "store.db"
    # In this order: ``otelsync ship`` delivers what the caller has recorded, too.
    recorded = trace_tree.spans_in_journal(home / "journals" / "caller")
    delivered = trace_tree.spans_in_store(store) if store.exists() else []
    ids = {node.span_id for node in delivered}
    return delivered + [node for node in recorded if node.span_id not in ids]


def trace(home: Path, trace_id: str) -> list[Node]:
    """The spans of one trace."""
    return [node for node in traces(home) if node.trace_id == trace_id]


def drawn(nodes: Iterable[Node], *shown: str) -> str:
    """Spans as a tree in which the order of siblings does not depend on which of several processes was faster."""
    begun = [trace_tree.beginning_only(node, "sync.stage caller") for node in nodes]
    return "\n" + trace_tree.draw(canonical(begun), *shown, roll=1_000_000)


def canonical(nodes: list[Node]) -> list[Node]:
    """The spans, begun in an order that follows from what they and those below them are."""
    names = {node.span_id: node.name for node in nodes}
    children: dict[str, list[Node]] = {}
    for node in nodes:
        children.setdefault(node.parent_id, []).append(node)

    def key(node: Node) -> tuple[Any, ...]:
        return (
            node.name,
            int(node.attributes.get("sync.attempt", 0)),
            str(node.attributes.get("sync.outcome")),
            sorted(names.get(link, "") for link in node.links),
            sorted(map(key, children.get(node.span_id, []))),
        )

    return [replace(node, start=number) for number, node in enumerate(sorted(nodes, key=key))]
