"""The documentation says what is so: what it prints, runs, links to and names is checked against the program."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import documents
import promql_parser
import pytest
from documents import Block
from runs_to_report import reported
from stored import SYNC_ID

import otelsync
from otelsync.cli import main
from otelsync.reports.writing import write_report
from otelsync.settings.options import markdown
from otelsync.shipping.metrics import catalogue as metric_catalogue
from otelsync.shipping.metrics.catalogue import CATALOGUE, prometheus_name

_EVERYTHING = "\n".join(page.read_text(encoding="utf-8") for page in documents.PAGES)
_PROGRAMS = [block for page in documents.PAGES for block in documents.blocks(page, "python")]
_LINKS = [
    (page, target)
    for page in documents.PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    if "://" not in target
]


def _commands() -> Iterator[str]:
    """The otelsync commands in shell blocks and in running text."""
    for page in documents.PAGES:
        for block in documents.blocks(page, "sh"):
            lines = (re.split(r"#| \| ", line)[0] for line in block.text.splitlines() if line.startswith("otelsync "))
            yield from (line for line in lines if line.count('"') % 2 == 0)  # a quoted program goes on below
        if page.name != "events.md":  # messages, some of which begin with our name
            yield from re.findall(r"`(otelsync [a-z][^`]*)`", page.read_text(encoding="utf-8"))


def test_the_readme_prints_what_the_program_prints(tmp_path: Path) -> None:
    """The README's program, run and shown, prints the README's block, but for ids, times, durations and bars."""
    assert documents.normalised(documents.shown(tmp_path)) == documents.normalised(documents.printed())


def test_the_readme_program_is_about_ten_lines() -> None:
    """What a visitor reads first stays short."""
    code = [line for line in documents.example().splitlines() if line.strip()]
    assert len(code) <= 14


@pytest.mark.parametrize("block", _PROGRAMS, ids=str)
def test_every_program_of_the_documentation_runs(block: Block, tmp_path: Path) -> None:
    """Each block of Python runs by itself, and complains of nothing."""
    program = tmp_path / "program.py"
    program.write_text(block.text, encoding="utf-8")
    documents.run(tmp_path, str(program))


@pytest.mark.parametrize(("page", "target"), _LINKS, ids=[f"{page.name}-{target}" for page, target in _LINKS])
def test_every_internal_link_leads_somewhere(page: Path, target: str) -> None:
    """A link to a file finds the file, one to a heading the heading."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    assert not anchor or anchor in _anchors(file)


@pytest.mark.parametrize("name", [name for name in otelsync.__all__ if not name.startswith("__")])
def test_every_public_name_is_documented(name: str) -> None:
    """README or docs mention each name, as code."""
    assert re.search(rf"\botelsync\.{name}\b|`{name}(?:\(|`)", _EVERYTHING)


def test_every_command_that_is_named_exists() -> None:
    """Each otelsync command in the documentation, with its options, is one that the command line takes."""
    unknown = []
    for line in set(_commands()):
        _, name, *arguments = shlex.split(line)
        if name.startswith("--"):
            continue  # an option of the command itself
        command = main.get_command(click.Context(main), name)
        try:
            assert command is not None
            command.make_context(name, arguments if arguments or name != "run" else ["anything"])
        except (AssertionError, click.ClickException) as error:
            unknown.append(f"{line}: {error}")
    assert unknown == []


def test_every_variable_that_is_named_exists() -> None:
    """Each OTELSYNC variable in the documentation is in the table of settings."""
    assert set(re.findall(r"\bOTELSYNC_[A-Z_]+\b", _EVERYTHING)) <= set(re.findall(r"\bOTELSYNC_[A-Z_]+\b", markdown()))


def test_the_table_of_metrics_is_current() -> None:
    """docs/metrics.md has what `make docs` makes of the catalogue."""
    page = documents.METRICS.read_text(encoding="utf-8")
    assert page == documents.metrics_page()
    assert page.count(metric_catalogue.STAGE_DURATION.says) == 1


@pytest.mark.parametrize("block", list(documents.blocks(documents.METRICS, "promql")), ids=str)
def test_every_query_asks_for_metrics_that_there_are(block: Block) -> None:
    """Each query can be parsed, and each name in it is one of the catalogue, as Prometheus has it, or a label."""
    for query in block.text.split("\n\n"):
        promql_parser.parse(query)
    known = {prometheus_name(label) for metric in CATALOGUE for label in metric.labels}
    known |= {"service_name", "service_instance_id"}  # of target_info too
    for metric in CATALOGUE:
        known |= {metric.sample, f"{metric.family}_count", f"{metric.family}_sum"}
        known |= {metric.family} if metric.kind == "histogram" else set()
    asked = set(re.findall(r"\b(?:otelsync|sync|celery|service|http)_[a-z_]+", block.text))
    assert asked
    assert asked <= known


def test_the_table_of_settings_is_current() -> None:
    """docs/settings.md is what `make docs` makes."""
    assert (documents.ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown() + "\n"


def _anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_architecture_names_what_there_is() -> None:
    """Each path in docs/architecture.md exists, and each room of otelsync is named."""
    page = (documents.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:otelsync|tests|docs|examples|benchmarks)/[\w./-]*|pyproject\.toml)`", page))
    assert {path for path in paths if not (documents.ROOT / path).exists()} == set()
    rooms = {f"otelsync/{init.parent.name}/" for init in (documents.ROOT / "otelsync").glob("*/__init__.py")}
    modules = {f"otelsync/{module.name}" for module in (documents.ROOT / "otelsync").glob("[a-z]*.py")}
    assert rooms | modules <= paths


def test_the_keys_of_a_summary_are_listed(tmp_path: Path) -> None:
    """docs/reports.md lists the keys of summary.json."""
    page = (documents.ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+)`", page.partition("## summary.json")[2].partition("## ")[0]))
    folder = write_report(reported(tmp_path / "store.db"), SYNC_ID, tmp_path / "out")
    assert set(json.loads((folder / "summary.json").read_text())) <= listed
