"""The demo, as `make demo` runs it, and docs/github-sync.md, which goes on from there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import documents
import pytest
from onboarding_trace import TREE

PAGE = documents.ROOT / "docs" / "github-sync.md"
FOLLOWED = "followed by tests/test_github_demo.py"
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?"), "TIME"),
    (re.compile(r"\d\d:\d\d:\d\d\.\d+"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "TRACE-ID"),
    (re.compile(r'(duration_ms"?[=:])[\d.]*'), r"\1DURATION"),
    (re.compile(r" *\d+ of \d+"), " N of N"),
)
IDS = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Demo:
    """A run of the demo."""

    place: Path
    """The directory in which it ran; its home is ``.demo`` there."""
    printed: str
    seconds: float

    def shell(self, commands: str, code: int = 0) -> str:
        """Run commands as the page has them, and return what they print."""
        command = f'github-sync() {{ {sys.executable} -m examples.github_sync "$@"; }}; {commands}'
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"GITHUB_SYNC_HOME": ".demo", "OTELSYNC_HOME": ".demo/otelsync", "PYTHONPATH": str(documents.ROOT)}
        ran = subprocess.run(
            ["bash", "-uc", command],
            cwd=self.place,
            env={**environment(), **own, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (code, ""), ran.stdout + ran.stderr
        return ran.stdout


def environment() -> dict[str, str]:
    """Return that of a user who has set nothing."""
    foreign = ("PYTHON", "OTEL", "LOG_", "GITHUB_", "SYNC_", "GROQ_", "SERVICE_NAME", "COLUMNS", "XDG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run the demo, once for all tests."""
    place = tmp_path_factory.mktemp("clone")
    command = [sys.executable, "-m", "examples.github_sync", "demo", "--home", str(place / ".demo")]
    began = time.monotonic()
    ran = subprocess.run(command, cwd=documents.ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return Demo(place, ran.stdout, time.monotonic() - began)


def normalised(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in documents.normalised(text).splitlines())


def test_it_shows_all_that_there_is(demo: Demo) -> None:
    """Progress with the wait, both phases, the waterfall, the report, the commands; and no control characters."""
    said = demo.printed
    assert re.search(r"^ +\d+ s  waiting \d+s for a rate limit$", said, re.MULTILINE)
    assert "completed: 5 of 5 repositories" in said
    assert "\nsync.pipeline github.onboarding " in said
    assert "sync.rate_limit.wait" in said
    assert re.search(r"sync.repo acme/identity-api .*failure", said)
    assert "\nitems  480 fetched = 480 created\n" in said
    (report,) = (demo.place / ".demo" / "reports").iterdir()
    assert f"\nreport\n  {report}/_SYNC_SUMMARY.md\n  {report}/waterfall.html\n" in said
    assert not [line for line in said.splitlines() if not line.isprintable()]


def test_its_figures_agree(demo: Demo) -> None:
    """The report finds no discrepancy; every record was shipped; every line of the worker's log is one of JSON."""
    (summary,) = (demo.place / ".demo" / "reports").glob("*/summary.json")
    told = json.loads(summary.read_text())
    assert (told["outcome"], told["items"]["fetched"], told["discrepancies"]) == ("partial", 480, [])
    log = (demo.place / ".demo" / "worker.log").read_text()
    assert re.search(r"^otelsync: \d+ spans and \d+ log records recorded: all shipped$", log, re.MULTILINE)
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"sync.repo.failed", "sync.rate_limit.exhausted", "onboarding.phase"} <= {each["event"] for each in records}
    assert "demo-token" not in log
    assert "demo-key" not in log


def test_its_commands_are_there(demo: Demo) -> None:
    """What it says to do next can be done."""
    further = demo.printed.rpartition("look further, in this directory")[2]
    commands = re.findall(r"^  ((?:otelsync|github-sync) [^#\n]*?)(?: +#.*)?$", further, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        if not command.endswith("web"):
            assert demo.shell(command, code=2 if "status" in command else 0)


def test_the_page_can_be_followed(demo: Demo) -> None:
    """Each command prints what the page says, but for ids, times and durations; the ids lead on as they do there."""
    command, answered, ids, followed = "", "", dict[str, str](), 0
    for block in documents.every_block(PAGE):
        if FOLLOWED in block.note:
            command = block.text
            for written, here in ids.items():
                command = command.replace(written, here).replace(written[:8], here[:8])
            answered = demo.shell(command, code=2 if "exits with 2" in block.note else 0)
        elif block.note == "printed by the demo":
            assert normalised(answered) == normalised(block.text), command
            ids |= dict(zip(IDS.findall(block.text), IDS.findall(answered), strict=True))
            followed += 1
    assert followed == 4


def test_the_page_draws_the_trace_of_a_small_onboarding() -> None:
    """As the journey holds it, but for the links of the body of a chord."""
    (drawn,) = [block.text for block in documents.every_block(PAGE) if block.note.startswith("drawn by tests/journeys")]
    assert drawn.strip() == re.sub(r" +HEADERS$", "", TREE, flags=re.MULTILINE).strip()
