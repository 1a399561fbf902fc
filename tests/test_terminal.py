"""The command line at a terminal: own times, filters of a list, widths, colours, progress, completion, proposals."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from stored import SYNC_ID, TRACE, batch, log, span, store

from otelsync.cli import main
from otelsync.reports.sweep import steps
from otelsync.store.own_time import own_times
from otelsync.store.runs import find_run, open_store
from otelsync.text.colors import wants_color
from otelsync.text.moments import moment
from otelsync.text.printable import cells

LATER = "202508022028-SYNC-AB12CD34"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def filled(home: Path) -> Path:
    """A home with a run that went partly well and has failed items, and a later one that is running."""
    prs = [
        span("sync.pr", 0x100 + n, 2, n * 10, n * 10 + 5, error="ValueError: no title" if n == 3 else None)
        for n in range(6)
    ]
    repo = span("sync.repo acme/api", 2, 1, 0, 900, sync__outcome="partial")
    root = span("sync.pipeline nightly", 1, 0, 0, 1234, sync__outcome="partial", sync__pipeline="nightly")
    begun = span("sync.pipeline github.onboarding", 1, 0, 9000, None, sync=LATER, trace="ab" * 16)
    store(home / "store.db", batch(*prs, repo, root, started=[begun], logs=[log("sync.pr.failed", 0x103, 40)]))
    return home


def run(*arguments: str, home: Path, environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home)], env=environment)


def at_a_terminal(arguments: Sequence[str], environment: Mapping[str, str], *, stderr_only: bool) -> str:
    """Run a program whose standard error, or all output, is a terminal; return what that has got."""
    leader, follower = pty.openpty()
    got: list[bytes] = []

    def read() -> None:
        while True:
            try:
                got.append(os.read(leader, 65_536))
            except OSError:  # nobody has it open any more
                return

    reader = threading.Thread(target=read)
    reader.start()
    out = subprocess.DEVNULL if stderr_only else follower
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=out,
        stderr=follower,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )
    os.close(follower)
    reader.join()
    os.close(leader)
    text = b"".join(got).decode()
    assert done.returncode == 0, text
    return text


# Where the time went


def table_of(home: Path, **environment: str) -> list[list[str]]:
    lines = run("show", home=home, environment=environment).stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("where the time went"))
    return [line.split() for line in lines[first : lines.index("", first)]]


def test_time_is_where_it_was_spent(home: Path) -> None:
    """A span's own time is that in which no child ran: children side by side count once, late ones not at all."""
    store(
        home / "store.db",
        batch(
            span("a", 2, 1, 10, 50),
            span("b", 3, 1, 30, 75),
            span("c", 4, 2, 20, 30),
            span("late", 5, 2, 80, 90),
            span("sync.pipeline nightly", 1, 0, 0, 100),
        ),
    )
    own = {row[0]: row[-4] for row in table_of(home)[1:]}
    assert own == {"a": "30.0ms", "b": "45.0ms", "c": "10.0ms", "late": "10.0ms", "sync.pipeline": "35.0ms"}
    assert [row[0] for row in table_of(home)[1:]][:2] == ["b", "sync.pipeline"], "most of the time first"


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=9))
def test_own_times_are_those_of_the_report(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    """Whatever the parents and the times are, spans that began together among them, terminal and report agree."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    ids = [0, *(number * 7 % 11 + 1 for number in range(9))]  # so that a child may come before its parent
    spans = [
        span(f"n{n}", ids[n + 1], ids[min(parent, n)], start, start + took)
        for n, (parent, start, took) in enumerate(drawn)
    ]
    store(path, batch(*spans))
    with open_store(path) as opened:
        until = find_run(opened).last_ns
        report = {step.name: step.own_ns for step in steps(opened, TRACE, until, lambda _: None)}
        assert dict(own_times(opened, TRACE, until).by_name) == report


def test_spans_that_are_their_own_ancestors_have_a_time(home: Path) -> None:
    """A loop of parents ends, and no time is below nothing."""
    loop = [span("a", 2, 3, 0, 9), span("b", 3, 2, 0, 9), span("c", 4, 4, 0, 9)]
    store(home / "store.db", batch(*loop, span("sync.pipeline nightly", 1, 0, 0, 10)))
    with open_store(home / "store.db") as opened:
        found = own_times(opened, TRACE, find_run(opened).last_ns)
    assert all(0 <= own <= 10_000_000 for own in found.by_name.values())


def test_time_in_a_queue_counts(home: Path) -> None:
    """What tasks waited for a worker is a line of its own, with the one that waited longest."""
    tasks = [
        span("run/proj.add", 0x10 + n, 1, 100 + n, 101 + n, kind=5, sync__queue__wait_seconds=wait)
        for n, wait in enumerate([0.5, 2.0, -1.0, float("nan"), 1e300])
    ]
    store(home / "store.db", batch(*tasks, span("sync.pipeline nightly", 1, 0, 0, 200)))
    assert table_of(home)[1][:8] == ["waiting", "in", "the", "queue", "2", "0", "2.50s", "1.25s"]


def test_a_run_that_is_too_large_says_what_its_times_are(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then times count for what a span stands in too, and the column and a line say so."""
    monkeypatch.setattr("otelsync.store.tree.MOST_READ", 3)
    store_again = run("show", "7651", home=filled).stdout
    assert "total     mean  slowest" in store_again
    assert "total: with what stands below" in store_again


# JSON and lists


def test_json_says_what_it_leaves_out(filled: Path) -> None:
    """How many spans are rolled up stands on standard error, never in the JSON; --all leaves out none."""
    result = run("show", "7651", "--json", home=filled)
    assert len(json.loads(result.stdout)) == 4
    assert result.stderr == "otelsync: 4 spans of 8 left out, rolled up with others; --all has them\n"
    result = run("show", "7651", "--json", "--all", home=filled)
    assert (len(json.loads(result.stdout)), result.stderr) == (8, "")


def listed(home: Path, *arguments: str) -> list[str]:
    result = run("list", "--json", *arguments, home=home)
    assert result.exit_code == 0, result.output
    return [one["sync_id"] for one in json.loads(result.stdout)]


def test_a_list_by_outcome_and_time(filled: Path) -> None:
    """--outcome may be repeated, --since takes a time or how long ago, and the limit counts what is shown."""
    assert listed(filled) == [LATER, SYNC_ID]
    assert listed(filled, "--outcome", "partial") == [SYNC_ID]
    assert listed(filled, "--outcome", "partial", "--outcome", "running", "-n", "1") == [LATER]
    assert listed(filled, "--outcome", "partial", "-n", "1") == [SYNC_ID]
    assert listed(filled, "--since", "2025-08-02T20:27:05") == [LATER]
    assert listed(filled, "--since", "2025-08-02") == [LATER, SYNC_ID]
    assert listed(filled, "--since", "1d") == []
    assert run("list", "--since", "1d", home=filled).output.startswith("no run is like that")
    assert listed(filled.parent / "nothing") == []
    wrong = run("list", "--since", "yesterday", home=filled)
    assert wrong.exit_code == 2
    assert "use 30m, 12h, 7d or 2w" in wrong.stderr


def test_a_list_as_json(filled: Path) -> None:
    """Figures as they are, times as RFC 3339; what is not known is null."""
    running, ended = json.loads(run("list", "--json", home=filled).stdout)
    assert (running["outcome"], running["ended_at"]) == ("running", None)
    assert ended["started_at"] == "2025-08-02T20:27:00.000000000Z"
    assert (ended["duration_seconds"], ended["spans"], ended["errors"], ended["logs"]) == (1.234, 8, 1, 1)
    assert ended["items"] == {"failed": 1, "fetched": 6}


def test_tasks_are_not_listed_in_place_of_runs_that_are_not_wanted(home: Path) -> None:
    """Filters that no run passes leave an empty list, though there are tasks outside any pipeline."""
    task = span("run/proj.add", 2, 0, 500, 1500, kind=5, sync=None, sync__outcome="success", trace="cd" * 16)
    store(home / "store.db", batch(task, span("sync.pipeline nightly", 1, sync__outcome="partial")))
    assert listed(home, "--outcome", "success") == []


@given(st.text())
def test_any_text_is_a_moment_or_an_error(text: str) -> None:
    """Nothing else is raised, and no moment is before 1970."""
    found, said = 0, "use 30m"
    try:
        found = moment(text, 10**18)
    except ValueError as error:
        said = str(error)
    assert found >= 0
    assert said.startswith("use 30m")


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize("command", [["list"], ["show", "7651"], ["show", "7651", "--all"]])
def test_widths_are_kept_to(filled: Path, columns: int, command: list[str]) -> None:
    """No line is wider, no sync id and no command is cut, and of a table whole columns give way."""
    lines = run(*command, home=filled, environment={"COLUMNS": str(columns)}).stdout.splitlines()
    assert max(map(cells, lines)) <= columns
    text = "\n".join(lines)
    assert LATER in text or SYNC_ID in text
    assert "…" not in text.partition("where the time went")[2]


# Colours


@pytest.mark.parametrize("command", [["list"], ["show", "7651"], ["logs", "7651"], ["events"]])
def test_colours_are_a_users_choice(filled: Path, command: list[str]) -> None:
    """FORCE_COLOR colours what goes into a pipe, whatever TERM says; NO_COLOR goes before it."""
    for environment, colored in (
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": ""}, False),
        ({}, False),
    ):
        where = [] if command == ["events"] else ["--home", str(filled)]
        result = CliRunner().invoke(main, [*command, *where], env=environment, color=True)
        assert result.exit_code == 0, result.output
        assert ("\x1b[" in result.stdout) == colored, environment


def test_a_terminal_without_colours(filled: Path) -> None:
    """NO_COLOR on a terminal leaves no escape sequence."""
    arguments = ["-m", "otelsync", "show", "7651", "--home", str(filled)]
    assert "\x1b[" in at_a_terminal(arguments, {"TERM": "xterm"}, stderr_only=False)
    assert "\x1b[" not in at_a_terminal(arguments, {"TERM": "xterm", "NO_COLOR": "1"}, stderr_only=False)


def test_log_records_follow_the_same_rule() -> None:
    """One function decides, for commands and for log records on a console."""
    assert wants_color(is_terminal=True, environment={"NO_COLOR": ""})
    assert not wants_color(is_terminal=True, environment={"NO_COLOR": "0"})
    assert wants_color(is_terminal=False, environment={"FORCE_COLOR": "yes"})


# Progress

RECORD = """
import sys, otelsync
otelsync.configure(home=sys.argv[1], service_name="large", ship="off", log_level="ERROR")
with otelsync.pipeline("nightly"), otelsync.repo("acme/api"):
    for number in range(3000):
        with otelsync.pull_request(number) as pull:
            pull.set(action="created")
"""
AT_ONCE = """
import sys
from otelsync.cli import main, progress_line, ship
progress_line._PATIENCE = progress_line._EVERY = 0.0
from otelsync.reports import summary
summary._TOLD_EVERY = 100
ship._TOLD_EVERY = 0.001
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "told"), [(["ship", "--once"], "shipping  ["), (["report"], "reading spans  [")], ids=["ship", "report"]
)
def test_progress_is_told_to_a_terminal_alone(home: Path, tmp_path: Path, command: list[str], told: str) -> None:
    """A line that is gone at the end, on standard error; a pipe and a dumb terminal get none."""
    subprocess.run([sys.executable, "-c", RECORD, str(home)], check=True, timeout=300, stdout=subprocess.DEVNULL)
    if command == ["ship", "--once"]:
        quiet = {"TERM": "dumb"}
        copy = tmp_path / "copy"
        subprocess.run(["cp", "-r", str(home), str(copy)], check=True)
        arguments = ["-c", AT_ONCE, *command, "--home", str(copy)]
        assert "\r\x1b[K" not in at_a_terminal(arguments, quiet, stderr_only=True)
    environment = {"TERM": "xterm", "OTELSYNC_REPORTS_DIR": str(tmp_path / "reports")}
    shown = at_a_terminal(["-c", AT_ONCE, *command, "--home", str(home)], environment, stderr_only=True)
    assert told in shown
    assert shown.endswith("\r\x1b[K")
    piped = subprocess.run(
        [sys.executable, "-c", AT_ONCE, *command, "--home", str(home)],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert piped.stderr == b""


# Completion


def proposals(*words: str, home: Path | None = None) -> list[str]:
    where = [] if home is None else ["--home", str(home)]
    result = CliRunner().invoke(main, ["_complete", "--", *words[:1], *where, *words[1:]])
    assert (result.exit_code, result.stderr) == (0, "")
    return [line.partition("\t")[0] for line in result.stdout.splitlines()]


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_sync_ids_are_completed_and_nothing_is_touched(filled: Path) -> None:
    """The latest first, for every command that takes one, while the directory stays as it is."""
    before = contents(filled)
    for command in ("show", "logs", "report", "watch"):
        assert proposals(command, "", home=filled) == [LATER, SYNC_ID]
        assert proposals(command, "202508022027", home=filled) == [SYNC_ID]
        assert proposals(command, "x", home=filled) == []
    assert contents(filled) == before


def test_commands_and_options_are_completed() -> None:
    """Without commands of our own scripts; choices too."""
    assert proposals("sh") == ["show", "ship"]
    assert proposals("_") == []
    assert proposals("show", "--sp") == ["--span"]
    assert proposals("list", "--outcome", "part") == ["partial"]
    assert proposals("completion", "") == ["bash", "zsh", "fish"]
    assert proposals() == proposals("")


@pytest.mark.parametrize("what", ["nothing", "garbage", "another program's", "a wrong setting"])
def test_completion_never_fails(home: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is pressed shows no error, and makes no file."""
    home.mkdir()
    if what == "garbage":
        (home / "store.db").write_bytes(b"garbage" * 1000)
    elif what == "another program's":
        (home / "store.db").write_bytes(b"")
    elif what == "a wrong setting":
        monkeypatch.setenv("LOG_LEVEL", "LOUD")
    before = contents(home)
    assert proposals("show", "", home=home) == []
    assert contents(home) == before


def test_a_hostile_sync_id_never_gets_onto_a_command_line(home: Path) -> None:
    """A shell would take what is proposed as it stands."""
    spans = [
        span(f"sync.pipeline {n}\t\n\x1b[31m", 1, 0, n, sync=sync, trace=f"{n:032x}", sync__pipeline="\x1b[2J\n\tx")
        for n, sync in enumerate(["$(touch x)", "a;b", "`x`", "a b", "202508022027-SYNC-00000005", "\x1b[2J"], 1)
    ]
    store(home / "store.db", batch(*spans))
    result = CliRunner().invoke(main, ["_complete", "--", "show", "--home", str(home), ""])
    assert result.stdout == "202508022027-SYNC-00000005\t\\x1b[2J\\n\\tx\n"


def test_completion_loads_only_what_it_needs(filled: Path) -> None:
    """It is asked for at every key: no telemetry, no terminal library, and no command but the one on the line."""
    heavy = (
        "rich",
        "google.protobuf",
        "opentelemetry",
        "structlog",
        "jinja2",
        "otelsync.cli.report",
        "otelsync.store.tree",
    )
    code = (
        "import sys; from otelsync.cli import main\n"
        f"try: main(['_complete', '--', 'show', '--home', {str(filled)!r}, ''])\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stderr, len(done.stdout.splitlines())) == ("[]\n", 2)


def test_bash_completes_by_the_script(filled: Path) -> None:
    """A real bash calls it with the words of a line, and gets proposals without their remarks."""
    command = Path(sys.executable).parent / "otelsync"
    asked = (
        'eval "$("$1" completion bash)"; complete -p otelsync\n'
        'COMP_WORDS=("$1" show --home "$2" 202508022027); COMP_CWORD=4; _otelsync; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=("$1" sho); COMP_CWORD=1; _otelsync; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=("$1" ""); COMP_CWORD=1; _otelsync; echo "${#COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-euc", asked, "bash", str(command), str(filled)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    declared, sync_ids, commands, number = done.stdout.splitlines()
    assert declared == "complete -o default -F _otelsync otelsync"
    assert (sync_ids, commands, done.stderr) == (SYNC_ID, "show", "")
    assert int(number) >= 12


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_asks_the_hidden_command(shell: str) -> None:
    """Where the shell is there, it takes the script."""
    from shutil import which

    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert "_complete -- " in script
    if (program := which(shell)) is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=60)


# Proposals, and another way in


def test_what_is_mistyped_gets_a_proposal(filled: Path) -> None:
    """Commands and sync ids; what is like nothing gets none."""
    result = CliRunner().invoke(main, ["shwo"])
    assert (result.exit_code, "Did you mean 'show'?" in result.stderr) == (2, True)
    assert "Did you mean" not in CliRunner().invoke(main, ["xyzzy"]).stderr
    assert "_complete" not in CliRunner().invoke(main, ["_complet"]).stderr.replace("'_complet'", "")
    for wanted in (SYNC_ID[:-1] + "8", "765151E8", SYNC_ID.lower().replace("-sync", "-snyc")):
        for command in ("show", "logs", "report"):
            result = run(command, wanted, home=filled)
            assert result.exit_code == 1
            assert result.stderr.strip() == f"otelsync: no run is called {wanted!r}; did you mean {SYNC_ID}?"
    hostile = run("show", "\x1b[2J" * 1000, home=filled)
    assert "`otelsync list` shows what there is" in hostile.stderr
    assert "\x1b" not in hostile.stderr


def test_python_m_otelsync_is_the_command() -> None:
    """With its own name in what it says."""
    for module in ("otelsync", "otelsync.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=300, check=True
        )
        assert done.stdout.startswith("otelsync, version ")
