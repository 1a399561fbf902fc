"""Programs that others wrote: under ``otelsync run`` they do what they do without it, and are traced."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from brokers import Broker
from celery_examples import unpack
from trace_tree import Node, spans_in_store
from workers import PATIENCE, Worker

SHELL = """
import json
{imports}
print(json.dumps({calls}))
"""


@dataclass(frozen=True)
class Program:
    """An example: its directory, its app, and what is done in a shell beside its worker, as its author says.

    Attributes:
        runs: How often the worker has logged that a task succeeded when all is done.
        revoked: How many tasks the worker then has refused.
    """

    directory: str
    app: str
    imports: str
    calls: str
    runs: int
    revoked: int = 0


PROGRAMS = {
    "rabbitmq": Program(
        "next-steps",
        "proj",
        "from celery import chain, group\nfrom proj.tasks import add, mul, xsum",
        "[add.delay(2, 2).get(timeout=120), mul.apply_async((4, 4), countdown=0.2).get(timeout=120),"
        " xsum.delay([1, 2, 3]).get(timeout=120), group(add.s(i, i) for i in range(10))().get(timeout=120),"
        " chain(add.s(2, 2), mul.s(8))().get(timeout=120)]",
        runs=15,
    ),
    "redis": Program(
        "stamping",
        "myapp",
        "import examples\nfrom tasks import identity\nfrom revoke_example import create_canvas, revoke_then_run",
        "[identity.delay('x').get(timeout=120), create_canvas(3).delay().get(timeout=120), examples.run_example1(),"
        " examples.run_example2(), examples.run_example3(), revoke_then_run()]",
        runs=30,
        revoked=1,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a program: what its shell has printed, and all that its worker has."""

    printed: str
    output: str


def outcome(program: Program, place: Path, broker: Broker, home: Path, *, traced: bool) -> Outcome:
    """Run a worker of the program, and its shell beside it."""
    environment = {
        "CELERY_BROKER_URL": broker.url,
        "PYTHONHASHSEED": "0",
        **({"CELERY_RESULT_BACKEND": broker.results} if broker.system == "redis" else {}),
    }
    worker = Worker(home, broker, app=program.app, directory=place, traced=traced, environment=environment)
    try:
        worker.wait_until_ready()
        printed = shell(program, place, {**worker.environment, "OTEL_SERVICE_NAME": "shell"}, traced=traced)
        worker.wait_until(lambda: len(re.findall(r"\] succeeded in ", worker.log)) >= program.runs)
        worker.wait_until(lambda: worker.log.count("Discarding revoked task") >= program.revoked)
        assert worker.end() == 0, worker.log
    finally:
        worker.kill()
    return Outcome(printed, worker.log)


def shell(program: Program, place: Path, environment: dict[str, str], *, traced: bool) -> str:
    """What the program's shell prints."""
    command = [sys.executable, "-c", SHELL.format(imports=program.imports, calls=program.calls)]
    if traced:
        command = [sys.executable, "-m", "otelsync.cli", "run", *command]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(output: str) -> Counter[str]:
    """The lines of a worker's output without what differs from run to run, and without what otelsync adds."""
    for pattern, instead in (
        (r"(?m)^otelsync: .*\n", ""),
        (r" trace_id=[0-9a-f]{32} span_id=[0-9a-f]{16}", ""),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (\w+)/[\w-]+\]", r"[\1]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
        (r"succeeded in [\d.e-]+s", "succeeded in T"),
        (r"0x[0-9a-f]+", "ADDRESS"),
    ):
        output = re.sub(pattern, instead, output)
    return Counter(output.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("system", PROGRAMS)
def test_celerys_own_examples(tmp_path: Path, system: str, request: pytest.FixtureRequest) -> None:
    """An example of Celery's prints and logs the same under ``otelsync run`` as without; each task that its worker has
    received has one run, and what the task logs has the ids of that run."""
    program, broker = PROGRAMS[system], request.getfixturevalue(system).broker()
    place = unpack(program.directory, tmp_path)
    plain = outcome(program, place, broker, tmp_path / "plain", traced=False)
    home = tmp_path / "home"
    traced = outcome(program, place, broker, home, traced=True)
    assert json.loads(traced.printed) == json.loads(plain.printed)
    assert said(traced.output) == said(plain.output)
    spans = spans_in_store(home / "store.db")
    assert ran(spans) == Counter(re.findall(r"Task ([\w.]+)\[[0-9a-f-]+\] received", traced.output))
    assert complete(spans)
    assert holds_the_ids_of_runs(home, spans) == program.runs


def ran(spans: list[Node]) -> Counter[str]:
    """How often which task has run."""
    return Counter(node.name.removeprefix("run/") for node in spans if node.name.startswith("run/"))


def complete(spans: list[Node]) -> bool:
    """Whether all spans have ended, and have their parents."""
    ids = {node.span_id for node in spans}
    return all(node.ended and (not node.parent_id or node.parent_id in ids) for node in spans)


def holds_the_ids_of_runs(home: Path, spans: list[Node]) -> int:
    """Hold that where a task is said to have succeeded the record has the ids of its run; how often that is."""
    runs = {node.span_id: node for node in spans if node.name.startswith("run/")}
    with closing(sqlite3.connect(f"file:{home / 'store.db'}?mode=ro", uri=True)) as connection:
        lines = connection.execute("SELECT event, span_id FROM logs").fetchall()
    found = [(text, span_id) for text, span_id in lines if re.match(r"Task \S+ succeeded in", text)]
    for text, span_id in found:
        task_id = text.partition("[")[2].partition("]")[0]
        assert runs[span_id].attributes["messaging.message.id"] == task_id
    return len(found)
