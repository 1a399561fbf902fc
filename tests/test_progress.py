"""Progress: what is counted, when it is told, and what is said of the time that is left."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import Recorded

import otelsync
from otelsync.stages import rate_limits
from otelsync.stages.progress import (
    LONGEST,
    STRIDE,
    Estimate,
    Pace,
    Spending,
    Tracker,
    estimate,
    pace_of,
    wait_ahead,
)
from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limits import RateLimits
from otelsync.stages.stage import Stage

NOW = 1_754_166_420.0

seconds = st.floats(0, 1e6)
durations = st.lists(seconds, min_size=3, max_size=200)
limits = st.builds(
    RateLimit,
    limit=st.integers(1, 15_000),
    remaining=st.integers(0, 15_000),
    reset=st.none() | st.floats(NOW - 60, NOW + 7200),
)
spendings = st.lists(
    st.builds(
        Spending, host=st.sampled_from("ab"), limit=limits, calls_per_item=st.floats(0, 50), window=st.floats(0, 7200)
    ),
    max_size=4,
)


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have seen of rate limits is not ahead of anybody here."""
    monkeypatch.setattr(rate_limits, "observed", rate_limits.RateLimits())


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now


def events(recorded: Recorded) -> list[dict[str, Any]]:
    """The progress events that were logged."""
    return [line for line in recorded.lines if line["event"].endswith(".progress")]


def told(recorded: Recorded) -> int:
    """How many those are, as quickly as can be."""
    return recorded.output.getvalue().count(b'.progress"')


def tracked(stage: Stage, items: Any, clock: Clock, **options: Any) -> Tracker[Any]:
    return Tracker(stage, items, clock=clock, present=lambda: NOW + clock.now, **options)


class TestEstimates:
    @given(durations, st.integers(1, 10**6), spendings)
    def test_it_is_a_range(self, took: list[float], left: int, spent: list[Spending]) -> None:
        """Low is at most high, both are finite and not below zero, and the waits are a part of low."""
        found = estimate(left, pace_of(took), spent, now=NOW)
        assert found is not None
        assert 0 <= found.waits <= found.low <= found.high < math.inf

    @given(durations, st.integers(1, 10**6))
    def test_items_like_those_before_end_within_it(self, took: list[float], left: int) -> None:
        """What many items take on average lies in the range, however few of them take most of the time."""
        found = estimate(left, pace_of(took), now=NOW)
        assert found is not None
        mean = left * math.fsum(took) / len(took)
        assert found.low <= mean * (1 + 1e-9)
        assert found.high >= mean * (1 - 1e-9)

    @given(durations, st.integers(1, 10**5), st.integers(1, 10**5), spendings)
    def test_more_items_take_no_less_time(self, took: list[float], few: int, more: int, spent: list[Spending]) -> None:
        """Neither end of the range falls when there is more to do."""
        pace = pace_of(took)
        first, second = (estimate(left, pace, spent, now=NOW) for left in sorted((few, more)))
        assert first is not None
        assert second is not None
        assert second.low >= first.low * (1 - 1e-9)
        assert second.high >= first.high * (1 - 1e-9)

    @given(st.lists(seconds, max_size=2), st.integers(0, 10**6))
    def test_too_few_items_tell_nothing(self, took: list[float], left: int) -> None:
        """Of fewer than three items no pace is taken."""
        assert estimate(left, pace_of(took), now=NOW) is None

    @given(durations)
    def test_the_pace_is_median_and_ninth_decile(self, took: list[float]) -> None:
        """So it is unless the mean lies outside of them."""
        low, high = pace_of(took) or Pace(math.nan, math.nan)
        mean = math.fsum(took) / len(took)
        assert low == min(statistics.median_low(took), mean)
        assert high == max(sorted(took)[math.ceil(len(took) * 0.9) - 1], mean)

    def test_nothing_left_takes_no_time(self) -> None:
        """Also with a limit that is exhausted."""
        exhausted = Spending("a", RateLimit(limit=5000, remaining=0, reset=NOW + 600), 1.0, 3600.0)
        assert estimate(0, Pace(1, 2), [exhausted], now=NOW) == Estimate(0.0, 0.0)

    def test_a_limit_that_runs_out_before_its_reset_is_waited_for(self) -> None:
        """1,200 calls at 2 a second last 10 of the 30 minutes to the reset; the rest of the work comes behind it."""
        core = RateLimit(resource="core", limit=5000, remaining=1200, reset=NOW + 1800)
        found = estimate(2000, Pace(0.5, 0.5), [Spending("a", core, 1.0, 3600.0)], now=NOW)
        assert found == Estimate(1000 + 1200, 1000 + 1200, 1200)

    def test_a_limit_that_suffices_is_not(self) -> None:
        """A thousand calls of 1,200 are no reason to wait, and neither is slow work."""
        core = RateLimit(resource="core", limit=5000, remaining=1200, reset=NOW + 1800)
        assert wait_ahead(Spending("a", core, 1.0, 3600.0), 1000, 0.5, now=NOW) == 0
        assert wait_ahead(Spending("a", core, 1.0, 3600.0), 10_000, 2.0, now=NOW) == 0

    def test_work_for_several_windows_waits_in_each(self) -> None:
        """12,000 calls at 5 a second: to the reset, then 1,000 s of work and 2,600 s of waiting, then the rest."""
        core = RateLimit(resource="core", limit=5000, remaining=0, reset=NOW + 100)
        spending = Spending("a", core, 4.0, 3600.0)
        assert wait_ahead(spending, 3000, 0.8, now=NOW) == 100 + 2 * 2600

    def test_of_two_tokens_the_first_to_be_free_counts_at_best(self) -> None:
        """The shortest wait of one API is in low, the longest in high; of two APIs the longest is in both."""
        soon, late = (RateLimit(resource="core", limit=5000, remaining=0, reset=NOW + wait) for wait in (10, 60))
        one_api = [Spending("a", soon, 1.0, 0.0), Spending("a", late, 1.0, 0.0)]
        assert estimate(1, Pace(1, 1), one_api, now=NOW) == Estimate(11, 61, 10)
        two_apis = [Spending("a", soon, 1.0, 0.0), Spending("b", late, 1.0, 0.0)]
        assert estimate(1, Pace(1, 1), two_apis, now=NOW) == Estimate(61, 61, 60)


