"""Commands that show something read journals where they are, and leave everything for whoever ships."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from otlp_server import otlp_server
from recorded import Recorded

import otelsync
from otelsync.cli import catching_up, main
from otelsync.configuration.destinations import make_shipper
from otelsync.settings import Settings
from otelsync.shipping.ledger import read_ledger

LOOKS = (["list"], ["show"], ["logs"], ["report"], ["ps"], ["ledger"], ["doctor"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(params=["in memory", "in a file"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both places for what journals hold: little is read anew each time, much is kept."""
    if request.param == "in a file":
        monkeypatch.setattr(catching_up, "MOST_IN_MEMORY", 0)
    return str(request.param)


def run(*arguments: str, home: Path, **environment: str) -> Result:
    reports = {"OTELSYNC_REPORTS_DIR": str(home.parent / "reports")}
    return CliRunner().invoke(main, [*arguments, "--home", str(home)], env={**reports, **environment})


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def a_run(items: int = 3, name: str = "nightly") -> str:
    with otelsync.pipeline(name) as pipeline, otelsync.repo("acme/api") as repo:
        for number in range(items):
            with otelsync.pull_request(number) as pull:
                pull.set(action="created")
        repo.event("cursor.saved", cursor="Y3Vyc29y")
    return pipeline.sync_id


def names(sync_id: str, home: Path) -> list[str]:
    result = run("show", sync_id, "--json", "--all", home=home)
    assert result.exit_code == 0, result.output
    return sorted(one["name"] for one in json.loads(result.output))


WHOLE = ["sync.pipeline nightly", "sync.pr", "sync.pr", "sync.pr", "sync.repo acme/api"]


def shipped(settings: Settings, *, store: bool = True) -> None:
    """Ship all of a journal, as `otelsync ship` would."""
    shipper = make_shipper(settings, store=store)()
    assert shipper.own()
    assert shipper.drain(120)
    shipper.close()


def killed(home: Path, body: str, service: str = "killed", **environment: str) -> None:
    """Run a program that ends by SIGKILL."""
    code = f"import os, signal, otelsync\notelsync.configure(home={str(home)!r}, service_name={service!r})\n{body}"
    code += "\nos.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        timeout=300,
        env={**os.environ, "OTELSYNC_SHIP": "off", **environment},
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look[0])
def test_a_look_moves_nothing(record: Callable[..., Recorded], home: Path, look: list[str], kept: str) -> None:
    """Whatever is looked at, journals, checkpoint and store are byte for byte what they were."""
    recorded = record()
    a_run()
    otelsync.shutdown()
    before = contents(recorded.journal)
    for _ in range(2):
        result = run(*look, home=home)
        assert result.exit_code in (0, 1), result.output
    assert contents(recorded.journal) == before
    assert not (home / "store.db").exists()
    assert kept == "in a file" or not list(home.glob("store*"))


def test_what_was_looked_at_is_shipped_all_the_same(record: Callable[..., Recorded], home: Path) -> None:
    """A later shipper to an endpoint sends every record, and the ledger remembers all, whatever it is asked under."""
    recorded = record()
    a_run(200)
    otelsync.shutdown()
    for look in LOOKS:
        run(*look, home=home)
    assert read_ledger(recorded.journal).recorded == {"span": 202, "log": 205}
    with otlp_server() as server:
        shipped(
            Settings.from_environment(home=home, service_name="test", endpoint=server.url, store="off"), store=False
        )
        sent = len(server.spans)
    assert sent >= 1
    for environment in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, {"OTELSYNC_STORE": "off"}):
        ledger = json.loads(run("ledger", "--json", home=home, **environment).output)["test"]
        assert ledger["reconciles"]
        assert ledger["signals"]["span"]["recorded"] == 202
        traces = ledger["signals"]["span"]["sinks"]["traces"]
        assert traces["shipped"] + traces["folded"] == 202


def test_the_ledger_remembers_sinks_that_are_not_used_any_more(record: Callable[..., Recorded], home: Path) -> None:
    """What went to the store before there was an endpoint still stands there."""
    recorded = record()
    a_run()
    shipped(recorded.settings)
    with otlp_server() as server:
        a_run()
        shipped(
            Settings.from_environment(home=home, service_name="test", endpoint=server.url, store="off"), store=False
        )
    ledger = read_ledger(recorded.journal)
    assert ledger.reconciles
    assert ledger.recorded["span"] == 10
    assert {account.sink: account.shipped for account in ledger.accounts if account.signal == "span"} == {
        "store": 5,
        "traces": 10,  # the file of this process is still there, from its beginning
    }


