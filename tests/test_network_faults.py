"""Faults of endpoints and of the way there, over http and grpc: everything arrives once they are gone, and the ledger
says what has become of each record."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoints import (
    BEGIN,
    Frames,
    GrpcPeer,
    GrpcService,
    HttpPeer,
    Say,
    Way,
    dead_address,
    for_ever,
    going_away,
    headers,
    joined,
    message,
    reset,
    resetting,
    saying,
    status,
)
from journal_files import JournalFile, resource, scope, span
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from otlp_server import Answer, OtlpServer, otlp_server
from plain_servers import http

from otelsync.journal.batch import Batch, Group
from otelsync.otlp.arrived import MOST_BYTES as MOST_REMEMBERED
from otelsync.otlp.arrived import Arrived
from otelsync.otlp.exporter import FEWEST_BYTES, FIRST_BYTES, OtlpSink, Pace
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.outcome import Outcome
from otelsync.otlp.partial_success import parse_partial_success
from otelsync.otlp.reply import Reply
from otelsync.otlp.request import MOST_BYTES, Run
from otelsync.shipping.ledger import Account, read_ledger
from otelsync.shipping.outlet import Backoff
from otelsync.shipping.shipper import Shipper

SPANS = 6
PATIENCE = 120.0
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
PROTOCOLS = pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])


def partial(rejected: int, words: str) -> bytes:
    """A partial success."""
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = rejected
    said.partial_success.error_message = words
    return said.SerializeToString()


def endpoint_at(port: int, protocol: str = "http/protobuf", **options: Any) -> OtlpEndpoint:
    path = "" if protocol == "grpc" else "/v1/traces"
    options.setdefault("timeout", PATIENCE)
    options.setdefault("insecure", True)
    host = options.pop("host", "127.0.0.1")
    return OtlpEndpoint("traces", f"http://{host}:{port}{path}", protocol=protocol, **options)  # type: ignore[arg-type]


def shipped(directory: Path, endpoint: OtlpEndpoint, *, count: int = SPANS, padding: int = 0) -> Account:
    """The account of so many spans after they were shipped."""
    JournalFile(directory, alive=False).spans(count, padding=padding).write()
    sink = OtlpSink(endpoint)
    with closing(Shipper(directory, otlp=[sink], patience=0, backoff=Backoff(0.005, 0.02))) as shipper:
        assert shipper.drain(PATIENCE)
    [account] = (each for each in read_ledger(directory).accounts if each.signal == "span")
    assert account.recorded == count == account.shipped + sum(account.dropped.values())
    assert account.pending == 0
    return account


def answer(status: int, body: bytes = b"", *lines: str, length: int | None = None) -> tuple[bytes, bytes]:
    """An HTTP answer that ends its connection: the head and, a moment later, the body."""
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*head, "Connection: close", *lines, "", ""]).encode(), body


def chunked(*chunks: bytes, trailers: bytes = b"\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers


TAKEN = {
    "nothing, and close": saying(*answer(200)),
    "a body that comes later": saying(*answer(200, b"{}")),
    "no length": saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"{}"),
    "HTTP/1.0": saying(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n", b"{}"),
    "HTTP/1.0 without a body": saying(b"HTTP/1.0 200 OK\r\n\r\n"),
    "a body cut short": saying(*answer(200, b"x", length=999)),
    "a body that is reset": resetting(answer(200, length=999)[0]),
    "a megabyte": saying(*answer(200, b"x" * 1_000_000)),
    "a bomb": saying(*answer(200, gzip.compress(b"\0" * 50_000_000), "Content-Encoding: gzip")),
    "bad compression": saying(*answer(200, b"nonsense", "Content-Encoding: gzip")),
    "a header of 70 KB": saying(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000 + b"\r\n\r\n"),
    "200 headers": saying(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n"),
    "chunks": saying(chunked(b"", b"")),
    "trailers of 70 KB": saying(chunked(b"{}", trailers=b"x: " + b"x" * 70_000 + b"\r\n\r\n")),
    "chunks that are none": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "interim answers": saying(http(102) + http(103, X="1") + b"HTTP/1.1 100 Continue\r\n\r\n", *answer(200)),
    "202": saying(*answer(202, b"queued")),
}
RETRIED = {
    "a web page": saying(*answer(200, PAGE, "Content-Type: text/html")),
    "a page in chunks": saying(chunked(PAGE)),
    "a compressed page": saying(*answer(200, gzip.compress(PAGE), "Content-Encoding: gzip")),
    "a proxy that wants a password": saying(*answer(407, PAGE)),
    "a portal": saying(*answer(511, PAGE)),
    "too many requests": saying(*answer(429, b"slow", "Retry-After: 0")),
    "503": saying(*answer(503, PAGE)),
    "slow request": saying(*answer(408, PAGE)),
    "another protocol": saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
    "nothing": saying(),
    "half a head": saying(b"HTTP/1.1 200 OK\r\nx: "),
    "a reset": resetting(),
    "no HTTP": saying(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTTP/2": saying(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "a TLS alert": saying(b"\x15\x03\x01\x00\x02\x02\x46"),
    "no end of interim answers": for_ever(b"", http(103)),
}


@pytest.mark.parametrize("say", TAKEN.values(), ids=TAKEN)
def test_a_success_is_one_however_it_is_framed(tmp_path: Path, say: Say) -> None:
    """What the endpoint says it has taken is sent once, and counts as shipped."""
    with HttpPeer([say]) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port)).shipped == SPANS
        assert isinstance(peer, HttpPeer)
        assert peer.requests == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize("say", RETRIED.values(), ids=RETRIED)
def test_what_is_no_receipt_is_none(tmp_path: Path, say: Say) -> None:
    """What was not taken is sent again, until it is."""
    with HttpPeer([say, say]) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port)).shipped == SPANS
        assert isinstance(peer, HttpPeer)
        assert peer.requests == [[1, 2, 3, 4, 5, 6]] * 3


ENDLESS = {
    "body": (for_ever(answer(200, length=1_000_000_000)[0], b"x", 0.005), True),
    "quick body": (for_ever(answer(200, length=1_000_000_000)[0], b"x" * 65536), True),
    "chunks": (for_ever(chunked()[:-5], b"1\r\nx\r\n", 0.005), True),
    "trailers": (for_ever(chunked(trailers=b""), b"x: y\r\n", 0.005), True),
    "header": (for_ever(b"HTTP/1.1 200 OK\r\nx: ", b"x", 0.005), False),
    "silence": (for_ever(b"", b"", 60), False),
}


@pytest.mark.parametrize(("say", "taken"), ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_ends_with_the_timeout(tmp_path: Path, say: Say, taken: bool) -> None:
    """The head of an answer settles what became of the records; without one they are sent again."""
    with HttpPeer([say]) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port, timeout=0.5)).shipped == SPANS
        assert isinstance(peer, HttpPeer)
        if taken:  # else a machine that is slow may have made it time out more than once
            assert peer.requests == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("say", "rejected"),
    [
        (saying(*answer(200, partial(2, "x" * 200_000))), 2),
        (saying(*answer(200, partial(2, "x" * 9_000_000))), 2),
        (saying(*answer(200, gzip.compress(partial(2, "no room")), "Content-Encoding: gzip")), 2),
        (saying(chunked(partial(2, "no room"), trailers=b"half a trail")), 2),
        (saying(*answer(200, b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "no room"}}')), 2),
        (saying(*answer(200, b'{"partialSuccess": null}')), 0),
    ],
)
def test_a_partial_success_counts_however_long_it_is(tmp_path: Path, say: Say, rejected: int) -> None:
    """A long message, one that is cut short, compressed, in chunks or in JSON still says how many were rejected."""
    with HttpPeer([say]) as peer:
        account = shipped(tmp_path, endpoint_at(peer.port))
    assert account.dropped.get("partial_success", 0) == rejected


def test_a_success_with_words_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A partial success that rejects nothing is said, once."""
    say = saying(*answer(200, partial(0, "use /v2 \x1b[31mby May")))
    JournalFile(tmp_path, alive=False).spans(SPANS).write()
    with (
        HttpPeer([say] * SPANS) as peer,
        closing(Shipper(tmp_path, otlp=[OtlpSink(endpoint_at(peer.port))], max_batch_records=1)) as shipper,
    ):
        assert shipper.drain(PATIENCE)
    assert [text.partition(": ")[2] for text in caplog.messages] == [
        "it took everything and warns: use /v2 \\x1b[31mby May; further warnings of this kind are not logged"
    ]


