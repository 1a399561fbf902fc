"""Refusals of an endpoint: what it cannot take is dropped alone; where it takes nothing at all, the records wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoints import GrpcPeer, headers, status
from google.rpc import status_pb2  # type: ignore[import-untyped]  # it has no stubs
from journal_files import JournalFile, resource, scope, span
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_server import Answer, OtlpServer, otlp_server

from otelsync.journal.batch import Batch, Group
from otelsync.journal.format import SPAN
from otelsync.otlp.decoding import untagged
from otelsync.otlp.encoding import field
from otelsync.otlp.exporter import MOST_SPLITS, OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.outcome import Outcome
from otelsync.otlp.words import shown, words_of
from otelsync.shipping.ledger import Account, read_ledger
from otelsync.shipping.outlet import Backoff
from otelsync.shipping.shipper import Shipper

QUICK = Backoff(0.0001, 0.001)
PATIENCE = 600.0
SECRET = "q9s8d7f6g5h4"


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


def endpoint_to(url: str, **options: Any) -> OtlpEndpoint:
    return OtlpEndpoint("traces", f"{url}/v1/traces", timeout=PATIENCE, **options)


@contextmanager
def sink_to(url: str, **options: Any) -> Iterator[OtlpSink]:
    with closing(OtlpSink(endpoint_to(url, **options))) as sink:
        yield sink


def spans(count: int, *, first: int = 1) -> list[Batch]:
    group = Group(resource(), scope(), spans=[span(number) for number in range(first, first + count)])
    return [Batch("test", 512, 1024, [group])]


def of_tomorrow(count: int) -> list[bytes]:
    """Spans that are younger than any moment of the test."""
    then = time.time_ns() + 86_400_000_000_000
    times = Span(start_time_unix_nano=then, end_time_unix_nano=then).SerializeToString()
    return [field(0x12, untagged(span(number)) + times) for number in range(1, count + 1)]


def shipper_to(directory: Path, endpoint: OtlpEndpoint, **options: Any) -> closing[Shipper]:
    return closing(Shipper(directory, otlp=[OtlpSink(endpoint)], patience=0, backoff=QUICK, **options))


def account(directory: Path) -> Account:
    ledger = read_ledger(directory)
    assert ledger.reconciles
    [found] = (each for each in ledger.accounts if each.signal == "span")
    return found


# One record, or all


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("bad", [{1}, {57}, {100}, {3, 4, 5, 60, 99}])
def test_a_bad_record_goes_alone(server: OtlpServer, status: int, bad: set[int]) -> None:
    """A record that the endpoint cannot take does not take along those that were sent with it."""
    server.poisoned = dict.fromkeys(bad, status)
    with sink_to(server.url) as sink:
        assert sink.send(spans(100)) == Outcome(accepted=100 - len(bad), rejected=len(bad), reason=f"HTTP {status}")
    assert sorted(server.numbers) == sorted(set(range(1, 101)) - bad)


def test_an_endpoint_that_refuses_everything_costs_few_requests(server: OtlpServer) -> None:
    """The search for the record that is at fault is bounded, and shorter where nothing has ever been taken."""
    server.always = Answer(400)
    with sink_to(server.url) as sink:
        assert sink.send(spans(4000)) == Outcome(rejected=4000, reason="HTTP 400")
        first = len(server.received)
        assert first <= 4 * MOST_SPLITS
        assert sink.send(spans(4000)).rejected == 4000
        assert len(server.received) - first <= first // 4
        server.always = Answer()
        assert sink.send(spans(10)) == Outcome(accepted=10)


def test_a_passing_refusal_costs_nothing(server: OtlpServer) -> None:
    """What is taken in halves is taken."""
    server.answers.append(Answer(400))
    with sink_to(server.url) as sink:
        assert sink.send(spans(10)) == Outcome(accepted=10)
    assert server.numbers == list(range(1, 11))


@pytest.mark.parametrize("answer", [Answer(500), Answer(500, body=b"oops")])
def test_a_server_that_fails_at_everything_loses_nothing(server: OtlpServer, answer: Answer) -> None:
    """As long as it takes nothing, the fault may be its own: the records wait."""
    server.always = answer
    with sink_to(server.url) as sink:
        outcome = sink.send(spans(6))
        assert outcome.retry
        assert outcome.denied
        assert not outcome.rejected
        server.always = Answer()
        assert sink.send(spans(6)) == Outcome(accepted=6)


# An endpoint that takes nothing


@pytest.mark.parametrize(
    "status", [301, 307, 401, 402, 403, 404, 405, 406, 409, 410, 415, 421, 426, 431, 451, 501, 530]
)
def test_a_status_that_is_not_about_the_records_keeps_them(server: OtlpServer, status: int) -> None:
    """The address, the credentials, a quota: all of it can be mended, and the records are sent then."""
    server.answers.append(Answer(status, headers={"location": f"{server.url}/elsewhere"}))
    with sink_to(server.url) as sink:
        outcome = sink.send(spans(2))
        assert (outcome.retry, outcome.denied, outcome.rejected) == (True, True, 0)
        assert outcome.reason.startswith(f"HTTP {status}")
        assert len(server.received) == 1
        assert sink.send(spans(2)) == Outcome(accepted=2)


@pytest.mark.parametrize(
    "frames",
    [
        *(status(code, "no") for code in (5, 6, 7, 9, 12, 16)),
        *(headers({":status": code}, last=True) for code in ("401", "403", "404")),
    ],
)
def test_a_code_that_is_not_about_the_records_keeps_them(tmp_path: Path, frames: Any) -> None:
    """Such as NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED, and a gateway's statuses."""
    JournalFile(tmp_path, alive=False).spans(6).write()
    with GrpcPeer([frames]) as peer:
        endpoint = OtlpEndpoint(
            "traces", f"http://127.0.0.1:{peer.port}", protocol="grpc", insecure=True, timeout=PATIENCE
        )
        with shipper_to(tmp_path, endpoint) as shipper:
            assert not shipper.drain(PATIENCE)
            assert account(tmp_path).pending == 6
            assert shipper.drain(PATIENCE)
        assert account(tmp_path).shipped == 6


