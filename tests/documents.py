"""The documentation as tests see it: its code blocks, and what the README says that a program prints.

``python tests/documents.py`` puts what the README's program prints now into the README, and the metrics that there are
into their page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from otelsync.shipping.metrics import catalogue as metric_catalogue

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
METRICS = ROOT / "docs" / "metrics.md"
PAGES = (README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_VARYING = (
    (re.compile(r"\d{12}-SYNC-[0-9A-F]{8}"), "SYNC-ID"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "SPAN-ID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r" *\b[\d.]+(?:ns|us|ms|s)\b"), " DURATION"),
    (re.compile(r"\|[ #=]{20}\|"), "|BAR|"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    note: str = ""
    """The comment on the line before: what a test has to know to run it."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def every_block(page: Path) -> Iterator[Block]:
    """Yield every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["language"], found["text"], found["note"] or "")


def blocks(page: Path, language: str) -> Iterator[Block]:
    """Yield the blocks of one language, in order."""
    return (block for block in every_block(page) if block.language == language)


def saved_programs(page: Path) -> dict[str, str]:
    """Return the programs that a page asks its reader to save, by the name of the file."""
    text = page.read_text(encoding="utf-8")
    return {
        found[1]: found[2]
        for found in re.finditer(r"Save this as `([\w.]+)`:\n\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    }


def example() -> str:
    """The program that the README begins with."""
    return next(blocks(README, "python")).text


def printed() -> str:
    """What the README says that ``otelsync show`` prints of it."""
    return next(blocks(README, "text")).text


def normalised(text: str) -> str:
    """`text` without what differs from run to run: ids, the time, durations, their bars and which are longest."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    before, head, rest = text.partition("where the time went")
    table, blank, after = rest.partition("\n\n")
    first, *rows = table.split("\n")
    return "".join([before, head, "\n".join([first, *sorted(rows)]), blank, after]).strip()


def run(home: Path, *arguments: str, python: Path = Path(sys.executable)) -> str:
    """Run Python with `home` as its home, and return what it prints. It may neither fail nor complain."""
    foreign = ("PYTHON", "OTEL", "LOG_", "SERVICE_NAME", "COLUMNS", "XDG_", "COV_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    finished = subprocess.run(
        [str(python), "-W", "error", *arguments],
        cwd=home,
        env=environment | {"OTELSYNC_HOME": str(home), "HOME": str(home), "OTELSYNC_REPORTS": "off"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


def shown(home: Path) -> str:
    """What ``otelsync show`` prints after the README's program has run."""
    program = home / "example.py"
    program.write_text(example(), encoding="utf-8")
    run(home, str(program))
    return run(home, "-m", "otelsync.cli", "show")


def metrics_page() -> str:
    """docs/metrics.md with the table of metrics as the catalogue has it."""
    before, begin, rest = METRICS.read_text(encoding="utf-8").partition("<!-- made by make docs -->")
    _, end, after = rest.partition("<!-- until here -->")
    assert end, "the page has lost the marks around its table"
    return f"{before}{begin}\n\n{metric_catalogue.markdown()}\n\n{end}{after}"


def _refresh() -> None:
    METRICS.write_text(metrics_page(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as home:
        now = shown(Path(home))
    if normalised(now) != normalised(printed()):
        README.write_text(README.read_text(encoding="utf-8").replace(printed(), now), encoding="utf-8")


if __name__ == "__main__":
    _refresh()