class TestCounting:
    def test_a_list_is_counted_to_its_length(self, recorded: Recorded) -> None:
        """All items come through, in order; the last event says that all are done, and what became of them."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api") as repo:
            tracker = repo.track([1, 2, 3])
            seen = []
            for number in tracker:
                seen.append(number)
                assert tracker.done == number - 1
                repo.count(created=1)
        assert seen == [1, 2, 3]
        last = events(recorded)[-1]
        assert last["event"] == "sync.repo.progress"
        assert (last["done"], last["total"], last["percent"], last["created"]) == (3, 3, 100.0, 3)
        assert (last["level"], last["repo"], last["sync_id"][12:18]) == ("info", "acme/api", "-SYNC-")

    def test_each_of_three_levels_tells_of_itself(self, recorded: Recorded) -> None:
        """A pipeline tracks repositories, a repository pull requests, a stage batches; each under its own span."""
        with otelsync.pipeline("p") as run:
            for name in run.track(["acme/api"]):
                with otelsync.repo(name) as repo:
                    for _ in repo.track([1, 2]):
                        pass
                    with otelsync.stage("llm") as llm:
                        for _ in llm.track([1, 2, 3]):
                            pass
        last = {line["event"]: (line["span_id"], line["done"]) for line in events(recorded)}
        assert last == {
            "sync.pipeline.progress": (run.span_id, 1),
            "sync.repo.progress": (repo.span_id, 2),
            "sync.stage.progress": (llm.span_id, 3),
        }

    def test_an_iterable_without_a_length_has_no_total(self, recorded: Recorded) -> None:
        """Then there is neither a percentage nor an estimate, and the count comes all the same."""
        with otelsync.repo("acme/api") as repo:
            tracker = repo.track(iter("abcd"))
            assert list(tracker) == list("abcd")
            assert (tracker.done, tracker.total, tracker.percent, tracker.eta) == (4, None, None, None)
        (event,) = events(recorded)
        assert event["done"] == 4
        assert {"total", "percent", "eta_low_seconds", "eta_high_seconds"}.isdisjoint(event)

    def test_a_total_can_become_known_later(self, recorded: Recorded) -> None:
        """From then on there is a percentage."""
        with otelsync.repo("acme/api") as repo:
            tracker = repo.track(iter("abcd"))
            for _ in tracker:
                tracker.total = 8
        assert events(recorded)[-1]["percent"] == 50.0

    def test_a_total_that_was_too_low_is_no_basis(self, recorded: Recorded) -> None:
        """With more items than that, there is no estimate, and never more than 100 percent."""
        with otelsync.repo("acme/api") as repo:
            tracker = repo.track(range(10), total=4)
            assert len(list(tracker)) == 10
        assert (tracker.percent, tracker.eta) == (100.0, None)
        assert (events(recorded)[-1]["done"], events(recorded)[-1]["total"]) == (10, 4)

    @pytest.mark.parametrize("total", ["many", 1.5, -1])
    def test_a_total_that_is_none_counts_as_unknown(self, recorded: Recorded, total: Any) -> None:
        """Telemetry does not fail its host for it."""
        with otelsync.repo("acme/api") as repo:
            assert list(repo.track([1], total=total)) == [1]
        assert "total" not in events(recorded)[-1]

    def test_a_loop_that_is_left_early(self, recorded: Recorded) -> None:
        """The item at which it is left is not counted; the generator behind is closed, and the count is told."""
        closed = []

        def pulls() -> Iterator[int]:
            try:
                yield from range(100)
            finally:
                closed.append(True)

        with otelsync.repo("acme/api") as repo:
            for number in repo.track(pulls(), total=100):
                if number == 7:
                    break
            assert closed == [True]
        assert events(recorded)[-1]["done"] == 7
        assert events(recorded)[-1]["percent"] == 7.0

    def test_what_the_iterable_raises_passes(self, recorded: Recorded) -> None:
        """Unchanged; what was done until then is told, and the stage fails as it would without."""
        error = ValueError("page 2 is gone")

        def pulls() -> Iterator[int]:
            yield 1
            raise error

        with pytest.raises(ValueError, match="page 2") as caught, otelsync.repo("acme/api") as repo:
            list(repo.track(pulls()))
        assert caught.value is error
        assert events(recorded)[-1]["done"] == 1
        assert recorded.span("sync.repo acme/api").attributes["sync.outcome"] == "failure"

    def test_what_the_loop_raises_passes(self, recorded: Recorded) -> None:
        """A tracker that is closed after its stage has ended tells nothing of it any more."""

        def sync() -> None:
            with otelsync.repo("acme/api") as repo:
                for number in repo.track([1, 2]):
                    raise KeyError(number)

        with pytest.raises(KeyError):
            sync()
        gc.collect()
        lines = [line["event"] for line in recorded.lines]
        assert lines[-1] == "sync.repo.failed"

    def test_an_asynchronous_iterable(self, recorded: Recorded) -> None:
        """It is iterated over with ``async for``, and counted alike."""

        async def pulls() -> AsyncIterator[int]:
            for number in range(5):
                await asyncio.sleep(0)
                yield number

        async def sync() -> list[int]:
            with otelsync.repo("acme/api") as repo:
                return [number async for number in repo.track(pulls(), total=5)]

        assert asyncio.run(sync()) == [0, 1, 2, 3, 4]
        assert events(recorded)[-1]["percent"] == 100.0

    def test_an_asynchronous_loop_that_is_left_early(self, recorded: Recorded) -> None:
        """No warning, no error, and the items before are counted."""

        async def pulls() -> AsyncIterator[int]:
            for number in range(5):
                yield number

        async def sync() -> Tracker[int]:
            with otelsync.repo("acme/api") as repo:
                tracker = repo.track(pulls(), total=5)
                async for number in tracker:
                    if number == 2:
                        break
                return tracker

        assert asyncio.run(sync()).done == 2
        assert recorded.span("sync.repo acme/api").attributes["sync.outcome"] == "success"

    def test_items_can_be_counted_by_hand(self, recorded: Recorded) -> None:
        """For pages, and for what other threads do."""
        clock = Clock()
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, (), clock, total=300)
            for _ in range(3):
                clock.now += 50
                tracker.advance(100)
        assert tracker.done == 300
        assert [event["done"] for event in events(recorded)] == [0, 100, 200, 300]

    def test_a_count_by_hand_ends_with_its_stage(self, recorded: Recorded) -> None:
        """The last figure is told before the stage's own end, however quick it was, and once."""
        with otelsync.repo("acme/api") as repo:
            tracker: Tracker[int] = repo.track(total=5)
            for _ in range(5):
                tracker.advance()
        lines = [(line["event"], line.get("done"), line.get("percent")) for line in recorded.lines]
        assert lines == [
            ("sync.repo.started", None, None),
            ("sync.repo.progress", 0, 0.0),
            ("sync.repo.progress", 5, 100.0),
            ("sync.repo.completed", None, None),
        ]

    def test_a_quick_count_by_hand_tells_once_a_second(self, recorded: Recorded) -> None:
        """As a loop does: 150 items in 1.5 s are three events, the last of which says 100 %."""
        clock = Clock()
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, (), clock, total=150)
            for _ in range(150):
                clock.now += 0.01
                tracker.advance()
        done = [event["done"] for event in events(recorded)]
        assert (done[0], len(done), done[-1]) == (0, 3, 150)

    def test_a_count_by_hand_without_a_total(self, recorded: Recorded) -> None:
        """There is nothing to say at the beginning, and the count at the end."""
        with otelsync.repo("acme/api") as repo:
            tracker: Tracker[int] = repo.track()
            assert events(recorded) == []
            tracker.advance(7)
        assert [(event["done"], event.get("total")) for event in events(recorded)] == [(7, None)]

    def test_a_count_by_hand_that_came_to_nothing(self, recorded: Recorded) -> None:
        """Of 150 none was done when the stage failed: that is told once."""

        def sync() -> None:
            with otelsync.stage("llm") as stage:
                stage.track(total=150)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            sync()
        assert [(event["done"], event["total"]) for event in events(recorded)] == [(0, 150)]

    def test_a_loop_that_hangs_is_told_by_its_stage(self, recorded: Recorded) -> None:
        """A generator that somebody holds beyond its stage is not closed; the stage says how far it came."""
        with otelsync.stage("llm") as stage:
            loop = iter(stage.track(range(10)))
            assert [next(loop) for _ in range(4)] == [0, 1, 2, 3]
        assert [event["done"] for event in events(recorded)] == [3]
        list(loop)
        assert len(events(recorded)) == 1

    def test_several_trackers_of_one_stage(self, recorded: Recorded) -> None:
        """Each is told to its end."""
        with otelsync.stage("llm") as stage:
            first: Tracker[int] = stage.track(total=3)
            second: Tracker[int] = stage.track(total=9)
            second.advance(9)
            first.advance(3)
        assert sorted(event["done"] for event in events(recorded)) == [3, 9]

    def test_a_loop_that_is_over_is_not_kept(self, recorded: Recorded) -> None:
        """A stage that tracks a million pages one after the other does not hold on to them."""
        assert recorded.home
        with otelsync.stage("llm") as stage:
            for _ in range(3):
                assert list(stage.track([1, 2])) == [1, 2]
            assert list(stage.trackers) == []

    def test_another_run_of_the_stage_begins_anew(self, recorded: Recorded) -> None:
        """A stage that is entered twice tells twice."""
        stage = otelsync.stage("llm")
        for _ in range(2):
            with stage as run:
                run.track(total=2).advance(2)
        assert [event["done"] for event in events(recorded)] == [2, 2]

    def test_iterating_again_begins_again(self, recorded: Recorded) -> None:
        """A second pass over the same tracker counts from zero."""
        with otelsync.repo("acme/api") as repo:
            tracker = repo.track([1, 2])
            assert list(tracker) + list(tracker) == [1, 2, 1, 2]
        assert tracker.done == 2
        assert [event["done"] for event in events(recorded)] == [0, 2, 0, 2]

    def test_nothing_to_do_is_all_done(self, recorded: Recorded) -> None:
        """An empty list is at 100 percent at once, and said once."""
        with otelsync.repo("acme/api") as repo:
            assert list(repo.track([])) == []
            assert list(repo.track(())) == []
        assert [(event["done"], event["percent"]) for event in events(recorded)] == [(0, 100.0)] * 2

    def test_without_a_configuration_it_only_iterates(self) -> None:
        """Nothing is recorded, and nothing is amiss; the same outside the stage's block."""
        with otelsync.repo("acme/api") as repo:
            assert list(repo.track([1, 2])) == [1, 2]
        assert list(otelsync.repo("acme/api").track([1, 2])) == [1, 2]

    def test_a_count_cannot_pass_for_progress(self, recorded: Recorded) -> None:
        """A caller's count of such a name does not displace the figure."""
        with otelsync.repo("acme/api") as repo:
            for _ in repo.track([1]):
                repo.count(done=99, total=99)
        assert (events(recorded)[-1]["done"], events(recorded)[-1]["total"]) == (1, 1)


