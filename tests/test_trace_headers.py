"""Trace headers leave for another host only if it is on the list."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import requests
from foreign_hosts import Listener, listening
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from recorded import Recorded

import otelsync
from otelsync.errors import ConfigurationError
from otelsync.integrations.http.trace_headers import GuardedPropagator, TrustedHosts, install
from otelsync.integrations.http.urls import host_of, is_loopback, plain_host, without_secrets
from otelsync.integrations.httpx import Instrumentor as HttpxInstrumentor
from otelsync.integrations.requests import Instrumentor as RequestsInstrumentorOfOurs

FOREIGN = "api.foreign.example"


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name under ``foreign.example`` resolves to loopback, as a hosts file would have it."""
    resolve = socket.getaddrinfo

    def to_loopback(host: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if str(name).endswith("foreign.example") else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", to_loopback)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as running:
        yield running


@contextmanager
def switched_on(*instrumentors: Any) -> Iterator[None]:
    for instrumentor in instrumentors:
        instrumentor().instrument()
    try:
        yield
    finally:
        for instrumentor in instrumentors:
            instrumentor().uninstrument()


def injected(**attributes: Any) -> dict[str, str]:
    """What a client span with these attributes injects."""
    headers: dict[str, str] = {}
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=attributes):
        propagate.inject(headers)
    return headers


CLIENTS = [
    pytest.param(RequestsInstrumentorOfOurs, lambda url: requests.get(url, timeout=60), id="requests"),
    pytest.param(RequestsInstrumentor, lambda url: requests.get(url, timeout=60), id="upstream's requests"),
    pytest.param(HttpxInstrumentor, lambda url: httpx.get(url, follow_redirects=True), id="httpx"),
]


@pytest.mark.parametrize(("instrumentor", "get"), CLIENTS)
def test_only_loopback_learns_of_a_trace(
    recorded: Recorded, listener: Listener, instrumentor: Any, get: Callable[[str], Any]
) -> None:
    """Without a list, loopback gets traceparent and baggage, and a host of another name gets neither."""
    assert recorded
    token = context.attach(baggage.set_baggage("team", "7"))
    try:
        with switched_on(instrumentor):
            get(f"http://127.0.0.1:{listener.port}/near")
            get(f"http://{FOREIGN}:{listener.port}/far")
    finally:
        context.detach(token)
    near, far = listener.heard
    assert near["traceparent"].startswith("00-")
    assert near["baggage"] == "team=7"
    assert not {"traceparent", "tracestate", "baggage"} & far.keys()


@pytest.mark.parametrize(("instrumentor", "get"), CLIENTS)
@pytest.mark.parametrize("listed", [FOREIGN, "*.Foreign.example", "*", "other.example, api.foreign.example."])
def test_a_listed_host_learns_of_a_trace(
    record: Callable[..., Recorded],
    listener: Listener,
    instrumentor: Any,
    get: Callable[[str], Any],
    listed: str,
) -> None:
    """By its name, by a pattern, or because all are listed."""
    record(trace_hosts=listed)
    with switched_on(instrumentor):
        get(f"http://API.Foreign.example:{listener.port}/far")
    assert "traceparent" in listener.heard[0]


@pytest.mark.parametrize(("instrumentor", "get"), [CLIENTS[0], CLIENTS[2]])
def test_a_redirect_takes_no_headers_along(
    recorded: Recorded, listener: Listener, instrumentor: Any, get: Callable[[str], Any]
) -> None:
    """Clients copy the headers of the first request; what it was given for loopback does not reach the other host."""
    listener.redirects["/start"] = f"http://{FOREIGN}:{listener.port}/far"
    with switched_on(instrumentor):
        get(f"http://127.0.0.1:{listener.port}/start")
    near, far = listener.heard
    assert "traceparent" in near
    assert "traceparent" not in far
    assert len(recorded.spans) == 2


@pytest.mark.parametrize(("instrumentor", "get"), [CLIENTS[0], CLIENTS[2]])
def test_a_redirect_back_home_is_told_anew(
    recorded: Recorded, listener: Listener, instrumentor: Any, get: Callable[[str], Any]
) -> None:
    """Each send to a trusted host names its own span."""
    listener.redirects["/start"] = f"http://127.0.0.1:{listener.port}/end"
    with switched_on(instrumentor):
        get(f"http://127.0.0.1:{listener.port}/start")
    ids = [heard["traceparent"].split("-")[2] for heard in listener.heard]
    assert ids == [span.span_id for span in recorded.spans]