TOO_LARGE = saying(*answer(413, PAGE, "Content-Type: text/html"))


def test_a_413_that_ends_its_connection_splits(tmp_path: Path) -> None:
    """As nginx says it."""
    with HttpPeer([TOO_LARGE], most=2) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port)).shipped == SPANS
        assert isinstance(peer, HttpPeer)
        assert sorted(number for each in peer.requests if len(each) <= 2 for number in each) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("after", [TOO_LARGE, resetting(answer(413)[0])])
def test_an_answer_before_the_end_of_the_request_is_heard(after: Say) -> None:
    """A server that reads no more, and says why, is heard; what it has refused to read is sent in smaller pieces."""
    group = Group(resource(), scope(), spans=[span(number, padding=60_000) for number in range(1, 65)])
    with HttpPeer([after], unread=True) as peer, closing(OtlpSink(endpoint_at(peer.port))) as sink:
        sink._pace.size = MOST_BYTES  # as if it were quick
        outcome = sink.send([Batch("test", 0, 1, [group])])
        while outcome.retry:  # the reset may have overtaken the answer
            outcome = sink.send([Batch("test", 0, 1, [group])])
        assert outcome == Outcome(accepted=64)


def test_a_400_that_ends_its_connection_is_final(tmp_path: Path) -> None:
    """As nginx says it. Each record is tried alone before it is given up."""
    with HttpPeer([saying(*answer(400, PAGE))] * (2 * SPANS)) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port)).dropped == {"rejected": SPANS}


