"""Commands of the documentation are run: each page's blocks in their order, in a home where the README's run is.

A comment before a block says what else a test has to know: ``until: TEXT`` (it runs until it has printed that, and is
then told to end), ``exits with N``, ``fresh`` (a copy of the clone and a virtual environment of its own), ``printed``
(what the block above prints) or ``not run``, with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import documents
import pytest
from documents import Block

PATIENCE = 300.0
COMMANDS = ("sh", "console", "bash", "shell")
PAGES = [page for page in documents.PAGES if any(each.language in COMMANDS for each in documents.every_block(page))]
NOTES = ("not run: ", "until: ", "exits with ", "fresh: ", "printed")
PROJECT = """\
from celery import Celery, signals

app = Celery("proj", broker="filesystem://")
places = ("data_folder_in", "data_folder_out", "control_folder")
app.conf.broker_transport_options = dict.fromkeys(places, {folder!r})
app.conf.worker_enable_remote_control = False


@signals.worker_ready.connect
def say_so(**_: object) -> None:
    print("ready.", flush=True)


@app.task
def add(x: int, y: int) -> int:
    return x + y
"""


class Reader:
    """Somebody who follows a page to the letter, in a directory and a home of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        foreign = ("PYTHON", "OTEL", "LOG_", "SERVICE_NAME", "COLUMNS", "XDG_", "COV_")
        known = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{known['PATH']}"
        self.environment = known | {"HOME": str(place), "PATH": path}
        self.printed = ""
        (place / "broker").mkdir()
        (place / "proj.py").write_text(PROJECT.format(folder=str(place / "broker")))
        (place / "example.py").write_text(documents.example())
        self.run("python example.py")
        (place / "example.py").unlink()
        self.sync_id = re.findall(r"\d{12}-SYNC-[0-9A-F]{8}", self.output("otelsync list"))[0]

    def output(self, commands: str, code: int = 0) -> str:
        """Run commands of a shell, and return what they print."""
        finished = self._start(commands)
        out, _ = finished.communicate(timeout=PATIENCE)
        assert finished.returncode in (code, 128 - code), f"{commands}\n{out}"
        return out

    def run(self, commands: str, code: int = 0) -> None:
        """Run commands that end by themselves."""
        self.printed = self.output(commands, code)

    def run_until(self, commands: str, text: str) -> None:
        """Run a command that does not end by itself until it has printed `text`, then tell it to end."""
        process = self._start(f"exec {commands}" if "=" not in commands.split()[0] else f"exec env {commands}")
        assert process.stdout is not None
        printed, deadline = "", time.monotonic() + PATIENCE
        os.set_blocking(process.stdout.fileno(), False)
        try:
            while text not in printed:
                assert process.poll() is None, printed
                assert time.monotonic() < deadline, printed
                with suppress(BlockingIOError):
                    printed += os.read(process.stdout.fileno(), 1 << 16).decode()
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            os.set_blocking(process.stdout.fileno(), True)
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode in (0, -signal.SIGTERM), printed

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        commands = block.text.replace("765151E9", self.sync_id[-8:])
        if block.note.startswith("until: "):
            self.run_until(commands.strip(), block.note.removeprefix("until: "))
        elif block.note.startswith("exits with "):
            self.run(commands, int(block.note.removeprefix("exits with ").partition(":")[0]))
        else:
            self.run(commands)
        exports = (shlex.split(line)[1] for line in commands.splitlines() if line.startswith("export "))
        self.environment |= dict(line.split("=", 1) for line in exports)

    def _start(self, commands: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-euc", commands],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    """Every command does what the page says, one after the other."""
    reader = Reader(tmp_path)
    for name, program in documents.saved_programs(page).items():
        (tmp_path / name).write_text(program)
        reader.run(f"python {name}")
    for block in documents.every_block(page):
        if block.note == "printed":
            assert documents.normalised(block.text) == documents.normalised(reader.printed), str(block)
        elif block.language in COMMANDS and not block.note.startswith(("not run: ", "fresh: ")):
            reader.follow(block)


FRESH = [block for page in PAGES for block in documents.every_block(page) if block.note.startswith("fresh: ")]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A copy of what is in the repository."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=documents.ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, files.stdout.split("\0")):
        if (documents.ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(documents.ROOT / name, tmp_path / name)
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("block", FRESH, ids=str)
def test_otelsync_can_be_installed(block: Block, clone: Path) -> None:
    """The lines that install it do so in a fresh virtual environment, and the command is there."""
    commands = f"{sys.executable} -m venv fresh; . fresh/bin/activate\n{block.text}\notelsync --version"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    finished = subprocess.run(
        ["bash", "-euc", commands], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "otelsync, version" in finished.stdout


def test_every_note_is_one_that_is_known() -> None:
    """A comment before a block of commands is one of those above; a misspelt one would hide it."""
    notes = {block.note for page in PAGES for block in documents.every_block(page) if block.language in COMMANDS}
    assert {note for note in notes if note and not note.startswith(NOTES)} == set()