def test_the_programs_own_trace_headers_stay(recorded: Recorded, listener: Listener) -> None:
    """Headers of another trace, which the program set itself, are none of ours."""
    assert recorded
    theirs = "00-11111111111111111111111111111111-2222222222222222-01"
    with switched_on(RequestsInstrumentorOfOurs):
        requests.get(f"http://{FOREIGN}:{listener.port}/", headers={"traceparent": theirs}, timeout=60)
    assert listener.heard[0]["traceparent"] == theirs


@pytest.mark.parametrize(
    "attributes",
    [
        {"url.full": "https://api.github.com/x"},
        {"http.url": "https://api.github.com/x"},
        {"http.request.method": "GET", "server.address": "api.github.com"},
        {"http.method": "GET", "net.peer.name": "api.github.com"},
        {"http.method": "GET", "http.host": "api.github.com:443"},
        {"http.method": "GET"},
        {"url.full": "http://localhost@evil.example/"},
        {"url.full": "http://localhost:80@evil.example/"},
        {"url.full": "http://localhost\\@evil.example/"},
        {"url.full": "http://evil.example\\@localhost/"},
        {"url.full": "http://127.0.0.1.evil.example/"},
        {"url.full": "http://localhost.evil.example/"},
        {"url.full": "http://evil.example#@localhost/"},
        {"url.full": "http://evil.example?@localhost/"},
        {"url.full": "http://local\thost/"},
        {"url.full": "//localhost/"},
        {"url.full": "localhost"},
        {"url.full": "http://[2001:db8::1]/"},
        {"url.full": "http://[::1]evil.example/"},
        {"url.full": "http://localhost/", "server.address": "evil.example"},
        {"url.full": ""},
    ],
    ids=str,
)
def test_a_host_that_is_not_listed_or_not_clear_gets_nothing(recorded: Recorded, attributes: dict[str, str]) -> None:
    """In whichever attributes of the conventions it stands, and whatever tricks the URL has."""
    assert recorded
    assert injected(**attributes) == {}


@pytest.mark.parametrize(
    "attributes",
    [
        {"url.full": "http://localhost:8080/x"},
        {"url.full": "http://LOCALHOST./"},
        {"url.full": "http://user:pw@localhost/"},
        {"url.full": "http://127.8.9.10/"},
        {"url.full": "http://[::1]:80/", "server.address": "::1"},
        {"url.full": "http://[::ffff:127.0.0.1]/"},
        {"http.method": "GET", "net.peer.name": "localhost"},
        {"http.method": "GET", "http.host": "[::1]:8080"},
    ],
    ids=str,
)
def test_loopback_is_known_in_all_its_forms(recorded: Recorded, attributes: dict[str, str]) -> None:
    """Case, port, user, a trailing dot, 127.0.0.0/8, ::1."""
    assert recorded
    assert "traceparent" in injected(**attributes)


@pytest.mark.parametrize("kind", [SpanKind.PRODUCER, SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CONSUMER])
def test_what_is_no_http_client_injects_as_before(recorded: Recorded, kind: SpanKind) -> None:
    """A message for a broker on any host, and what the program injects itself."""
    assert recorded
    headers: dict[str, str] = {}
    attributes = {"server.address": "redis.example", "url.full": "https://api.github.com/"}
    with trace.get_tracer("test").start_as_current_span("send", kind=kind, attributes=attributes):
        propagate.inject(headers)
    assert "traceparent" in headers


def test_a_client_of_a_database_injects_as_before(recorded: Recorded) -> None:
    """A client span that is not of HTTP, such as one that puts its ids into a comment in SQL."""
    assert recorded
    assert "traceparent" in injected(**{"db.system": "postgresql", "net.peer.name": "db.example"})


