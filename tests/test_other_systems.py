"""Other systems than Linux: configure() works, and spans and records go the standard way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import both_ways
import pytest
from both_ways import program
from other_systems import SYSTEMS, command

from otelsync.testing import assert_span_tree

SHORT = """
import otelsync
otelsync.configure(log_format="json")
with otelsync.pipeline("short") as run, otelsync.repo("acme/api"):
    otelsync.get_logger("app").info("said", password="hunter2")
print(otelsync.flush(60), otelsync.shutdown(60))
"""

LIBRARIES = """
import celery
import otelsync
otelsync.configure(log_format="json")
for library in ("celery", "requests", "httpx"):
    otelsync.instrument(library)
app = celery.Celery("here", broker="memory://", set_as_current=False)
app.conf.task_always_eager = True

@app.task(name="add")
def add():
    with otelsync.item("order", 1) as order:
        order.set(action="created")

with otelsync.pipeline("short") as run:
    add.delay()
    with otelsync.rate_limit_wait(0):
        pass
"""

TREE = """
sync.pipeline short     [success]
  run/add               [success]
    sync.order
  sync.rate_limit.wait  [success]
"""

each_system = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())


@each_system
def test_a_program_is_recorded(tmp_path: Path, system: str) -> None:
    """Spans and records arrive, and a warning says once what is lost."""
    taken = both_ways.run(tmp_path / "home", "auto", *program(system + SHORT), OTELSYNC_PURE_PYTHON="1")
    assert taken.stderr == ""
    assert taken.stdout.splitlines()[-1] == "True True"
    assert sorted(span.name for span in taken.spans) == ["sync.pipeline short", "sync.repo acme/api"]
    (said,) = [log for log in taken.logs if log.event == "said"]
    assert said.span_id in [span.span_id for span in taken.spans]
    assert said.attributes["password"] == "[redacted]"
    (warning,) = [log.event for log in taken.logs if log.level == "WARNING"]
    assert warning.startswith("there is no journal, as ")
    assert not (tmp_path / "home").exists()


@each_system
def test_libraries_are_instrumented(tmp_path: Path, system: str) -> None:
    """Integrations can be switched on, and their spans arrive."""
    taken = both_ways.run(tmp_path, "auto", *program(system + LIBRARIES), OTELSYNC_PURE_PYTHON="1")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert_span_tree(taken.spans, TREE)


@each_system
def test_the_doctor(tmp_path: Path, system: str) -> None:
    """It says which way is in force, and its probe arrives that way."""
    taken = both_ways.run(tmp_path / "home", "auto", *program(system + command(["doctor", "--json"])))
    assert (taken.returncode, taken.stderr) == (0, "")
    found = {each["code"]: each["status"] for each in json.loads(taken.stdout)["findings"]}
    assert (found["standard"], found["delivered"]) == ("warning", "ok")
    assert [span.name for span in taken.spans] == ["otelsync.probe"]
    assert not (tmp_path / "home").exists()


@each_system
def test_a_program_under_run(tmp_path: Path, system: str) -> None:
    """`otelsync run` sets the program up and leaves the rest to it; the exit code is the program's."""
    inner = "import otelsync\nwith otelsync.pipeline('inner'): pass\nraise SystemExit(7)"
    taken = both_ways.run(tmp_path, "auto", *program(system + command(["run", sys.executable, "-c", inner])))
    assert taken.returncode == 7
    assert [span.name for span in taken.spans] == ["sync.pipeline inner"]
    assert taken.stderr.count("there is no journal") == 1
