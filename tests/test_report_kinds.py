"""Reports of any sync: groups and items of any kind, batches, waits, errors by reason, and sums that hold."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs_to_report import PIPELINE, nightly, orders
from stored import SYNC_ID, batch, span, store

from otelsync.reports.grouping import grouping
from otelsync.reports.summary import summarize
from otelsync.reports.writing import write_report
from otelsync.store.account_reading import read_account
from otelsync.store.runs import find_run, open_store, traces_of
from otelsync.text.item_counts import apart, items_line
from otelsync.text.reasons import LONGEST, reason_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def report(path: Path, *spans: bytes, **options: Any) -> Path:
    if spans:
        store(path, batch(*spans))
    return write_report(path, SYNC_ID, path.parent / "reports", **options)


def figures(path: Path, *spans: bytes, **options: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((report(path, *spans, **options) / "summary.json").read_text())
    return loaded


def summary(path: Path, *spans: bytes, **options: Any) -> str:
    return (report(path, *spans, **options) / "_SYNC_SUMMARY.md").read_text()


# Groups


def test_a_run_is_divided_by_its_outermost_groups(path: Path) -> None:
    """Customers with boards in them: by customer, with unknown actions and items without one, and the sum of all."""
    folder = report(path, *orders())
    document = (folder / "_SYNC_SUMMARY.md").read_text()
    assert (
        """\
## By customer

| customer | status | fetched | created | updated | unchanged | skipped | failed | creatd | no action | errors | API calls | time | waited |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| [GREYSON](greyson.md) | partial | 5 | 2 | 0 | 0 | 0 | 1 | 1 | 1 | 1 | 0 | 90.0ms | 10.0ms |
| [PELOTON](peloton.md) | failure | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 1 | 20.0ms | 0 |
| **all** | **partial** | **5** | **2** | **0** | **0** | **0** | **1** | **1** | **1** | **2** | **1** | **200ms** | **10.0ms** |
"""  # noqa: E501  # a table's rows are lines
        in document
    )
    assert "- Items: 5 fetched = 2 created + 1 failed + 1 creatd + 1 without an action\n" in document
    assert "do not reconcile" not in document
    assert '<h2 id="groups">By customer</h2>' in (folder / "waterfall.html").read_text()


def test_the_file_of_a_group_names_its_items_by_their_kind(path: Path) -> None:
    """Failed orders, with the board that they are of; the slowest are of several kinds, which are named."""
    document = (report(path, *orders()) / "greyson.md").read_text()
    assert "- Boards: men\n" in document
    assert (
        """\
## Failed orders

| id | board | title | error | took | span id | trace id |
| --- | --- | --- | --- | ---: | --- | --- |
| 105 | men |  | ValueError: no label | 5.00ms |"""
        in document
    )
    assert "## Slowest items\n\n| id | kind | board | title |" in document
    assert "| s1 | sub-item | men |" in document


def test_a_group_s_own_exception_stands_in_its_file(path: Path) -> None:
    """Type and message, and the traceback from where it arose, though it only passed through the group."""
    document = (report(path, *orders()) / "peloton.md").read_text()
    assert (
        """\
## Why it failed

TimeoutError: no answer in 30 s (span 0000000000000020, trace 765151e9000000000000000000000001)

    Traceback (most recent call last):
      File "sync.py", line 7, in send
    TimeoutError: no answer in 30 s