def test_a_span_that_is_not_sampled_is_guarded_too(
    record: Callable[..., Recorded], listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Baggage does not leave because the trace is not recorded; loopback hears that it is not sampled."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    record()
    with switched_on(RequestsInstrumentorOfOurs):
        requests.get(f"http://127.0.0.1:{listener.port}/near", timeout=60)
        requests.get(f"http://{FOREIGN}:{listener.port}/far", timeout=60)
    near, far = listener.heard
    assert int(near["traceparent"][-2:], 16) & 1 == 0
    assert "traceparent" not in far


def test_a_span_of_the_sdk_is_guarded(recorded: Recorded) -> None:
    """The guard reads the SDK's own spans as well as ours."""
    assert recorded
    provider = TracerProvider()
    headers: dict[str, str] = {}
    with provider.get_tracer("x").start_as_current_span(
        "GET", kind=SpanKind.CLIENT, attributes={"url.full": "https://api.github.com/"}
    ):
        propagate.inject(headers)
    provider.shutdown()
    assert headers == {}


def test_configure_installs_the_guard_and_shutdown_removes_it(record: Callable[..., Recorded]) -> None:
    """The propagator afterwards is the very object that was there."""
    before = propagate.get_global_textmap()
    record()
    assert isinstance(propagate.get_global_textmap(), GuardedPropagator)
    assert propagate.get_global_textmap().fields == before.fields
    otelsync.shutdown()
    assert propagate.get_global_textmap() is before


def test_a_propagator_that_came_later_is_left_alone(recorded: Recorded) -> None:
    """shutdown() removes its own guard, and nothing that somebody put over it."""
    assert recorded

    class Other(TextMapPropagator):
        def extract(self, *_: Any, **__: Any) -> Any:
            return context.get_current()

        def inject(self, *_: Any, **__: Any) -> None:
            return None

        @property
        def fields(self) -> set[str]:
            return set()

    guard = propagate.get_global_textmap()
    theirs = Other()
    propagate.set_global_textmap(theirs)
    otelsync.shutdown()
    assert propagate.get_global_textmap() is theirs
    assert isinstance(guard, GuardedPropagator)
    propagate.set_global_textmap(guard.guarded)


def test_a_guard_is_not_guarded_again(recorded: Recorded) -> None:
    """Installing again replaces the list."""
    assert recorded
    install(["api.github.com"])
    guard = propagate.get_global_textmap()
    assert isinstance(guard, GuardedPropagator)
    assert not isinstance(guard.guarded, GuardedPropagator)
    assert "traceparent" in injected(**{"url.full": "https://api.github.com/"})


@pytest.mark.parametrize("value", ["http://a.example", "a.example:80", "*.*.example", "a*.example", "a b", "*."])
def test_what_is_no_host_is_refused(value: str) -> None:
    """A wrong pattern would let nothing pass, or everything; it fails in configure()."""
    with pytest.raises(ConfigurationError, match=r"OTELSYNC_TRACE_HOSTS|trace_hosts"):
        otelsync.configure(trace_hosts=value)


class TestHosts:
    def test_a_pattern_is_for_what_lies_below(self) -> None:
        """``*.example.com`` is neither the name itself nor one that ends like it."""
        hosts = TrustedHosts(["*.example.com", "10.0.0.7"])
        assert "a.b.example.com" in hosts
        assert "10.0.0.7" in hosts
        assert "example.com" not in hosts
        assert "evilexample.com" not in hosts
        assert "" not in hosts

    @given(st.text(max_size=60))
    def test_a_host_is_plain_or_none(self, text: str) -> None:
        """Whatever is read, what comes out has no port, user, upper case or bracket, and is read as itself."""
        host = plain_host(text)
        assert host == host.lower()
        assert not set(host) & set("/@[]?#\\ ")
        assert plain_host(host) == host

    @given(st.text(max_size=60), st.sampled_from(["localhost", "127.0.0.1", "[::1]"]))
    def test_no_user_name_makes_a_stranger_local(self, user: str, local: str) -> None:
        """What stands before the last ``@`` of the authority is no host."""
        host = host_of(f"http://{local}{user}@evil.example/")
        assert not is_loopback(host) or any(character in user for character in "/?#")


class TestWithoutSecrets:
    @pytest.mark.parametrize(
        ("url", "clean"),
        [
            ("https://api.github.com/x?page=2", "https://api.github.com/x?page=2"),
            ("https://tok@host/x", "https://REDACTED@host/x"),
            ("https://a:b@c@host/x", "https://REDACTED@host/x"),
            ("https://evil\\@localhost/x", "https://REDACTED\\@localhost/x"),
            ("https://h/x?access_token=abc&b=1", "https://h/x?access_token=[redacted]&b=1"),
            ("https://h/x?API_KEY=abc", "https://h/x?API_KEY=[redacted]"),
            ("https://h/x?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/x?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
            ("https://h/x?sig=a%2Bb;code=1#token=z", "https://h/x?sig=[redacted];code=[redacted]"),
            ("https://h/x?author=me&keyword=a", "https://h/x?author=me&keyword=a"),
            ("/relative?token=abc", "/relative?token=[redacted]"),
            ("", ""),
        ],
    )
    def test_what_lets_somebody_in_is_replaced(self, url: str, clean: str) -> None:
        """User, password, tokens and signatures go; the rest stays as it was."""
        assert without_secrets(url) == clean

    def test_keys_of_the_settings_count(self, record: Callable[..., Recorded]) -> None:
        """A name that the user has declared a secret is one in a query too."""
        record(redact_keys="customer")
        assert without_secrets("https://h/?customer=7&x=1") == "https://h/?customer=[redacted]&x=1"

    @given(st.text(max_size=200))
    def test_it_takes_any_text(self, text: str) -> None:
        """And what is clean stays clean."""
        clean = without_secrets(text)
        assert without_secrets(clean) == clean
