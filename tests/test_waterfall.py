from __future__ import annotations

import io
import json
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import START, SYNC_ID, TRACE, batch, log, span, store

from otelsync.errors import RunNotFoundError, StoreError
from otelsync.store.runs import Run, find_run, open_store, recent_runs, recent_tasks
from otelsync.store.spans import json_line, otlp_json, otlp_texts, read
from otelsync.store.tree import RunTree
from otelsync.text.printable import cells, cut, pad, printable
from otelsync.text.quantities import duration, timestamp
from otelsync.views.outline import outline, outline_json, unrolled
from otelsync.views.waterfall import render_run

PIPELINE = "sync.pipeline nightly"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def drawn(path: Path, *, width: int = 120, every_span: bool = False, color: bool = False) -> str:
    """The whole output, from the third line on without the commands at its end."""
    file = io.StringIO()
    render_run(path, None, width=width, color=color, file=file, every_span=every_span)
    return file.getvalue()


def tree_of(path: Path, **options: Any) -> str:
    """The lines of the tree alone."""
    return drawn(path, **options).split("\n\n")[1]


def shape_of(path: Path, *, every_span: bool = False) -> str:
    """The tree without its figures: depth, name, and what is rolled up."""
    with open_store(path) as opened:
        tree = RunTree(opened, find_run(opened))
        lines = []
        for entry in unrolled(tree) if every_span else outline(tree):
            if entry.note:
                what = entry.note
            elif entry.family is not None:
                what = f"{entry.family.name} x{entry.family.count} ({entry.family.failed} failed)"
            else:
                assert entry.span is not None
                what = f"{entry.span.name} {entry.span.span_id.lstrip('0')}"
            lines.append("  " * entry.depth + what)
        return "\n".join(lines)


def small_run() -> list[bytes]:
    """A repo with two pages of pull requests, of which one failed, and a repo with little to do."""
    spans = []
    for page in (1, 2):
        call = 0x10 * page
        for number in range(6):
            failed = page == 2 and number == 3
            start = page * 100 + number * 10
            spans.append(
                span(
                    "sync.pr",
                    0x100 * page + number,
                    call,
                    start,
                    start + 5 + number,
                    error="ValueError: no title" if failed else None,
                    vcs__change__id=str(page * 10 + number),
                    sync__action="failed" if failed else "created",
                    sync__repo="acme/api",
                )
            )
        spans.append(
            span("sync.api list_pull_requests", call, 2, page * 100 - 20, page * 100 + 70, sync__api__page=page)
        )
    spans.append(span("sync.repo acme/api", 2, 1, 50, 300, sync__outcome="partial"))
    spans.append(
        span("sync.pr", 0x300, 3, 320, 321, vcs__change__id="7", sync__action="skipped", sync__skip__reason="bot")
    )
    spans.append(span("sync.repo acme/web", 3, 1, 310, 390, sync__outcome="success"))
    counts = {"fetched": 13, "created": 11, "skipped": 1, "failed": 1}
    attributes = {f"sync__items__{name}": count for name, count in counts.items()}
    spans.append(
        span(PIPELINE, 1, 0, 0, 400, sync__outcome="partial", sync__pipeline="nightly", **attributes)  # type: ignore[arg-type]
    )
    return spans


def test_the_waterfall_of_a_run(path: Path) -> None:
    """The tree with bars to scale, siblings rolled up, the failed shown, then what was slow, failed and counted."""
    store(path, batch(*small_run(), logs=[log("sync.pipeline.completed", 1, 400)]))
    assert drawn(path) == (
        """\
nightly  202508022027-SYNC-765151E9
partial after 400ms, started 2025-08-02 20:27:00 UTC, service github-sync, 18 spans, 1 error, 1 log record

sync.pipeline nightly                        |####################|   400ms  partial
  sync.repo acme/api                         |  #############     |   250ms  partial
    sync.api list_pull_requests page=1       |    #####           |  90.0ms
      sync.pr x6                             |     ===            |  7.08ms p50  9.96ms p95  10.0ms max #15
    sync.api list_pull_requests page=2       |         #####      |  90.0ms  partial
      sync.pr x6 (1 failed)                  |          ===       |  7.08ms p50  9.96ms p95  10.0ms max #25
        sync.pr #23                          |           #        |  8.00ms  failed
          ! ValueError: no title
  sync.repo acme/web                         |               #####|  80.0ms  success
    sync.pr #7 skipped because bot           |                #   |  1.00ms

where the time went                       count  failed      own     mean  slowest
sync.pr                                      13       1   91.0ms   7.00ms   10.0ms  acme/api #15 created
sync.api list_pull_requests                   2       0   90.0ms   90.0ms   90.0ms  page=1
sync.repo acme/web                            1       0   79.0ms   80.0ms   80.0ms  acme/web
sync.pipeline nightly                         1       0   70.0ms    400ms    400ms  0000000000000001
sync.repo acme/api                            1       0   70.0ms    250ms    250ms  acme/api

errors
0000000000000203  sync.pr  acme/api #23  ValueError: no title

items  13 fetched = 11 created + 1 skipped + 1 failed

look further
  otelsync show 202508022027-SYNC-765151E9 --all      every span
  otelsync show 202508022027-SYNC-765151E9 --span ID  all of one span, with its traceback
  otelsync logs 202508022027-SYNC-765151E9            its log records; --span ID, --level ERROR
  otelsync show 202508022027-SYNC-765151E9 --json     for other programs
"""
    )


