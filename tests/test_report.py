from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runs_to_report import BEFORE_SYNC, HOSTILE, PIPELINE, hostile, nightly, reported
from stored import SYNC_ID, TRACE, batch, span, store

from otelsync.cli import main
from otelsync.errors import RunNotFoundError
from otelsync.reports.writing import ReportError, write_report
from otelsync.shipping.ledger import Account, Ledger

ALL_FAILED: dict[str, Any] = {"sync__parts": 1, "sync__parts__failed": 1}
"""Attributes of a stage that failed because its only part did."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store.db"


def report(path: Path, sync_id: str | None = SYNC_ID, **options: Any) -> Path:
    return write_report(path, sync_id, path.parent / "reports", **options)


def figures(path: Path, **options: Any) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    loaded: dict[str, Any] = json.loads((report(path, **options) / "summary.json").read_text())
    return loaded


def summary(path: Path, **options: Any) -> str:
    return (report(path, **options) / "_SYNC_SUMMARY.md").read_text()


def run(*arguments: str, home: Path) -> Result:
    return CliRunner().invoke(main, ["report", *arguments, "--home", str(home)])


def listed(folder: Path) -> list[str]:
    """The names of what is in a folder."""
    return [entry.name for entry in folder.iterdir()]


def section(document: str, title: str) -> str:
    """What stands under a heading."""
    return document.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0].partition("\n\n")[2].rstrip("\n")


def counted(**items: int) -> dict[str, Any]:
    """Attributes of a stage with counts by hand."""
    return {f"sync__{what}__{name}": number for name, number in items.items() for what in ("items", "counted")}


def test_the_folder_of_a_run(path: Path) -> None:
    """It is named by the sync id, and holds the summary, the figures, the page and a file a repo, all private."""
    folder = report(reported(path))
    assert folder == path.parent / "reports" / SYNC_ID
    assert sorted(listed(folder)) == [
        "_SYNC_SUMMARY.md",
        "acme-api.md",
        "acme-web.md",
        "summary.json",
        "waterfall.html",
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert listed(folder.parent) == [SYNC_ID]


def test_the_table_of_repos(path: Path) -> None:
    """A line for each repo, with what became of its items, its API calls, its time and what it waited; then the sum."""
    assert section(summary(reported(path)), "By repo") == (
        """\
| repo | status | fetched | created | updated | unchanged | skipped | failed | errors | API calls | time | waited |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| [acme/api](acme-api.md) | partial | 2 | 1 | 0 | 0 | 0 | 1 | 1 | 1 | 400ms | 100ms |
| [acme/web](acme-web.md) | success | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 100ms | 0 |
| **all** | **partial** | **3** | **1** | **0** | **0** | **1** | **1** | **1** | **1** | **1.00s** | **100ms** |"""
    )


def test_where_the_time_went(path: Path) -> None:
    """Own times add up to the whole of a run in which nothing is parallel, each under what the span stands for."""
    assert figures(reported(path))["time_seconds"] == {
        "api": 0.15,  # 290 ms of the call, without 100 of waiting and 40 of pull requests
        "waiting": 0.1,
        "database": 0.02,
        "queue": 0.0,
        "llm": 0.1,  # the stage, with its request
        "own": 0.63,
    }


def test_errors_by_type(path: Path) -> None:
    """An error counts once, where it arose, with its log record's id, its span and its trace."""
    found = figures(reported(path))
    assert found["error_count"] == 1
    (error,) = found["errors"]
    (at,) = error.pop("occurrences")
    assert error == {
        "type": "ValueError",
        "reason": "ValueError: no title",
        "count": 1,
        "message": "ValueError: no title",
        "stages": {"sync.pr": 1},
    }
    assert at == {
        "trace_id": TRACE,
        "span_id": "0000000000000102",
        "name": "sync.pr",
        "group": "acme/api",
        "kind": "pr",
        "key": "2",
        "ended_at": "2025-08-02T20:27:00.240000000Z",
        "log": "pr-007 sync.pr.failed",
        "logged_at": "2025-08-02T20:27:00.240000000Z",
    }


