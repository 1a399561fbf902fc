"""What is folded is seen on the real servers: the call says so in Jaeger, and its items' records lead to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from collector.stack import Stack

PATIENCE: Final = 120.0
PROGRAM: Final = """
import otelsync
otelsync.configure(service_name="folded", log_level="INFO", log_format="json")
log = otelsync.get_logger("app")
with otelsync.pipeline("p") as run:
    with otelsync.repo("acme/api"), otelsync.api_call("list", page=1):
        for number in range(120):
            with otelsync.pull_request(number):
                log.info("pr.read", number=number)
print(otelsync.shutdown(60))
"""


def asked(url: str, **form: str) -> str:
    data = urllib.parse.urlencode(form).encode() if form else None
    try:
        with urllib.request.urlopen(url, data, timeout=60) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def eventually(find: Callable[[], Any]) -> Any:
    """Return what is found: servers show things a moment after they took them."""
    deadline = time.monotonic() + PATIENCE
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
    return found


def test_a_person_sees_what_was_folded_and_its_records_lead_there(stack: Stack, tmp_path: Path) -> None:
    """The call has its status line and no error; each record of an item names a span that Jaeger has."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    environment |= {
        "OTELSYNC_HOME": str(tmp_path / "home"),
        "OTELSYNC_TRACE_MAX_SPANS": "100",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.endpoint,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (trace_id,) = {line["trace_id"] for line in lines if "trace_id" in line}

    def calls() -> list[dict[str, Any]]:
        found = json.loads(asked(f"{stack.jaeger_url}/api/traces/{trace_id}") or "{}").get("data") or [{"spans": []}]
        spans = found[0]["spans"]
        ids.update(span["spanID"] for span in spans)
        return [span for span in spans if span["operationName"].startswith("sync.api list")]

    ids: set[str] = set()
    (call,) = eventually(calls)
    tags = {tag["key"]: tag["value"] for tag in call["tags"]}
    assert tags["sync.items.folded"] > 50
    assert tags["otel.status_description"].startswith(f"{tags['sync.items.folded']} items folded into this span")
    assert not tags.get("error", False)

    def records() -> list[dict[str, Any]]:
        said = asked(f"{stack.logs_url}/select/logsql/query", query=f'trace_id:="{trace_id}" number:*', limit="1000")
        found = [json.loads(line) for line in said.splitlines()]
        return found if len(found) == 120 else []

    found = eventually(records)
    calls()
    assert {record["span_id"] for record in found} <= ids
    assert len([record for record in found if record.get("sync.span_id")]) > 50
