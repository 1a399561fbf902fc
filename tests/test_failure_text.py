"""Bodies of records of failures: a line that a list can be read from, and the event where it was."""

from __future__ import annotations

from pathlib import Path

import both_ways
import pytest
from both_ways import WAYS, program
from recorded import Recorded

import otelsync
from otelsync.logs.failure_text import failure_text

FAILURES = """
import otelsync, sys
otelsync.configure(log_format="json", log_level=sys.argv[1], redact_keys=["key"])
class GithubError(Exception): pass
try:
    with otelsync.pipeline("nightly"), otelsync.repo("acme/billing-api"), otelsync.api_call("list"):
        with otelsync.pull_request(23): raise GithubError("502 Bad\\nGateway, token=ghp_abcdefghijklmnopqrstuvwxyz0123")
except GithubError: pass
with otelsync.pipeline("nightly"), otelsync.group("customer", "GREYSON"):
    with otelsync.item("order", 4711) as order: order.fail("x" * 1000)
    with otelsync.batch("create", number=2, size=1) as batch: batch.fail("no room")
print(otelsync.shutdown(60))
"""


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("way", WAYS)
def test_a_list_of_failures_can_be_read(tmp_path: Path, way: str, level: str) -> None:
    """Each says where, what and why in one line without secrets; its event is the record's event name."""
    taken = both_ways.run(tmp_path, way, *program(FAILURES), level)
    assert taken.returncode == 0, taken.stderr
    failed = {log.wire.body.string_value: log.event for log in taken.logs if log.event.endswith(".failed")}
    why = "failed: GithubError: 502 Bad Gateway, token=[redacted]"
    assert failed == {
        f"acme/billing-api #23 {why}": "sync.pr.failed",
        f"acme/billing-api list {why}": "sync.api.failed",
        f"acme/billing-api {why}": "sync.repo.failed",
        f"nightly {why}": "sync.pipeline.failed",
        f"GREYSON order [redacted] failed: {'x' * 160}...": "sync.item.failed",
        "GREYSON batch create 2 failed: no room": "sync.batch.failed",
        "GREYSON failed: all 2 parts failed": "sync.group.failed",
        "nightly failed: its only part failed": "sync.pipeline.failed",
    }
    others = [log for log in taken.logs if not log.event.endswith(".failed")]
    assert {log.wire.body.string_value == log.event for log in others} == {True}
    assert all(log.wire.event_name == log.event for log in taken.logs if log.event.startswith("sync."))


def test_the_event_stays_where_lines_are_rendered_and_stored(recorded: Recorded) -> None:
    """Standard output and the local store have the event's name, as they had."""
    with otelsync.pipeline("p"), otelsync.item("order", 1) as order:
        order.fail("no")
    assert recorded.line("sync.item.failed")["error"] == "no"
    assert "sync.item.failed" in [log.event for log in recorded.logs]


@pytest.mark.parametrize(
    ("event", "fields", "scope", "said"),
    [
        ("sync.item.failed", {}, {}, "sync.item.failed"),
        ("sync.pr.failed", {"number": 7, "error": None}, {}, "#7 failed"),
        ("sync.api.failed", {"operation": "list", "error": " \n "}, {"sync.pipeline": "p"}, "p list failed"),
    ],
)
def test_what_is_not_known_is_left_out(
    event: str, fields: dict[str, object], scope: dict[str, object], said: str
) -> None:
    """The line says what there is."""
    assert failure_text(event, fields, scope) == said


@pytest.mark.parametrize("name", ["_msg", "_time", "_stream", "_stream_id"])
def test_names_that_stores_have_for_themselves_get_an_underscore(recorded: Recorded, name: str) -> None:
    """As the record's own fields do: nothing of a caller's is lost in VictoriaLogs."""
    with otelsync.pipeline("p"):
        otelsync.get_logger("app").info("page.read", **{name: "mine", "page": 2})
    assert recorded.line("page.read")[f"{name}_"] == "mine"
    (log,) = [log for log in recorded.logs if log.event == "page.read"]
    assert log.attributes[f"{name}_"] == "mine"
    assert name not in log.attributes