def test_an_error_that_goes_through_stages_counts_once(path: Path) -> None:
    """The stages that fail because one below them does are no errors of their own."""
    spans = [
        span("sync.api list", 3, 2, 1, 2, error="TimeoutError: late", error__type="TimeoutError"),
        span(
            "sync.repo a/b",
            2,
            1,
            1,
            3,
            error="TimeoutError: late",
            sync__outcome="failure",
            sync__repo="a/b",
            sync__error__passed=True,
        ),
        span(PIPELINE, 1, 0, 0, 4, error="its only part failed", sync__outcome="failure", **ALL_FAILED),
    ]
    found = figures(store(path, batch(*spans)))
    assert [(error["type"], error["count"], error["stages"]) for error in found["errors"]] == [
        ("TimeoutError", 1, {"sync.api list": 1})
    ]
    assert found["error"] == "its only part failed"


def test_retries(path: Path) -> None:
    """Requests sent again, the reasons that were logged, and requests that failed in a stage that did not."""
    assert figures(reported(path))["retries"] == {
        "parts": 0,
        "recovered": 0,
        "tasks": 0,
        "resent": 1,
        "by_reason": {"server": 1},
        "failed_requests": 1,
    }


def test_requests_that_an_instrumentation_saw_sent_again(path: Path) -> None:
    """They count, unless the API call around them counts its attempts itself; so do the waits between them."""
    again = {"kind": 3, "http__request__resend_count": 1}
    spans = [
        span("GET", 4, 2, 2, 3, **again),  # type: ignore[arg-type]
        span("sync.retry.wait", 6, 2, 1, 2, sync__retry__planned_seconds=0.002, sync__retry__reason="server"),
        span("sync.api list", 2, 1, 1, 4),
        span("GET", 5, 3, 6, 7, **again),  # type: ignore[arg-type]
        span("sync.api list", 3, 1, 5, 8, sync__api__attempts=2),
        span(PIPELINE, 1, 0, 0, 9, sync__outcome="success"),
    ]
    found = figures(store(path, batch(*spans)))
    assert found["retries"]["resent"] == 2
    assert [(wait["kind"], wait["planned_seconds"], wait["actual_seconds"]) for wait in found["waits"]] == [
        ("retry (server)", 0.002, 0.001)
    ]


def test_rate_limits(path: Path) -> None:
    """What was left when it was last seen, and waits as planned and as they were."""
    found = figures(reported(path))
    assert found["rate_limits"] == [
        {
            "resource": "",
            "limit": 5000,
            "remaining": 4321,
            "lowest": 4321,
            "reset_at": "2025-08-02T21:27:00.000000000Z",
            "seen_at": "2025-08-02T20:27:00.300000000Z",
            "reset_is_assumed": False,
        }
    ]
    assert found["waits"] == [
        {"kind": "primary", "count": 1, "planned_seconds": 0.08, "actual_seconds": 0.1, "longest_seconds": 0.1}
    ]
    assert found["waited_seconds"] == 0.1


def test_the_difference_from_the_run_before(path: Path) -> None:
    """Figures before and now, types of error and pull requests that fail only now, and the repos that changed."""
    document = summary(reported(path))
    assert section(document, f"Compared with {BEFORE_SYNC}") == (
        """\
The run of 2025-08-01 20:27:00 UTC before this one (success).

|  | before | now | difference |
| --- | ---: | ---: | ---: |
| time | 1.00s | 1.00s | 0 |
| waited | 100ms | 100ms | 0 |
| fetched | 3 | 3 | +0 |
| created | 2 | 1 | -1 |
| skipped | 1 | 1 | +0 |
| failed | 0 | 1 | +1 |
| API calls | 1 | 1 | +0 |
| errors | 0 | 1 | +1 |

Errors that it did not have: ValueError: no title

Failed now and not then: acme/api #2

What changed:

|  | status | time | fetched | failed |
| --- | --- | --- | --- | --- |
| acme/api | success → partial | 400ms | 2 | 0 → 1 |"""
    )


def test_the_first_run_is_compared_with_nothing(path: Path) -> None:
    """There is no comparison, in words or in figures."""
    folder = report(reported(path), BEFORE_SYNC)
    assert "Compared" not in (folder / "_SYNC_SUMMARY.md").read_text()
    assert json.loads((folder / "summary.json").read_text())["previous"] is None


