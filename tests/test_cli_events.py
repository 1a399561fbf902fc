"""``otelsync events`` and ``otelsync verbosity``: what they print, write and answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otelsync.cli import main
from otelsync.logs import events, verbosity
from otelsync.views.catalogue import markdown

APP = """
import otelsync
catalogue = otelsync.Catalogue("{prefix}", source=__name__)
READ = catalogue.event(1, "{prefix}.read", level="debug", fields=("page",), says="A \\x1b[31mpage| was read.")
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_events_are_listed() -> None:
    """One a line: id, level, name, fields, what it says."""
    result = run("events")
    assert result.exit_code == 0
    (line,) = [line for line in result.output.splitlines() if line.startswith("st-002")]
    assert line.split(maxsplit=4) == [
        "st-002", "info", "sync.pipeline.phase_changed", "phase", "The run is in another phase.",
    ]  # fmt: skip
    assert "\x1b" not in result.output


def test_events_for_programs() -> None:
    """--json prints a list of objects."""
    found = {each["id"]: each for each in json.loads(run("events", "--json").output)}
    assert found["st-002"] == {
        "id": "st-002",
        "name": "sync.pipeline.phase_changed",
        "level": "info",
        "fields": ["phase"],
        "open": False,
        "says": "The run is in another phase.",
        "source": "otelsync.stages.kinds",
    }


def test_events_as_a_page() -> None:
    """--markdown prints the page of the documentation."""
    assert run("events", "--markdown").output == markdown() + "\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a module of an application, and go where it can be imported."""
    monkeypatch.chdir(tmp_path)

    def written(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return written


def test_events_of_an_application(module: Callable[[str, str], str]) -> None:
    """--catalogue prints what a module declares, and that alone; hostile text harms neither terminal nor page."""
    name = module("app_of_pages", APP.format(prefix="zp"))
    result = run("events", "--catalogue", name)
    assert result.output.split(maxsplit=4) == ["zp-001", "debug", "zp.read", "page", "A \\x1b[31mpage| was read.\n"]
    page = run("events", "--catalogue", name, "--markdown").output
    assert "| `zp-001` | `zp.read` | debug | `page` | A \\x1b[31mpage\\| was read. |" in page
    assert "st-001" not in page


def test_a_module_that_cannot_be_loaded_is_one_line(module: Callable[[str, str], str]) -> None:
    """What is wrong with it is said without a traceback; so is that it declares nothing."""
    broken = module("app_that_is_broken", "1 / 0\n")
    result = run("events", "--catalogue", broken)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "'app_that_is_broken' cannot be loaded: ZeroDivisionError" in result.output
    empty = module("app_without_events", "")
    assert "no catalogue is declared there" in run("events", "--catalogue", empty).output


def test_code_is_checked(module: Callable[[str, str], str], tmp_path: Path) -> None:
    """--check prints file, line and what is wrong, and its exit code is 1; clean code prints nothing."""
    name = module("app_to_check", APP.format(prefix="zc") + "log = otelsync.get_logger()\nlog.debug(READ, page=1)\n")
    assert run("events", "--check", f"{name}.py").output == ""
    module(name, (tmp_path / f"{name}.py").read_text() + "log.info('page.lost')\n")
    result = run("events", "--check", ".")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "app_to_check.py:7: 'page.lost' is logged and not declared",
        "1 disagreement between the code and its catalogue",
    ]
    assert run("events", "elsewhere").exit_code == 2
    assert "zc.read" not in events.known


# otelsync verbosity


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which two services record."""
    monkeypatch.setenv("OTELSYNC_HOME", str(tmp_path))
    for service in ("one", "two"):
        (tmp_path / "journals" / service).mkdir(parents=True)
    return tmp_path / "journals"


def test_levels_are_changed_for_all_services_or_one(home: Path) -> None:
    """What is asked for replaces what was; --reset ends it; without an argument it is printed."""
    assert run("verbosity").output == "one: as its settings say\ntwo: as its settings say\n"
    assert run("verbosity", "sync.pr=debug", "app=WARNING").exit_code == 0
    assert [verbosity.read(home / name)[0] for name in ("one", "two")] == [{"sync.pr": 10, "app": 30}] * 2
    assert run("verbosity", "--service", "two", "ERROR").output == "two: *=ERROR\n"
    assert run("verbosity").output == "one: sync.pr=DEBUG, app=WARNING\ntwo: *=ERROR\n"
    assert run("verbosity", "--reset", "--service", "one").output == "one: as its settings say\n"
    assert [path.name for path in home.glob("*/*")] == [verbosity.FILE]


def test_levels_can_be_changed_for_a_time(home: Path) -> None:
    """--for says how long; then the settings hold again by themselves."""
    result = run("verbosity", "--service", "one", "--for", "10m", "DEBUG")
    levels, until = verbosity.read(home / "one")
    assert levels == {"*": 10}
    assert until is not None
    assert 0 < until - time.time() <= 600
    assert result.output.startswith("one: *=DEBUG until 2")
    verbosity.write(home / "one", {"*": 10}, until=time.time() - 1)
    assert run("verbosity", "--service", "one").output == "one: as its settings say\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sync.pr=LOUD"], 2, "use DEBUG, INFO"),
        (["--for", "ten", "DEBUG"], 2, "10m"),
        (["--for", "0m", "DEBUG"], 2, "10m"),
        (["--service", "three", "DEBUG"], 1, "is --service or --home right?"),
    ],
)
@pytest.mark.usefixtures("home")
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], code: int, says: str) -> None:
    """A wrong level, time or service changes nothing, and names the fix."""
    result = run("verbosity", *arguments)
    assert result.exit_code == code
    assert says in result.output
    assert run("verbosity").output.count("as its settings say") == 2


def test_a_file_that_cannot_be_read_is_named(home: Path) -> None:
    """Whoever asks what holds is told which file is not what it should be."""
    (home / "one" / verbosity.FILE).write_text("{")
    assert "verbosity.json cannot be read" in run("verbosity", "--service", "one").output
