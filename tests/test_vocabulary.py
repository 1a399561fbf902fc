"""The words of a sync: which span is which part, and what people call it."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorded

import otelsync
from otelsync import vocabulary
from otelsync.recording import scope
from otelsync.text import plurals


@pytest.mark.parametrize("module", [vocabulary, plurals, scope], ids=lambda module: module.__name__)
def test_examples_hold(module: ModuleType) -> None:
    """The examples in the docstrings say what comes out."""
    assert doctest.testmod(module).failed == 0


def test_groups_and_items_of_any_kind(recorded: Recorded) -> None:
    """A group and an item are named by their kind, and everything inside a group carries it by that kind."""
    with (
        otelsync.pipeline("orders"),
        otelsync.group("customer", "GREYSON", region="EU"),
        otelsync.batch("create", number=2, size=25),
        otelsync.item("order", 4711, state="open", title="Coats") as order,
    ):
        order.set(action="created")
    group, batch, item = (recorded.span(name) for name in ("sync.customer GREYSON", "sync.batch create", "sync.order"))
    assert {key: group.attributes[key] for key in ("sync.group.kind", "sync.group.name", "region")} == {
        "sync.group.kind": "customer",
        "sync.group.name": "GREYSON",
        "region": "EU",
    }
    assert batch.attributes["sync.batch.number"] == 2
    assert batch.attributes["sync.batch.size"] == 25
    said = {"kind": "order", "id": "4711", "state": "open", "title": "Coats"}
    assert {name: item.attributes[f"sync.item.{name}"] for name in said} == said
    assert {span.attributes["sync.customer"] for span in (group, batch, item)} == {"GREYSON"}
    assert group.attributes["sync.items.created"] == 1


@pytest.mark.parametrize(("provider", "expected"), [("gitlab", "gitlab"), (None, None)])
def test_a_repo_has_the_provider_that_it_is_given(recorded: Recorded, provider: str | None, expected: object) -> None:
    """A repository is on GitHub unless said otherwise; None leaves its provider out."""
    with otelsync.repo("acme/api", provider=provider):
        pass
    assert recorded.span("sync.repo acme/api").attributes.get("vcs.provider.name") == expected


@pytest.mark.parametrize("kind", ["pipeline", "id", "Board Group", "", "a.b", "ä" * 100, 7])
def test_an_odd_kind_is_still_a_group(recorded: Recorded, kind: str) -> None:
    """A kind that means something else, or is no word, is made into one that a reader takes for a group."""
    with otelsync.group(kind, "x"), otelsync.item(kind, 1):
        pass
    assert sorted(vocabulary.part_of(span.name)[0] for span in recorded.spans) == ["group", "item"]


NAMES = st.from_regex(r"(sync\.)?[a-zA-Z_.é]{0,70}( .{0,20})?", fullmatch=True) | st.sampled_from(
    ["sync.pr", "sync.order", "sync.pr.folded", "sync.order.folded", "sync.repo acme/api", "sync.batch b", "sync.items"]
)


@given(NAMES)
def test_the_quick_ways_say_the_same(name: str) -> None:
    """By its encoded name a span is an item or a group exactly where its name says so."""
    sort, _ = vocabulary.part_of(name)
    assert vocabulary.is_item(name.encode()) == (sort == "item")
    assert vocabulary.is_group(name.encode()) == (sort == "group")


def test_groups_are_known_by_the_attributes_inside(recorded: Recorded) -> None:
    """The outermost first, whatever else a span carries."""
    groups = otelsync.group("customer", "GREYSON"), otelsync.repo("acme/api")
    with otelsync.pipeline("p"), groups[0], groups[1], otelsync.item("order", 1, attempt=2) as order:
        order.set(action="created")
    found = vocabulary.groups_of(recorded.span("sync.order").attributes)
    assert found == (("customer", "GREYSON"), ("repo", "acme/api"))