def test_the_file_of_a_repo(path: Path) -> None:
    """It names the run, what failed and what was slow, and where the time went."""
    document = (report(reported(path)) / "acme-api.md").read_text()
    assert document.startswith(
        """\
# acme/api: partial

Part of nightly 202508022027-SYNC-765151E9 (partial), [summary](_SYNC_SUMMARY.md), [waterfall](waterfall.html).

- Started 2025-08-02 20:27:00 UTC, took 400ms, waited 100ms
- Items: 2 fetched = 1 created + 1 failed
- API calls: 1, 0 failed, 1 request sent again
- Errors: 1

## Failed pull requests

| number | repo | title | error | took | span id | trace id |
| --- | --- | --- | --- | ---: | --- | --- |
| 2 | acme/api |  | ValueError: no title | 10.0ms | 0000000000000102 | 765151e9000000000000000000000001 |
"""
    )
    assert "## Slowest pull requests" in document


def test_grouped_by_customer(path: Path) -> None:
    """Any attribute can have the files: repos that carry it are summed up, and what carries none is outside."""
    found = figures(reported(path), group_by="customer")
    assert [(group["name"], group["within"], group["items"]["fetched"]) for group in found["groups"]] == [
        ("ACME", {"repo": ["acme/api", "acme/web"]}, 3)
    ]
    assert found["groups"][0]["outcome"] == "partial"
    assert found["reconciles"]
    assert "acme.md" in listed(report(path, group_by="customer"))


def test_an_attribute_of_the_repo_alone_counts_for_what_is_below(path: Path) -> None:
    """Spans below a repo belong to its group, also a task that began when the repo's span had ended."""
    spans = [
        span("sync.pr", 3, 2, 2, 3, sync__repo="a/b", sync__action="created"),
        span("sync.repo a/b", 2, 1, 1, 4, sync__repo="a/b", tenant="one", sync__outcome="success"),
        span("sync.pr", 4, 2, 6, 7, sync__repo="a/b", sync__action="updated"),
        span(PIPELINE, 1, 0, 0, 5, sync__outcome="success"),
    ]
    (group,) = figures(store(path, batch(*spans)), group_by="tenant")["groups"]
    assert (group["name"], group["item_spans"]) == ("one", 2)


def test_counts_that_do_not_reconcile(path: Path) -> None:
    """Counts that nothing recorded tells of, items that became nothing, and a pipeline that says other, are said."""
    spans = [
        span("sync.repo a/b", 2, 1, 1, 4, sync__repo="a/b", sync__items__fetched=9, sync__counted__fetched=9),
        span("sync.repo a/c", 3, 1, 1, 4, sync__repo="a/c", sync__items__fetched=2, sync__items__created=2),
        span(PIPELINE, 1, 0, 0, 5, sync__outcome="success", sync__items__fetched=10, sync__items__created=2),
    ]
    document = summary(store(path, batch(*spans)))
    assert (
        """\
**The counts do not reconcile.**

| what | expected | found | difference |
| --- | ---: | ---: | ---: |
| a/b: fetched = what became of the items | 9 | 0 | -9 |
| a/c: fetched: sum of its stages = items and counts by hand | 2 | 0 | -2 |
| a/c: created: sum of its stages = items and counts by hand | 2 | 0 | -2 |
| fetched: pipeline = sum of what was recorded | 10 | 11 | +1 |
"""
        in document
    )
    assert "do not reconcile" in (report(path) / "a-b.md").read_text()


def test_counts_that_reconcile(path: Path) -> None:
    """Then nothing is said, also where a stage beside the repos, or around them, counts."""
    spans = [
        span("sync.repo a/b", 2, 5, 1, 4, sync__repo="a/b", **counted(fetched=1, created=1)),
        span("sync.stage all", 5, 1, 1, 5, sync__items__fetched=1, sync__items__created=1),
        span("sync.stage llm", 6, 1, 5, 6, **counted(updated=2), sync__items__fetched=2),
        span(
            PIPELINE,
            1,
            0,
            0,
            7,
            sync__outcome="success",
            sync__items__fetched=3,
            sync__items__created=1,
            sync__items__updated=2,
        ),
    ]
    found = figures(store(path, batch(*spans)))
    assert found["discrepancies"] == []
    assert found["outside"]["items"]["updated"] == 2