def test_customers_and_orders_in_the_waterfall(path: Path) -> None:
    """Items of any kind say their id, groups their kind and name, and stages what a caller has given them first."""
    bound: dict[str, Any] = {"tenant": "eu", "sync__customer": "GREYSON"}
    error = "no drop-down value"
    failed: dict[str, Any] = {"sync__item__id": "4711", "sync__action": "failed"}
    spans = [span("sync.order", 0x10, 4, 100, 101, error=error, **bound, **failed)]
    spans.append(span("sync.batch create", 4, 3, 90, 120, sync__batch__number=1, sync__batch__size=25, **bound))
    for number, column in enumerate(["size", "\x1b[31m" + "x" * 99, "a", "b", "c", "d"]):
        given: dict[str, Any] = {**bound, "column": column, "region": "EU", "third": 3, "fourth": 4}
        spans.append(span("sync.stage map", 0x20 + number, 3, 200 + number, 201 + number, **given))
    spans.append(span("sync.stage lock", 0x30, 3, 300, 310, sync__stage__kind="waiting", **bound))
    spans.append(span("sync.customer GREYSON", 3, 1, 50, 350, sync__outcome="partial", **bound))
    spans.append(span(PIPELINE, 1, 0, 0, 400, sync__outcome="partial", sync__pipeline="nightly"))
    store(path, batch(*spans))
    titles = [line.split(" |")[0].rstrip() for line in tree_of(path, width=240).splitlines()]
    assert titles == [
        "sync.pipeline nightly",
        "  sync.customer GREYSON",
        "    sync.batch create number=1 size=25",
        "      ! all its parts failed",
        "      sync.order 4711",
        "        ! no drop-down value",
        "    sync.stage map column=size region=EU third=3",
        "    sync.stage map column=\\x1b[31mxxxxxxxxxxxxxxx… region=EU third=3",
        *(f"    sync.stage map column={column} region=EU third=3" for column in "abcd"),
        "    sync.stage lock waiting",
    ]
    assert "0000000000000010  sync.order  customer GREYSON 4711  no drop-down value" in drawn(path)


def test_a_running_pipeline(path: Path) -> None:
    """What has not ended is marked, and its bar reaches to the last sign of life."""
    prs = [span("sync.pr", 0x100 + n, 0x10, 50 + n * 10, 55 + n * 10) for n in range(5)]
    started = [
        span(PIPELINE, 1, 0, 0, None, sync__pipeline="nightly"),
        span("sync.repo acme/api", 2, 1, 10, None),
        span("sync.api list", 0x10, 2, 40, None, sync__api__page=1),
    ]
    store(path, batch(*prs, started=started))
    assert tree_of(path) + "\n" == (
        """\
sync.pipeline nightly                        |###################>|  95.0ms  running
  sync.repo acme/api                         |  #################>|  85.0ms  running
    sync.api list page=1                     |        ###########>|  55.0ms  running
      sync.pr x5                             |          ==========|  4.98ms p50  5.00ms p95  5.00ms max 0000000000000100
"""
    )
    assert "running 95.0ms so far, started" in drawn(path)


