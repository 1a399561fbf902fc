"""Programs that were told wrongly once, each with what is true of it: every view says that, and no other figure."""

from __future__ import annotations

from typing import Any, Final

import pytest
from random_syncs.comparing import Views, judge, run
from random_syncs.model import Figures, truth
from random_syncs.trees import Node


def _items(
    count: int, *, action: str | None = None, fate: str = "success", how: str = "inline", late: bool = False
) -> list[Node]:
    return [
        Node("item", "pr", str(number), how=how, outlives=late, fate=fate, action=action)
        for number in range(1, count + 1)
    ]


def _group(name: str, *children: Node, how: str = "inline", fate: str = "success", **counts: int) -> Node:
    return Node("group", "repo", name, how=how, fate=fate, counts=counts, children=list(children))


def _part(sort: str, name: str, *children: Node, fate: str = "success", **said: Any) -> Node:
    return Node(sort, sort, name, fate=fate, children=list(children), **said)


def _call(*children: Node, **said: Any) -> Node:
    return _part("api", "list", *children, **said)


_FAILED_FIVE: Final = Figures("partial", {"failed": 5, "fetched": 5}, errors=5, retries=0, waits=0)

CASES: Final[dict[str, tuple[list[Node], Figures]]] = {
    "tasks_awaited_after_the_call": (
        [_group("acme/api", _call(*_items(5, fate="fail", how="task", late=True)))],
        _FAILED_FIVE,
    ),
    "threads_with_a_copy_of_the_context": (
        [_group("acme/api", _call(*_items(5, fate="fail", how="thread", late=True)))],
        _FAILED_FIVE,
    ),
    "threads_within_the_call": (
        [_group("acme/api", _call(*_items(5, fate="fail", how="thread")))],
        Figures("failure", {"failed": 5, "fetched": 5}, errors=5, retries=0, waits=0),
    ),
    "a_forked_pool_of_repos_that_fail": (
        [_group(name, *_items(2, action="created"), how="fork", fate="raise") for name in ("acme/api", "acme/web")],
        Figures("failure", {"created": 4, "fetched": 4}, errors=2, retries=0, waits=0),
    ),
    "an_early_break_out_of_pages": (
        [
            _group(
                "acme/api",
                Node("pages", "async with", "pages", breaks_after=2, children=_items(6, action="created")),
                *_items(2, action="updated"),
                *_items(1, fate="fail"),
                _part("stage", "weekly", fate="fail"),
            )
        ],
        Figures("partial", {"created": 2, "failed": 1, "fetched": 5, "updated": 2}, errors=2, retries=0, waits=0),
    ),
    "plain_stages_whose_exceptions_are_handled": (
        [
            _part("stage", f"customer {name}", fate=fate)
            for name, fate in (("A", "raise"), ("B", "raise"), ("C", "success"))
        ],
        Figures("partial", {}, errors=2, retries=0, waits=0),
    ),
    "calls_that_all_fail": (
        [_part("stage", "orders", _part("api", "list", fate="raise"), _part("api", "save", fate="raise"))],
        Figures("failure", {}, errors=2, retries=0, waits=0),
    ),
    "an_error_above_another": (
        [
            _part("stage", "orders", _part("api", "list", fate="raise"), _part("api", "save"), fate="raise"),
            _part("stage", "weekly"),
        ],
        Figures("partial", {}, errors=2, retries=0, waits=0),
    ),
    "an_exception_that_passes": (
        [_part("stage", "orders", _part("api", "list", fate="raise", passes=2))],
        Figures("failure", {}, errors=1, retries=0, waits=0),
    ),
    "a_call_that_recovers": (
        [_group("acme/api", _part("api", "list", fate="raise"), _call(*_items(3, action="created")))],
        Figures("success", {"created": 3, "fetched": 3}, errors=0, retries=1, waits=0),
    ),
    "a_call_that_recovers_at_its_third_attempt": (
        [
            _group(
                "acme/api",
                *(
                    _part("api", "list", fate=fate, attempt=number)
                    for number, fate in enumerate(("fail", "fail", "success"), 1)
                ),
            )
        ],
        Figures("success", {}, errors=0, retries=2, waits=0),
    ),
    "killed_with_two_disjoint_counts": (
        [_group("acme/api", created=4), _group("acme/web", _call(*_items(1, action="created")), fate="kill")],
        Figures("interrupted", {"created": 5, "fetched": 5}, errors=1, retries=0, waits=0),
    ),
    "the_items_of_a_killed_child": (
        [
            _group("acme/api", *_items(2, action="created")),
            _group("acme/web", *_items(3, action="updated"), how="fork", fate="kill"),
        ],
        Figures("partial", {"created": 2, "fetched": 5, "updated": 3}, errors=1, retries=0, waits=0),
    ),
    "actions_that_nobody_knows": (
        [_group("acme/api", *_items(2, action="creatd"), *_items(1))],
        Figures("success", {"creatd": 2, "fetched": 3}, errors=0, retries=0, waits=0),
    ),
    "a_part_that_may_fail": (
        [_part("stage", "labels", fate="raise", required=False), _part("stage", "orders")],
        Figures("success", {}, errors=0, retries=0, waits=0),
    ),
}


def _program(name: str) -> Node:
    return Node("pipeline", "pipeline", name[:30], children=CASES[name][0])  # `list` cuts longer names


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Views:
    """The views of all the programs, each under its name."""
    return run([_program(name) for name in CASES], tmp_path_factory.mktemp("truth") / "syncs")


@pytest.mark.parametrize("name", CASES)
def test_every_view_says_what_is_true(name: str, views: Views) -> None:
    """Outcome, items, errors, retries and waits are those that the case names, in every view."""
    found = judge(_program(name), views, CASES[name][1])
    assert not found.said, found


@pytest.mark.parametrize("name", CASES)
def test_the_model_says_the_same(name: str) -> None:
    """The rules that random programs are judged by give what the case names."""
    assert truth(_program(name)) == CASES[name][1]
