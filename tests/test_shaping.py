from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import get_tracer
from otlp_server import Answer, OtlpServer, otlp_server
from recorded import Recorded
from sync_spans import Sync, attributes_of, number_of

import otelsync
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.shipping.checkpoint import load, save
from otelsync.shipping.folding import calls as folding
from otelsync.shipping.folding.budget import Limits
from otelsync.shipping.ledger import Account, read_ledger
from otelsync.shipping.outlet import Backoff
from otelsync.shipping.shipper import Shipper

LIMITS = Limits(max_spans=20)
"""Ten spans are left whole."""


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


@pytest.fixture
def ship(tmp_path: Path, server: OtlpServer) -> Iterator[Callable[..., Shipper]]:
    """Make shippers of `tmp_path`, with folding unless told otherwise. They are closed in the end."""
    made: list[Shipper] = []

    def make(limits: Limits | None = LIMITS, directory: Path = tmp_path, **options: Any) -> Shipper:
        sink = OtlpSink(OtlpEndpoint("traces", f"{server.url}/v1/traces", timeout=60))
        made.append(Shipper(directory, otlp=[sink], limits=limits, backoff=Backoff(0.005, 0.02), **options))
        return made[-1]

    yield make
    for shipper in made:
        shipper.close()


def account(directory: Path) -> Account:
    """What became of the spans, which must add up."""
    (found,) = [account for account in read_ledger(directory).accounts if account.signal == "span"]
    assert found.reconciles, str(found)
    return found


def page(prs: int, *, ends: bool = True) -> Sync:
    """A call with so many pull requests, after ten spans that make its trace a large one."""
    sync = Sync()
    for _ in range(10):
        sync.span("sync.repo acme/api")
    call = sync.begin("sync.api list")
    for number in range(prs):
        sync.span("sync.pr", call, took=1 + number)
    if ends:
        sync.end(call, "sync.api list")
    return sync


def test_the_ledger_tells_folded_from_shipped(tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper]) -> None:
    """Folded spans are counted as folded, in a file that is gone too."""
    page(20).journal(tmp_path)
    assert ship().drain(120)
    assert not list(tmp_path.glob("*.journal"))
    assert (account(tmp_path).recorded, account(tmp_path).shipped, account(tmp_path).folded) == (31, 14, 17)
    assert len(server.spans) == 14


def test_what_waits_is_pending(tmp_path: Path, ship: Callable[..., Shipper]) -> None:
    """Spans of a call that is open are pending, though the sink has passed them."""
    page(20, ends=False).journal(tmp_path, alive=True)
    assert ship().drain(120)
    assert (account(tmp_path).shipped, account(tmp_path).folded, account(tmp_path).pending) == (10, 0, 20)


def test_a_restart_goes_on_with_what_waits(tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper]) -> None:
    """One shipper takes the pull requests, the next one the end of their call: the sums are those of all."""
    sync = page(20, ends=False)
    sync.journal(tmp_path, alive=True)
    first = ship()
    assert first.drain(120)
    first.close()
    sync.end(11, "sync.api list")
    sync.journal(tmp_path, alive=True)
    assert ship().drain(120)
    (call,) = [span for span in server.spans if span.name == "sync.api list"]
    assert attributes_of(call)["sync.items.folded"] == 17
    assert (account(tmp_path).shipped, account(tmp_path).folded, account(tmp_path).pending) == (14, 17, 0)


def test_a_failing_endpoint_changes_nothing(tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper]) -> None:
    """What could not be delivered is folded again, from where the last delivery has left it."""
    page(50).journal(tmp_path)
    server.answers.extend([Answer(503), Answer(), Answer(503), Answer(503), Answer(drop=True)])
    assert ship(max_batch_records=9).drain(120)
    (call,) = [span for span in server.spans if span.name == "sync.api list"]
    assert attributes_of(call)["sync.items.folded"] == 47
    assert sorted(map(number_of, server.spans)) == sorted({number_of(span) for span in server.spans})
    assert (account(tmp_path).shipped, account(tmp_path).folded) == (14, 47)


@pytest.mark.parametrize(("answer", "reason"), [(Answer(400), "rejected"), (Answer(rejects=14), "partial_success")])
def test_sums_that_are_refused_are_no_sums(
    tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper], answer: Answer, reason: str
) -> None:
    """Where the endpoint refuses everything, what was summed up is rejected too."""
    page(20).journal(tmp_path)
    server.always = answer
    assert ship().drain(120)
    found = account(tmp_path)
    assert (found.shipped, found.folded, found.pending, sum(found.dropped.values())) == (0, 0, 0, 31)
    assert reason in found.dropped


