"""``otelsync show --span``: all of one span, of real runs and of what harm somebody may have put into it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from recorded import Recorded
from stored import MS, START, SYNC_ID, TRACE, batch, log, pairs, span, store

import otelsync
from otelsync.cli import catching_up, main
from otelsync.text.printable import cells, wrapped

HOSTILE = "\x1b[2J\x1b]8;;http://evil\x07[red]x[/red]\u202e\u200b\r"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def show(*arguments: str, home: Path, environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["show", *arguments, "--home", str(home)], env=environment)


def failing_run() -> str:
    """Record a run of which one pull request fails; returns the sync id."""
    logger = otelsync.get_logger("sync")
    with otelsync.pipeline("nightly") as pipeline, otelsync.repo("acme/api"):
        try:
            with otelsync.pull_request(7):
                logger.info("page.fetched", rows=12)
                raise LookupError("no author\nsecond line")
        except LookupError:
            pass
    return pipeline.sync_id


def failed_span(sync_id: str, home: Path) -> str:
    spans = json.loads(show(sync_id, "--json", "--all", home=home).stdout)
    (found,) = [one["spanId"] for one in spans if one["name"] == "sync.pr"]
    return str(found)


@pytest.mark.parametrize("kept", ["in memory", "in a file"])
def test_all_of_a_failed_span(
    record: Callable[..., Recorded], home: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run, attributes, traceback with real line breaks, and its own log records, though nobody has shipped them."""
    if kept == "in a file":
        monkeypatch.setattr(catching_up, "MOST_IN_MEMORY", 0)
    record()
    sync_id = failing_run()
    span_id = failed_span(sync_id, home)
    result = show("--span", span_id[:12], home=home)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["sync.pr #7", span_id]
    assert lines[2].startswith("failed after ")
    assert lines[3:5] == ["! LookupError: no author", "  second line"]
    assert f"run           {sync_id}  nightly" in lines
    assert any(line.startswith("parent ") and line.endswith("sync.repo acme/api") for line in lines)
    assert "  vcs.change.id  7" in lines
    start = lines.index("        Traceback (most recent call last):")
    assert lines[start + 1].startswith('          File "')
    assert lines[start + 2].strip() == 'raise LookupError("no author\\nsecond line")'
    assert [line.split()[2] for line in lines if line.startswith("  ") and "INFO" in line] == ["page.fetched"]
    assert "      rows  12" in lines
    assert "sync.pipeline.started" not in result.stdout, "records of other spans are not its own"
    assert "      exception  as in the event above" in lines, "the same traceback is not shown twice"


def test_a_span_as_json(record: Callable[..., Recorded], home: Path) -> None:
    """OTLP's names, with the sync id and its log records."""
    record()
    sync_id = failing_run()
    span_id = failed_span(sync_id, home)
    one = json.loads(show(sync_id, "--span", span_id, "--json", home=home).stdout)
    assert (one["spanId"], one["syncId"], one["service"]) == (span_id, sync_id, "test")
    assert one["events"][0]["attributes"]["exception.stacktrace"].count("\n") >= 4
    assert [line["event"] for line in one["logs"]] == ["page.fetched", "sync.pr.failed"]


def two_runs(home: Path) -> None:
    other: dict[str, Any] = {"sync": "202508022028-SYNC-AB12CD34", "trace": "ab" * 16}
    store(
        home / "store.db",
        batch(
            span("sync.pipeline nightly", 1, 0, 0, 9, sync__pipeline="nightly"),
            span("sync.pipeline weekly", 1, 0, 10, 19, sync__pipeline="weekly", **other),
            span("sync.pr", 0x1234 << 48, 1, 2, 3),
        ),
    )


def test_an_id_of_none_or_of_several_is_an_error(home: Path) -> None:
    """One line, and of several the candidates with the runs they belong to; the run decides between them."""
    two_runs(home)
    result = show("--span", "0000", home=home)
    assert result.exit_code == 1
    assert result.stderr == (
        "otelsync: '0000' may be any of these spans; give more of it:\n"
        f"  0000000000000001  sync.pipeline nightly  {SYNC_ID}\n"
        "  0000000000000001  sync.pipeline weekly  202508022028-SYNC-AB12CD34\n"
    )
    for nothing in ("ff", "", "%", "zz", "\x1b[2J"):
        result = show("--span", nothing, home=home)
        assert result.exit_code == 1
        assert result.stderr.startswith("otelsync: there is no span whose id begins with ")
        assert "\x1b" not in result.stderr
    assert show("AB12", "--span", "0000", home=home).stdout.startswith("sync.pipeline weekly\n")
    assert show("--span", " 1234 ", home=home).stdout.startswith("sync.pr\n1234000000000000\n")
    assert "the run has no span" in show("AB12", "--span", "1234", home=home).stderr
    assert "no run is called 'FFFF'" in show("FFFF", "--span", "1234", home=home).stderr
    assert show("--span", "1234", "--all", home=home).exit_code == 2
    assert "nothing has been recorded yet" in show("--span", "1234", home=home.parent / "other").stderr


