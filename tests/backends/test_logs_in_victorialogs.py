"""Log records in a real VictoriaLogs: lines that a list can be read from, and every field of a caller's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from collector.stack import ROOT, Ports, Stack, make_stack

PATIENCE: Final = 120.0
PROGRAM: Final = """
import otelsync
otelsync.configure(service_name="shop", log_level="INFO", log_format="json")
with otelsync.pipeline("p"), otelsync.repo("acme/billing-api"):
    with otelsync.pull_request(23) as pr:
        pr.fail("GithubException: 502")
    otelsync.get_logger("app").info("page.read", _msg="mine", _time="noon", _stream="s", _stream_id="i", page=2)
print(otelsync.shutdown(60))
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The log store alone runs."""
    stack = make_stack(tmp_path, Ports.free())
    stack.victorialogs.begin()
    yield stack
    stack.victorialogs.end()


def lines_in(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return the records by the event's name, once all are there."""
    form = urllib.parse.urlencode({"query": "*", "limit": "1000"}).encode()
    deadline = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"{stack.logs_url}/select/logsql/query", form, timeout=60) as said:
            lines = [json.loads(line) for line in said.read().decode().splitlines()]
        found = {line["event_name"]: line for line in lines if "event_name" in line}
        if {"sync.pipeline.completed", "sync.pipeline.failed"} & found.keys():
            return found
        assert time.monotonic() < deadline, lines
        time.sleep(0.2)


def stream_fields_of_documentation() -> str:
    """Return the header that docs/logging.md tells to set."""
    page = (ROOT / "docs" / "logging.md").read_text()
    (header,) = re.findall(r"^export OTEL_EXPORTER_OTLP_LOGS_HEADERS='(VL-Stream-Fields=.+)'$", page, re.MULTILINE)
    return str(header)


def test_records_can_be_read_and_have_all_their_fields(stack: Stack, tmp_path: Path) -> None:
    """The line is the message, the event a field of its own; what is called as the store's own fields is there too."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    own |= {
        "OTELSYNC_HOME": str(tmp_path / "home"),
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{stack.logs_url}/insert/opentelemetry/v1/logs",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": stream_fields_of_documentation(),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=own, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.splitlines()[-1] == "True", done.stderr
    lines = lines_in(stack)
    assert lines["sync.pr.failed"]["_msg"] == "acme/billing-api #23 failed: GithubException: 502"
    read = lines["page.read"]
    assert (read["_msg"], read["page"]) == ("page.read", "2")
    fields = {"_msg_": "mine", "_time_": "noon", "_stream_": "s", "_stream_id_": "i"}
    assert fields.items() <= read.items()
    assert read["_time"].startswith("2")
    assert {line["_stream"] for line in lines.values()} == {'{service.name="shop"}'}
    assert len({line["service.instance.id"] for line in lines.values()}) == 1
    assert "unknown" not in {line["scope.version"] for line in lines.values()}
