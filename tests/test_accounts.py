"""The account of a run: what its spans say, whoever recorded them, and what the live stages could not know."""

from __future__ import annotations

from typing import Any

import pytest

from otelsync.store.accounts import Account, Accounts, Ended


def account(*spans: tuple[str, str, str, dict[str, Any]], root: str = "p") -> Account:
    """The account of spans (id, parent's id, name, attributes), in the order of their ends; the root is the last.

    ``status`` among the attributes is an error's.
    """
    accounts = Accounts(root)
    for span_id, parent, name, _ in spans:
        accounts.begin(span_id, parent, name, 5 if name.startswith("run/") else 1)
    last = None
    for span_id, parent, name, attributes in spans:
        kind = 5 if name.startswith("run/") else 1
        span = Ended(span_id, parent, name, kind, bool(attributes.pop("status", False)), attributes)
        accounts.end(span)
        last = span if span_id == root else last
    return accounts.close(last)


OK: dict[str, Any] = {"sync.outcome": "success"}


def failed(**attributes: Any) -> dict[str, Any]:
    """Attributes of a stage that failed by itself."""
    return {"status": True, "sync.outcome": "failure", "sync.part.key": "k", **attributes}


def test_what_another_process_recorded_counts() -> None:
    """Both repos of a forked pool failed, of which the pipeline knew nothing."""
    found = account(
        ("i", "r1", "sync.pr", {"sync.action": "created"}),
        ("r1", "p", "sync.repo a", failed(**{"sync.items.created": 1, "sync.items.fetched": 1})),
        ("r2", "p", "sync.repo b", failed(**{"sync.part.key": "l"})),
        ("p", "", "sync.pipeline p", dict(OK)),
    )
    assert (found.outcome, found.totals, found.errors) == ("failure", {"fetched": 1, "created": 1}, ["r1", "r2"])


def test_a_part_belongs_to_the_nearest_that_is_open() -> None:
    """An item that ends after its call belongs to the repo."""
    found = account(
        ("c", "r", "sync.api list", dict(OK)),
        ("i", "c", "sync.pr", {"status": True, "sync.action": "failed", "sync.part.key": "k"}),
        ("r", "p", "sync.repo a", {"sync.outcome": "partial"}),
        ("p", "", "sync.pipeline p", {"sync.outcome": "partial"}),
    )
    assert [found.stages[each].outcome for each in ("c", "r", "p")] == ["success", "partial", "partial"]
    assert found.stages["c"].totals == {}
    assert found.totals == {"fetched": 1, "failed": 1}


def test_what_outlives_the_run_belongs_to_it() -> None:
    """A task that fails after its pipeline has ended makes the run partial."""
    found = account(
        ("a", "p", "sync.api list", dict(OK)),
        ("p", "", "sync.pipeline p", dict(OK)),
        ("t", "p", "run/work", {"status": True, "sync.outcome": "failure"}),
    )
    assert (found.outcome, found.errors) == ("partial", ["t"])


def test_a_recovery_takes_back_what_failed_in_it() -> None:
    """The error arose further inside than the part that is made good."""
    found = account(
        ("c", "s1", "sync.api list", failed()),
        ("s1", "p", "sync.stage work", failed(**{"sync.error.passed": True, "sync.part.key": "w"})),
        ("s2", "p", "sync.stage work", {**OK, "sync.recovered": 1, "sync.part.key": "w"}),
        ("p", "", "sync.pipeline p", dict(OK)),
    )
    assert (found.outcome, found.errors, found.recovered, found.retries) == ("success", [], 1, 1)


def test_an_attempt_of_a_task_that_was_put_back() -> None:
    """Its items count, and its failures do not: the next attempt says how it went."""
    found = account(
        ("i", "g1", "sync.order", {"sync.action": "created"}),
        ("g1", "t1", "sync.customer a", failed(**{"sync.items.created": 1, "sync.items.fetched": 1})),
        ("t1", "p", "run/work", {"sync.outcome": "retry"}),
        ("j", "g2", "sync.order", {"sync.action": "updated"}),
        ("g2", "t2", "sync.customer a", {**OK, "sync.items.updated": 1, "sync.items.fetched": 1}),
        ("t2", "p", "run/work", dict(OK)),
        ("p", "", "sync.pipeline p", {**OK, "sync.tasks.succeeded": 1}),
    )
    assert (found.outcome, found.errors, found.put_back) == ("success", [], 1)
    assert found.totals == {"fetched": 2, "created": 1, "updated": 1}