def test_a_pause_is_heeded_by_the_clock_of_who_asks_for_it() -> None:
    """A date in Retry-After is compared with the answer's own, wherever this machine's clock stands."""
    date, later = "Fri, 01 Jan 1999 00:00:00 GMT", "Fri, 01 Jan 1999 00:00:09 GMT"
    group = Group(resource(), scope(), spans=[span(1)])
    say = saying(*answer(429, b"slow", f"Date: {date}", f"Retry-After: {later}"))
    with HttpPeer([say]) as peer, closing(OtlpSink(endpoint_at(peer.port))) as sink:
        assert sink.send([Batch("test", 0, 1, [group])]).retry_after == 9.0


# grpc

GRPC_RETRIED = {
    "RST_STREAM": reset(2),
    "RST_STREAM without an error": reset(0),
    "enhance your calm": reset(11),
    "inadequate security": reset(12),
    "no status": headers({":status": "200", "content-type": "application/grpc"}, last=True),
    "no trailers": joined(BEGIN, message(last=True)),
    "a web page": joined(
        headers({":status": "200", "content-type": "text/html"}, last=False), message(PAGE, last=True)
    ),
    "HTTP 400": headers({":status": "400"}, last=True),
    "HTTP 500": headers({":status": "500"}, last=True),
    "HTTP 503": headers({":status": "503"}, last=True),
    "bad compression": joined(
        headers({":status": "200", "content-type": "application/grpc", "grpc-encoding": "gzip"}, last=False),
        lambda stream: message(b"abc")(stream)[:9] + b"\1" + message(b"abc")(stream)[10:],
        headers({"grpc-status": "0"}, last=True),
    ),
    "no number": headers({":status": "200", "content-type": "application/grpc", "grpc-status": "xx"}, last=True),
    "going away": going_away(),
    "no HTTP/2": lambda _: b"SSH-2.0-OpenSSH_9.6\r\n" * 9,
    "unavailable": status(14, "Error in the receiver: RST_STREAM"),
}
GRPC_TAKEN = {
    "an answer of 100 KB": joined(BEGIN, message(partial(0, "x" * 100_000)), headers({"grpc-status": "0"}, last=True)),
    "trailers of 40 KB": joined(BEGIN, message(), headers({"grpc-status": "0", "big": "x" * 40_000}, last=True)),
    "a head of 40 KB": joined(
        headers({":status": "200", "content-type": "application/grpc", "big": "x" * 40_000}, last=False),
        message(),
        headers({"grpc-status": "0"}, last=True),
    ),
}
WORDS_FOR_TOO_LARGE = {
    "grpcio": status(8, "Received message larger than max (5000000 vs. 4194304)"),
    "grpcio, newer": status(8, "SERVER: Received message larger than max (5000000 vs. 4194304)"),
    "grpc-go": status(8, "grpc: received message larger than max (5000000 vs. 4194304)"),
    "grpc-go, compressed": status(8, "grpc: received message after decompression larger than max (5 vs. 4)"),
    "tonic": status(11, "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
    "tonic, older": status(11, "Error, message length too large: found 5 bytes, the limit is: 4 bytes"),
    "grpc-java": status(8, "gRPC message exceeds maximum size 4194304: 5000000"),
    "grpc-java, compressed": status(8, "Decompressed gRPC message exceeds maximum size 4194304"),
    "grpc-dotnet": status(8, "Received message exceeds the maximum configured message size."),
    "a gateway": headers({":status": "413"}, last=True),
}


@pytest.mark.parametrize("frames", GRPC_RETRIED.values(), ids=GRPC_RETRIED)
def test_errors_of_the_connection_are_retried(tmp_path: Path, frames: Frames) -> None:
    """What grpcio itself says of a broken call is no refusal by the endpoint."""
    with GrpcPeer([frames]) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port, "grpc")).shipped == SPANS
        assert isinstance(peer, GrpcPeer)
        assert peer.requests == [[1, 2, 3, 4, 5, 6]] * 2


