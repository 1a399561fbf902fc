"""From a log record to its trace and back, on the real servers: by one request each way, and on their pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote

import pytest
from browser import Browser, browser

from collector.addresses import asked, log_records, logs_page, trace, trace_page, variables
from collector.stack import Stack
from otelsync.text.trace_address import trace_address

__all__ = ["browser"]

PROGRAM: Final = """
import otelsync
otelsync.configure(service_name="jumps", log_level="ERROR", log_format="console")
with otelsync.pipeline("p") as run, otelsync.repo("acme/api"), otelsync.api_call("list"):
    for number in range(9):
        with otelsync.pull_request(number) as pr:
            pr.fail("no author") if number == 7 else pr.set(action="created")
assert otelsync.shutdown(60)
print(run.trace_id)
"""


class Run:
    """A run that is in the servers, with one failed item."""

    def __init__(self, stack: Stack, home: Path) -> None:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
        environment = {**given, **variables(stack.ports), "OTELSYNC_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        *self.console, self.trace_id = done.stdout.splitlines()


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from stores import eventually

    run = Run(stack, tmp_path_factory.mktemp("home"))
    failed = f'trace_id:="{run.trace_id}" severity_text:="ERROR"'
    eventually(lambda: (len(trace(stack.ports, run.trace_id)), len(log_records(stack.ports, failed))), (12, 1))
    return run


def record_of_failed_item(stack: Stack, run: Run) -> dict[str, Any]:
    (record,) = log_records(stack.ports, f'trace_id:="{run.trace_id}" severity_text:="ERROR"')
    return record


def config_of_page(page: str) -> dict[str, Any]:
    """The settings that Jaeger gives to its page."""
    found = re.search(r"JAEGER_CONFIG = (\{.*?\});", page)
    assert found is not None
    return dict(json.loads(found[1]))


def filled(pattern: str, values: dict[str, object]) -> str:
    """An address as Jaeger's page makes it of a pattern and the attributes of a span."""
    return re.sub(r"#\{([^}]+)\}", lambda found: quote(str(values[found[1]]), safe=""), pattern)


def query_in(page: str) -> str:
    """The query in an address of VictoriaLogs' page."""
    (query,) = parse_qs(page.partition("#/?")[2])["query"]
    return query


def test_a_record_leads_to_its_span(stack: Stack, run: Run) -> None:
    """By one request, with nothing but what stands in the record; so does the address on the console."""
    record = record_of_failed_item(stack, run)
    (span,) = [span for span in trace(stack.ports, record["trace_id"]) if span["spanID"] == record["span_id"]]
    assert span["operationName"] == "sync.pr #7"
    assert {tag["key"]: tag["value"] for tag in span["tags"]}["error"] is True
    template = variables(stack.ports)["OTELSYNC_TRACE_URL"]
    address = trace_address(template, record["trace_id"], record["span_id"])
    assert any(f"trace_url='{address}'" in line for line in run.console)
    assert address.startswith(trace_page(stack.ports, record["trace_id"]))
    assert "JAEGER_CONFIG" in asked(address)


def test_a_span_leads_to_its_records(stack: Stack, run: Run) -> None:
    """By one request for each link that Jaeger's page has: to those of the span, of its trace and of its run."""
    record = record_of_failed_item(stack, run)
    (span,) = [span for span in trace(stack.ports, run.trace_id) if span["spanID"] == record["span_id"]]
    values = {tag["key"]: tag["value"] for tag in span["tags"]}
    values |= {"traceID": run.trace_id, "trace.traceID": run.trace_id}
    of_trace = {each["_stream_id"] + each["_time"] for each in log_records(stack.ports, f'trace_id:="{run.trace_id}"')}
    found = {}
    for pattern in config_of_page(asked(trace_page(stack.ports, run.trace_id)))["linkPatterns"]:
        assert pattern["type"] == "traces" or pattern["key"] in values
        records = log_records(stack.ports, query_in(filled(pattern["url"], values)))
        found[pattern["type"], filled(pattern["text"], values)] = records
    assert [each["span_id"] for each in found["tags", "Log records of this span"]] == [record["span_id"]]
    for name, records in found.items():
        if "span" not in name[1]:
            assert {each["_stream_id"] + each["_time"] for each in records} == of_trace
    assert len(found) == 4


def test_on_the_page_of_victorialogs(stack: Stack, run: Run, browser: Browser) -> None:
    """The link from a span shows its record, in a real browser."""
    record = record_of_failed_item(stack, run)
    page = browser.dom_at(logs_page(stack.ports, "span_id", record["span_id"]))
    assert record["_msg"] in page
    assert "No logs found" not in page
    assert record["_msg"] not in browser.dom_at(logs_page(stack.ports, "span_id", "0" * 16))


def test_on_the_page_of_jaeger(stack: Stack, run: Run, browser: Browser) -> None:
    """It has the links. Its Go module has a page without more; the one of its releases reads the same settings."""
    page = browser.dom_at(trace_page(stack.ports, run.trace_id))
    assert "Log records of this span" in page
    assert stack.logs_url in page