def test_rows_that_are_missing_in_the_store(path: Path) -> None:
    """The store's own counts are compared with its rows."""
    reported(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM spans WHERE name = 'sync.pr' AND trace_id = ? AND leaf = 1", (TRACE,))
    connection.close()
    missing = [one for one in figures(path)["discrepancies"] if one["what"] == "spans in the store"]
    assert [(one["expected"], one["found"]) for one in missing] == [(12, 9)]


def test_the_ledger_of_the_journals(path: Path) -> None:
    """What was dropped is said, and an account that does not add up is a discrepancy."""
    account = Account("store", "span", recorded=10, shipped=6, folded=0, dropped={"journal_full": 2}, pending=1)
    ledger = Ledger({"span": 10}, (account,), 0)
    document = summary(reported(path), ledgers={"github-sync": ledger})
    assert "**Journal github-sync dropped 2 records and has 1 that are not shipped yet" in document
    assert "| journal github-sync: recorded = shipped + folded + dropped + pending | 10 | 9 | -1 |" in document


def test_an_interrupted_run(path: Path) -> None:
    """Its outcome is said, and the counts go up to the last pull request of each repo that did not end."""
    interrupted = {"sync__outcome": "interrupted", "error": "the process ended before this stage did"}
    spans = [
        *(span("sync.pr", 0x100 + n, 3, 10 + n, 11 + n, sync__repo="a/b", sync__action="created") for n in range(4)),
        span("sync.repo a/a", 5, 1, 1, 9, sync__repo="a/a", **counted(updated=2), sync__items__fetched=2),
        span("sync.api list", 3, 2, 10, 20, sync__repo="a/b", **interrupted),  # type: ignore[arg-type]
        span("sync.repo a/b", 2, 1, 9, 20, sync__repo="a/b", **interrupted),  # type: ignore[arg-type]
        span(PIPELINE, 1, 0, 0, 20, **interrupted),  # type: ignore[arg-type]
    ]
    found = figures(store(path, batch(*spans)))
    assert (found["outcome"], found["items"]["fetched"], found["items"]["created"]) == ("interrupted", 6, 4)
    assert [(group["outcome"], group["items"]["fetched"], group["errors"]) for group in found["groups"]] == [
        ("success", 2, 0),
        ("interrupted", 4, 1),
    ]
    assert found["reconciles"]
    assert "**The run was interrupted.**" in summary(path)


def test_hand_counts_and_items_of_a_killed_run_add_up(path: Path) -> None:
    """What a stage counted by hand and what became of items are two things: their sum is what was fetched."""
    interrupted: dict[str, Any] = {"sync__outcome": "interrupted", "error": "the process ended before this stage did"}
    spans = [
        span("sync.stage import", 4, 2, 1, 5, sync__repo="a/b", **counted(created=1), sync__items__fetched=1),
        *(span("sync.pr", 0x100 + n, 2, 10 + n, 11 + n, sync__repo="a/b", sync__action="updated") for n in range(4)),
        span("sync.repo a/b", 2, 1, 0, 20, sync__repo="a/b", **interrupted),
        span(PIPELINE, 1, 0, 0, 20, **interrupted),
    ]
    found = figures(store(path, batch(*spans)))
    assert (found["items"]["fetched"], found["items"]["created"], found["items"]["updated"]) == (5, 1, 4)
    assert (found["error_count"], found["reconciles"]) == (1, True)


def test_a_run_that_has_not_ended(path: Path) -> None:
    """It is reported as it stands."""
    prs = [span("sync.pr", 0x100 + n, 2, 10 + n, 11 + n, sync__repo="a/b", sync__action="created") for n in range(4)]
    begun = [
        span(PIPELINE, 1, 0, 0, None, sync__pipeline="nightly"),
        span("sync.repo a/b", 2, 1, 1, None, sync__repo="a/b"),
    ]
    found = figures(store(path, batch(*prs, started=begun)))
    assert (found["outcome"], found["ended_at"], found["items"]["fetched"]) == ("running", None, 4)
    assert found["groups"][0]["outcome"] == "running"
    assert found["reconciles"]


def test_a_later_attempt_says_how_a_repo_went(path: Path) -> None:
    """A repo that was tried again and done is no failure, and its times add up."""
    spans = [
        span("sync.repo a/b", 2, 1, 1, 3, sync__repo="a/b", sync__outcome="failure", error="late", sync__part__key="k"),
        span(
            "sync.repo a/b",
            3,
            1,
            4,
            6,
            sync__repo="a/b",
            sync__outcome="success",
            sync__part__key="k",
            sync__recovered=1,
        ),
        span(PIPELINE, 1, 0, 0, 7, sync__outcome="success"),
    ]
    found = figures(store(path, batch(*spans)))
    (group,) = found["groups"]
    assert (group["outcome"], group["duration_seconds"], group["errors"]) == ("success", 0.004, 0)
    assert (found["outcome"], found["error_count"]) == ("success", 0)
    assert (found["retries"]["parts"], found["retries"]["recovered"]) == (1, 1)
    assert group["own_errors"] == []


def test_linked_traces_are_one_run(path: Path) -> None:
    """Repos in traces of their own, which carry the sync id, are part of the report."""
    other, one = "ee" * 16, {"sync__items__fetched": 1, "sync__items__created": 1}
    spans = [
        span(
            PIPELINE,
            1,
            0,
            0,
            9,
            sync__outcome="success",
            sync__pipeline="nightly",
            sync__items__fetched=1,
            sync__items__created=1,
        ),
        span("sync.pr", 3, 2, 2, 3, trace=other, sync__repo="a/b", sync__action="created"),
        span(
            "sync.repo a/b",
            2,
            0,
            1,
            8,
            trace=other,
            sync__repo="a/b",
            sync__outcome="success",
            **one,  # type: ignore[arg-type]
        ),
    ]
    found = figures(store(path, batch(*spans)))
    assert (found["traces"], found["rows"]["spans"], found["reconciles"]) == ([TRACE, other], 3, True)


def test_time_in_a_queue(path: Path) -> None:
    """A task's wait in its queue counts under queue, though no span covers it."""
    spans = [
        span("run/sync_repo", 2, 1, 5, 6, kind=5, messaging__system="redis", sync__queue__wait_seconds=2.5),
        span("apply_async/sync_repo", 3, 1, 1, 2, kind=4, messaging__system="redis"),
        span(PIPELINE, 1, 0, 0, 9, sync__outcome="success"),
    ]
    assert figures(store(path, batch(*spans)))["time_seconds"]["queue"] == 2.501


def test_a_report_is_the_same_when_made_again(path: Path) -> None:
    """Nothing in it depends on when or how often it is made."""
    folder = report(reported(path))
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert report(path) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_what_others_put_into_the_folder_stays(path: Path) -> None:
    """A new report takes away its own old files alone."""
    folder = report(reported(path))
    (folder / "notes.md").write_text("mine")
    report(path, group_by="customer")
    assert sorted(listed(folder)) == ["_SYNC_SUMMARY.md", "acme.md", "notes.md", "summary.json", "waterfall.html"]


def test_a_damaged_earlier_report_names_no_file_to_delete(path: Path) -> None:
    """Names in an old summary that are not ours are left alone."""
    folder = report(reported(path))
    other = folder.parent / "other.md"
    other.write_text("mine")
    (folder / "summary.json").write_text(json.dumps({"groups": [{"file": "../other.md"}, {"file": 7}]}))
    report(path)
    assert other.read_text() == "mine"


def test_hostile_names_stay_inside_the_folder(path: Path) -> None:
    """Whatever repos are called, their files are in the run's folder, one each, with plain names."""
    folder = report(hostile(path))
    assert listed(folder.parent) == [SYNC_ID]
    assert {name for name in listed(path.parent) if not name.startswith("store.db")} == {"reports"}
    names = listed(folder)
    assert len(names) == len(HOSTILE) + 3
    assert all(file.is_file() and not file.is_symlink() for file in folder.iterdir())
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) <= 100