"""
        in document
    )
    assert "- Errors: 1\n" in document


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, ["GREYSON", "PELOTON"]),
        ("customer", ["GREYSON", "PELOTON"]),
        ("board", ["men"]),
        ("sync.board", ["men"]),
        ("repo", []),
        ("team", []),
    ],
)
def test_what_a_run_can_be_divided_by(path: Path, wanted: str | None, names: list[str]) -> None:
    """A kind of its groups, or an attribute; what belongs to none is outside, and the sum stays the same."""
    found = figures(path, *orders(), group_by=wanted)
    assert [group["name"] for group in found["groups"]] == names
    assert found["items"]["fetched"] == 5
    assert sum(group["errors"] for group in [*found["groups"], found["outside"]]) == found["error_count"] == 2
    assert found["reconciles"]


def test_repos_are_the_groups_of_a_run_without_any(path: Path) -> None:
    """Then there are none, and nothing is said of them."""
    found = figures(path, span(PIPELINE, 1, 0, 0, 9, sync__outcome="success"))
    assert (found["group_by"], found["groups"]) == ("repo", [])


def test_of_kinds_side_by_side_the_most_frequent_is_taken(path: Path) -> None:
    """One phase before two customers: by customer."""
    spans = [
        span("sync.phase prepare", 2, 1, 1, 2, sync__outcome="success"),
        span("sync.customer a", 3, 1, 3, 4, sync__outcome="success"),
        span("sync.customer b", 4, 1, 5, 6, sync__outcome="success"),
        span(PIPELINE, 1, 0, 0, 9, sync__outcome="success"),
    ]
    assert figures(path, *spans)["group_by"] == "customer"


def test_errors_of_items_name_them(path: Path) -> None:
    """In the table of errors an order is called by its kind and key."""
    assert "| ValueError | men order 105 |" in summary(path, *orders())


# Batches and waits


def test_the_success_rate_of_batches(path: Path) -> None:
    """By name: how many there were and how many succeeded, in the run and in each group."""
    folder = report(path, *orders())
    row = "| orders | 2 | 1 | 1 | 50.0% | 5 | 21.5ms | 29.0ms |"
    for name in ("_SYNC_SUMMARY.md", "greyson.md"):
        assert row in (folder / name).read_text(), name
    assert "## Batches" not in (folder / "peloton.md").read_text()
    (batches,) = json.loads((folder / "summary.json").read_text())["batches"]
    assert (batches["count"], batches["succeeded"], batches["items"]) == (2, 1, 5)


def test_a_stage_of_kind_waiting_is_a_wait(path: Path) -> None:
    """In the waits, in what was waited, in where the time went, and in the waterfall."""
    folder = report(path, *orders())
    found = json.loads((folder / "summary.json").read_text())
    assert found["waits"] == [
        {"kind": "cool_down", "count": 1, "planned_seconds": 0.0, "actual_seconds": 0.01, "longest_seconds": 0.01}
    ]
    assert (found["waited_seconds"], found["time_seconds"]["waiting"]) == (0.01, 0.01)
    assert 'class="k-waiting" x="280.0"' in (folder / "waterfall.html").read_text()


# Errors by reason


def test_151_failures_with_three_reasons_are_three_lines(path: Path) -> None:
    """Numbers, ids and quoted values make no other reason; each line has its count and an example."""
    messages = ["order {n}: no title in 'Shirt {n}'", 'label "L{n}" is unknown to board {hexadecimal}', "{n} is taken"]
    spans = [
        span(
            "sync.order",
            0x100 + n,
            1,
            n,
            n + 1,
            sync__item__id=str(n),
            sync__action="failed",
            error=messages[n % 3].format(n=n, hexadecimal=f"{n * 7919:016x}"),
            error__type="ValueError",
            sync__part__key=f"{n:08x}",
        )
        for n in range(151)
    ]
    root = span(PIPELINE, 1, 0, 0, 500, sync__outcome="partial", sync__items__fetched=151, sync__items__failed=151)
    found = figures(path, *spans, root)
    assert found["error_count"] == 151
    assert [(error["count"], error["reason"]) for error in found["errors"]] == [
        (51, "order …: no title in …"),
        (50, "label … is unknown to board …"),
        (50, "… is taken"),
    ]
    assert found["errors"][0]["message"] == "order 0: no title in 'Shirt 0'"
    assert [at["key"] for at in found["errors"][0]["occurrences"]] == [str(n) for n in range(0, 30, 3)]
    assert len(found["outside"]["failed"]) == 100
    assert found["outside"]["failed_count"] == 151


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("order 3f2b8c1e-1111-2222-3333-444455556666 is gone", "order … is gone"),
        ("<Order object at 0x7f12ab34>", "<Order object at …>"),
        ("rows [1, 2, 3] of 4,711", "rows […] of …"),
        ("commit a1b2c3d4 of acme", "commit … of acme"),
        ("404 for https://me:pw@api.io:8080/v3/orders/4711?page=2", "… for https://api.io/v3/orders/…"),
        ("can't read 'a' or \u2018b\u2019", "can't read … or …"),
        ("mail to jane.doe@example.org bounced", "mail to … bounced"),
        ("at 2025-08-02T20:27:00.123 took 1.5 s", "at … took … s"),
        ("an internationalization facade", "an internationalization facade"),
        ("", ""),
    ],
)
def test_reasons(message: str, reason: str) -> None:
    """What differs from one error to the next is taken out, words stay."""
    assert reason_of(message) == reason


@pytest.mark.parametrize(
    "piece",
    ["'", '"', "a'", "http://", "0-", "a:", "[0", "abcdef", "a-", "'a ", "0x", "z", "\u2018", "1,", "a+.-", "a@"],
)
def test_hostile_messages_are_no_trap(piece: str) -> None:
    """However long a message is and whatever it repeats, it is done in a moment, and bounded."""
    began = time.perf_counter()
    assert len(reason_of(piece * 300_000)) <= LONGEST
    assert time.perf_counter() - began < 1


def test_reasons_are_bounded(path: Path) -> None:
    """Beyond a hundred reasons those of a type are one; every error is counted."""
    words = [f"{'abcdefghij'[n // 100]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n % 10]}" for n in range(300)]
    spans = [
        span("sync.order", 0x100 + n, 1, n, n + 1, error=f"no {word}", error__type="E", sync__action="failed")
        for n, word in enumerate(words)
    ]
    found = figures(path, *spans, span(PIPELINE, 1, 0, 0, 500, sync__outcome="failure"))
    assert sum(error["count"] for error in found["errors"]) == 300
    assert (len(found["errors"]), found["errors"][0]["reason"]) == (101, "(other)")


# Sums


def test_a_line_of_items() -> None:
    """Known actions come first, then others; what has none, what is too much and what was counted beside are said."""
    assert items_line(3, {"creatd": 1, "created": 1}) == "3 fetched = 1 created + 1 creatd + 1 without an action"
    assert items_line(1, {"created": 2}, {"lines": 9}) == "1 fetched = 2 created (1 more than were fetched); 9 lines"
    assert items_line(0, {}) == "0 fetched = 0"


def test_totals_of_a_stage_are_told_apart() -> None:
    """An unknown name is an action if it fits into what was fetched."""
    assert apart({"fetched": 2, "created": 1, "creatd": 1}) == (2, {"created": 1, "creatd": 1}, {})
    assert apart({"fetched": 1, "created": 1, "lines": 9}) == (1, {"created": 1}, {"lines": 9})


def test_a_count_of_another_name_is_no_action(path: Path) -> None:
    """What a stage counts beside its items stands behind them."""
    stage = span(
        "sync.customer a", 2, 1, 1, 3, sync__counted__created=2, sync__counted__lines=9, sync__outcome="success"
    )
    root = span(
        PIPELINE,
        1,
        0,
        0,
        9,
        sync__items__fetched=2,
        sync__items__created=2,
        sync__items__lines=9,
        sync__outcome="success",
    )
    document = summary(path, stage, root)
    assert "- Items: 2 fetched = 2 created; 9 lines\n" in document
    assert "do not reconcile" not in document


def test_names_of_actions_are_bounded(path: Path) -> None:
    """However many there are, some are told apart, and the others are one."""
    items = [span("sync.order", 0x100 + n, 1, n, n + 1, sync__action=f"{n}|**") for n in range(100)]
    found = figures(path, *items, span(PIPELINE, 1, 0, 0, 500, sync__outcome="success"))
    assert (len(found["items"]), found["items"]["(other)"]) == (6 + 31, 70)
    assert r"1 0\|\*\* +" in (path.parent / "reports" / SYNC_ID / "_SYNC_SUMMARY.md").read_text()


def test_the_run_before_is_read_in_short_and_counts_the_same(path: Path) -> None:
    """Items that went well are summed up by the store: figures by group stay what they are."""
    store(path, batch(*orders()))
    with open_store(path) as opened:
        run = find_run(opened)
        for wanted in (None, "board", "team"):
            divided = grouping(opened, traces_of(opened, run), wanted)
            whole, short = (summarize(opened, run, divided, in_short=in_short) for in_short in (False, True))
            assert [group.items for group in short.groups] == [group.items for group in whole.groups]
            assert [group.outcome for group in short.groups] == [group.outcome for group in whole.groups]
            assert (short.items, short.outside.items, short.errors) == (whole.items, whole.outside.items, whole.errors)


def test_what_fails_only_now_is_named_by_its_kind(path: Path) -> None:
    """Compared with a run in which the same order went well."""
    day = 86_400_000
    ids = {"trace": "0badcafe" + "0" * 24, "sync": "202508012027-SYNC-0BADCAFE"}
    root = {"sync__pipeline": "nightly", "sync__outcome": "success"}
    before = span("sync.pipeline nightly", 1, 0, -day, 9 - day, **ids, **root)  # type: ignore[arg-type]
    now = [
        span("sync.order", 2, 1, 1, 2, sync__item__id="7", sync__action="failed", error="no label", sync__customer="A"),
        span("sync.pipeline nightly", 1, 0, 0, 9, **{**root, "sync__outcome": "failure"}),  # type: ignore[arg-type]
    ]
    found = figures(store(path, batch(before), batch(*now)))["previous"]
    assert (found["new_failures"], found["new_errors"]) == (["order 7"], ["error: no label"])


outcomes = st.sampled_from(["success", "partial", "failure", "cancelled", "retry"])
counts = st.dictionaries(st.sampled_from(["fetched", "created", "failed", "lines"]), st.integers(0, 5), max_size=2)
names = ["sync.customer a", "sync.customer b", "sync.repo r", "sync.api list", "sync.batch x", "run/work"]
moments, durations = st.integers(0, 50), st.integers(1, 50)
stages = st.tuples(st.sampled_from(names), st.integers(0, 8), moments, durations, outcomes, counts)
actions = st.sampled_from(["created", "creatd", "failed", ""])
items = st.tuples(st.integers(0, 8), st.integers(0, 90), actions, st.booleans())


@given(st.lists(stages, max_size=8), st.lists(items, max_size=12))
@settings(max_examples=60, deadline=None)
def test_groups_add_up_to_the_account_of_the_run(
    tmp_path_factory: pytest.TempPathFactory, some: list[Any], several: list[Any]
) -> None:
    """Whatever outlives what, and whoever counted by hand: items and errors of all groups are those of the run."""
    path = tmp_path_factory.mktemp("run") / "store.db"
    spans = [span(PIPELINE, 1, 0, 0, 60, sync__outcome="success")]
    for number, (name, parent, start, took, outcome, counted) in enumerate(some):
        ours: dict[str, Any] = {f"sync__counted__{key}": value for key, value in counted.items()}
        ours |= {"error": "no", "sync__part__key": name} if outcome == "failure" else {}
        ours |= {"sync__outcome": outcome, "kind": 5 if name.startswith("run/") else 1}
        began = start + number / 1000  # of those that end together the inner one began later
        spans.append(span(name, number + 2, min(parent, number) + 1, began, start + took, **ours))
    for number, (parent, start, action, is_failed) in enumerate(several):
        ours = {"sync__action": action, **({"error": "no"} if is_failed else {})}
        spans.append(span("sync.order", 0x100 + number, min(parent, len(some)) + 1, start + 0.5, start + 1.5, **ours))
    store(path, batch(*spans))
    with open_store(path) as opened:
        run = find_run(opened)
        account, _ = read_account(opened, [run.trace_id], run.root_span_id)
        found = summarize(opened, run, grouping(opened, [run.trace_id]))
    told = {name: count for name, count in found.items.by_name().items() if count}
    assert told == {name: count for name, count in account.totals.items() if count}
    assert (found.error_count, found.outcome) == (len(account.errors), account.outcome)
    assert sum(group.errors for group in (*found.groups, found.outside)) == len(account.errors)
    assert sum(error.count for error in found.errors) == len(account.errors)


def test_a_run_in_the_middle_says_what_has_failed_so_far(path: Path) -> None:
    """Items and errors in stages that still run count in the report, and in the account that `list` shows."""
    orders = [
        span("sync.order", 0x100, 2, 3, 4, sync__customer="A", sync__item__id="7", sync__action="failed", error="no"),
        span("sync.order", 0x101, 2, 4, 5, sync__customer="A", sync__item__id="8", sync__action="created"),
    ]
    begun = [
        span(PIPELINE, 1, 0, 0, None, sync__pipeline="nightly"),
        span("sync.customer A", 2, 1, 1, None, sync__group__kind="customer"),
    ]
    found = figures(store(path, batch(*orders, started=begun)))
    assert (found["outcome"], found["items"]["fetched"], found["error_count"]) == ("running", 2, 1)
    assert [(group["outcome"], group["errors"]) for group in found["groups"]] == [("running", 1)]
    assert [item["key"] for item in found["groups"][0]["failed"]] == ["7"]
    with open_store(path) as opened:
        account = find_run(opened).account
        assert account is not None
        assert (account.totals["fetched"], account.error_count) == (2, 1)


def test_a_pull_request_is_still_one(path: Path) -> None:
    """A run of repos reads as it did: by repo, failed pull requests, their numbers."""
    folder = report(path, *nightly())
    assert "## By repo\n" in (folder / "_SYNC_SUMMARY.md").read_text()
    assert "## Failed pull requests\n\n| number | repo | title |" in (folder / "acme-api.md").read_text()
    assert "| acme/api #2 |" in (folder / "_SYNC_SUMMARY.md").read_text()
