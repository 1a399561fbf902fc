"""Accounts of runs that fork: they are what was recorded, whichever file is read first."""

from __future__ import annotations

from array import array
from random import Random
from typing import Any

import orjson
import pytest
from any_order import counts, plain
from forking_runs import STEPS, Run, in_batches, read
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelsync.otlp.decoding import span_id, untagged
from otelsync.shipping import held_parts
from otelsync.shipping.open_accounts import OpenAccounts

MANY = 20_000
steps = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(STEPS)), max_size=40)


@settings(max_examples=400)
@given(steps, st.lists(st.integers(0, 60), max_size=3), st.booleans(), st.integers(0, 1 << 32))
def test_stages_say_what_all_processes_recorded(done: Any, looks: Any, restarts: bool, seed: int) -> None:
    """Their outcomes, items and parts are those of the spans in the order of their ends, in whatever order read."""
    run = Run(done)
    true = run.truth().stages
    said = read(run, Random(seed), looks, restarts=restarts)
    found = {key: (plain(span)["sync.outcome"], counts(plain(span))) for key, span in said.items()}
    assert found == {key: (true[key].outcome, true[key].totals) for key in said}
    other = read(run, Random(seed + 1), ())
    assert [(plain(span), span.status) for span in said.values()] == [
        (plain(other[key]), other[key].status) for key in said
    ]


@pytest.mark.parametrize("step", ["created", "failed"])
@pytest.mark.parametrize("first", [0, 1])
def test_none_of_many_is_lost(step: str, first: int) -> None:
    """A child's items are more than wait for a stage, and its file is read before that in which the stage begins."""
    number = MANY if step == "created" else held_parts.MOST_PARTS - 100
    inside = [(0, "stage"), (0, "fork"), *[(1, step)] * number]
    run = Run([*inside, (0, "close"), *[(1, step)] * 10])
    true = run.truth().stages
    accounts, pending = OpenAccounts(), dict[str, bytes]()
    series = sorted({record.series for record in run.records}, reverse=first == 0)
    for name in series:
        for batch in in_batches([record for record in run.records if record.series == name], 4_096):
            accounts.take([batch])
            pending |= {span_id(body) or "": body for group in batch.groups for body in group.pending}
    for key in accounts.by_end(pending):
        said = plain(Span.FromString(untagged(accounts.complete(pending[key], is_pending=True))))
        assert (said["sync.outcome"], counts(said)) == (true[key].outcome, true[key].totals)


def test_what_is_held_is_bounded() -> None:
    """Beyond the bound the earliest are counted where they stand, and none is lost."""
    held = held_parts.HeldParts()
    number = held_parts.MOST_ENDS
    for first in range(0, 4 * number, 1_000):
        held.add_items("s", "created", array("Q", range(first, first + 1_000)))
        assert len(orjson.dumps(held.dump())) < 12 * number
    found = held.pop("s")
    assert found is not None
    ((ends, counted),) = found.items().values()
    assert len(ends) + counted == first + 1_000
    assert sorted(ends) == [*range(counted, first + 1_000)]
    assert not held
    held.add_items("s", "created", array("Q", range(number)))
    found = held.pop("s")
    assert found is not None
    assert len(found.ends["created"]) == number, "the room is free again"
