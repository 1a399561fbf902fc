"""Endpoints that hang in every place where one can: whoever has no more time is not held up, and nothing is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoints import HttpPeer, Say, dead_address, for_ever
from journal_files import JournalFile
from otlp_server import otlp_server
from plain_servers import closed_port, http, silent

from otelsync.otlp.connecting import NameTimeoutError, UnknownNameError, resolve
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.metrics.export import MetricExport
from otelsync.shipping.shipper import Shipper

SHORT = 0.2
PATIENCE = 120
LONGER_THAN_A_TEST = 3600.0


@pytest.fixture
def places() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that hangs; yields the names that it was asked for."""
    released = threading.Event()
    real, asked = socket.getaddrinfo, list[str]()

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if not host.endswith(".example") or kwargs.get("flags"):
            return real(host, *args, **kwargs)
        asked.append(host)
        released.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_NONAME, "never heard of it")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield asked
    released.set()


def _hanging(say: Say) -> Callable[[ExitStack], str]:
    def url(stack: ExitStack) -> str:
        peer = stack.enter_context(HttpPeer([say] * 9))
        assert isinstance(peer, HttpPeer)
        return f"http://127.0.0.1:{peer.port}"

    return url


def _dead(stack: ExitStack) -> str:
    port = closed_port()
    stack.enter_context(dead_address(port))
    return f"http://127.0.0.2:{port}"


HANGING: dict[str, Callable[[ExitStack], str]] = {
    "name": lambda _: "http://slow.example:4318",
    "connection": _dead,
    "handshake": lambda stack: f"https://127.0.0.1:{stack.enter_context(silent())}",
    "answer": lambda stack: f"http://127.0.0.1:{stack.enter_context(silent())}",
    "header": _hanging(for_ever(b"HTTP/1.1 200 OK\r\nx: ", b"x", 0.01)),
    "headers": _hanging(for_ever(b"HTTP/1.1 503 Busy\r\n", b"x: y\r\n", 0.01)),
    "interim answers": _hanging(for_ever(b"", http(100)[:25] + b"\r\n\r\n", 0.01)),
    "body of a refusal": _hanging(for_ever(b"HTTP/1.1 503 Busy\r\n\r\n", b"x", 0.01)),
}


@pytest.mark.usefixtures("slow_names")
@pytest.mark.parametrize("hang", HANGING.values(), ids=HANGING)
def test_a_drain_and_a_close_take_no_longer_than_they_may(
    tmp_path: Path, places: ExitStack, hang: Callable[[ExitStack], str]
) -> None:
    """The records wait in the journal, and go to whoever is there in the end."""
    _check(tmp_path, OtlpEndpoint("traces", hang(places) + "/v1/traces", timeout=LONGER_THAN_A_TEST))


@pytest.mark.parametrize("place", ["connection", "handshake", "answer"])
def test_a_drain_and_a_close_take_no_longer_than_they_may_over_grpc(
    tmp_path: Path, places: ExitStack, place: str
) -> None:
    """The same where grpcio does the waiting."""
    url = HANGING[place](places)
    _check(
        tmp_path,
        OtlpEndpoint("traces", url, "grpc", timeout=LONGER_THAN_A_TEST, insecure=not url.startswith("https")),
    )


def _check(directory: Path, hanging: OtlpEndpoint) -> None:
    JournalFile(directory, alive=False).spans(5).write()
    shipper = Shipper(directory, otlp=[OtlpSink(hanging)], patience=0)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(shipper.drain, SHORT).result(PATIENCE) is False
        pool.submit(shipper.close, SHORT).result(PATIENCE)
    [account] = (each for each in read_ledger(directory).accounts if each.signal == "span")
    assert (account.recorded, account.pending) == (5, 5)
    with otlp_server() as server:
        good = OtlpEndpoint("traces", f"{server.url}/v1/traces", timeout=PATIENCE)
        with closing(Shipper(directory, otlp=[OtlpSink(good)], patience=0)) as shipper:
            assert shipper.drain(PATIENCE)
        assert server.numbers == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("slow_names")
@pytest.mark.parametrize("hang", HANGING.values(), ids=HANGING)
def test_metrics_hold_up_nobody(places: ExitStack, hang: Callable[[ExitStack], str]) -> None:
    """The last export ends when there is no more time."""
    endpoint = OtlpEndpoint("metrics", hang(places) + "/v1/metrics", timeout=LONGER_THAN_A_TEST)
    export = MetricExport(endpoint, lambda _: [b"\x0a\x00"], interval=0.001)
    export.start()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(export.close, SHORT).result(PATIENCE)


def test_a_hanging_resolver_is_asked_once(slow_names: list[str]) -> None:
    """However often its answer is waited for, so that threads do not pile up."""
    for _ in range(3):
        with pytest.raises(NameTimeoutError, match="not resolved in time"):
            resolve("asked-once.example", 4318, time.monotonic() + 0.01)
    assert slow_names == ["asked-once.example"]


def test_a_name_that_is_not_known_is_said_so() -> None:
    """With the resolver's words."""
    with pytest.raises(UnknownNameError, match="no-such-host"):
        resolve("no-such-host.invalid", 4318, time.monotonic() + PATIENCE)
    with pytest.raises(UnknownNameError):
        resolve("\udcff" * 70, 4318, time.monotonic() + PATIENCE)