@pytest.mark.parametrize("frames", GRPC_TAKEN.values(), ids=GRPC_TAKEN)
def test_long_answers_over_grpc_are_successes(tmp_path: Path, frames: Frames) -> None:
    """An answer, a head and trailers may be long."""
    with GrpcPeer([frames]) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port, "grpc")).shipped == SPANS
        assert isinstance(peer, GrpcPeer)
        assert peer.requests == [[1, 2, 3, 4, 5, 6]]


def test_an_answer_that_is_too_long_is_a_success_all_the_same() -> None:
    """The request was taken, whatever else the endpoint has to say."""

    service = GrpcService(partial(0, "x" * 5_000_000))
    group = Group(resource(), scope(), spans=[span(1), span(2)])
    with service.running() as port, closing(OtlpSink(endpoint_at(port, "grpc"))) as sink:
        assert sink.send([Batch("test", 0, 1, [group])]) == Outcome(accepted=2)
    assert service.numbers == [1, 2]


def test_a_bomb_over_grpc_is_an_answer_that_is_too_long(tmp_path: Path) -> None:
    """It is not unpacked, and the request was taken."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    packed = message(bomb)(1)
    packed = packed[:9] + b"\1" + packed[10:]
    begin = headers({":status": "200", "content-type": "application/grpc", "grpc-encoding": "gzip"}, last=False)
    frames = joined(begin, lambda _: packed, headers({"grpc-status": "0"}, last=True))
    with GrpcPeer([frames]) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port, "grpc")).shipped == SPANS
        assert isinstance(peer, GrpcPeer)
        assert peer.requests == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize("frames", WORDS_FOR_TOO_LARGE.values(), ids=WORDS_FOR_TOO_LARGE)
def test_every_library_s_words_for_too_large_are_known(tmp_path: Path, frames: Frames) -> None:
    """The words, and the codes, differ; what is too large is split all the same."""
    with GrpcPeer([frames], most=2) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port, "grpc")).shipped == SPANS
        assert isinstance(peer, GrpcPeer)
        assert sorted(number for each in peer.requests if len(each) <= 2 for number in each) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("words", ["", "Missing key", "RST_STREAM, says the pipeline"])
def test_a_refusal_over_grpc_is_final(tmp_path: Path, words: str) -> None:
    """An endpoint's own refusal is none of the connection's, whatever words it has."""
    with GrpcPeer([status(3, words)] * (2 * SPANS)) as peer:
        assert shipped(tmp_path, endpoint_at(peer.port, "grpc")).dropped == {"rejected": SPANS}


# The way


class Working(ExitStack):
    """A real endpoint of a protocol, and the spans that it has taken."""

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.numbers: Callable[[], list[int]]
        if protocol == "grpc":
            service = GrpcService()
            self.port = self.enter_context(service.running())
            self.numbers = lambda: list(service.numbers)
        else:
            server: OtlpServer = self.enter_context(otlp_server())
            self.port = server.server_address[1]
            self.numbers = lambda: server.numbers


WAYS = {
    "nothing": saying(),
    "a reset": resetting(),
    "a web page": saying(*answer(200, PAGE, "Content-Type: text/html")),
    "no password": saying(*answer(407, PAGE)),
    "another protocol": saying(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a TLS alert": saying(b"\x15\x03\x01\x00\x02\x02\x46"),
}


@PROTOCOLS
@pytest.mark.parametrize("say", WAYS.values(), ids=WAYS)
def test_everything_arrives_once_the_way_is_clear(tmp_path: Path, protocol: str, say: Say) -> None:
    """Whoever answers in the endpoint's place, nothing is lost and nothing comes twice."""
    faults = [say] if protocol == "grpc" else [say, say]  # grpcio has a backoff of its own
    with Working(protocol) as working, Way(working.port, faults) as way:
        assert shipped(tmp_path, endpoint_at(way.port, protocol)).shipped == SPANS
        assert sorted(working.numbers()) == [1, 2, 3, 4, 5, 6]