def test_unrolled_every_span_is_shown(path: Path) -> None:
    """With all, nothing is summed up."""
    store(path, batch(*small_run()))
    assert shape_of(path, every_span=True) == (
        """\
sync.pipeline nightly 1
  sync.repo acme/api 2
    sync.api list_pull_requests 10
      sync.pr 100
      sync.pr 101
      sync.pr 102
      sync.pr 103
      sync.pr 104
      sync.pr 105
    sync.api list_pull_requests 20
      sync.pr 200
      sync.pr 201
      sync.pr 202
      sync.pr 203
      sync.pr 204
      sync.pr 205
  sync.repo acme/web 3
    sync.pr 300"""
    )


def test_children_of_what_is_rolled_up_are_rolled_up_below_it(path: Path) -> None:
    """Five API calls are one line, and so are the pull requests of all five; the failed ones are shown, ten at most."""
    spans = []
    for call in range(0x10, 0x15):
        spans += [span("sync.pr", call * 0x100 + n, call, n, n + 1, error="x" if n % 2 else None) for n in range(10)]
        spans.append(span("sync.api list", call, 1, 0, 100, error="y" if call == 0x12 else None))
    store(path, batch(*spans, span(PIPELINE, 1, 0, 0, 100)))
    shown = "\n".join(
        f"      sync.pr {0x10 + call:x}0{n}" for n, call in [(n, c) for n in (1, 3, 5, 7, 9) for c in (0, 1)]
    )
    assert shape_of(path) == (
        f"""\
{PIPELINE} 1
  sync.api list x5 (1 failed)
    sync.api list 12
    sync.pr x50 (25 failed)
{shown}
      and 15 more failed"""
    )


def test_running_siblings_are_counted_and_a_few_shown(path: Path) -> None:
    """A group of which some run says how many, shows three of them, and counts no duration for them."""
    started = [span(PIPELINE, 1, 0, 0, None), *(span("sync.api list", n, 1, n, None) for n in range(0x10, 0x16))]
    store(path, batch(*(span("sync.api list", n, 1, n, n + 1) for n in range(2, 6)), started=started))
    assert shape_of(path) == (
        f"""\
{PIPELINE} 1
  sync.api list x4 (0 failed)
    sync.api list 10
    sync.api list 11
    sync.api list 12
    and 3 more running"""
    )
    assert "sync.api list x4 (+6 running)" in drawn(path)


def test_what_is_below_small_spans_is_shown(path: Path) -> None:
    """Subtrees that are summed up further above appear below rolled-up spans, and below single ones."""
    spans = []
    for number in range(1, 8):
        pr = number * 0x100
        parent = 0x10 if number < 6 else 0x20
        spans += [span("GET", pr + 2, pr + 1), span("sync.api get", pr + 1, pr), span("sync.pr", pr, parent)]
    started = [
        span(PIPELINE, 1, 0, 0, None),
        span("sync.api list", 0x10, 1, 0, None),
        span("sync.api list", 0x20, 1, 1, None),
    ]
    store(path, batch(*spans, started=started))
    assert shape_of(path) == (
        f"""\
{PIPELINE} 1
  sync.api list 10
    sync.pr x5 (0 failed)
      sync.api get x5 (0 failed)
        GET x5 (0 failed)
  sync.api list 20
    sync.pr 600
      sync.api get 601
        GET 602
    sync.pr 700
      sync.api get 701
        GET 702"""
    )


def test_spans_whose_parent_is_not_there_are_shown_at_the_top(path: Path) -> None:
    """What has lost its parent, or waits for it, is shown beside the root."""
    lost = [span("sync.pr", n, 0x99, n, n + 1) for n in range(0x100, 0x105)]
    store(path, batch(*lost, span("GET", 5, 0x98, 50, 51), span(PIPELINE, 1, 0, 0, 400)))
    assert shape_of(path) == f"{PIPELINE} 1\nGET 5\nsync.pr x5 (0 failed)"


def test_children_that_come_after_their_parent_are_found(path: Path) -> None:
    """A parent that ended first, in an earlier batch, still has its children below it."""
    late = [span("celery.run", n, 2, n, n + 1) for n in range(0x100, 0x105)]
    store(path, batch(span("celery.publish", 2, 1, 1, 2, kind=1), span(PIPELINE, 1, 0, 0, 400)), batch(*late))
    assert shape_of(path) == f"{PIPELINE} 1\n  celery.publish 2\n    celery.run x5 (0 failed)"


