"""Nodes and tools: a stage and two records each, and the caller's context afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opentelemetry.context as context_api
import pytest
from recorded import Recorded

import otelsync


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """otelsync, configured."""
    yield Recorded(tmp_path)
    otelsync.shutdown()


def run(function: Any, is_async: bool, *args: Any) -> Any:
    """What a node or tool returns, whichever kind of function it is."""
    return asyncio.run(function(*args)) if is_async else function(*args)


def made(decorator: Any, body: Any, is_async: bool) -> Any:
    """A decorated function, or coroutine function, of that body."""
    if not is_async:
        return decorator(body)

    async def later(*args: Any) -> Any:
        await asyncio.sleep(0)
        return body(*args)

    return decorator(later)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_node_and_its_tool(recorded: Recorded, is_async: bool) -> None:
    """All inside carries the node, what the tool does its name too; the caller's fields stay bound."""
    search = otelsync.tool("search")(lambda text: [text])

    def body(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": search("x"), **state}

    developer = made(otelsync.node("developer"), body, is_async)
    before = context_api.get_current()
    with otelsync.sync_context(thread_id="user_1"):
        assert run(developer, is_async, {"n": 1}) == {"messages": ["x"], "n": 1}
        otelsync.get_logger("app").info("after")
    assert context_api.get_current() == before
    lines = [line for line in recorded.lines if line["logger"] != "asyncio"]
    assert [(line["event"], line.get("node"), line.get("tool_name")) for line in lines] == [
        ("node_start", "developer", None),
        ("tool_execution_start", "developer", "search"),
        ("tool_execution_complete", "developer", "search"),
        ("node_complete", "developer", None),
        ("after", None, None),
    ]
    assert {line["thread_id"] for line in lines} == {"user_1"}
    complete = recorded.line("node_complete")
    assert complete["state_updates"] == ["messages", "n"]
    assert complete["duration_ms"] >= 0
    assert recorded.line("tool_execution_complete")["result_type"] == "list"
    parent = recorded.span("sync.stage node developer")
    assert recorded.span("sync.stage tool search").parent_id == parent.span_id
    assert complete["span_id"] == parent.span_id


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("make", "event"), [("node", "node_failed"), ("tool", "tool_execution_failed")])
def test_a_failure_is_logged_with_its_traceback_and_passes(
    recorded: Recorded, make: str, event: str, is_async: bool
) -> None:
    """The exception is the same one, and the context is as before."""
    error = ValueError("no such server")

    def body() -> None:
        raise error

    before = context_api.get_current()
    with pytest.raises(ValueError, match="no such server") as caught:
        run(made(getattr(otelsync, make)("x"), body, is_async), is_async)
    assert caught.value is error
    assert context_api.get_current() == before
    line = recorded.line(event)
    assert (line["level"], line["error"], line["error_type"]) == ("error", "no such server", "ValueError")
    assert "in body" in line["exception"]