class TestLevels:
    @pytest.mark.parametrize("options", [{}, {"debug_logs": "all"}, {"logging": "keep"}])
    def test_progress_is_recorded_at_any_level(self, record: Callable[..., Recorded], options: dict[str, Any]) -> None:
        """It is data: with LOG_LEVEL=ERROR it is in the journal as an INFO record, and on no screen."""
        recorded = record(log_level="ERROR", **options)
        with otelsync.repo("acme/api") as repo:
            repo.track(total=3).advance(3)
        found = [log for log in recorded.logs if log.event == "sync.repo.progress"]
        assert [(log.attributes["done"], log.level) for log in found] == [(0, "INFO"), (3, "INFO")]
        assert {log.span_id for log in found} == {repo.span_id}
        assert recorded.text == ""

    def test_it_is_shown_where_the_level_lets_it(self, record: Callable[..., Recorded]) -> None:
        """A level for its name goes before that for all, and what is shown is journalled once."""
        recorded = record(log_level="ERROR", log_levels="sync.repo.progress=INFO")
        with otelsync.repo("acme/api") as repo:
            repo.track(total=3).advance(3)
        assert [line["event"] for line in recorded.lines] == ["sync.repo.progress"] * 2
        assert len(recorded.logs) == 2

    def test_one_name_can_be_hidden(self, record: Callable[..., Recorded]) -> None:
        """And is still recorded."""
        recorded = record(log_level="INFO", log_levels="sync.repo.progress=ERROR")
        with otelsync.repo("acme/api") as repo:
            repo.track(total=3).advance(3)
        assert [line["event"] for line in recorded.lines] == ["sync.repo.started", "sync.repo.completed"]
        assert [log.event for log in recorded.logs].count("sync.repo.progress") == 2

    def test_without_a_journal_of_logs_nothing_is_recorded(
        self, record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With OTEL_LOGS_EXPORTER=none there is no record that anybody could read, and no harm."""
        monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
        recorded = record(log_level="ERROR")
        with otelsync.repo("acme/api") as repo:
            repo.track(total=3).advance(3)
        assert (recorded.logs, recorded.text) == ([], "")


class TestThrottling:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.lists(st.floats(0, 1e-4) | st.floats(0.01, 3) | st.floats(5, 30), min_size=1, max_size=120),
        st.integers(0, 500) | st.none(),
    )
    def test_events_are_neither_too_many_nor_too_few(
        self, recorded: Recorded, steps: list[float], total: int | None
    ) -> None:
        """At least a second lies between two, and no item that ends long after the last one goes untold."""
        clock = Clock()
        moments: list[float] = []
        with otelsync.stage("s") as stage:
            seen = told(recorded)
            for step in tracked(stage, iter(steps), clock, total=total):
                if told(recorded) > seen:
                    moments.append(clock.now)
                    seen = told(recorded)
                clock.now += step
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert all(gap >= Stage.progress_pause for gap in gaps)
        assert all(gap <= LONGEST + Stage.progress_pause + (STRIDE + 1) * max(steps) for gap in gaps)

    def test_a_percent_is_worth_an_event(self, recorded: Recorded) -> None:
        """With items of 100 ms and a total of 100, there is one a second; with 100,000, one in ten seconds."""
        counts = []
        for total in (100, 100_000):
            clock = Clock()
            with otelsync.stage("s") as stage:
                seen = told(recorded)
                for _ in tracked(stage, range(100), clock, total=total):
                    clock.now += 0.1
                counts.append(told(recorded) - seen)
        assert counts == [10, 2]

    def test_a_pipeline_tells_of_each_repository(self, recorded: Recorded) -> None:
        """The next one may take an hour, so it does not wait for a second to go by; a percent it has to be."""
        for total, expected in ((3, [0, 1, 2, 3]), (1000, [0, 10, 20, 30, 35])):
            clock = Clock()
            with otelsync.pipeline("p") as run:
                for number in tracked(run, range(total), clock):
                    clock.now += 0.01
                    if number == 35:
                        break
            done = [event["done"] for event in events(recorded) if event["total"] == total]
            assert done == expected

    def test_milestones_say_at_once_how_much_there_is(self, recorded: Recorded) -> None:
        """A repository's first event comes before its first item; another stage's when it is worth one."""
        with otelsync.repo("acme/api") as repo, otelsync.stage("llm") as llm:
            for _ in repo.track([1]):
                assert [event["total"] for event in events(recorded)] == [1]
            for _ in llm.track([1]):
                assert len(events(recorded)) == 2

    def test_brief_items_do_not_ask_the_clock_each(self, recorded: Recorded) -> None:
        """Of items that take next to nothing several are timed together, and long ones each by itself."""
        assert recorded.home
        clock = Clock()
        with otelsync.stage("s") as stage:
            assert len(list(tracked(stage, range(1600), clock))) == 1600
            assert clock.asked < 220
            clock.asked = 0
            for _ in tracked(stage, range(100), clock):
                clock.now += 0.1
            assert clock.asked >= 100


class TestTime:
    def test_the_rest_takes_as_long_as_the_recent_items(self, recorded: Recorded) -> None:
        """Ten items of 2 s each: ninety more take 180 s."""
        clock = Clock()
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, range(100), clock)
            for number in tracker:
                if number == 10:
                    assert tracker.eta == Estimate(180, 180)
                clock.now += 2
        assert events(recorded)[-1]["eta_high_seconds"] == 0

    def test_only_recent_items_count(self, recorded: Recorded) -> None:
        """After many quick items, the old slow ones are forgotten."""
        assert recorded.home
        clock = Clock()
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, range(1000), clock)
            for number in tracker:
                clock.now += 100 if number < 200 else 0.5
                if number == 500:
                    break
            assert tracker.eta == Estimate(250, 250)

    def test_time_spent_waiting_is_no_pace(self, recorded: Recorded) -> None:
        """An item in which a rate limit was waited for counts without the wait."""
        assert recorded.home
        clock = Clock()
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, range(20), clock)
            for number in tracker:
                clock.now += 1
                if number % 2:
                    clock.now += 3600
                    repo.waited += 3600  # as the end of a `rate_limit_wait` does
                if number == 10:
                    break
            assert tracker.eta == Estimate(10, 10)

    def test_a_limit_that_the_items_use_up_is_foreseen(
        self, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What an item costs is seen from what remains; the wait for the reset is in the estimate, and told."""
        monkeypatch.setattr(rate_limits, "observed", RateLimits(0.1))
        clock = Clock()

        def respond(remaining: int) -> None:
            limit = RateLimit(resource="core", limit=5000, remaining=remaining, reset=NOW + 1000)
            rate_limits.observed.observe("api.github.com", Observation(limits=(limit,)), now=NOW + clock.now)

        respond(100)
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, range(60), clock)
            for number in tracker:
                if number == 10:
                    break
                clock.now += 2
                respond(100 - 4 * (number + 1))
        # 60 calls remain and are spent in 30 s, at 50 s; then 950 s to the reset, and 35 items more.
        event = events(recorded)[-1]
        assert event["eta_low_seconds"] == event["eta_high_seconds"] == 100 + 950
        assert event["waits_ahead_seconds"] == 950

    def test_another_window_is_no_cost(self, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
        """When a limit is full again, what it had before says nothing of what an item costs."""
        monkeypatch.setattr(rate_limits, "observed", RateLimits(0.1))
        assert recorded.home
        clock = Clock()
        with otelsync.repo("acme/api") as repo:
            tracker = tracked(repo, range(60), clock)
            for number in tracker:
                limit = RateLimit(limit=50, remaining=50 - number % 10, reset=NOW + 100 * (number // 10 + 1))
                rate_limits.observed.observe("api", Observation(limits=(limit,)), now=NOW + clock.now)
                clock.now += 2
                if number == 30:
                    break
            (seen,) = tracker._limits.values()
        assert seen.calls_per_item == 1.0