@pytest.mark.parametrize("parents", [{1: 1}, {1: 2, 2: 1}])
def test_spans_that_are_their_own_ancestors_end_nothing(path: Path, parents: dict[int, int]) -> None:
    """A loop of parents is left out of the tree; the rest is shown."""
    store(path, batch(*(span("loop", own, parent) for own, parent in parents.items()), span(PIPELINE, 9, 0, 0, 9)))
    assert shape_of(path) == f"{PIPELINE} 9"
    assert shape_of(path, every_span=True) == f"{PIPELINE} 9"


def test_a_very_deep_trace_is_cut(path: Path) -> None:
    """A chain of thousands of spans is shown as far as a terminal is wide."""
    store(path, batch(*(span("step", n, n - 1, n, 5000) for n in range(1, 3000)), span(PIPELINE, 4000, 0, 0, 9)))
    for every_span in (False, True):
        shape = shape_of(path, every_span=every_span).splitlines()
        assert len(shape) == 62
        assert shape[-1].strip() == "what lies deeper is not shown; --json --all has it" or every_span


def test_many_names_are_one_kind(path: Path) -> None:
    """A hundred repos are one line, with the failed one below it."""
    repos = [span(f"sync.repo acme/{n:02}", n, 1, n, n + 1, error="gone" if n == 0x30 else None) for n in range(2, 102)]
    store(path, batch(*repos, span(PIPELINE, 1, 0, 0, 400)))
    assert shape_of(path) == f"{PIPELINE} 1\n  sync.repo * x100 (1 failed)\n    sync.repo acme/48 30"


HOSTILE = "\x1b[2J\x1b]8;;http://evil\x07[red]x[/red]\u202e\u200b\r\n\ud800"[:-1]


def test_hostile_text_never_reaches_the_terminal(path: Path) -> None:
    """Escapes, markup, line breaks, overrides and megabytes are shown as what they are, whoever draws."""
    hostile = HOSTILE + "y" * 100_000
    store(
        path,
        batch(
            span(hostile, 2, 1, error=hostile, vcs__change__id=hostile, sync__repo=hostile, error__type=hostile),
            span(f"sync.pipeline {hostile}", 1, 0, 0, 9, sync=hostile, sync__pipeline=hostile, sync__outcome=hostile),
            logs=[log(hostile, 2, 1, level=hostile, title=hostile)],
        ),
    )
    plain = drawn(path)
    assert all(character.isprintable() or character == "\n" for character in plain)
    assert all(len(line) <= 120 for line in plain.splitlines())
    assert r"\x1b[2J\x1b]8;;http://evil\x07[red]x[/red]\u202e\u200b\r\n" in plain
    colored = drawn(path, color=True)
    assert "[red]" in colored
    for escape in ("\x1b[2J", "\x1b]8", "\u202e", "\x07"):
        assert escape not in colored


def test_a_terminal_gets_colours_and_blocks(path: Path) -> None:
    """On a terminal rich draws; without its escapes the text is the same, but for the bars."""
    store(path, batch(*small_run()))
    colored = drawn(path, color=True)
    assert "\x1b[" in colored
    assert "█" in colored
    assert "▒" in colored
    import re

    bare = re.sub(r"\x1b\[[0-9;]*m", "", colored).replace("█", "#").replace("▒", "=")
    assert [line.rstrip() for line in bare.splitlines()] == drawn(path).splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("color", [False, True])
def test_no_line_is_wider_than_the_terminal(path: Path, width: int, color: bool) -> None:
    """Whatever the width, the tree keeps within it."""
    import re

    store(path, batch(*small_run()))
    text = re.sub(r"\x1b\[[0-9;]*m", "", drawn(path, width=width, color=color))
    assert max(cells(line) for line in text.splitlines()) <= width


def test_an_ascii_terminal_gets_ascii(path: Path) -> None:
    """What the encoding of the output does not have is shown by its code."""
    store(path, batch(span("sync.pipeline émigré", 1)))
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    render_run(path, None, file=file)
    file.flush()
    assert rb"sync.pipeline \xe9migr\xe9" in raw.getvalue()


# --json


def spans_as_json(path: Path) -> list[dict[str, Any]]:
    with open_store(path) as opened:
        return list(outline_json(RunTree(opened, find_run(opened))))