@pytest.mark.parametrize("lost_first", [True, False])
def test_a_task_that_was_delivered_again(lost_first: bool) -> None:
    """Its first run was lost with its process, and counts as put back, whichever is read first."""
    lost = {"status": True, "sync.outcome": "interrupted", "messaging.message.id": "m"}
    again = {"sync.outcome": "success", "messaging.message.id": "m", "sync.redelivered": True}
    runs = [("t1", "p", "run/work", lost), ("t2", "p", "run/work", again)]
    pipeline = ("p", "", "sync.pipeline p", {"sync.outcome": "success", "sync.tasks.succeeded": 1})
    found = account(*(runs if lost_first else runs[::-1]), pipeline)
    assert (found.outcome, found.errors, found.put_back) == ("success", [], 1)


def test_a_kill_is_one_error_where_it_struck() -> None:
    """Hand counts of what ended, and items of what did not, add up."""
    found = account(
        ("r1", "p", "sync.repo a", {**OK, "sync.counted.created": 1, "sync.items.created": 1, "sync.items.fetched": 1}),
        *((f"i{n}", "r2", "sync.pr", {"sync.action": "created"}) for n in range(4)),
        ("r2", "p", "sync.repo b", {"status": True, "sync.outcome": "interrupted"}),
        ("p", "", "sync.pipeline p", {"status": True, "sync.outcome": "interrupted"}),
    )
    assert (found.outcome, found.totals, found.errors) == ("interrupted", {"fetched": 5, "created": 5}, ["r2"])


@pytest.mark.parametrize("around_fails", [True, False])
def test_a_failed_span_of_somebody_else_counts_if_nothing_around_it_fails(around_fails: bool) -> None:
    """It may be the cause of what failed around it; a request that failed is its call's affair."""
    found = account(
        ("q", "s", "SELECT", {"status": True}),
        ("s", "p", "sync.stage save", failed() if around_fails else dict(OK)),
        ("p", "", "sync.pipeline p", {"sync.outcome": "partial" if around_fails else "success"}),
    )
    assert found.errors == (["s"] if around_fails else ["q"])


def test_a_circle_of_spans_ends() -> None:
    """Ids come from outside: a span that is its own ancestor is no endless loop."""
    found = account(("a", "b", "sync.stage a", dict(OK)), ("b", "a", "sync.stage b", dict(OK)), root="")
    assert found.outcome == "success"


@pytest.mark.parametrize("more", [{}, {"sync.outcome": "partial"}, {"sync.attempt": 2}, {"sync.recovered": 1}])
@pytest.mark.parametrize("below", [False, True])
def test_an_item_is_taken_quickly_only_if_that_says_all(more: dict[str, Any], below: bool) -> None:
    """One that says more than its action, and one that something stands below, is read in full."""
    quick, general = Accounts("p"), Accounts("p")
    attributes = {"sync.action": "created", **more}
    root = Ended("p", "", "sync.pipeline p", 1, False, dict(OK))
    for accounts in (quick, general):
        accounts.begin("p", "", "sync.pipeline p", 1)
        if below:
            accounts.begin("i", "p", "sync.pr", 1)
            accounts.end(Ended("s", "i", "sync.stage s", 1, True, failed()))
    is_taken = quick.take_item("i", "p", "sync.pr", attributes)
    assert is_taken is not (bool(more) or below)
    for accounts in (general,) if is_taken else (quick, general):
        accounts.end(Ended("i", "p", "sync.pr", 1, False, attributes))
    assert quick.close(root) == general.close(root)


@pytest.mark.parametrize("name", ["sync.stage s", "sync.api list", "GET", "sync.rate_limit.wait", "run/task"])
def test_what_is_no_item_is_not_taken_for_one(name: str) -> None:
    """Nothing is counted."""
    accounts = Accounts("p")
    accounts.begin("p", "", "sync.pipeline p", 1)
    assert not accounts.take_item("i", "p", name, {})
    assert accounts.close(None).totals == {}