@PROTOCOLS
def test_a_slow_link_gets_smaller_requests(tmp_path: Path, protocol: str) -> None:
    """What cannot be sent within the timeout is sent in pieces that can, however often it takes to find out."""
    with Working(protocol) as working, Way(working.port, rate=250_000) as way:
        account = shipped(tmp_path, endpoint_at(way.port, protocol, timeout=0.4), count=60, padding=5000)
        assert account.shipped == 60
        assert set(working.numbers()) == set(range(1, 61))


def test_a_dead_address_takes_no_time_from_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name's addresses the first that answers is taken, long before the timeout; grpcio does so by itself."""
    with Working("http/protobuf") as working, dead_address(working.port):
        _resolve(monkeypatch, working.port, "127.0.0.2", "127.0.0.1")
        endpoint = endpoint_at(working.port, host="two.example", timeout=3600.0)
        assert shipped(tmp_path, endpoint).shipped == SPANS
        assert working.numbers() == [1, 2, 3, 4, 5, 6]


def test_an_address_that_takes_connections_and_says_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an attempt that came to nothing another address is tried first."""
    with Working("http/protobuf") as working, socket.create_server(("127.0.0.2", working.port)):
        _resolve(monkeypatch, working.port, "127.0.0.2", "127.0.0.1")
        assert shipped(tmp_path, endpoint_at(working.port, host="two.example", timeout=0.5)).shipped == SPANS
        assert set(working.numbers()) == {1, 2, 3, 4, 5, 6}


def _resolve(monkeypatch: pytest.MonkeyPatch, port: int, *addresses: str) -> None:
    """Let the name ``two.example`` have these addresses."""
    real = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "two.example":
            return real(host, *args, **kwargs)
        if kwargs.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@PROTOCOLS
def test_proxies_in_the_environment_are_not_asked(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telemetry goes where the option says, whatever the program's own requests need."""
    refusing = [saying(*answer(407, PAGE))] * 3
    with Working(protocol) as working, Way(1, refusing) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "grpc_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert shipped(tmp_path, endpoint_at(working.port, protocol)).shipped == SPANS
        assert isinstance(proxy, Way)
        assert len(proxy.faults) == 3


