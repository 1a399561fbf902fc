"""The outcome is on every stage and item, however it ended, and views and accounts take it as they took none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import both_ways
import pytest
from both_ways import WAYS, program
from recorded import Recorded
from trace_tree import batches, spans_in_journal

import otelsync
from otelsync.recording.scope import SyncScope
from otelsync.shipping.plain_items import _item_of, item_of
from otelsync.vocabulary import part_of

STAGES = """
import otelsync
otelsync.configure(log_format="json", log_level="INFO")
with otelsync.pipeline("p"), otelsync.group("customer", "G"), otelsync.repo("acme/api"):
    with otelsync.api_call("list"), otelsync.batch("b", number=1, size=2), otelsync.stage("s"):
        for kind in ("plain", "set", "skipped"):
            with otelsync.item("order", kind) as order, otelsync.pull_request(kind):
                if kind == "set": order.set(action="created")
                if kind == "skipped": order.skip("no")
        with otelsync.item("order", "said") as order:
            order.fail("no")
        try:
            with otelsync.item("order", "raised"): raise ValueError
        except ValueError: pass
        with otelsync.rate_limit_wait(0): pass
        with otelsync.retry_wait(0, "server"): pass
        with otelsync.item("order", "around"):
            try:
                with otelsync.item("order", "inside"): raise ValueError
            except ValueError: pass
print(otelsync.shutdown(60))
"""


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("way", WAYS)
def test_every_stage_and_item_says_how_it_went(tmp_path: Path, way: str, level: str) -> None:
    """By the short way of items and by the long one, in a journal and by the SDK's exporters."""
    taken = both_ways.run(tmp_path, way, *program(STAGES.replace('"INFO"', f'"{level}"')))
    assert taken.returncode == 0, taken.stderr
    assert [span.name for span in taken.spans if "sync.outcome" not in span.attributes] == []
    items = {span.attributes.get("sync.item.id"): span.outcome for span in taken.spans}
    items.pop(None)
    assert items == {
        **dict.fromkeys(("plain", "set", "skipped"), "success"),
        **dict.fromkeys(("said", "raised", "inside"), "failure"),
        "around": "partial",
    }


@pytest.mark.parametrize("native", [item_of, _item_of], ids=["as it is", "pure"])
def test_an_item_that_went_well_is_read_the_short_way(recorded: Recorded, native: Callable[[bytes], object]) -> None:
    """By its outcome, which most have; one that ended otherwise is read in full."""
    with otelsync.pipeline("p"):
        with otelsync.item("order", 1) as order:
            order.set(action="created")
        with otelsync.item("order", 2) as order:
            order.set(**{"sync.outcome": "of the caller's"})  # the stage itself has the last word
        with otelsync.item("order", 3) as order:
            order.fail("no")
        with pytest.raises(asyncio.CancelledError), otelsync.item("order", 4):
            raise asyncio.CancelledError
    bodies = [body for batch in batches(recorded.journal) for group in batch.groups for body in group.spans]
    items = [body for body in bodies if b"sync.order" in body]
    found = [native(body) for body in items]
    assert [isinstance(each, bytes) for each in found] == [True, True, False, False]


def test_what_begins_in_an_item_that_has_ended_has_its_own_outcome(recorded: Recorded) -> None:
    """The outcome is the item's, not that of whatever carries its fields."""

    async def late(item: asyncio.Event) -> None:
        await item.wait()
        with otelsync.stage("late") as stage:
            stage.fail("no")
        otelsync.get_logger("app").info("late.said")

    async def work() -> None:
        ended = asyncio.Event()
        with otelsync.item("order", 1):
            task = asyncio.create_task(late(ended))
        ended.set()
        await task

    with otelsync.pipeline("p"):
        asyncio.run(work())
    outcomes = {span.name: span.outcome for span in spans_in_journal(recorded.journal) if part_of(span.name)[0]}
    assert outcomes["sync.order"] == "success"
    assert outcomes["sync.stage late"] == "failure"
    assert "outcome" not in recorded.line("late.said")


def test_a_scope_with_the_outcome_is_made_once() -> None:
    """It has the fields of the scope, and no outcome twice where a caller has bound one."""
    for fields in ({"team": 7}, {"team": 7, "sync.outcome": "odd"}):
        scope = SyncScope(fields)
        well = scope.succeed()
        assert well is scope.succeed()
        assert well.attributes == {"team": 7, "sync.outcome": "success"}
        assert well.span_bytes.count(b"sync.outcome") == 1
        assert well.keys == {"team", "sync.outcome"}
