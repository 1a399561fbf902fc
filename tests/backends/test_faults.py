"""Faults of real servers while data flows: nothing acknowledged is lost, nothing is there twice, the ledger is true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import pytest
from stores import (
    PATIENCE,
    eventually,
    ids_in_jaeger,
    ledger,
    logs_in_victorialogs,
    own_metric,
    settings,
)

from collector.stack import Ports, Stack, make_stack
from otelsync.testing.reading import logs_in, spans_in

FLOWING: Final = """
import sys, time, otelsync
from pathlib import Path
otelsync.configure(service_name=sys.argv[1], log_level="WARNING")
number = 0
while not Path(sys.argv[2]).exists() and number < 3000:
    number += 1
    with otelsync.pipeline("flow"), otelsync.repo("acme/api"), otelsync.api_call("list", page=number):
        for item in range(10):
            with otelsync.pull_request(item, state="x" * int(sys.argv[3])) as pr:
                pr.fail("no author") if item == 7 else pr.set(action="created")
    time.sleep(0.02)
print(otelsync.shutdown(90))
"""
"""Traces of 13 spans, one of them failed, until a file is there; then it waits until all is sent."""


@contextmanager
def begun_stack(stack: Stack, *, without: tuple[str, ...] = ()) -> Iterator[Stack]:
    """Run the servers, apart from some."""
    try:
        for server in stack.servers:
            if server.name not in without:
                server.begin()
        yield stack
    finally:
        for server in reversed(stack.servers):
            server.end()


class Flow:
    """A program that records until it is told to stop, or the block ends."""

    def __init__(self, stack: Stack, folder: Path, *, protocol: str = "http/protobuf", size: int = 10) -> None:
        folder.mkdir()
        self._home, self._stop = folder / "home", folder / "stop"
        environment = settings(self._home, stack.grpc_endpoint if protocol == "grpc" else stack.endpoint, protocol)
        self._stack, self._service, self._output = stack, folder.name, folder / "output"
        command = [sys.executable, "-c", FLOWING, self._service, str(self._stop), str(size)]
        with self._output.open("w") as file:
            self._process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def recorded(self) -> int:
        """Return how many spans there are by now."""
        return len(spans_in(self._home)) if self._home.exists() else 0

    def end(self) -> None:
        """Let the program stop, and hold that each server has all of it, once."""
        self._stop.touch()
        assert self._process.wait(2 * PATIENCE) == 0
        *said, shipped = self._output.read_text().splitlines()
        assert shipped == "True", said
        warned_once(said)
        self.is_whole()

    def is_whole(self) -> None:
        """Hold that each server has all of it, and that the ledger says so."""
        spans, logs = spans_in(self._home), logs_in(self._home)
        traces = {span.trace_id for span in spans}
        assert len(spans) > 100
        own = Counter(span.span_id for span in spans)
        eventually(lambda: +(own - ids_in_jaeger(self._stack, traces)), Counter(), *self._stack.servers)
        assert ids_in_jaeger(self._stack, traces) == own
        records = {(log.span_id, log.event) for log in logs}

        def missing() -> set[tuple[str, str]]:
            lines = logs_in_victorialogs(self._stack, f'service.name:="{self._service}"')
            return records - {(line.get("span_id", ""), line.get("event_name") or line["_msg"]) for line in lines}

        eventually(missing, set(), *self._stack.servers)
        port = self._stack.ports.own_metrics
        eventually(lambda: own_metric(port, "otelcol_exporter_queue_size"), 0.0, *self._stack.servers)
        accounts = ledger(self._home)
        assert accounts
        for account in accounts:
            assert account["recorded"] == account["shipped"] == len(spans if account["signal"] == "span" else logs)
            assert (account["pending"], account["folded"], account["dropped"]) == (0, 0, {})


def warned_once(lines: list[str]) -> None:
    """Hold that a program has said of each outage that it began and that it was over, once, and nothing worse."""
    told = [json.loads(line) for line in lines]
    away = set()
    for event in (each["event"] for each in told if each["logger"].startswith("otelsync.")):
        sink = event.partition(": ")[0]
        if event.endswith("; the records stay in the journal and are sent later"):
            assert sink not in away, lines
            away.add(sink)
        elif ": works again after " in event:
            away.remove(sink)
        else:
            assert " wait for their reports; " in event
    assert away == set(), lines


def accepted(stack: Stack) -> float:
    """Return how many spans the Collector has taken since it began."""
    return own_metric(stack.ports.own_metrics, "otelcol_receiver_accepted_spans")


def refused(stack: Stack) -> float:
    """Return how many spans the Collector has refused since it began."""
    port = stack.ports.own_metrics
    return own_metric(port, "otelcol_receiver_refused_spans") + own_metric(port, "otelcol_receiver_failed_spans")


def some(look: float) -> bool:
    """Return whether there is any."""
    return look > 0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_that_is_killed_ten_times(tmp_path: Path, protocol: str) -> None:
    """Each time while it takes spans; Jaeger is away for three of them, and hangs for three others."""
    stack = make_stack(tmp_path, Ports.free())
    with begun_stack(stack), Flow(stack, tmp_path / f"killed-{protocol[:4]}", protocol=protocol) as flow:
        jaeger = stack.jaeger.process
        assert jaeger is not None
        for turn in range(10):
            if turn == 3:
                os.kill(jaeger.pid, signal.SIGSTOP)
            if turn == 6:
                os.kill(jaeger.pid, signal.SIGCONT)
            eventually(lambda: some(accepted(stack)), True, *stack.servers)
            stack.collector.kill()
            stack.collector.begin()
        flow.end()


def test_a_collector_that_comes_late_and_jaeger_later(tmp_path: Path) -> None:
    """The journal keeps what the Collector has not taken, and the Collector on its disk what Jaeger has not."""
    stack = make_stack(tmp_path, Ports.free())
    with begun_stack(stack, without=("otelcol", "jaeger")), Flow(stack, tmp_path / "late") as flow:
        eventually(lambda: flow.recorded() > 500, True)
        stack.collector.begin()
        eventually(lambda: accepted(stack) > 500, True, stack.collector)
        stack.collector.end()  # in good order, and with a queue that it cannot empty
        stack.collector.begin()
        stack.jaeger.begin()
        flow.end()


def test_a_collector_without_memory(tmp_path: Path) -> None:
    """memory_limiter refuses everything; what it refused comes when there is memory again."""
    stack = make_stack(tmp_path, Ports.free(), environment={"COLLECTOR_MEMORY_MIB": "2"})
    with begun_stack(stack), Flow(stack, tmp_path / "memory") as flow:
        # It looks once a second, so it may take some at first; then it takes no more.
        eventually(lambda: some(refused(stack)), True, *stack.servers)
        before = accepted(stack), refused(stack)
        eventually(lambda: refused(stack) > before[1], True, *stack.servers)
        assert accepted(stack) == before[0]
        stack.collector.end()
        stack.collector.environment = {**stack.collector.environment, "COLLECTOR_MEMORY_MIB": "400"}
        stack.collector.begin()
        flow.end()


@pytest.mark.parametrize("kind", ["bound", "disk"])
def test_a_collector_whose_disk_is_full(tmp_path: Path, kind: str) -> None:
    """Jaeger is away until nothing more goes into the queue, by the bound on its size or because the disk is full.

    Then a disk is given room, without which the Collector (v0.161.0) does not always get its queue empty.
    """
    (state := tmp_path / "state").mkdir()
    small = {"COLLECTOR_DISK_BYTES": "8000000"} if kind == "bound" else {}
    stack = make_stack(tmp_path, Ports.free(), environment={"COLLECTOR_STATE": str(state), **small})
    disk = small_disk(state) if kind == "disk" else nothing()
    with disk, begun_stack(stack, without=("jaeger",)), Flow(stack, tmp_path / f"full-{kind}", size=8000) as flow:
        eventually(lambda: some(refused(stack)), True, stack.collector)
        if kind == "disk":
            subprocess.run(["mount", "-o", "remount,size=100m", state], check=True)
        stack.jaeger.begin()
        flow.end()


@contextmanager
def nothing() -> Iterator[None]:
    """Do nothing about a disk."""
    yield


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a file system of 12 MB, which takes a few requests, there; skip the test where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