# Sizes


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


def test_no_request_is_larger_than_receivers_take(server: OtlpServer) -> None:
    """Neither many records nor many resources make a request of more than 3 MB, however well the way does."""
    with closing(OtlpSink(endpoint_at(server.server_address[1]))) as sink:
        for number in range(12):
            group = Group(resource(), scope(), spans=[span(number, padding=FIRST_BYTES)])
            sink.send([Batch("test", 0, 1, [group])])
        sink._pace.size = MOST_BYTES  # as on a machine that is not busy
        many = Group(resource(), scope(), spans=[span(number, padding=50_000) for number in range(100, 220)])
        wide = [
            Group(resource(str(number) * 20_000), scope(), spans=[span(number, padding=10)])
            for number in range(300, 360)
        ]
        outcome = sink.send([Batch("test", 0, 1, [many, *wide])])
    assert outcome == Outcome(accepted=180)
    assert 2_000_000 < max(request.size for request in server.received) <= MOST_BYTES


def test_what_has_arrived_is_not_sent_again_with_what_has_not() -> None:
    """Of several requests those that were answered are done, whatever becomes of the others; repeats stay repeats."""
    busy = saying(*answer(503))
    took = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    took_some = saying(*answer(200, partial(1, "old")))
    bodies = [span(number, padding=4000) for number in (1, 2, 3, 3, 4)]
    batches = [Batch("test", 0, 1, [Group(resource(), scope(), spans=bodies)])]
    with HttpPeer([took, took_some, took, busy, took, busy]) as peer, closing(OtlpSink(endpoint_at(peer.port))) as sink:
        sink._pace.size = FEWEST_BYTES
        assert sink.send(batches).retry
        sink._pace.size = FEWEST_BYTES
        assert sink.send(batches).retry
        first = [Batch("test", 0, 1, [Group(resource(), scope(), spans=bodies[:3])])]
        rest = [Batch("test", 0, 1, [Group(resource(), scope(), spans=[*bodies[3:], span(5)])])]
        assert sink.send(first) == Outcome(accepted=2, partial=1)
        assert sink.send(rest) == Outcome(accepted=3)
        assert sink.send(rest) == Outcome(accepted=3)
        assert isinstance(peer, HttpPeer)
        assert peer.requests[:6] == [[1], [2], [3], [3], [3], [4]]
        assert sorted(number for each in peer.requests[6:] for number in each) == [3, 4, 4, 5, 5]