def test_a_span_as_otlp_json(path: Path) -> None:
    """The names are OTLP/JSON's, times are decimal strings, attributes a plain object."""
    store(path, batch(span("sync.pr", 4, 3, 1, 2, error="ValueError: x", tries=2)))
    assert spans_as_json(path) == [
        {
            "traceId": TRACE,
            "spanId": "0000000000000004",
            "parentSpanId": "0000000000000003",
            "name": "sync.pr",
            "kind": 1,
            "startTimeUnixNano": str(START + 1_000_000),
            "endTimeUnixNano": str(START + 2_000_000),
            "status": {"code": 2, "message": "ValueError: x"},
            "attributes": {"sync.id": SYNC_ID, "tries": 2},
        }
    ]


def test_rolled_up_spans_are_their_slowest_one(path: Path) -> None:
    """A group is a real span of it, with a field that tells of the others; failed ones follow."""
    store(path, batch(*small_run()))
    told = [(fields["name"], fields["spanId"][-3:], fields.get("rollup")) for fields in spans_as_json(path)]
    figures = {"count": 6, "failed": 0, "p50Ms": 7.078, "p95Ms": 9.961}
    assert told == [
        (PIPELINE, "001", None),
        ("sync.repo acme/api", "002", None),
        ("sync.api list_pull_requests", "010", None),
        ("sync.pr", "105", figures),
        ("sync.api list_pull_requests", "020", None),
        ("sync.pr", "205", figures | {"failed": 1}),
        ("sync.pr", "203", None),
        ("sync.repo acme/web", "003", None),
        ("sync.pr", "300", None),
    ]


def test_the_short_way_to_json_says_the_same(path: Path) -> None:
    """Put together from text or parsed: one span, one JSON."""
    store(
        path,
        batch(
            *small_run(), span("é\x1b\x7f", 0x77, 1, title='é\x7f\u202e\n"'), started=[span("open", 0x78, 1, 1, None)]
        ),
    )
    everything = "WHERE trace_id = ? ORDER BY start_ns, span_id"
    with open_store(path) as opened:
        texts = list(otlp_texts(opened, everything, (TRACE,), {}))
        spans = [otlp_json(one) for one in read(opened, everything, (TRACE,))]
    assert [json.loads(text) for text in texts] == spans
    assert len(texts) == 20
    assert all(text.isascii() and text.isprintable() for text in texts)


# Finding a run


def two_runs(path: Path) -> Path:
    """A run, a later run, and a trace that is none."""
    first = span("sync.pipeline a", 1, 0, 0, 5, sync="202508022027-SYNC-AB12CD34", trace="ab12cd34" + "0" * 24)
    second = span("sync.pipeline b", 2, 0, 10, 15, sync="202508022028-SYNC-AB99EF00", trace="ab99ef00" + "0" * 24)
    other = span("GET /", 3, 0, 20, 25, sync=None, trace="cc" + "0" * 30)
    return store(path, batch(first, second, other))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, "sync.pipeline b"),
        ("202508022027-SYNC-AB12CD34", "sync.pipeline a"),
        ("202508022027", "sync.pipeline a"),
        ("202508022027-sync-ab", "sync.pipeline a"),
        ("AB12", "sync.pipeline a"),
        ("ab9", "sync.pipeline b"),
        ("ab99ef00" + "0" * 24, "sync.pipeline b"),
        ("cc", "GET /"),
    ],
)
def test_a_run_is_found_by_what_its_ids_begin_with(path: Path, wanted: str | None, found: str) -> None:
    """A sync id, its hexadecimal part or a trace id, from the left; without any the latest run."""
    with open_store(two_runs(path)) as opened:
        assert find_run(opened, wanted).root_name == found


def test_an_ambiguous_prefix_names_the_candidates(path: Path) -> None:
    """Nothing is guessed."""
    with open_store(two_runs(path)) as opened, pytest.raises(RunNotFoundError) as error:
        find_run(opened, "ab")
    assert str(error.value) == (
        "'ab' may be any of these; give more of it:\n  202508022027-SYNC-AB12CD34  a\n  202508022028-SYNC-AB99EF00  b"
    )


@pytest.mark.parametrize("wanted", ["ff", "%", "_", "", "20250802202%", "\x1b[31m"])
def test_an_unknown_run_is_an_error(path: Path, wanted: str) -> None:
    """What is no prefix finds nothing, wildcards included, and is shown harmlessly."""
    with open_store(two_runs(path)) as opened, pytest.raises(RunNotFoundError, match="no run is called") as error:
        find_run(opened, wanted)
    assert "\x1b" not in str(error.value)


