"""``otelsync doctor``: what is wrong between a program and where its telemetry should arrive, and the fix."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otelsync.cli import options
from otelsync.text.paint import Line, Piece
from otelsync.text.quantities import counted

if TYPE_CHECKING:
    from otelsync.doctor import Report
    from otelsync.doctor.findings import Finding

_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_INDENT: Final = " " * 11


@click.command(name="doctor")
@options.json_option("A JSON object; the keys stay the same between releases.")
@click.option("--service", help="Whose journal; otherwise that of OTEL_SERVICE_NAME.")
@click.option("--endpoint", metavar="URL", help="Where to send the probe. [OTEL_EXPORTER_OTLP_ENDPOINT]")
@options.home_option
@click.pass_context
def command(
    context: click.Context, as_json: bool, service: str | None, endpoint: str | None, home: Path | None
) -> None:
    """Send a probe the whole way, check everything on it, and say what is wrong and how to fix it.

    Ends with 0 if nothing is wrong (warnings are allowed), with 1 otherwise.
    """
    from otelsync.doctor import examine

    report = examine(home=home, endpoint=endpoint, service_name=service)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        options.draw(_lines(report, options.width() - len(_INDENT)))
    context.exit(1 if report.status == "problem" else 0)


def _lines(report: Report, width: int) -> Iterator[Line]:
    from otelsync.doctor.findings import STEPS

    for step, findings in report.findings.items():
        yield [Piece(STEPS[step], "bold")]
        for finding in findings:
            yield from _finding(finding, width)
    yield []
    yield [Piece(_summary(report), _STYLES[report.status])]


def _finding(finding: Finding, width: int) -> Iterator[Line]:
    first, *rest = textwrap.wrap(finding.message, width) or [""]
    yield [Piece(f"  {finding.status:<9}", _STYLES[finding.status]), Piece(first)]
    yield from ([Piece(_INDENT + line)] for line in rest)
    fix = textwrap.wrap(f"-> {finding.fix}", width, subsequent_indent="   ") if finding.fix else []
    yield from ([Piece(_INDENT + line, "cyan")] for line in fix)


def _summary(report: Report) -> str:
    found = [finding.status for findings in report.findings.values() for finding in findings]
    problems, warnings = found.count("problem"), found.count("warning")
    if not problems and not warnings:
        return "all is well"
    return f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}"
