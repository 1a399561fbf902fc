"""What tracing costs a Celery worker: bare, under ``opentelemetry-instrument`` and under ``otelsync run``.

Prefork workers with two children each do small tasks from a Redis of their own, with spans, and with log records where
a line says so, delivered to a sink in another process. All workers of a round are there from its begin to its end and
take turns, a portion of the tasks each: the speed of a shared machine drifts by more than tracing adds. The figure is
the CPU time of a worker's processes from when all are ready to its end, waiting for its turn included, and that of the
process that supervises it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from redis import Redis
from redis.exceptions import ConnectionError as NoRedis

from benchmarks.report import draw
from benchmarks.sink import Sink, sink_process

TASKS: Final = 10_000
PORTION: Final = 200
"""Tasks that a worker does before it is another's turn."""
_LONGEST_S: Final = 600
_TICK: Final = os.sysconf("SC_CLK_TCK")
_FOREIGN: Final = ("OTEL_", "OTELSYNC_", "LOG_", "SERVICE_NAME", "BENCH_", "CELERY_")


@dataclass(frozen=True)
class Way:
    """A way of running the worker.

    Attributes:
        title: What the table says.
        prefix: What stands before ``celery`` on the command line.
        environment: What it is told beside where the sink is.
        traced: Whether a span must arrive for every task.
        supervised: Whether the process that is started is not the worker, but one beside it.
    """

    title: str
    prefix: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    traced: bool = True
    supervised: bool = False


_INSTRUMENT: Final = ("opentelemetry-instrument",)
_RUN: Final = ("otelsync", "run")
# Its defaults would drop most spans of a busy worker: a queue of 2,048, and nothing flushed when a child ends.
_FAIR: Final = (
    ("BENCH_FLUSH", "1"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "200000"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "200000"),
)
_NO_LOGS: Final = (("OTEL_LOGS_EXPORTER", "none"), ("OTELSYNC_JOURNAL_LOGS", "false"))
WAYS: Final[dict[str, Way]] = {
    "bare": Way("bare Celery", traced=False),
    "otel": Way("opentelemetry-instrument", _INSTRUMENT, _FAIR + _NO_LOGS),
    "otelsync": Way("otelsync run", _RUN, _NO_LOGS, supervised=True),
    "otel-logs": Way(
        "opentelemetry-instrument + OTLP logs",
        _INSTRUMENT,
        (*_FAIR, ("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED", "true")),
    ),
    "otelsync-logs": Way("otelsync run + OTLP logs", _RUN, supervised=True),
}


@dataclass(frozen=True)
class Cpu:
    """CPU time of all threads, user and system, in seconds."""

    worker: float
    supervisor: float = 0.0

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.worker - other.worker, self.supervisor - other.supervisor)

    @property
    def total(self) -> float:
        """Of all processes."""
        return self.worker + self.supervisor


@dataclass(frozen=True)
class Round:
    """What one worker took: up to when it was ready, and from then to its end; what did not arrive, and what did."""

    start: Cpu
    tasks: Cpu
    missing: str = ""
    log_records: int = 0


Results = dict[str, list[Round]]


def interleaved(
    names: Sequence[str],
    *,
    rounds: int,
    tasks: int = TASKS,
    progress: Callable[[str], None] = lambda _line: None,
) -> Results:
    """Measure each way once a round, each time with a fresh worker.

    Raises:
        RuntimeError: A worker failed, or there is no Redis; the message says more.
    """
    results: Results = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as scratch, redis_process(Path(scratch)) as (redis, url):
        portions = prepare(url, tasks)
        for number in range(1, rounds + 1):
            for name, one in measure(names, tasks, portions, redis, url, Path(scratch) / str(number)).items():
                results[name].append(one)
                progress(
                    f"round {number}/{rounds}  {name:<14} worker {one.tasks.worker:6.2f} s"
                    f"  supervisor {one.tasks.supervisor:5.2f} s  {one.missing}"
                )
    return results


@contextmanager
def redis_process(directory: Path) -> Iterator[tuple[Redis, str]]:
    """A Redis of one's own, and its URL."""
    if shutil.which("redis-server") is None:
        raise RuntimeError("there is no redis-server: tests/install-servers.sh installs it")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"redis://127.0.0.1:{port}/0"
            with Redis.from_url(url) as client:
                _wait_for(lambda: _is_up(client), "Redis answers")
                yield client, url
        finally:
            process.kill()


def _is_up(client: Redis) -> bool:
    with suppress(NoRedis):
        return bool(client.ping())
    return False


