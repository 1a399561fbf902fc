from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sync_spans import TRACE, Sync, attributes_of, batch, number_of, read

from otelsync.journal.batch import Batch
from otelsync.shipping.folding import calls as folding
from otelsync.shipping.folding.budget import Limits
from otelsync.shipping.folding.calls import PATIENCE, Fold
from otelsync.shipping.folding.fan_out import FanOuts
from otelsync.shipping.folding.state import FoldStateError, dump_fold, load_fold
from otelsync.vocabulary import part_of


class Endpoint:
    """A fold, and all that came out of it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.fold = Fold(self.limits, FanOuts())
        self.spans: list[Span] = []
        self.given = self.folded = self.shipped = self.added = 0

    def take(self, *batches: Batch, now: float = 0.0, over: bool = False) -> None:
        self.given += sum(taken.spans for taken in batches)
        late = self.fold.overdue(now, lambda *_: over)
        out = self.fold.take(batches, now, late)
        self.spans += read(out.batch())
        self.folded += out.folded
        self.shipped += out.shipped
        self.added += out.added
        assert self.given == self.shipped + self.folded + self.fold.held

    def restart(self) -> None:
        """Go on from what a checkpoint would hold."""
        text = dump_fold(self.fold)
        self.fold = Fold(self.limits, FanOuts())
        load_fold(text, self.fold)
        assert dump_fold(self.fold) == text

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        (span,) = self.named(name)
        return span


def spent(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose trace has used what is left whole, and not more."""
    budget = endpoint.fold.budget(TRACE)
    while budget.is_whole:
        budget.spend(1)
    return endpoint


@pytest.fixture
def endpoint() -> Endpoint:
    return spent(Endpoint(Limits(keep_slowest=2)))


def page(sync: Sync, durations: Sequence[float], *, failed: Sequence[int] = ()) -> None:
    """A call with pull requests of these durations in milliseconds."""
    call = sync.begin("sync.api list_pull_requests")
    for index, took in enumerate(durations):
        sync.span("sync.pr", call, took=took, failed=index in failed)
    sync.end(call, "sync.api list_pull_requests")


def test_a_small_trace_stays_whole() -> None:
    """Up to a tenth of the budget everything goes out at once, also below a pull request that has not ended."""
    sync, endpoint = Sync(), Endpoint()
    call = sync.begin("sync.api list_pull_requests")
    pr = sync.reserve()
    sync.span("GET", pr)
    endpoint.take(batch(sync.records))
    assert [span.name for span in endpoint.spans] == ["GET"]
    sync.span("sync.pr", call, own=pr)
    endpoint.take(batch(sync.records[2:]))
    assert endpoint.fold.held == 0