def test_a_hostile_sync_id_is_no_path(path: Path) -> None:
    """A folder's name is made like a file's where the sync id has not the form of one."""
    spans = [span(PIPELINE, 1, 0, 0, 9, sync="../../../tmp/x", sync__outcome="success")]
    folder = report(store(path, batch(*spans)), TRACE)
    assert folder.parent == path.parent / "reports"
    assert folder.name.startswith("tmp-x-")


def test_names_of_others_are_no_fields_of_ours(path: Path) -> None:
    """Attributes and spans may be named as the figures are: `_ns` and `_at_ns` there mean nothing to us."""
    failed = span("load_ns", 2, 1, 0, 5, error="no", sync__outcome="failure")
    given: dict[str, Any] = {"wait_ns": "soon", "read_at_ns": 7, "done_seconds": True}
    found = figures(store(path, batch(failed, span(PIPELINE, 1, 0, 0, 10, sync__outcome="partial", **given))))
    assert given.keys() <= found["attributes"].keys()
    assert [error["stages"] for error in found["errors"]] == [{"load_ns": 1}]


def test_hostile_content_is_bounded_and_printable(path: Path) -> None:
    """No file holds a control character or a megabyte of somebody's text."""
    for file in report(hostile(path)).iterdir():
        content = file.read_text("utf-8")
        assert all(character.isprintable() or character == "\n" for character in content), file.name
        assert len(content) < 400_000, file.name


