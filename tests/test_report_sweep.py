from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import MS, START, TRACE, batch, span, store

from otelsync.reports.sweep import Step, steps
from otelsync.reports.time_spent import category
from otelsync.store.runs import open_store


def swept(*spans: bytes, started: tuple[bytes, ...] = (), until: int = 1000) -> list[Step]:
    with TemporaryDirectory() as directory:
        path = store(Path(directory) / "store.db", batch(*spans, started=started))
        with open_store(path) as opened:
            return list(steps(opened, TRACE, START + until * MS, lambda _: None))


def own(found: list[Step]) -> dict[int, float]:
    """Own time in milliseconds by span id."""
    return {int(step.span_id, 16): step.own_ns / MS for step in found}


def test_own_time_leaves_out_what_children_cover() -> None:
    """Children one after the other are taken off."""
    assert own(swept(span("a", 1, 0, 0, 100), span("b", 2, 1, 10, 30), span("c", 3, 1, 50, 60))) == {
        1: 70,
        2: 20,
        3: 10,
    }


def test_children_that_overlap_are_taken_off_once() -> None:
    """Of parallel children, what is common to them counts once, and what lies outside their parent not at all."""
    found = swept(span("a", 1, 0, 0, 100), span("b", 2, 1, 10, 50), span("c", 3, 1, 40, 60), span("d", 4, 1, 90, 200))
    assert own(found)[1] == 40


def test_a_child_that_comes_later_takes_nothing_off() -> None:
    """A task that runs when its publisher has ended has no span around it."""
    found = swept(span("a", 1, 0, 0, 10), span("b", 2, 1, 20, 30))
    assert own(found) == {1: 10, 2: 10}
    assert [step.parent for step in found] == [None, None]


def test_parents_come_before_their_children_in_one_nanosecond() -> None:
    """Spans that begin at the same time find their parents, whatever their ids are."""
    found = swept(span("a", 9, 0, 0, 100), span("b", 5, 9, 0, 100), span("c", 1, 5, 0, 40))
    assert own(found) == {9: 0, 5: 60, 1: 40}
    assert [step.name for step in found] == ["c", "b", "a"]


def test_what_runs_ends_with_the_run() -> None:
    """A span without an end reaches to the last sign of life."""
    (step,) = swept(started=(span("a", 1, 0, 0, None),), until=70)
    assert (step.running, step.duration_ns) == (True, 70 * MS)


def test_a_span_that_is_its_own_ancestor() -> None:
    """Ids from outside may form a ring: each span is seen once."""
    found = swept(span("a", 1, 2, 0, 10), span("b", 2, 1, 0, 10), span("c", 3, 3, 5, 6))
    assert sorted(step.name for step in found) == ["a", "b", "c"]


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 30), st.integers(0, 20)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_own_time_is_what_no_child_covers(shapes: list[tuple[int, int, int]]) -> None:
    """Compared, millisecond by millisecond, with the definition, for trees in which children begin within parents."""
    spans: dict[int, tuple[int, int, int]] = {}
    for number, (above, start, took) in enumerate(shapes, 1):
        parent = above % number  # 0: none
        if parent:
            outer = spans[parent]
            start = min(outer[1] + start, outer[2])
        spans[number] = parent, start, start + took
    found = own(swept(*(span(f"s{n}", n, parent, start, end) for n, (parent, start, end) in spans.items())))
    for number, (_, start, end) in spans.items():
        children = [other for other in spans.values() if other[0] == number]
        free = [at for at in range(start, end) if not any(begun <= at < ended for _, begun, ended in children)]
        assert found[number] == len(free), number


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (span("sync.pr", 1), "own"),
        (span("sync.rate_limit.wait", 1), "waiting"),
        (span("sync.retry.wait", 1), "waiting"),
        (span("sync.api list", 1), "api"),
        (span("GET", 1, kind=3), "api"),
        (span("SELECT", 1, kind=3, db__system="sqlite"), "database"),
        (span("chat", 1, kind=3, gen_ai__system="groq"), "llm"),
        (span("sync.stage llm_batch", 1), "llm"),
        (span("sync.stage score", 1, sync__stage__kind="llm"), "llm"),
        (span("sync.stage score", 1, sync__stage__kind="nonsense"), "own"),
        (span("apply_async/x", 1, kind=4, messaging__system="redis"), "queue"),
        (span("run/x", 1, kind=5, messaging__system="redis"), "own"),
        (span("parse", 1), "own"),
    ],
)
def test_what_a_span_stands_for(made: bytes, expected: str) -> None:
    """By its name where it is ours, by OpenTelemetry's conventions where an instrumentation made it."""
    (step,) = swept(made)
    assert category(step) == expected


def test_a_request_is_part_of_the_stage_that_makes_it() -> None:
    """HTTP to a language model or a database counts there; other HTTP is the API."""
    found = swept(
        span("sync.stage llm_batch", 1, 0, 0, 90),
        span("sync.api create_batch", 2, 1, 10, 50),
        span("POST", 3, 2, 20, 40, kind=3),
        span("sync.api list", 4, 0, 100, 150),
        span("GET", 5, 4, 110, 140, kind=3),
    )
    assert {step.name: category(step) for step in found} == {
        "POST": "llm",
        "sync.api create_batch": "llm",
        "sync.stage llm_batch": "llm",
        "GET": "api",
        "sync.api list": "api",
    }