def test_failed_slow_and_slowest_are_kept_and_the_rest_is_summed_up(endpoint: Endpoint) -> None:
    """A call's span says how many pull requests were left out, and how long they took."""
    sync = Sync()
    page(sync, [*range(1, 41), 5000, 1], failed=[3])
    endpoint.take(*sync.batches())
    took = sorted(
        (span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000 for span in endpoint.named("sync.pr")
    )
    assert took == [4, 39, 40, 5000]
    sums = attributes_of(endpoint.one("sync.api list_pull_requests"))
    assert sums["sync.items.folded"] == 38
    assert sums["sync.items.folded.max_ms"] == 38.0
    assert sums["sync.items.folded.p50_ms"] == pytest.approx(19, rel=0.125)
    assert sums["sync.items.folded.p95_ms"] == pytest.approx(36, rel=0.125)
    assert (endpoint.shipped, endpoint.folded, endpoint.fold.held) == (5, 38, 0)
    status = endpoint.one("sync.api list_pull_requests").status
    assert status.code == status.STATUS_CODE_UNSET
    assert re.fullmatch(r"38 items folded into this span: p50 \d+ ms, longest 38 ms", status.message)


def test_a_status_of_its_own_stays(endpoint: Endpoint) -> None:
    """A call that failed says why, and its sums are in its attributes."""
    sync = Sync()
    call = sync.begin("sync.api list_pull_requests")
    for _ in range(9):
        sync.span("sync.pr", call, took=1)
    sync.end(call, "sync.api list_pull_requests", failed=True)
    endpoint.take(*sync.batches())
    span = endpoint.one("sync.api list_pull_requests")
    assert (span.status.code, span.status.message) == (span.status.STATUS_CODE_ERROR, "boom")
    assert attributes_of(span)["sync.items.folded"] == 7


@pytest.mark.parametrize("seed", range(5))
def test_a_trace_of_half_the_budget_is_never_folded(seed: int) -> None:
    """In whatever order and pieces its spans come."""
    endpoint = Endpoint(Limits(max_spans=1600))
    sync = Sync()
    for _ in range(7):
        page(sync, [1] * 110)
    dice = random.Random(seed)
    whole = list(sync.batches(dice.sample(range(len(sync.records)), 20)))
    dice.shuffle(whole)
    for taken in whole:
        endpoint.take(taken)
    endpoint.take(over=True)
    assert (len(endpoint.spans), endpoint.folded) == (777, 0)


def test_what_waits_is_neither_shipped_nor_folded(endpoint: Endpoint) -> None:
    """Until the call has ended, pull requests are counted as held; the failed and the slow go out at once."""
    sync = Sync()
    page(sync, [1, 2, 3, 4, 5], failed=[0])
    endpoint.take(batch(sync.records[:-1]))
    assert (endpoint.shipped, endpoint.folded, endpoint.fold.held) == (1, 0, 4)
    endpoint.take(batch(sync.records[-1:]))
    assert (endpoint.shipped, endpoint.folded, endpoint.fold.held) == (4, 2, 0)


def test_pull_requests_below_a_repo_are_summed_up_there(endpoint: Endpoint) -> None:
    """Where there is no call, the stage above carries the sums."""
    sync = Sync()
    repo = sync.begin("sync.repo acme/api")
    for _ in range(5):
        sync.span("sync.pr", repo)
    sync.end(repo, "sync.repo acme/api")
    endpoint.take(*sync.batches())
    assert attributes_of(endpoint.one("sync.repo acme/api"))["sync.items.folded"] == 3


@pytest.mark.parametrize("attributes", [{"sync__action": "failed"}, {"sync__outcome": "cancelled"}])
def test_a_failure_needs_no_status(endpoint: Endpoint, attributes: dict[str, Any]) -> None:
    """A pull request that failed by its action, or has an outcome of its own, is kept."""
    sync = Sync()
    call = sync.begin("sync.api list")
    for _ in range(5):
        sync.span("sync.pr", call, took=9)
    kept = sync.span("sync.pr", call, took=1, **attributes)
    endpoint.take(*sync.batches())
    assert [number_of(span) for span in endpoint.spans] == [kept]


def test_an_absolute_bound_says_what_is_slow() -> None:
    """With a number of seconds, whatever takes as long is kept, and nothing that takes less."""
    endpoint = spent(Endpoint(Limits(keep_slowest=0, slow_seconds=0.05)))
    sync = Sync()
    page(sync, [49, 50, 51, 1, 1])
    endpoint.take(*sync.batches())
    assert len(endpoint.named("sync.pr")) == 2


def test_the_median_says_what_is_slow() -> None:
    """By default slow is five times the median of the pull requests before: where all take long, none is slow."""
    endpoint = spent(Endpoint(Limits(keep_slowest=0)))
    sync = Sync()
    page(sync, [200] * 50 + [900, 1100])
    endpoint.take(*sync.batches())
    slow = [span.end_time_unix_nano - span.start_time_unix_nano for span in endpoint.named("sync.pr")]
    assert slow == [1_100_000_000]


@given(
    took=st.lists(st.integers(100, 3_000), min_size=30, max_size=80), restarts=st.sets(st.integers(1, 79), max_size=8)
)
def test_what_is_slow_does_not_depend_on_restarts(took: list[int], restarts: set[int]) -> None:
    """The same pull requests are slow, whenever the shipper was started anew in between."""
    kept = []
    for cuts in (restarts, set()):
        endpoint = spent(Endpoint(Limits(keep_slowest=0)))
        sync = Sync()
        page(sync, took)
        for number, taken in enumerate(sync.batches(range(1, 200))):
            if number in cuts:
                endpoint.restart()
            endpoint.take(taken)
        kept.append([span.span_id for span in endpoint.named("sync.pr")])
    assert kept[0] == kept[1]


def detailed(sync: Sync, call: int, *, took: float = 1, failed: bool = False) -> int:
    """A pull request with an API call of its own, and an HTTP request below that."""
    pr = sync.reserve()
    reviews = sync.begin("sync.api list_reviews", pr)
    sync.span("GET", reviews, scope="requests")
    sync.end(reviews, "sync.api list_reviews", pr)
    sync.span("sync.pr", call, own=pr, took=took, failed=failed)
    return pr


@pytest.mark.parametrize("cuts", [[], [3], range(100)])
def test_what_is_below_a_pull_request_goes_where_it_goes(endpoint: Endpoint, cuts: Sequence[int]) -> None:
    """Spans below a folded one are folded with it, those below one that is kept go out, wherever batches end."""
    sync = Sync()
    call = sync.begin("sync.api list_pull_requests")
    kept = [detailed(sync, call, took=took, failed=took == 1) for took in (1, 8, 9)]
    for _ in range(4):
        detailed(sync, call, took=5)
    sync.end(call, "sync.api list_pull_requests")
    endpoint.take(*sync.batches(cuts))
    assert {number_of(span) for span in endpoint.named("sync.pr")} == set(kept)
    assert len(endpoint.named("GET")) == len(endpoint.named("sync.api list_reviews")) == 3
    sums = attributes_of(endpoint.one("sync.api list_pull_requests"))
    assert (sums["sync.items.folded"], sums["sync.spans.folded"]) == (4, 12)
    assert (endpoint.folded, endpoint.fold.held) == (12, 0)


def test_a_pull_request_of_which_a_part_has_gone_out_goes_too(endpoint: Endpoint) -> None:
    """What waits too long for a span above goes out; the pull request is then kept, so that nothing lacks a parent."""
    sync = Sync()
    call = sync.begin("sync.api list")
    pr = sync.reserve()
    sync.span("GET", pr)
    endpoint.take(batch(sync.records), now=1.0)
    assert endpoint.fold.held == 1
    endpoint.take(now=PATIENCE)
    assert endpoint.spans == []
    endpoint.take(now=PATIENCE + 2)
    assert [span.name for span in endpoint.spans] == ["GET"]
    for _ in range(5):
        sync.span("sync.pr", call, took=9)
    sync.span("sync.pr", call, own=pr, took=1)
    endpoint.take(batch(sync.records[2:]), now=PATIENCE + 3)
    assert [number_of(span) for span in endpoint.named("sync.pr")] == [pr]


def test_what_waits_since_a_time_to_come_waits_no_more(endpoint: Endpoint) -> None:
    """A checkpoint of before a reboot has times of another clock."""
    sync = Sync()
    sync.begin("sync.api list")
    sync.span("GET", sync.reserve())
    endpoint.take(batch(sync.records), now=1_700_000_000.0)
    endpoint.restart()
    endpoint.take(now=60.0)
    assert [span.name for span in endpoint.spans] == ["GET"]


def test_tasks_and_remote_children_do_not_wait(endpoint: Endpoint) -> None:
    """A span with a parent in another process, a task's run and a repo cannot be below a pull request of ours."""
    sync = Sync()
    sync.span("run/sync_repo", 77, kind=5)
    sync.span("handler", 78, flags=0x300)
    sync.span("sync.repo acme/api", 79)
    endpoint.take(batch(sync.records))
    assert len(endpoint.spans) == 3


def test_a_parent_that_never_comes_leaves_a_summary(endpoint: Endpoint) -> None:
    """Pull requests below a span that is nowhere to be seen are summed up in a span of its own, below it."""
    sync = Sync()
    for _ in range(6):
        sync.span("sync.pr", 99, took=3)
    endpoint.take(batch(sync.records))
    assert endpoint.spans == []
    endpoint.take(over=True)
    summary = endpoint.one("sync.pr.folded")
    assert summary.parent_span_id == (99).to_bytes(8, "big")
    assert attributes_of(summary)["sync.items.folded"] == 4
    assert (endpoint.shipped, endpoint.folded, endpoint.added, endpoint.fold.held) == (2, 4, 1, 0)


def test_an_open_call_may_take_its_time(endpoint: Endpoint) -> None:
    """What waits for a stage that has said that it began waits as long as that takes."""
    sync = Sync()
    page(sync, [1, 2, 3])
    endpoint.take(batch(sync.records[:-1]))
    endpoint.take(now=1e9)
    assert endpoint.spans == []


def test_beyond_its_budget_a_trace_keeps_only_what_must_be_kept() -> None:
    """When eight tenths are spent, none is kept for being among the slowest."""
    endpoint = Endpoint(Limits(max_spans=10, keep_slowest=2))
    sync = Sync()
    page(sync, [1] * 20, failed=range(9))
    page(sync, [1] * 20)
    endpoint.take(*sync.batches())
    _, second = (attributes_of(span) for span in endpoint.named("sync.api list_pull_requests"))
    assert second["sync.items.folded"] == 20


def test_memory_is_bounded_in_every_direction(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many spans wait, for however many others, no more are held than the bounds say; none is lost."""
    monkeypatch.setattr(folding, "MOST_SIBLINGS", 10)
    monkeypatch.setattr(folding, "MOST_WAITING", 20)
    monkeypatch.setattr(folding, "MOST_BELOW", 5)
    monkeypatch.setattr(folding, "MOST_LEAKED", 30)
    monkeypatch.setattr(folding, "MOST_OPEN", 40)
    monkeypatch.setattr(folding, "MOST_BUDGETS", 3)
    sync = Sync()
    for number in range(200):
        sync.begin("sync.api list", 10_000 + number)
        sync.span("sync.pr", 20_000 + number)
        sync.span("GET", 30_000 + number % 50)
    for at in range(0, len(sync.records), 6):
        endpoint.take(batch(sync.records[at : at + 6]))
        fold = endpoint.fold
        assert len(fold.siblings) <= 10
        assert sum(len(waiting.spans) for waiting in fold.waiting.values()) <= 20
        assert len(fold.leaked) <= 30
        assert len(fold.open) <= 40
    endpoint.take(over=True)
    assert endpoint.shipped + endpoint.folded == 400
    assert endpoint.fold.held == 0


def test_a_span_that_cannot_be_read_goes_as_it_is(endpoint: Endpoint) -> None:
    """Bytes that are no span are passed on."""
    endpoint.fold.take([batch([("otelsync", "spans", b"\x12\x03\xff\xff\xff")])], 0.0)
    assert endpoint.fold.held == 0


@pytest.mark.parametrize("text", ["{", "[]", '{"held": 1}', '{"places": [["%", ""]], "held": 0}'])
def test_a_state_that_is_damaged_says_so(text: str) -> None:
    """A text that is no state raises, whatever is wrong with it."""
    with pytest.raises(FoldStateError):
        load_fold(text, Fold(Limits(), FanOuts()))


@st.composite
def syncs(draw: st.DrawFn) -> Sync:
    """Repos of calls of pull requests, some with calls and HTTP requests of their own, some below other spans."""
    sync = Sync()
    pipeline = sync.begin("sync.pipeline p")
    for _ in range(draw(st.integers(1, 3))):
        repo = sync.begin("sync.repo acme/api", pipeline)
        for _ in range(draw(st.integers(0, 3))):
            other = sync.reserve() if draw(st.booleans()) else 0
            call = sync.begin("sync.api list", other or repo)
            for failed, took, below in draw(
                st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2, 50, 3000]), st.integers(0, 2)), max_size=12)
            ):
                if below:
                    detailed(sync, call, took=took, failed=failed)
                else:
                    sync.span("sync.pr", call, took=took, failed=failed)
            if draw(st.integers(0, 5)):
                sync.end(call, "sync.api list", other or repo)
            if other:
                sync.span("page", repo, own=other, scope="custom")
        sync.end(repo, "sync.repo acme/api", pipeline)
    sync.end(pipeline, "sync.pipeline p")
    return sync


def deliveries(endpoint: Endpoint, batches: Iterator[Batch], lost: Iterator[bool]) -> None:
    """Take batches, some of them again from the checkpoint, as their delivery failed or the shipper was killed."""
    for taken in batches:
        text = dump_fold(endpoint.fold)
        if next(lost, False):
            endpoint.fold.take([taken], 0.0)
            endpoint.fold = Fold(endpoint.limits, FanOuts())
            load_fold(text, endpoint.fold)
        endpoint.take(taken)


@settings(max_examples=150, deadline=None)
@given(
    sync=syncs(),
    cuts=st.lists(st.integers(0, 200), max_size=20),
    lost=st.lists(st.booleans(), max_size=20),
    spans=st.sampled_from([10, 100, 400, 10_000]),
    keep=st.integers(0, 3),
)
def test_counts_reconcile_whatever_happens(
    sync: Sync, cuts: list[int], lost: list[bool], spans: int, keep: int
) -> None:
    """For any sync, any batches and any deaths of the shipper: recorded = shipped + folded + held at any time, and
    nothing is held in the end; the sums say what is missing; every failed and every slow pull request has come, once,
    and so has the parent of whatever has come."""
    endpoint = Endpoint(Limits(max_spans=spans, keep_slowest=keep, slow_seconds=2.0))
    deliveries(endpoint, sync.batches(cuts), iter(lost))
    endpoint.restart()
    endpoint.take(over=True)
    assert endpoint.fold.held == 0
    recorded = {number_of(span): span for taken in sync.batches() for span in read(taken)}
    out = {number_of(span): span for span in endpoint.spans if span.name != "sync.pr.folded"}
    assert len(out) == endpoint.shipped == len(endpoint.spans) - endpoint.added
    sums = [attributes_of(span) for span in endpoint.spans]
    said = sum(int(str(about.get("sync.spans.folded", about.get("sync.items.folded", 0)))) for about in sums)
    assert said == endpoint.folded
    assert {number for number, span in recorded.items() if span.name == "sync.pr" and must_be_kept(span)} <= out.keys()
    parents = {int.from_bytes(span.parent_span_id, "big") for span in out.values()}
    assert parents & recorded.keys() <= out.keys()


def must_be_kept(pull_request: Span) -> bool:
    """Whether it failed, or is slow."""
    took = pull_request.end_time_unix_nano - pull_request.start_time_unix_nano
    return pull_request.status.code == 2 or took >= 2_000_000_000


# Items and groups of any kind


@pytest.mark.parametrize("above", ["sync.api list_orders", "sync.batch create_items", "sync.customer GREYSON"])
def test_items_of_any_kind_are_summed_up(endpoint: Endpoint, above: str) -> None:
    """Orders below a call, a batch or a group go out as pull requests do: the failed, the slowest, and the sums."""
    sync = Sync()
    call = sync.begin(above)
    for number in range(1, 11):
        failed: dict[str, Any] = {"sync__action": "failed"} if number == 3 else {}
        sync.span("sync.order", call, took=number, **failed)
    sync.end(call, above)
    endpoint.take(*sync.batches())
    took = [(span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000 for span in endpoint.named("sync.order")]
    assert sorted(took) == [3, 9, 10]
    assert attributes_of(endpoint.one(above))["sync.items.folded"] == 7


def order(sync: Sync, batch_: int, *, took: float = 1, failed_part: bool = False) -> int:
    """An order with four sub-items."""
    own = sync.reserve()
    for number in range(4):
        sync.span("sync.subitem", own, took=1 + number, failed=failed_part and number == 0)
    sync.span("sync.order", batch_, own=own, took=took)
    return own


@pytest.mark.parametrize("cuts", [[], [3], range(100)])
def test_items_below_items_go_where_these_go(endpoint: Endpoint, cuts: Sequence[int]) -> None:
    """An order carries the sums of its sub-items; one that is summed up stands for all of them."""
    sync = Sync()
    batch_ = sync.begin("sync.batch create")
    kept = [order(sync, batch_, took=took) for took in (8, 9)]
    for _ in range(5):
        order(sync, batch_)
    sync.end(batch_, "sync.batch create")
    for taken in sync.batches(cuts):
        endpoint.restart()
        endpoint.take(taken)
    assert [number_of(span) for span in endpoint.named("sync.order")] == kept
    assert [attributes_of(span)["sync.items.folded"] for span in endpoint.named("sync.order")] == [2, 2]
    assert len(endpoint.named("sync.subitem")) == 4
    sums = attributes_of(endpoint.one("sync.batch create"))
    assert (sums["sync.items.folded"], sums["sync.spans.folded"]) == (5, 25)
    assert (endpoint.folded, endpoint.fold.held) == (29, 0)


def test_an_item_with_a_failed_item_below_it_goes_out(endpoint: Endpoint) -> None:
    """Nothing that goes out lacks the item that it is below."""
    sync = Sync()
    batch_ = sync.begin("sync.batch create")
    failed = order(sync, batch_, failed_part=True)
    for _ in range(5):
        order(sync, batch_, took=9)
    sync.end(batch_, "sync.batch create")
    endpoint.take(*sync.batches())
    assert failed in [number_of(span) for span in endpoint.named("sync.order")]
    known = {span.span_id for span in endpoint.spans}
    assert all(span.parent_span_id in known for span in endpoint.spans if span.parent_span_id)


def test_a_summary_is_called_after_its_items(endpoint: Endpoint) -> None:
    """Where no span comes to carry the sums, one of its own does, which no reader takes for an item."""
    sync = Sync()
    for _ in range(6):
        sync.span("sync.order", 99, took=3)
    endpoint.take(batch(sync.records))
    endpoint.restart()
    endpoint.take(over=True)
    assert attributes_of(endpoint.one("sync.order.folded"))["sync.items.folded"] == 4
    assert part_of("sync.order.folded") == part_of("sync.pr.folded") == ("", "")


def test_a_group_below_an_item_keeps_it(endpoint: Endpoint) -> None:
    """A group goes out at once, and so what it is below goes too."""
    sync = Sync()
    batch_ = sync.begin("sync.batch create")
    own = sync.reserve()
    sync.span("sync.board Orders", own)
    for _ in range(5):
        sync.span("sync.order", batch_, took=9)
    sync.span("sync.order", batch_, own=own, took=1)
    endpoint.take(*sync.batches())
    assert [span.name for span in endpoint.spans] == ["sync.board Orders", "sync.order"]
    assert number_of(endpoint.spans[1]) == own