def test_a_killed_process_leaves_sums_too(tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper]) -> None:
    """A call that was open when its process died is closed as interrupted, with the sums of what was below."""
    page(20, ends=False).journal(tmp_path)
    assert ship().drain(120)
    (call,) = [span for span in server.spans if span.name == "sync.api list"]
    assert attributes_of(call)["sync.outcome"] == "interrupted"
    assert attributes_of(call)["sync.items.folded"] == 17
    assert account(tmp_path).pending == 0


def test_a_drain_leaves_nothing_that_waits_in_vain(
    tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper]
) -> None:
    """When the processes are gone, spans below others that never came are let out, with a summary of the rest."""
    sync = page(0)
    for _ in range(9):
        sync.span("sync.pr", 999)
    sync.span("GET", 998)
    sync.journal(tmp_path)
    assert ship().drain(120)
    (summary,) = [span for span in server.spans if span.name == "sync.pr.folded"]
    assert attributes_of(summary)["sync.items.folded"] == 6
    found = account(tmp_path)
    assert (found.recorded, found.shipped, found.folded, found.pending) == (21, 15, 6, 0)


def test_folding_can_be_switched_off_in_mid_run(
    tmp_path: Path, server: OtlpServer, ship: Callable[..., Shipper]
) -> None:
    """A shipper without folding lets out what an earlier one has kept back, and sends all else as it is."""
    sync = page(20, ends=False)
    sync.journal(tmp_path, alive=True)
    first = ship()
    assert first.drain(120)
    first.close()
    for _ in range(20):
        sync.span("sync.pr", 11)
    sync.journal(tmp_path, alive=True)
    assert ship(limits=None).drain(120)
    found = account(tmp_path)
    assert (found.recorded, found.shipped, found.folded, found.pending) == (50, 33, 17, 0)
    assert len(server.spans) == 34


def test_a_state_that_cannot_be_read_is_accounted_for(tmp_path: Path, ship: Callable[..., Shipper]) -> None:
    """Spans that were kept back by a release whose state this one cannot read are dropped, and counted."""
    page(20, ends=False).journal(tmp_path, alive=True)
    first = ship()
    assert first.drain(120)
    first.close()
    checkpoint = load(tmp_path)
    assert checkpoint is not None
    checkpoint.fold = '{"later": true}'
    checkpoint.fan_outs = "[]"
    save(tmp_path, checkpoint)
    assert ship().drain(120)
    assert (account(tmp_path).dropped, account(tmp_path).pending) == ({"vanished": 20}, 0)


def test_an_error_in_folding_costs_no_span(
    tmp_path: Path,
    server: OtlpServer,
    ship: Callable[..., Shipper],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever goes wrong in folding, the records go out as they are, and it is said."""
    monkeypatch.setattr(folding, "MOST_WAITING", "none")
    sync = page(20)
    sync.span("GET", 999)
    sync.journal(tmp_path)
    with caplog.at_level(logging.ERROR, "otelsync.shipping"):
        assert ship().drain(120)
    assert len(server.spans) == 32
    assert "could not be folded" in caplog.text
    assert account(tmp_path).shipped == 32


def test_a_real_recording_is_folded_with_what_is_below(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper]
) -> None:
    """Pull requests that make API calls, with requests of another library below, are folded whole, tree by tree."""
    http = get_tracer("http")
    with otelsync.pipeline("nightly"), otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests"):
        for number in range(40):
            with otelsync.pull_request(number) as pr:
                with otelsync.api_call("list_reviews"), http.start_as_current_span("GET"):
                    pass
                if number == 30:
                    pr.fail("broken")
    otelsync.shutdown(0)
    assert ship(directory=recorded.journal).drain(120)
    found = Counter(span.name for span in server.spans)
    assert found["sync.pr"] == found["GET"] == found["sync.api list_reviews"] < 12
    (call,) = [span for span in server.spans if span.name == "sync.api list_pull_requests"]
    assert attributes_of(call)["sync.items.folded"] == 40 - found["sync.pr"]
    assert attributes_of(call)["sync.spans.folded"] == 3 * (40 - found["sync.pr"])
    ids = {span.span_id for span in server.spans}
    assert {span.parent_span_id for span in server.spans if span.parent_span_id} <= ids
    assert account(recorded.journal).pending == 0