def prepare(url: str, tasks: int) -> list[str]:
    """Publish the messages of one round, each with the header of a trace, in queues from which no worker takes them."""
    from celery import Celery

    portions = [f"prepared-{first}" for first in range(0, tasks, PORTION)]
    with Celery("benchmark", broker=url) as app, app.producer_pool.acquire(block=True) as producer:
        for number in range(tasks):
            parent = f"00-{number + 1:032x}-{number + 1:016x}-01"
            app.send_task(
                "small",
                (number, 1),
                queue=portions[number // PORTION],
                producer=producer,
                headers={"traceparent": parent},
                ignore_result=True,
            )
    return portions


def measure(
    names: Sequence[str], tasks: int, portions: Sequence[str], redis: Redis, url: str, directory: Path
) -> dict[str, Round]:
    """Let one worker of each way do all tasks, by turns, and compare what it did with what arrived."""
    with ExitStack() as running:
        workers = {name: running.enter_context(_Worker.started(name, url, directory / name)) for name in names}
        for worker in workers.values():
            worker.wait_until_ready()
        begins = {name: worker.cpu() for name, worker in workers.items()}
        for portion in portions:
            for worker in workers.values():
                worker.work_off(portion, redis)
        rounds = {}
        for name, worker in workers.items():
            end = worker.end()
            counts = worker.sink.counts()
            arrived = counts.spans["run/small"]
            missing = f"{arrived:,} of {tasks:,} spans" if worker.way.traced and arrived != tasks else ""
            rounds[name] = Round(begins[name], end - begins[name], missing, counts.logs.total())
        return rounds


@dataclass(frozen=True)
class _Worker:
    """A worker that runs: how, for which queue, into what file it logs, and where its spans go."""

    way: Way
    queue: str
    log: Path
    process: subprocess.Popen[bytes]
    sink: Sink

    @classmethod
    @contextmanager
    def started(cls, name: str, url: str, home: Path) -> Iterator[_Worker]:
        way = WAYS[name]
        home.mkdir(parents=True)
        log = home / "worker.log"
        with sink_process() as sink, log.open("wb") as output:
            process = subprocess.Popen(
                [*_command(way), "-Q", name],
                env=_environment(way, url, sink, home),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield cls(way, name, log, process, sink)
            finally:
                process.kill()
                process.wait()

    def wait_until_ready(self) -> None:
        _wait_for(lambda: b" ready." in self.log.read_bytes(), "the worker is ready", self.process)

    def work_off(self, portion: str, redis: Redis) -> None:
        redis.copy(portion, self.queue)
        _wait_for(lambda: not redis.exists(self.queue, "unacked"), "the tasks are done", self.process)

    def cpu(self) -> Cpu:
        return cpu_of(self.process.pid, supervised=self.way.supervised)

    def end(self) -> Cpu:
        """End the worker in good order, and say what it has taken in all."""
        self.process.send_signal(signal.SIGTERM)
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)  # its figures stay until it is reaped
        taken = self.cpu()
        if self.process.wait() != 0:
            raise RuntimeError(
                f"{self.way.title} ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}"
            )
        return taken


def _command(way: Way) -> list[str]:
    binaries = Path(sys.executable).parent
    prefix = [str(binaries / way.prefix[0]), *way.prefix[1:]] if way.prefix else []
    worker = ["celery", "-A", "benchmarks.celery_project", "worker", "-c", "2", "-l", "INFO", "--without-gossip"]
    return [*prefix, str(binaries / worker[0]), *worker[1:]]


def _environment(way: Way, url: str, sink: Sink, home: Path) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return {
        **own,
        "BENCH_BROKER": url,
        "OTELSYNC_HOME": str(home),
        "OTEL_SERVICE_NAME": "benchmark",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        # The broker's own client would be traced too, if its instrumentation is there: that is another question.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis",
        **dict(way.environment),
    }


def cpu_of(pid: int, *, supervised: bool) -> Cpu:
    """What a process and all that came of it have taken so far.

    Args:
        pid: May be one that has ended, as long as nobody has reaped it.
        supervised: Whether it stands beside the worker, which is below it.
    """
    own, reaped = _times(pid)
    below = reaped + sum(sum(_times(child)) for child in descendants(pid))
    return Cpu(below, own) if supervised else Cpu(own + below)


def _times(pid: int) -> tuple[float, float]:
    """Seconds of CPU: of the process, and of those children of it that it has waited for (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0, 0.0
    user, system, reaped_user, reaped_system = (int(text) / _TICK for text in fields[11:15])
    return user + system, reaped_user + reaped_system


def descendants(pid: int) -> list[int]:
    """The processes below a process that are still there."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(") ")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while not condition():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode} before {what}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_LONGEST_S} s in vain until {what}")
        time.sleep(0.01)


def table(results: Results, tasks: int) -> str:
    """One line a way: medians over the rounds, and what is added to bare Celery, with the ratio to the peer's."""
    bare = _medians(results.get("bare", []))
    header = ["CPU a task, us", "worker", "added", "supervisor", "added in all", "added, against the peer's", "in all"]
    header.append("log records a task")
    rows = [header]
    for name, rounds in results.items():
        own = _medians(rounds)
        added = own - bare
        row = [WAYS[name].title, *(_us(seconds, tasks) for seconds in (own.worker, added.worker, own.supervisor))]
        row.append(_us(added.total, tasks))
        peer = _medians(results.get("otel-logs" if name.endswith("-logs") else "otel", [])) - bare
        for ours, theirs in ((added.worker, peer.worker), (added.total, peer.total)):
            row.append(f"{ours / theirs:.2f}" if name.startswith("otelsync") and theirs > 0 else "")
        row.append(f"{median(one.log_records for one in rounds) / tasks:.1f}")
        rows.append(row)
    return draw(rows)


def start_table(results: Results) -> str:
    """CPU until the worker is ready, of all processes."""
    rows = [["CPU until it is ready", "s, median"]]
    for name, rounds in results.items():
        rows.append([WAYS[name].title, f"{median(one.start.total for one in rounds):.2f}"])
    return draw(rows)


def invalid(results: Results) -> str:
    """The rounds in which something did not arrive."""
    lines = [
        f"INVALID {name}, round {number}: {one.missing}"
        for name, rounds in results.items()
        for number, one in enumerate(rounds, 1)
        if one.missing
    ]
    return "\n".join(lines)


def _medians(rounds: Sequence[Round]) -> Cpu:
    if not rounds:
        return Cpu(0.0)
    return Cpu(median(one.tasks.worker for one in rounds), median(one.tasks.supervisor for one in rounds))


def _us(seconds: float, tasks: int) -> str:
    return f"{seconds * 1e6 / tasks:.1f}"