def test_links_and_events(home: Path) -> None:
    """A link says which run it leads to, an event when it was."""
    link = Span.Link(
        trace_id=bytes.fromhex("ab" * 16), span_id=(1).to_bytes(8, "big"), attributes=pairs({"why": "retry"})
    )
    event = Span.Event(time_unix_nano=START + 2 * MS, name="page", attributes=pairs({"cursor": "Y3"}))
    other = span("sync.pipeline weekly", 1, 0, sync="202508022028-SYNC-AB12CD34", trace="ab" * 16)
    store(home / "store.db", batch(other, span("sync.pipeline nightly", 2, 0, 0, 9, links=[link], events=[event])))
    shown = show("7651", "--span", "0000000000000002", home=home).stdout
    assert f"  0000000000000001  trace {'ab' * 16}\n      run 202508022028-SYNC-AB12CD34\n      why  retry\n" in shown
    assert "  20:27:00.002  page  2.00ms after its start\n      cursor  Y3\n" in shown


@pytest.mark.parametrize("columns", ["40", "60", "80", "120", "200"])
def test_what_is_hostile_stays_harmless_and_within_the_width(home: Path, columns: str) -> None:
    """Names, values, events, links and log records are shown by their codes, broken but not cut at the width."""
    hostile = HOSTILE + "y" * 500
    event = Span.Event(name=hostile, attributes=pairs({hostile: hostile, "exception.stacktrace": f"a\n{hostile}\r\n"}))
    link = Span.Link(trace_state=hostile, attributes=pairs({hostile: hostile}))
    values: dict[str, Any] = {hostile: hostile, "deep": "\n" * 5000}
    one = span(hostile, 2, 1, error=hostile, events=[event], links=[link], **values)
    root = span(f"sync.pipeline {hostile}", 1, 0, 0, 9, sync__pipeline=hostile)
    store(home / "store.db", batch(one, root, logs=[log(hostile, 2, 1, level=hostile, title=hostile)]))
    for environment in ({"COLUMNS": columns}, {"COLUMNS": columns, "FORCE_COLOR": "1", "TERM": "xterm"}):
        result = show("--span", "0000000000000002", home=home, environment=environment)
        assert result.exit_code == 0, result.output
        text = result.stdout
        for style in ("\x1b[1m", "\x1b[0m", "\x1b[2m", "\x1b[36m", "\x1b[31m", "\x1b[1;31m"):
            text = text.replace(style, "")
        assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Cn") for c in text)
        width = int(columns)
        longest = max(text.splitlines(), key=cells)
        assert cells(longest) <= width, longest
        assert text.count("y") > 500, "values are not cut"


@given(st.text(), st.integers(min_value=2, max_value=40))
def test_wrapped_text_loses_nothing_but_spaces(text: str, width: int) -> None:
    """Its pieces are no wider than asked, and hold every other character in order."""
    from otelsync.text.printable import printable

    text = printable(text)
    pieces = wrapped(text, width)
    assert all(cells(piece) <= width for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert wrapped(text, None) == [text]


def test_a_running_span_and_one_without_a_parent(home: Path) -> None:
    """What has not ended says so far; a parent that was never recorded is named as that."""
    begun = span("sync.repo acme/api", 5, 0x99, 3, None)
    store(home / "store.db", batch(started=[begun, span("sync.pipeline nightly", 1, 0, 0, None)]))
    shown = show("--span", "0000000000000005", home=home).stdout
    assert "\nrunning " in shown
    assert " so far, started 2025-08-02 20:27:00.003 UTC\n" in shown
    assert "\nparent        0000000000000099  not recorded\n" in shown
    assert f"\ntrace         {TRACE}\n" in shown