def test_a_folder_that_cannot_be_written(path: Path) -> None:
    """It is said in a line that names it."""
    (path.parent).mkdir(parents=True)
    (path.parent / "reports").write_text("a file")
    with pytest.raises(ReportError, match=r"cannot write the report .*/reports/202508022027-SYNC-765151E9"):
        report(reported(path))


def test_no_half_written_report_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing fails, what was there before is there still, and nothing else."""
    folder = report(reported(path))
    before = (folder / "summary.json").read_bytes()
    monkeypatch.setattr(Path, "replace", _fail)
    with pytest.raises(ReportError):
        report(path, group_by="customer")
    assert (folder / "summary.json").read_bytes() == before
    assert listed(folder.parent) == [SYNC_ID]


def _fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_run_that_is_not_there(path: Path) -> None:
    """It is an error that says so."""
    with pytest.raises(RunNotFoundError, match="no run is called 'nothing'"):
        report(reported(path), "nothing")


def test_the_command(path: Path, tmp_path: Path) -> None:
    """It says how the run went and where the files are."""
    reported(path)
    result = run("--last", "--output", str(tmp_path / "out"), home=path.parent)
    folder = tmp_path / "out" / SYNC_ID
    assert result.exit_code == 0, result.output
    assert result.output == (
        f"""\
nightly  {SYNC_ID}
partial after 1.00s, 3 fetched = 1 created + 1 skipped + 1 failed, 1 error
  {folder}/_SYNC_SUMMARY.md
  {folder}/waterfall.html
  {folder}/summary.json
  and 2 files by repo
"""
    )
    assert (folder / "waterfall.html").is_file()


def test_the_command_with_json(path: Path, tmp_path: Path) -> None:
    """It prints what it writes into summary.json."""
    reported(path)
    result = run("0BADCAFE", "--json", "--output", str(tmp_path), home=path.parent)
    assert result.output == (tmp_path / BEFORE_SYNC / "summary.json").read_text()


def test_the_command_takes_one_name(path: Path) -> None:
    """SYNC_ID and --last exclude each other."""
    result = run(SYNC_ID, "--last", home=path.parent)
    assert (result.exit_code, "either SYNC_ID or --last" in result.output) == (2, True)


def test_json_figures_of_one_run_have_a_known_form(path: Path) -> None:
    """Durations end in _seconds, instants in _at and are RFC 3339; the format has a number."""
    found = figures(reported(path))
    assert (found["format"], found["duration_seconds"]) == (2, 1.0)
    assert found["started_at"] == "2025-08-02T20:27:00.000000000Z"
    assert not [key for key in _keys(found) if key.endswith("_ns")]


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for held in value.values() for key in _keys(held))]
    return [key for held in value for key in _keys(held)] if isinstance(value, list) else []


def test_many_groups_become_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound, groups share a file, and their counts still add up."""
    monkeypatch.setattr("otelsync.reports.reading.MOST_GROUPS", 2)
    spans = [
        span(f"sync.repo a/{n}", 2 + n, 1, n, n + 1, sync__repo=f"a/{n}", **counted(fetched=1, created=1))
        for n in range(5)
    ]
    root = span(PIPELINE, 1, 0, 0, 9, sync__outcome="success", sync__items__fetched=5, sync__items__created=5)
    found = figures(store(path, batch(*spans, root)))
    assert [(group["name"], group["items"]["fetched"]) for group in found["groups"]] == [
        ("(other)", 3),
        ("a/0", 1),
        ("a/1", 1),
    ]
    assert found["reconciles"]


def test_records_that_come_twice_count_once(path: Path) -> None:
    """A batch that is delivered again changes no figure."""
    once = figures(store(path, batch(*nightly())))
    assert figures(store(path, batch(*nightly()), batch(*nightly(), journal="again.journal"))) == once
