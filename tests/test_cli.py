from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from recorded import Recorded
from stored import START, SYNC_ID, TRACE, batch, log, span, store

import otelsync
from otelsync.cli import COMMANDS, main
from otelsync.shipping import checkpoint as checkpoints


def nothing_in(home: Path) -> str:
    """The sentence on a home that holds nothing."""
    return (
        f"nothing has been recorded yet in {home}; run a program that calls otelsync.configure(), or look at another "
        "--home\n"
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def filled(home: Path) -> Path:
    """A home with a failed run, a later one that is running, and a trace that is no run."""
    spans = [
        span("sync.pr", 4, 2, 10, 20, error="ValueError: no title", vcs__change__id="7", sync__repo="acme/api"),
        span("sync.repo acme/api", 2, 1, 5, 900, sync__outcome="partial"),
        span("sync.pipeline nightly", 1, 0, 0, 1234, sync__outcome="partial", sync__pipeline="nightly"),
        span("GET /", 9, 0, 5000, 5001, sync=None, trace="ee" * 16),
    ]
    begun = span(
        "sync.pipeline github.onboarding", 1, 0, 9000, None, sync="202508022028-SYNC-AB12CD34", trace="ab" * 16
    )
    logs = [
        log("sync.pr.failed", 4, 20, level="ERROR", severity=17, error="no title", sync__repo="acme/api"),
        log("sync.pipeline.started", 1, 0, team_id=7),
        log("sync.repo.started", 2, 5, level="DEBUG", severity=5, title="two words\n\x1b[31m"),
    ]
    store(home / "store.db", batch(*spans, started=[begun], logs=logs))
    return home


def run(*arguments: str, home: Path, environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home)], env=environment)