@pytest.mark.usefixtures("kept")
@pytest.mark.usefixtures("kept")
def test_a_run_is_shown_whole_of_which_the_store_has_a_part(home: Path) -> None:
    """What was stored and what still waits are one run, whose open stages have ended with their process."""
    killed(
        home,
        "from otelsync.configuration.destinations import make_shipper\n"
        "from otelsync.in_force import settings\n"
        "run = otelsync.pipeline('nightly'); run.__enter__()\n"
        "repo = otelsync.repo('acme/api'); repo.__enter__()\n"
        "for number in range(3):\n"
        "    with otelsync.pull_request(number) as pull: pull.set(action='created')\n"
        "shipper = make_shipper(settings())(); assert shipper.own() and shipper.drain(120); shipper.close()\n"
        "for number in range(3, 5):\n"
        "    with otelsync.pull_request(number) as pull: pull.set(action='created')",
    )
    before = contents(home / "journals" / "killed")
    stored = (home / "store.db").read_bytes()
    for _ in range(2):
        (line,) = run("list", home=home).output.splitlines()[1:]
        assert line.split()[-3:] == ["interrupted", "7", "1"]
        assert names("2", home) == sorted([*WHOLE, "sync.pr", "sync.pr"])
        assert "5 created" in run("show", home=home).output
    assert contents(home / "journals" / "killed") == before
    assert (home / "store.db").read_bytes() == stored
    shipped(Settings.from_environment(home=home, service_name="killed"))
    assert not list((home / "journals" / "killed").glob("*.journal"))
    assert names("2", home) == sorted([*WHOLE, "sync.pr", "sync.pr"])
    (line,) = run("list", home=home).output.splitlines()[1:]
    assert line.split()[-3:] == ["interrupted", "7", "1"]


@pytest.mark.usefixtures("kept")
def test_a_look_goes_on_where_the_last_one_stopped(record: Callable[..., Recorded], home: Path) -> None:
    """What is recorded between two looks is added, and what is shipped between them is not shown twice."""
    recorded = record()
    first = a_run()
    assert names(first, home) == WHOLE
    second = a_run(1)
    assert [len(names(first, home)), len(names(second, home))] == [5, 3]
    shipped(recorded.settings)
    third = a_run(2)
    assert [len(names(each, home)) for each in (first, second, third)] == [5, 3, 4]
    assert len(run("list", home=home).output.splitlines()) == 4