def test_traces_with_one_sync_id_are_one_run(path: Path) -> None:
    """Of several traces that carry a sync id, the one with the pipeline is meant."""
    store(path, batch(span("celery.run", 2, 0, 0, 1, trace="aa" * 16), span(PIPELINE, 1, 0, 5, 9)))
    with open_store(path) as opened:
        assert find_run(opened, SYNC_ID).trace_id == TRACE


def test_runs_are_listed_latest_first(path: Path) -> None:
    """Traces without a pipeline only if asked for."""

    def names(runs: list[Run]) -> list[str | None]:
        return [run.root_name for run in runs]

    with open_store(two_runs(path)) as opened:
        assert names(recent_runs(opened)) == ["sync.pipeline b", "sync.pipeline a"]
        assert names(recent_runs(opened, most=1)) == ["sync.pipeline b"]
        assert names(recent_runs(opened, every_trace=True)) == ["GET /", "sync.pipeline b", "sync.pipeline a"]


def attempts(*, trace: str = TRACE, sync: str | None = None) -> list[bytes]:
    """A task that was published, and tried four times: twice put back, once killed, then redelivered and done."""

    def of(number: int, outcome: str, start: float, *, error: str | None = None, **more: Any) -> bytes:
        given: dict[str, Any] = {"sync__outcome": outcome, "sync__attempt": number, **more}
        return span(
            "run/proj.add",
            0x20 + number,
            0x10 + number,
            start,
            start + 50,
            kind=5,
            error=error,
            trace=trace,
            sync=sync,
            **given,
        )

    publishes = [
        span(
            "apply_async/proj.add",
            0x10 + n,
            0x11 if n > 1 else 0,
            100 * n - 90,
            100 * n - 88,
            kind=4,
            trace=trace,
            sync=sync,
        )
        for n in range(1, 5)
    ]
    return [
        *publishes,
        of(1, "retry", 12, celery__retry__reason="ConnectionError: no"),
        of(2, "retry", 120, sync__queue__wait_seconds=3.25),
        of(3, "interrupted", 215, error="the process was killed"),
        of(4, "success", 320, sync__redelivered=True, sync__queue__wait_seconds=0.004),
    ]


def test_attempts_of_a_task(path: Path) -> None:
    """Each attempt has a line that says which it is, how it went, and how long it has waited in the queue."""
    store(path, batch(*attempts()))
    assert drawn(path).startswith(f"proj.add  {TRACE}\nsuccess after 360ms, started 2025-08-02 20:27:00 UTC")
    assert tree_of(path) + "\n" == (
        """\
apply_async/proj.add                         |#                   |  2.00ms
  run/proj.add                               |###                 |  50.0ms  retry  because ConnectionError: no
  apply_async/proj.add                       |     #              |  2.00ms
    run/proj.add                             |      ###           |  50.0ms  retry  attempt 2, queued 3.25s
  apply_async/proj.add                       |           #        |  2.00ms
    run/proj.add                             |           ####     |  50.0ms  interrupted  attempt 3
      ! the process was killed
  apply_async/proj.add                       |                #   |  2.00ms
    run/proj.add                             |                 ###|  50.0ms  success  attempt 4, redelivered
"""
    )


@pytest.mark.parametrize(
    ("spans", "state"),
    [
        ([span("apply_async/x", 1, kind=4, sync=None)], "published"),
        ([span("run/x", 1, kind=5, sync=None, error="no")], "failure"),
        ([span("apply_async/x", 1, kind=4, sync=None), span("run/x", 2, 1, 2, 9, sync=None, error="no")], "failure"),
        ([span("apply_async/x", 1, kind=4, sync=None), span("run/x", 2, 1, 2, 9, sync=None)], "success"),
        ([span("run/x", 1, sync=None, sync__outcome="retry")], "running"),
        ([span("run/x", n, sync=None, sync__outcome=o) for n, o in enumerate(("retry", "failure"), 1)], "failure"),
        ([span("run/x", n, sync=None, sync__outcome=o) for n, o in enumerate(("success", "failure"), 1)], "partial"),
        (
            [span("run/x", n, sync=None, sync__outcome=o) for n, o in enumerate(("interrupted", "success"), 1)],
            "success",
        ),
        ([span("run/x", 1, sync=None, sync__outcome="cancelled")], "cancelled"),
        ([span("run/x", 1, sync=None, sync__outcome="interrupted", error="killed")], "interrupted"),
    ],
)
def test_how_a_task_went(path: Path, spans: list[bytes], state: str) -> None:
    """Without a pipeline the runs of a trace say how it went, and not the publish at its root."""
    store(path, batch(*spans))
    with open_store(path) as opened:
        (run,) = recent_tasks(opened)
        assert (run.title, run.state, find_run(opened)) == ("x", state, run)