def process(*arguments: str, home: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otelsync.cli", *arguments, "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def test_list_shows_the_runs(filled: Path) -> None:
    """One line a run, the latest first, the running one marked."""
    result = run("list", home=filled)
    assert result.exit_code == 0
    assert result.output == (
        """\
sync id                     pipeline           service      started (UTC)         took  outcome  spans  errors
202508022028-SYNC-AB12CD34  github.onboarding  github-sync  2025-08-02 20:27:09    0ns  running      0       0
202508022027-SYNC-765151E9  nightly            github-sync  2025-08-02 20:27:00  1.23s  partial      3       1
"""
    )


def test_list_all_shows_other_traces(filled: Path) -> None:
    """Traces without a pipeline go by their trace id and the name of their root."""
    lines = run("list", "--all", home=filled).output.splitlines()
    assert lines[2].split()[:3] == ["ee" * 16, "GET", "/"]
    assert len(lines) == 4


def test_list_shows_tasks_where_there_is_no_pipeline(home: Path) -> None:
    """A worker without any pipeline is not an empty list: its tasks' traces are shown, and how they went."""
    published = span("apply_async/proj.add", 1, 0, 0, 2, kind=4, sync=None)
    ran = span("run/proj.add", 2, 1, 500, 1500, kind=5, sync=None, sync__outcome="success")
    store(home / "store.db", batch(published, ran, span("GET /", 9, 0, 5000, 5001, sync=None, trace="ee" * 16)))
    assert run("list", home=home).output.splitlines()[1:] == [
        f"{TRACE}  proj.add  github-sync  2025-08-02 20:27:00  1.50s  success      2       0"
    ]
    assert run("show", home=home).output.startswith(f"proj.add  {TRACE}\nsuccess after 1.50s")


def test_list_says_when_there_is_more(filled: Path) -> None:
    """A limited list ends with how to see the rest."""
    assert run("list", "-n", "1", home=filled).output.splitlines()[2:] == ["and older ones: --limit 10"]


def test_before_anything_is_recorded_list_is_friendly(home: Path) -> None:
    """An empty place is no error for list, and one for whoever wants a run."""
    assert (run("list", home=home).exit_code, run("list", home=home).output) == (0, nothing_in(home))
    for command in ("show", "logs"):
        result = run(command, home=home)
        assert (result.exit_code, result.stderr) == (1, f"otelsync: {nothing_in(home)}")


def test_ps_names_a_home_that_holds_nothing(home: Path, filled: Path) -> None:
    """A home that was given and holds nothing may be the wrong one, which ps says beside its answer."""
    result = run("ps", home=home.parent / "hoem")
    assert result.stdout == "no run is in flight\n"
    assert result.stderr == f"otelsync: nothing has been recorded yet in {home.parent / 'hoem'}\n"
    result = run("ps", "--json", home=home.parent / "hoem")
    assert json.loads(result.stdout)["runs"] == []
    assert run("ps", home=filled).stderr == ""


def test_show_draws_the_latest_run(filled: Path) -> None:
    """Without an id it is the latest; with a prefix the one that is meant."""
    assert run("show", home=filled).output.startswith("github.onboarding  202508022028-SYNC-AB12CD34\n")
    assert run("show", "7651", home=filled).output.startswith(
        "nightly  202508022027-SYNC-765151E9\npartial after 1.23s"
    )


def test_show_keeps_to_the_width(filled: Path) -> None:
    """120 cells without a terminal, or as many as COLUMNS says."""
    for environment, width in (({"COLUMNS": ""}, 120), ({"COLUMNS": "60"}, 60)):
        lines = run("show", "7651", home=filled, environment=environment).output.splitlines()
        bar_ends = [line.rindex("|") for line in lines if line.startswith("sync.pipeline nightly  ") and "|" in line]
        assert bar_ends == [width * 11 // 30 + 1 + width // 6 + 1]
        assert max(map(len, lines)) <= width


def test_show_json(filled: Path) -> None:
    """An array of spans in the order of the tree; with --all in the order of time."""
    spans = json.loads(run("show", "7651", "--json", home=filled).output)
    assert [one["name"] for one in spans] == ["sync.pipeline nightly", "sync.repo acme/api", "sync.pr"]
    assert spans[2]["status"] == {"code": 2, "message": "ValueError: no title"}
    assert spans[2]["startTimeUnixNano"] == str(START + 10_000_000)
    assert json.loads(run("show", "7651", "--json", "--all", home=filled).output) == spans


def test_logs_are_columns_in_the_order_of_time(filled: Path) -> None:
    """Time, level, event, fields, span; what is hostile is shown by its code, what is the same everywhere left out."""
    assert run("logs", "7651", home=filled).output == (
        r"""20:27:00.000  INFO      sync.pipeline.started  team_id=7  0000000000000001
20:27:00.005  DEBUG     sync.repo.started  title="two words\n\x1b[31m"  0000000000000002
20:27:00.020  ERROR     sync.pr.failed  error="no title"  sync.repo=acme/api  0000000000000004
"""
    )


def test_logs_of_a_level_and_above(filled: Path) -> None:
    """--level leaves out what matters less."""
    events = [line.split()[2] for line in run("logs", "7651", "--level", "info", home=filled).output.splitlines()]
    assert events == ["sync.pipeline.started", "sync.pr.failed"]


def test_logs_of_a_span_are_those_below_it_too(filled: Path) -> None:
    """--span takes the beginning of an id."""
    lines = run("logs", "7651", "--span", "0000000000000002", home=filled).output.splitlines()
    assert [line.split()[2] for line in lines] == ["sync.repo.started", "sync.pr.failed"]


def test_logs_of_an_ambiguous_or_unknown_span(filled: Path) -> None:
    """The candidates are listed."""
    result = run("logs", "7651", "--span", "0000", home=filled)
    assert result.exit_code == 1
    assert result.stderr == (
        "otelsync: '0000' may be any of these spans; give more of it:\n"
        f"  0000000000000001  sync.pipeline nightly  {SYNC_ID}\n"
        f"  0000000000000002  sync.repo acme/api  {SYNC_ID}\n"
        f"  0000000000000004  sync.pr  {SYNC_ID}\n"
    )
    assert "no span whose id begins with 'ff'" in run("logs", "7651", "--span", "ff", home=filled).stderr


def test_logs_json_is_one_object_a_line(filled: Path) -> None:
    """For other programs: everything, with nanoseconds."""
    lines = run("logs", "7651", "--json", "--level", "ERROR", home=filled).output.splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "timestamp": "2025-08-02T20:27:00.020000000Z",
            "level": "error",
            "service": "github-sync",
            "logger": "otelsync",
            "event": "sync.pr.failed",
            "trace_id": TRACE,
            "span_id": "0000000000000004",
            "sync_id": SYNC_ID,
            "attributes": {"sync.id": SYNC_ID, "error": "no title", "sync.repo": "acme/api"},
        }
    ]


def test_an_ambiguous_run_is_an_error(filled: Path) -> None:
    """One line, and the candidates."""
    result = run("show", "2025", home=filled)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "otelsync: '2025' may be any of these; give more of it:\n  202508022027-SYNC-765151E9"
    )