def test_what_was_kept_of_journals_goes_with_them(
    record: Callable[..., Recorded], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing waits any more, nothing is left beside the store."""
    monkeypatch.setattr(catching_up, "MOST_IN_MEMORY", 0)
    recorded = record()
    sync_id = a_run()
    assert names(sync_id, home) == WHOLE
    assert (home / "store.db.unshipped").stat().st_mode & 0o777 == 0o700
    otelsync.shutdown()
    shipped(recorded.settings)
    assert names(sync_id, home) == WHOLE
    assert not (home / "store.db.unshipped").exists()


@pytest.mark.usefixtures("kept")
@pytest.mark.usefixtures("kept")
def test_parts_of_a_run_in_several_journals_are_one_run(home: Path) -> None:
    """What one service has stored and another has still in its journal is shown together."""
    begin = (
        "from otelsync.vocabulary import SYNC_ID\n"
        "from otelsync.configuration.destinations import make_shipper\n"
        "from otelsync.in_force import settings\n"
    )
    shared = home / "carrier"
    killed(
        home,
        begin + "from opentelemetry import propagate\n"
        "import json, pathlib\n"
        "with otelsync.pipeline('nightly'):\n"
        "    carrier = {}; propagate.inject(carrier)\n"
        "    with otelsync.repo('acme/api'): pass\n"
        f"pathlib.Path({str(shared)!r}).write_text(json.dumps(carrier))\n"
        "shipper = make_shipper(settings())(); assert shipper.own() and shipper.drain(120); shipper.close()",
        service="first",
    )
    killed(
        home,
        "import json, pathlib\n"
        "from opentelemetry import context, propagate\n"
        f"context.attach(propagate.extract(json.loads(pathlib.Path({str(shared)!r}).read_text())))\n"
        "with otelsync.repo('acme/web'): pass",
        service="second",
    )
    assert names("2", home) == ["sync.pipeline nightly", "sync.repo acme/api", "sync.repo acme/web"]
    assert len(run("list", home=home).output.splitlines()) == 2


def test_a_report_of_what_waits_compares_with_the_run_before(record: Callable[..., Recorded], home: Path) -> None:
    """The run before may be in the store already."""
    recorded = record()
    first = a_run()
    shipped(recorded.settings)
    a_run(5)
    result = run("report", "--json", home=home)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    assert (summary["previous"]["sync_id"], summary["items"]["created"]) == (first, 5)


def test_a_run_may_be_named_that_stands_in_either(record: Callable[..., Recorded], home: Path) -> None:
    """A name that fits a stored run and one that waits is as ambiguous as with two stored ones."""
    recorded = record()
    first = a_run()
    shipped(recorded.settings)
    second = a_run()
    result = run("show", "20", home=home)
    assert result.exit_code == 1
    assert first in result.output
    assert second in result.output
    for sync_id in (first, second, first.rpartition("-")[2].lower()):
        assert run("show", sync_id, home=home).exit_code == 0


def test_a_store_beside_that_cannot_be_made_is_said(
    record: Callable[..., Recorded], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the store is shown all the same."""
    monkeypatch.setattr(catching_up, "MOST_IN_MEMORY", 0)
    recorded = record()
    sync_id = a_run()
    shipped(recorded.settings)
    a_run()
    (home / "store.db.unshipped").write_text("in the way")
    result = run("list", home=home)
    assert result.exit_code == 0
    assert "otelsync: what waits in journals cannot be shown: " in result.output
    assert sync_id in result.output


def test_what_another_version_has_kept_is_made_anew(
    record: Callable[..., Recorded], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of a look is nobody's data: one that cannot be used is thrown away."""
    monkeypatch.setattr(catching_up, "MOST_IN_MEMORY", 0)
    record()
    sync_id = a_run()
    assert names(sync_id, home) == WHOLE
    (copy,) = (home / "store.db.unshipped").glob("*/store.db")
    with closing(sqlite3.connect(copy)) as kept:
        kept.execute("PRAGMA user_version = 99")
    assert names(sync_id, home) == WHOLE


def test_commands_at_once_leave_each_other_what_they_look_at(
    record: Callable[..., Recorded], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several processes look while the copy becomes outdated again and again: none loses what it is about to open."""
    recorded = record()
    first, second = a_run(), a_run(8, "weekly")
    code = (
        "import sys; from otelsync.cli import catching_up, main; catching_up.MOST_IN_MEMORY = 0\n"
        "from click.testing import CliRunner\n"
        "for turn in range(6):\n"
        "    for command in (['list'], ['show', sys.argv[2]], ['logs', sys.argv[2]]):\n"
        "        result = CliRunner().invoke(main, [*command, '--home', sys.argv[1]])\n"
        "        assert result.exit_code == 0 and 'cannot' not in result.output, (command, result.output)\n"
        "        assert command != ['list'] or result.output.count('nightly') == 1, result.output\n"
    )
    looking = [
        subprocess.Popen([sys.executable, "-c", code, str(home), first], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    monkeypatch.setattr(catching_up, "MOST_IN_MEMORY", 0)
    while any(process.poll() is None for process in looking):
        with suppress(subprocess.TimeoutExpired):
            looking[0].wait(0.05)
        for copy in (home / "store.db.unshipped").glob("*/store.db"):
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{copy}?mode=rw", uri=True)) as kept:
                kept.execute("INSERT OR REPLACE INTO checkpoints VALUES ('9-9-99999999-000000.journal', 1)")
                kept.commit()  # of a file that is not there: it is made anew
    assert [process.communicate()[1] for process in looking] == ["", "", ""]
    assert len(names(second, home)) == 10
    assert len([*(home / "store.db.unshipped").glob("*/store.db")]) == 1, "one that nobody uses goes"
    otelsync.shutdown()
    shipped(recorded.settings)
    assert names(first, home) == WHOLE
    assert not (home / "store.db.unshipped").exists()


def test_nothing_but_its_own_directory_is_thrown_away(
    record: Callable[..., Recorded], home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A look that fails in memory leaves the current directory alone."""
    record()
    a_run()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    with closing(sqlite3.connect(home / "store.db")) as store:
        store.executescript("CREATE TABLE t (x); PRAGMA application_id = 7")
    result = run("list", home=home)
    assert result.exit_code == 1
    assert "is a SQLite file of another program" in result.output
    assert (tmp_path / "here" / "file").read_text() == "mine"