def test_a_drain_does_not_wait_for_what_cannot_be(tmp_path: Path, server: OtlpServer) -> None:
    """A program's end is not held up by an endpoint that takes nothing; the records stay, and are sent once it does."""
    server.always = Answer(404)
    JournalFile(tmp_path, alive=False).spans(6).write()
    with shipper_to(tmp_path, endpoint_to(server.url)) as shipper:
        assert not shipper.drain(PATIENCE)
        assert shipper.is_failing
        server.always = Answer()
        assert shipper.drain(PATIENCE)
    assert account(tmp_path).shipped == 6


def test_it_is_said_once(tmp_path: Path, server: OtlpServer, caplog: pytest.LogCaptureFixture) -> None:
    """With the endpoint's words, and what becomes of the records; not again where only the words change."""
    JournalFile(tmp_path, alive=False).spans(6).write()
    with shipper_to(tmp_path, endpoint_to(server.url), refused_keep=5) as shipper:
        for number in range(4):
            server.always = Answer(401, body=f"no such key, says request {number}".encode())
            shipper.drain(PATIENCE)
    [said] = caplog.messages
    assert "HTTP 401: no such key, says request 0; nothing arrives there as it is set up" in said
    assert "otelsync doctor" in said
    assert "older than 5 h" in said


def test_what_has_waited_too_long_is_dropped_and_counted(
    tmp_path: Path, server: OtlpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what is older than the bound goes; the ledger names the reason, and it is said once."""
    server.always = Answer(403)
    JournalFile(tmp_path, alive=False).spans(20).write()
    with shipper_to(tmp_path, endpoint_to(server.url), refused_keep=1e-9, max_batch_records=5) as shipper:
        shipper.drain(PATIENCE)
        while account(tmp_path).pending:
            shipper.drain(PATIENCE)
    assert account(tmp_path).dropped == {"expired": 20}
    assert len([text for text in caplog.messages if "waited for too long" in text]) == 1


def test_what_is_young_waits(tmp_path: Path, server: OtlpServer) -> None:
    """However long the endpoint has been taking nothing, a record has its hours."""
    server.always = Answer(403)
    file = JournalFile(tmp_path, alive=False)
    for body in of_tomorrow(3):
        file.add(SPAN, 0, body)
    file.write()
    with shipper_to(tmp_path, endpoint_to(server.url), refused_keep=1e-9) as shipper:
        for _ in range(3):
            assert not shipper.drain(PATIENCE)
    assert account(tmp_path).pending == 3


# Words


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"404 page not found\n", "text/plain", "404 page not found"),
        (b'{"code": 16, "message": "no such\\n key"}', "application/json", "no such key"),
        (b'{"error": {"status": 1, "message": "bad"}}', "", "bad"),
        (b'{"errors": [{"detail": "first"}, {"detail": "second"}]}', "", "first"),
        (b'{"ok": false}', "application/json", ""),
        (b'{"message": ', "", '{"message":'),
        (b"[" * 9000, "application/json", "[" * 9000),
        (b"<!DOCTYPE html><title>Sign\n in</title>", "text/html", 'a web page titled "Sign in"'),
        (b"<html>", "", "a web page"),
        (status_pb2.Status(code=3, message="no spans").SerializeToString(), "application/x-protobuf", "no spans"),
        (b"\x08\x10", "application/x-protobuf", ""),
        (bytes(range(128, 256)) * 9, "", ""),
        (b"", "", ""),
    ],
)
def test_words_are_found_however_they_are_said(body: bytes, kind: str, words: str) -> None:
    """Text, JSON in its usual forms, a page's title, a status in protobuf; no noise."""
    assert words_of(body, kind) == words


def test_words_are_short_printable_and_hold_no_secret(server: OtlpServer) -> None:
    """Neither the headers that were sent nor what looks like a secret, no escape, and no more than a line."""
    token = "ghp_" + "a1B2" * 9
    body = f"\x1b[31mBearer {SECRET} is bad, and so is {token} {'x' * 10_000}".encode()
    server.answers.append(Answer(401, body=body))
    with sink_to(server.url, headers={"authorization": f"Bearer {SECRET}"}) as sink:
        reason = sink.send(spans(1)).reason
    assert SECRET not in reason
    assert token not in reason
    assert reason.isprintable()
    assert "is bad, and so is" in reason
    assert len(reason) < 250
    assert shown(f"x {SECRET}", {"x-team": SECRET}) == "x [REDACTED]"


def test_words_of_a_partial_success_hold_no_secret_either(server: OtlpServer) -> None:
    """It may say back what it was sent, too."""
    server.answers.append(Answer(body=b'{"partialSuccess": {"errorMessage": "%s is old"}}' % SECRET.encode()))
    with sink_to(server.url, headers={"x-team": SECRET}) as sink:
        assert sink.send(spans(1)) == Outcome(accepted=1, reason="[REDACTED] is old")


def test_a_redirect_says_where_to_without_secrets(server: OtlpServer) -> None:
    """A password or a query in it is not shown."""
    server.answers.append(Answer(302, headers={"location": f"https://u:{SECRET}@host/v1?key={SECRET}"}))
    with sink_to(server.url) as sink:
        assert sink.send(spans(1)).reason == "HTTP 302: it redirects to host/v1, which is not followed"