def test_a_wrong_setting_is_an_error_of_two(home: Path) -> None:
    """The option, the value and the fix, and no traceback."""
    result = run("list", home=home, environment={"LOG_LEVEL": "LOUD"})
    assert result.exit_code == 2
    assert result.stderr.startswith("otelsync: LOG_LEVEL='LOUD' cannot work: use DEBUG, INFO")
    assert result.stderr.count("\n") == 1


def test_a_damaged_store_is_an_error_of_one(home: Path) -> None:
    """The cause in one line."""
    home.mkdir()
    (home / "store.db").write_bytes(b"garbage" * 1000)
    for command in ("list", "show", "logs"):
        result = run(command, home=home)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"otelsync: the store {home / 'store.db'} cannot be read: ")
        assert result.stderr.count("\n") == 1


def test_a_closed_pipe_is_silent(home: Path) -> None:
    """``otelsync logs | head`` ends when head does, without a word."""
    store(home / "store.db", batch(span("sync.pipeline a", 1), logs=[log("x" * 200, 1, n) for n in range(5000)]))
    with subprocess.Popen(
        [sys.executable, "-m", "otelsync.cli", "logs", "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        assert command.stderr.read() == b""
        assert command.wait(120) == 0


def test_a_terminal_gets_colours(filled: Path) -> None:
    """Drawn by rich, as wide as the terminal says, and plain text with TERM=dumb."""
    for term, colored in (("xterm", True), ("dumb", False)):
        leader, follower = pty.openpty()
        environment = {**os.environ, "TERM": term, "COLUMNS": "100"}
        command = [sys.executable, "-m", "otelsync.cli", "show", "7651", "--home", str(filled)]
        subprocess.run(command, stdout=follower, check=True, env=environment, timeout=300)
        os.close(follower)
        shown = os.read(leader, 100_000).decode()
        os.close(leader)
        assert ("\x1b[" in shown) == colored
        assert "sync.repo acme/api" in shown


@pytest.mark.parametrize("arguments", [["list"], ["show"], ["show", "--json"], ["logs"]])
def test_looking_loads_only_what_it_needs(filled: Path, arguments: list[str]) -> None:
    """Every import is time that a user waits: no rich, protobuf, gRPC or SDK for plain text."""
    heavy = ("rich", "google.protobuf", "grpc", "opentelemetry.sdk", "requests", "celery", "sqlalchemy", "structlog")
    code = (
        "import sys; from otelsync.cli import main\n"
        f"try: main({[*arguments, '--home', str(filled)]!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stderr == "[]\n"


def test_help_lists_the_commands(home: Path) -> None:
    """Every command has a line in the help of all, and help of its own."""
    for command in COMMANDS:
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0
    overview = CliRunner().invoke(main, ["--help"]).output
    for command in COMMANDS:
        assert command in overview
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2
    assert not home.exists()


# What was recorded and not shipped yet


def a_run() -> str:
    with otelsync.pipeline("nightly") as pipeline, otelsync.repo("acme/api"), otelsync.pull_request(7) as pull:
        pull.set(action="created")
    return pipeline.sync_id


def test_what_waits_in_a_journal_is_shown(record: Callable[..., Recorded], home: Path) -> None:
    """A run that nobody has shipped is stored when it is looked for, once."""
    recorded = record()
    sync_id = a_run()
    assert home == recorded.home
    for _ in range(2):
        spans = json.loads(run("show", sync_id, "--json", home=home).output)
        assert [one["name"] for one in spans] == ["sync.pipeline nightly", "sync.repo acme/api", "sync.pr"]
    assert "sync.pipeline.started" in run("logs", sync_id, home=home).output


def test_a_killed_run_is_shown_as_interrupted(home: Path) -> None:
    """What was open when its process was killed has ended, and says how."""
    code = (
        "import os, signal, otelsync\n"
        f"otelsync.configure(home={str(home)!r}, service_name='killed', ship='off')\n"
        "with otelsync.pipeline('nightly'), otelsync.repo('acme/api'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert run("list", home=home).output.splitlines()[1].split()[-3:] == ["interrupted", "2", "1"]
    assert "! the process ended before this stage did" in run("show", home=home).output


def test_where_spans_go_to_an_endpoint_nothing_is_stored(record: Callable[..., Recorded], home: Path) -> None:
    """Looking does not begin a store that was not asked for."""
    record()
    a_run()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}
    assert run("list", home=home, environment=environment).output == nothing_in(home)
    assert not (home / "store.db").exists()


def test_what_is_to_be_sent_elsewhere_is_copied(record: Callable[..., Recorded], home: Path) -> None:
    """A journal whose records another shipper still has to send is read, and left as it is."""
    recorded = record()
    sync_id = a_run()
    known = checkpoints.Checkpoint()
    known.sinks = {"traces": ["span"], "store": ["span", "log"]}
    checkpoints.save(recorded.journal, known)
    before = sorted((file.name, file.stat().st_size) for file in recorded.journal.iterdir())
    for _ in range(2):
        assert len(json.loads(run("show", sync_id, "--json", home=home).output)) == 3
    after = sorted((file.name, file.stat().st_size) for file in recorded.journal.iterdir())
    assert before == after


def test_the_ledger_reconciles(record: Callable[..., Recorded], home: Path) -> None:
    """Recorded is shipped and pending, by journal, signal and sink; to ask ships nothing."""
    record()
    a_run()
    assert [line.split() for line in run("ledger", home=home).output.splitlines()] == [
        ["journal", "signal", "sink", "recorded", "shipped", "folded", "dropped", "pending"],
        ["test", "span", "none", "yet", "3", "0", "0", "0", "3"],
        ["test", "log", "none", "yet", "5", "0", "0", "0", "5"],
    ]
    assert process("ship", "--once", home=home).returncode == 0
    result = run("ledger", home=home)
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [
        ["journal", "signal", "sink", "recorded", "shipped", "folded", "dropped", "pending"],
        ["test", "span", "store", "3", "3", "0", "0", "0"],
        ["test", "log", "store", "5", "5", "0", "0", "0"],
    ]
    ledger = json.loads(run("ledger", "--json", home=home).output)
    assert ledger["test"]["reconciles"] is True
    assert ledger["test"]["signals"]["span"]["sinks"]["store"]["shipped"] == 3


def test_without_journals_the_ledger_is_empty(home: Path) -> None:
    """Nothing recorded is no error."""
    result = run("ledger", home=home)
    assert (result.exit_code, result.output) == (0, f"nothing has been recorded under {home} yet\n")


def test_ship_once_drains_and_ends(record: Callable[..., Recorded], home: Path) -> None:
    """All journals of the home directory are in the store afterwards."""
    record()
    a_run()
    done = process("ship", "--once", home=home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run("list", home=home).output.splitlines()[1].split()[-3:] == ["success", "3", "0"]


def test_ship_once_says_what_is_left(record: Callable[..., Recorded], home: Path) -> None:
    """Where an endpoint refuses, the exit code tells, and the records stay."""
    record()
    a_run()
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = process("ship", "--once", "--timeout", "0.5", home=home, env=environment)
    assert done.returncode == 1
    assert "otelsync: not everything was shipped within 0.5 s: test; the rest stays in the journal" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ship_goes_on_until_it_is_stopped(record: Callable[..., Recorded], home: Path, number: signal.Signals) -> None:
    """A daemon stores what is recorded while it runs, from journals that are younger than itself, and ends well."""
    with subprocess.Popen(
        [sys.executable, "-m", "otelsync.cli", "ship", "--home", str(home)], stderr=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stderr is not None
        assert daemon.stderr.readline() == f"otelsync: shipping {home / 'journals'}\n"
        record()
        a_run()
        deadline = time.monotonic() + 120
        while not (home / "store.db").exists() or "success" not in run("list", home=home).output:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        sync_id = a_run()
        daemon.send_signal(number)
        assert daemon.wait(120) == 0
        assert daemon.stderr.read() == ""
    assert len(json.loads(run("show", sync_id, "--json", home=home).output)) == 3


def test_ship_ends_however_often_it_is_told_to(home: Path) -> None:
    """A second signal may come in the middle of the first one's handling, and must not lock the daemon up."""
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-m", "otelsync.cli", "ship", "--home", str(home)],
            stderr=subprocess.PIPE,
        ) as daemon:
            assert daemon.stderr is not None
            daemon.stderr.readline()
            for _ in range(300):
                daemon.send_signal(signal.SIGTERM)
            try:
                assert daemon.wait(120) in {0, -signal.SIGTERM}  # the last may come when Python is gone already
            finally:
                daemon.kill()


def test_records_for_an_endpoint_are_shown_and_left_where_they_are(home: Path) -> None:
    """A process that was killed before its shipper began had an endpoint: whoever looks does not take them away."""
    code = (
        "import os, signal, otelsync\n"
        f"otelsync.configure(home={str(home)!r}, service_name='killed', ship='off', endpoint='http://127.0.0.1:9')\n"
        "with otelsync.pipeline('nightly'):\n"
        "    pass\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "nightly" in run("list", home=home).output
    assert list((home / "journals" / "killed").glob("*.journal"))