@pytest.mark.parametrize("others", [1, 5])
def test_what_has_arrived_is_not_sent_again_after_other_files(server: OtlpServer, tmp_path: Path, others: int) -> None:
    """Files of other processes may be first in turn before the rest of what has arrived in part is given again."""
    server.too_large, server.poisoned = 1, {4: 503}
    JournalFile(tmp_path, alive=False).spans(4).write()
    for number in range(others):
        JournalFile(tmp_path, alive=False, nonce=f"{number:08x}").spans(4, first=100 + 10 * number).write()
    sink = OtlpSink(endpoint_at(server.server_address[1]))
    with closing(Shipper(tmp_path, otlp=[sink], patience=0, backoff=Backoff(0, 0), max_batch_records=4)) as shipper:
        for _ in range(10_000):
            if {1, *(100 + 10 * number for number in range(others))} <= set(server.numbers):
                break
            shipper.step()
        server.poisoned = {}
        assert shipper.drain(PATIENCE)
    assert len(server.numbers) == len(set(server.numbers)) == 4 + 4 * others
    assert [account.pending for account in read_ledger(tmp_path).accounts if account.signal == "span"] == [0]


def test_what_has_arrived_is_remembered_within_bounds(server: OtlpServer) -> None:
    """Records that are not given again take no more memory than a bound, and what is given up is forgotten."""
    server.too_large, server.poisoned = 1, {2: 503}
    with closing(OtlpSink(endpoint_at(server.server_address[1]))) as sink:
        kept = [Group(resource(), scope(), spans=[span(1), span(2)])]
        assert sink.send([Batch("a", 0, 1, kept)]).retry
        sink.forget([Batch("a", 0, 1, kept)])
        server.poisoned = {}
        assert sink.send([Batch("a", 0, 1, kept)]) == Outcome(accepted=2)
    assert server.numbers == [1, 1, 2]
    memory, large = Arrived(), MOST_REMEMBERED // 4
    runs = [Run(b"", b"", [span(number, padding=large)]) for number in range(6)]
    memory.note(runs, partial=6)
    left, found, rejected = memory.take(runs)
    assert (left, found, rejected) == (runs[:3], runs[3:], 3)
    memory.note(runs[:1], 1)
    other = [Run(resource(), b"", runs[0].bodies)]
    assert memory.take(other) == (other, [], 0)
    assert memory.take(runs[:1]) == ([], runs[:1], 1)


def test_the_pace_follows_the_way() -> None:
    """Requests double while they are quick, stay where they take long, and halve when they are not answered."""
    pace = Pace(10.0)
    for _ in range(20):
        pace.note(Reply("ok"), pace.size, 0.1)
    assert pace.size == MOST_BYTES
    pace.note(Reply("timeout"), pace.size, 10.0)
    assert pace.size == MOST_BYTES // 2
    pace.note(Reply("ok"), pace.size, 6.0)
    assert pace.size == MOST_BYTES // 2
    pace.note(Reply("timeout"), pace.size, 0.1)  # cut short by whoever had no time
    assert pace.size == MOST_BYTES // 2
    for _ in range(20):
        pace.note(Reply("timeout"), pace.size, 10.0)
    assert pace.size == FEWEST_BYTES
    pace.note(Reply("ok"), 100, 0.1)  # says nothing about larger ones
    assert pace.size == FEWEST_BYTES


def test_a_hanging_endpoint_does_not_leave_small_requests_behind(server: OtlpServer, tmp_path: Path) -> None:
    """Once it answers again, requests grow to what they were."""
    server.answers.extend([Answer(hang=True)] * 3)
    account = shipped(tmp_path, endpoint_at(server.server_address[1], timeout=0.3), count=100, padding=3000)
    assert account.shipped == 100


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", (0, "")),
        (partial(3, "no room"), (3, "no room")),
        (partial(3, "no room")[:-4], (3, "no ")),
        (partial(-1, ""), (-1, "")),
        (b"\xff" * 40, (0, "")),
        (b"{" + json.dumps({"partialSuccess": {"rejectedDataPoints": 4}}).encode()[1:], (4, "")),
        (b"{nonsense", (0, "")),
        (b'{"partialSuccess": [1]}', (0, "")),
    ],
)
def test_partial_successes_are_read_as_far_as_they_go(content: bytes, found: tuple[int, str]) -> None:
    """Also those that are cut short, and nonsense is none."""
    assert parse_partial_success(content) == found