def test_a_task_that_is_running(path: Path) -> None:
    """A trace whose task has begun and not ended is running, though its root has ended."""
    published = span("apply_async/x", 1, kind=4, sync=None)
    store(path, batch(published, started=[span("run/x", 2, 1, 5, None, sync=None)]))
    with open_store(path) as opened:
        assert [run.state for run in recent_tasks(opened)] == ["running"]
        assert [run.state for run in recent_runs(opened, every_trace=True)] == ["running"]


def test_a_pipeline_goes_before_tasks(path: Path) -> None:
    """The latest run is a pipeline if there is one, however many tasks came later."""
    store(
        path,
        batch(span(PIPELINE, 1, sync__pipeline="nightly"), span("run/x", 1, 0, 50, 60, trace="ab" * 16, sync=None)),
    )
    with open_store(path) as opened:
        assert find_run(opened).title == "nightly"
        assert [run.title for run in recent_tasks(opened)] == ["x"]


def test_a_store_that_is_none_is_an_error(path: Path) -> None:
    """Nothing there, another program's file, or garbage: each says so."""
    with pytest.raises(RunNotFoundError, match="nothing has been recorded yet"), open_store(path):
        pass
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE pets (name TEXT)")
    with pytest.raises(StoreError, match="of another program"), open_store(path):
        pass
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="cannot be read"), open_store(path):
        pass


# Text and figures


@given(st.text(), st.one_of(st.none(), st.integers(0, 60)))
def test_printable_text_is_visible_and_fits(text: str, width: int | None) -> None:
    """Whatever comes in, no character moves the cursor, hides or reorders, and no line is longer than it may be."""
    shown = printable(text, width)
    assert shown.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in shown)
    if width is not None:
        assert cells(shown) <= width


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=30), st.integers(1, 40))
def test_padded_text_takes_exactly_its_width(text: str, width: int) -> None:
    """Wide characters count as two cells, and columns stay straight."""
    assert cells(pad(printable(text), width)) == width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("acme/api", "acme/api"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\tc\x7f", r"a\nb\tc\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("日本語", "日本語"),
        ("e\u0301\u0301\u0301", "e\u0301\u0301\\u0301"),
        ("\u0301x", r"\u0301x"),
        ("\ud800", r"\ud800"),
        (17, "17"),
    ],
)
def test_printable_text(text: object, shown: str) -> None:
    """Letters of any script stay; what is not plainly visible is named."""
    assert printable(text) == shown


def test_cut_text_says_so() -> None:
    """An ellipsis stands for what is missing, and wide characters are not halved."""
    assert cut("abcdef", 4) == "abc…"
    assert cut("日本語", 4) == "日…"
    assert printable("x" * 10_000_000, 5) == "xxxx…"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (-5, "0ns"),
        (999, "999ns"),
        (1_000, "1.00us"),
        (12_345_678, "12.3ms"),
        (999_600_000, "1.00s"),
        (99_940_000_000, "99.9s"),
        (125_000_000_000, "2m05s"),
        (3_599_700_000_000, "1h00m"),
        (3_725_000_000_000, "1h02m"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    """Three digits and a unit."""
    assert duration(nanoseconds) == text


@given(st.integers(0, 2**63 - 1))
def test_any_duration_is_short(nanoseconds: int) -> None:
    """It fits its column as long as a person lives."""
    assert len(duration(nanoseconds)) <= (7 if nanoseconds < 3_600_000_000_000 * 900 else 14)


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=30)
def test_any_time_can_be_written(nanoseconds: int) -> None:
    """Times beyond the calendar are its last second, not an error."""
    assert timestamp(nanoseconds).endswith("Z")


def test_json_is_ascii_without_controls() -> None:
    """JSON goes to terminals too."""
    assert json_line({"a": "é\x7f\x1b\u202e"}) == '{"a":"\\u00e9\\u007f\\u001b\\u202e"}'
