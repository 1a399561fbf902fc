"""Addresses of traces: in error records on the console, in `otelsync show` and in reports, where a template says so."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from recorded import Recorded
from runs_to_report import hostile, reported
from stored import SYNC_ID, TRACE

import otelsync
from otelsync.cli import main
from otelsync.reports.writing import write_report
from otelsync.settings import Settings
from otelsync.text.trace_address import trace_address
from otelsync.views.waterfall import render_run

JAEGER = "http://localhost:16686/trace/{trace_id}?uiFind={span_id}"
GRAFANA = "https://grafana/explore?left=%7B%22queries%22:%5B%7B%22query%22:%22{trace_id}%22%7D%5D%7D&run={sync_id}"

Record = Callable[..., Recorded]


def test_every_part_is_filled_in_and_none_is_more_than_a_part() -> None:
    """Also where an id is not what it should be; and percent signs of the template stay."""
    assert trace_address(JAEGER, "ab", "cd") == "http://localhost:16686/trace/ab?uiFind=cd"
    assert trace_address(JAEGER, "ab", None) == "http://localhost:16686/trace/ab?uiFind="
    assert trace_address(GRAFANA, "ab", "", '"><i>&x=1') == (
        "https://grafana/explore?left=%7B%22queries%22:%5B%7B%22query%22:%22ab%22%7D%5D%7D&run=%22%3E%3Ci%3E%26x%3D1"
    )
    assert trace_address(None, "ab") == trace_address(JAEGER, "") == trace_address(JAEGER, None) == ""


@pytest.mark.parametrize("template", [JAEGER, GRAFANA])
def test_templates_of_real_backends_are_taken(template: str) -> None:
    """As they are given."""
    assert Settings.from_environment({"OTELSYNC_TRACE_URL": template}).trace_url == template


def test_an_error_on_the_console_leads_to_its_span(record: Record) -> None:
    """And no other record does, nor one outside a trace, nor one whose own field is called so."""
    recorded = record(log_format="console", trace_url=JAEGER)
    log = otelsync.get_logger("app")
    with otelsync.stage("s") as stage:
        log.warning("warned")
        log.error("broken")
        logging.getLogger("theirs").error("stdlib")
        log.critical("mine", trace_url="http://mine/")
    log.error("outside")
    words = ("warned", "broken", "stdlib", "mine", "outside")
    lines = dict(zip(words, recorded.text.splitlines(), strict=True))
    address = f"trace_url='http://localhost:16686/trace/{stage.trace_id}?uiFind={stage.span_id}'"
    assert [word for word, line in lines.items() if address in line] == ["broken", "stdlib"]
    assert "trace_url=http://mine/" in lines["mine"]
    assert "trace_url" not in lines["warned"] + lines["outside"]


def test_lines_of_json_have_the_ids_alone(record: Record) -> None:
    """They are for programs."""
    recorded = record(log_format="json", trace_url=JAEGER)
    with otelsync.stage("s"):
        otelsync.get_logger("app").error("broken")
    assert "trace_url" not in recorded.text


def test_show_ends_with_it(tmp_path: Path) -> None:
    """On a line that is never cut, as an address is to be copied."""
    path = reported(tmp_path / "store.db")
    for color in (False, True):
        shown = io.StringIO()
        render_run(path, SYNC_ID, width=40, color=color, file=shown, trace_url=JAEGER)
        assert shown.getvalue().splitlines()[-1] == f"trace  http://localhost:16686/trace/{TRACE}?uiFind={'0' * 15}1"
    arguments = ["show", SYNC_ID, "--home", str(tmp_path)]
    told = CliRunner().invoke(main, arguments, env={"OTELSYNC_TRACE_URL": JAEGER}).output
    assert f"trace  http://localhost:16686/trace/{TRACE}" in told
    assert "trace  http" not in CliRunner().invoke(main, arguments, env={"OTELSYNC_TRACE_URL": ""}).output


def test_a_report_has_it(tmp_path: Path) -> None:
    """In Markdown, JSON and on the page, there for each error too."""
    reported(tmp_path / "store.db")
    out = tmp_path / "out"
    arguments = ["report", SYNC_ID, "--home", str(tmp_path), "--output", str(out)]
    template = f"{JAEGER}&amp={{sync_id}}"
    told = CliRunner().invoke(main, arguments, env={"OTELSYNC_TRACE_URL": template})
    assert told.exit_code == 0, told.output
    folder = out / SYNC_ID
    address = f"http://localhost:16686/trace/{TRACE}?uiFind={'0' * 15}1&amp={SYNC_ID}"
    assert f"- Trace: <{address}>\n" in (folder / "_SYNC_SUMMARY.md").read_text()
    assert json.loads((folder / "summary.json").read_text())["trace_url"] == address
    page = (folder / "waterfall.html").read_text()
    assert f'<a href="{address.replace("&", "&amp;")}">' in page
    assert page.count(f'<a href="http://localhost:16686/trace/{TRACE}?uiFind=') > 1


def test_a_report_of_names_that_mean_harm_has_no_other_address(tmp_path: Path) -> None:
    """Ids are the only thing in it that comes from outside."""
    folder = write_report(hostile(tmp_path / "store.db"), SYNC_ID, tmp_path / "out", trace_url=GRAFANA)
    links = [part.partition('"')[0] for part in (folder / "waterfall.html").read_text().split('<a href="')[1:]]
    assert {link for link in links if "://" in link} == {
        f"{GRAFANA.format(trace_id=TRACE, sync_id=SYNC_ID)}".replace("&", "&amp;")
    }
