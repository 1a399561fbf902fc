"""Tallies: whatever is published, ended or delivered twice, in any order, exactly one gets the claim, at the end."""

from __future__ import annotations

import stat
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_py
from brokers import RedisServer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from otelsync.integrations.celery import tally as tallies
from otelsync.integrations.celery.tally import HOLD, Claim, RedisTally, SqliteTally, Tally

TASKS = st.sampled_from([f"task:{number}" for number in range(6)])
FIGURES = st.dictionaries(st.sampled_from(["tasks.succeeded", "items.created", "parts"]), st.integers(0, 1000))


@pytest.fixture(params=["redis", "sqlite"])
def tally(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tally]:
    """Both kinds of tallies, each in a place of its own."""
    if request.param == "sqlite":
        yield SqliteTally(tmp_path / "home" / "tallies.sqlite")
        return
    server: RedisServer = request.getfixturevalue("redis")
    with closing(redis_py.Redis.from_url(server.broker().url)) as client:
        yield RedisTally(client)


class Delivery(RuleBasedStateMachine):
    """A canvas on its way, by a broker that may deliver everything more than once."""

    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.run = uuid4().hex
        self.tally.open(self.run, f"details of {self.run}")
        self.outstanding = {HOLD}
        self.figures: Counter[str] = Counter()
        self.claims: list[Claim] = []

    @rule(task=TASKS)
    def publish(self, task: str) -> None:
        """Whoever publishes is outstanding itself, or is a late delivery of one that was."""
        added = self.tally.add(self.run, task)
        assert added == (bool(self.outstanding) and task not in self.outstanding)
        if self.outstanding:
            self.outstanding.add(task)

    @rule(member=TASKS | st.just(HOLD), figures=FIGURES)
    def end(self, member: str, figures: dict[str, int]) -> None:
        """A task may end that ended before, or was never published."""
        claim = self.tally.remove(self.run, member, figures)
        if member in self.outstanding:
            self.outstanding.remove(member)
            self.figures.update(figures)
            assert (claim is not None) == (not self.outstanding)
        else:
            assert claim is None
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: not self.outstanding)
    @invariant()
    def exactly_one_has_it(self) -> None:
        [claim] = self.claims
        assert claim.details == f"details of {self.run}"
        assert claim.figures == self.figures

    def teardown(self) -> None:
        for member in sorted(self.outstanding):
            self.end(member, {})
        assert len(self.claims) == 1


def test_a_tally_is_claimed_once_and_at_the_end(tally: Tally) -> None:
    """In any order of publishing, ending and delivering again, the claim comes once, with all figures, at the end."""
    machine = type("DeliveryHere", (Delivery,), {"tally": tally})
    quick = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=quick)


def test_many_at_once_make_one_claim(tally: Tally) -> None:
    """Of many that end at the same moment exactly one is the last."""
    tally.open("r", "d")
    members = [f"task:{number}" for number in range(40)]
    for member in members:
        assert tally.add("r", member)
    tally.remove("r", HOLD, {})
    gate = threading.Barrier(8)

    def end(share: list[str]) -> list[Claim | None]:
        gate.wait()
        return [tally.remove("r", member, {"tasks.succeeded": 1}) for member in share]

    with ThreadPoolExecutor(8) as threads:
        found = [claim for claims in threads.map(end, [members[n::8] for n in range(8)]) for claim in claims]
    assert [claim for claim in found if claim] == [Claim("d", {"tasks.succeeded": 40})]


def test_a_tally_is_discarded(tally: Tally) -> None:
    """After a tally was discarded nothing comes of it any more."""
    tally.open("r", "d")
    tally.add("r", "task:1")
    tally.discard("r")
    assert not tally.add("r", "task:2")
    assert tally.remove("r", "task:1", {}) is None
    assert tally.remove("r", HOLD, {}) is None


def test_runs_are_apart(tally: Tally) -> None:
    """What one run has outstanding holds up no other."""
    tally.open("one", "first")
    tally.open("two", "second")
    tally.add("two", "task:1")
    assert tally.remove("one", HOLD, {"parts": 1}) == Claim("first", {"parts": 1})
    assert tally.remove("two", HOLD, {}) is None


def test_what_nobody_ends_is_not_kept_for_ever(redis: RedisServer, tmp_path: Path, monkeypatch: Any) -> None:
    """A tally of which a message was lost goes after a while: by Redis, or when the file's next one is opened."""
    with closing(redis_py.Redis.from_url(redis.broker().url)) as client:
        RedisTally(client).open("r", "d")
        RedisTally(client).add("r", "task:1")
        assert all(0 < client.ttl(key) <= tallies.KEPT_SECONDS for key in client.scan_iter())
    tally = SqliteTally(tmp_path / "t")
    tally.open("old", "d")
    monkeypatch.setattr(tallies, "KEPT_SECONDS", -1)
    tally.open("new", "d")
    assert not tally.add("old", "task:1")


def test_the_file_is_private(tmp_path: Path) -> None:
    """Tallies hold attributes of a run, so the file is for this user alone; who only adds never makes one."""
    path = tmp_path / "home" / "tallies.sqlite"
    with pytest.raises(Exception, match="unable to open"):
        SqliteTally(path).add("r", "task:1")
    SqliteTally(path).open("r", "d")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
