"""httpx: each send of a synchronous or asynchronous client is a client span, as with requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from foreign_hosts import Answer, Listener, listening
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from recorded import Recorded

import otelsync
from otelsync.integrations.httpx import Instrumentor
from otelsync.stages.rate_limits import fingerprint

SHOWN = ("http.response.status_code", "http.request.resend_count")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as running:
        yield running


@pytest.fixture
def _on(recorded: Recorded) -> Iterator[None]:
    assert recorded
    Instrumentor().instrument()
    yield
    Instrumentor().uninstrument()


pytestmark = pytest.mark.usefixtures("_on")


def synchronous(method: str, url: str, **options: Any) -> httpx.Response:
    with httpx.Client(follow_redirects=True, trust_env=False) as client:
        return client.request(method, url, **options)


def asynchronous(method: str, url: str, **options: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as client:
            return await client.request(method, url, **options)

    return asyncio.run(call())


both = pytest.mark.parametrize("call", [synchronous, asynchronous])
Caller = Callable[..., httpx.Response]


@both
def test_spans_nest_in_stages_and_are_named_outside(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """By the method inside an API call, else by the route."""
    with otelsync.repo("acme/api"):
        with otelsync.api_call("list_pull_requests"):
            call("GET", f"{listener.url}/repos/acme/api/pulls")
        call("GET", f"{listener.url}/repos/acme/api/pulls/7")
    assert (
        recorded.tree(*SHOWN)
        == """
sync.repo acme/api                          [success]
  sync.api list_pull_requests               [success]
    GET /repos/{owner}/{repo}/pulls         status_code=200
  GET /repos/{owner}/{repo}/pulls/{number}  status_code=200"""
    )


@both
def test_redirects_are_sends_that_are_counted(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """Siblings, with the stable conventions; the count begins anew with the next call."""
    listener.redirects["/a"] = "/b"
    for _ in range(2):
        assert call("GET", f"{listener.url}/a").status_code == 200
    assert [span.attributes.get(SHOWN[1]) for span in recorded.spans] == [None, 1, None, 1]
    assert recorded.spans[0].attributes["server.address"] == "127.0.0.1"


@both
def test_digest_authentication_is_counted(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """The request that is refused and the one that is answered are two sends."""
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    listener.answers["/x"] = [Answer(401, challenge), Answer()]
    call("GET", f"{listener.url}/x", auth=httpx.DigestAuth("a", "b"))
    assert [(span.status, span.attributes.get(SHOWN[1])) for span in recorded.spans] == [("ERROR", None), ("", 1)]


@both
def test_no_secret_of_a_url_is_recorded(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """User, password, tokens and signatures are in no span."""
    url = f"http://Sw0rdfish:Hunt3r@127.0.0.1:{listener.port}/x?access_token=T0psecret&sig=S1gned&page=2"
    call("GET", url)
    (span,) = recorded.spans
    assert span.attributes["url.full"] == (
        f"http://REDACTED@127.0.0.1:{listener.port}/x?access_token=[redacted]&sig=[redacted]&page=2"
    )
    assert not [secret for secret in ("Sw0rdfish", "Hunt3r", "T0psecret", "S1gned") if secret in str(span)]


@both
def test_limits_become_attributes_and_warnings(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """On the send, and not once more on the API call; the warning has the ids of the send."""
    headers = {"RateLimit": '"day";r=5;t=600', "RateLimit-Policy": '"day";q=100;w=86400'}
    listener.answers["/x"] = [Answer(headers=headers)]
    before = time.time()
    with otelsync.api_call("get"):
        call("GET", f"{listener.url}/x", headers={"Authorization": f"Bearer {call.__name__}-{listener.port}-abcdefgh"})
    send = recorded.span("GET")
    limits = {name: value for name, value in send.attributes.items() if name.startswith("sync.rate_limit.")}
    assert limits.pop("sync.rate_limit.reset") >= int(before) + 600
    assert limits == {
        "sync.rate_limit.limit": 100,
        "sync.rate_limit.remaining": 5,
        "sync.rate_limit.resource": "day",
        "sync.rate_limit.host": "127.0.0.1",
        "sync.rate_limit.token_fingerprint": fingerprint(f"{call.__name__}-{listener.port}-abcdefgh"),
    }
    assert not [name for name in recorded.span("sync.api get").attributes if name.startswith("sync.rate_limit.")]
    assert recorded.line("sync.rate_limit.low")["span_id"] == send.span_id


@both
def test_bodies_are_read_for_limits(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """GraphQL's, and the message of a 403; what they say goes to the API call, as the send has ended."""
    body = b'{"data":{"rateLimit":{"limit":5000,"remaining":77,"resetAt":"2026-01-01T00:00:00Z"}}}'
    listener.answers["/graphql"] = [Answer(body=body)]
    listener.answers["/x"] = [Answer(403, body=b'{"message":"You have exceeded a secondary rate limit."}')]
    token = {"Authorization": f"Bearer body-{call.__name__}-{listener.port}"}
    with otelsync.api_call("prs", kind="graphql"):
        call("POST", f"{listener.url}/graphql", json={"query": "{}"}, headers=token)
        call("GET", f"{listener.url}/x", headers=token)
    assert recorded.span("sync.api prs").attributes["sync.rate_limit.remaining"] == 77
    assert recorded.line("sync.rate_limit.exhausted")["resource"] == "secondary"


@both
def test_errors_pass_unchanged(recorded: Recorded, listener: Listener, call: Caller) -> None:
    """A connection that is closed is httpx's own error, and the span's; 304 is none."""
    listener.answers["/x"] = [Answer(dropped=True), Answer(304), Answer(500)]
    with pytest.raises(httpx.RemoteProtocolError):
        call("GET", f"{listener.url}/x")
    for _ in range(2):
        call("GET", f"{listener.url}/x")
    assert [(span.status, span.attributes.get("error.type")) for span in recorded.spans] == [
        ("ERROR", "RemoteProtocolError"),
        ("", None),
        ("ERROR", "500"),
    ]


def test_calls_at_the_same_time_are_counted_apart(recorded: Recorded, listener: Listener) -> None:
    """Each task counts its own sends."""
    listener.redirects["/a"] = "/b"

    async def calls() -> None:
        async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as client:
            await asyncio.gather(*(client.get(f"{listener.url}/a") for _ in range(10)))

    asyncio.run(calls())
    counts = [span.attributes.get(SHOWN[1]) for span in recorded.spans]
    assert (counts.count(None), counts.count(1)) == (10, 10)


def test_a_stream_is_left_to_its_reader(recorded: Recorded, listener: Listener) -> None:
    """Nobody reads it before."""
    assert recorded
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("GET", f"{listener.url}/graphql") as response,
    ):
        assert not response.is_stream_consumed
        assert response.read() == b"ok"


def test_a_plain_function_is_a_hook_as_well(recorded: Recorded, listener: Listener) -> None:
    """An asynchronous client calls it, and its request goes on."""
    assert recorded
    called: list[str] = []
    Instrumentor().uninstrument()
    Instrumentor().instrument(
        async_request_hook=lambda *_: called.append("request"), async_response_hook=lambda *_: called.append("response")
    )
    assert asynchronous("GET", f"{listener.url}/a").status_code == 200
    assert called == ["request", "response"]


def test_the_users_hooks_are_called(recorded: Recorded, listener: Listener) -> None:
    """After our part, by both kinds of clients."""
    called: list[str] = []

    async def later(*_: Any) -> None:
        called.append("async")

    Instrumentor().uninstrument()
    Instrumentor().instrument(
        request_hook=lambda *_: called.append("sync"),
        response_hook=lambda *_: called.append("sync"),
        async_request_hook=later,
        async_response_hook=later,
    )
    synchronous("GET", f"{listener.url}/x")
    asynchronous("GET", f"{listener.url}/x")
    assert called == ["sync", "sync", "async", "async"]
    assert len(recorded.spans) == 2


def _in_place() -> list[object]:
    return [
        vars(httpx.Client)["send"],
        vars(httpx.AsyncClient)["send"],
        vars(httpx.HTTPTransport)["handle_request"],
        vars(httpx.AsyncHTTPTransport)["handle_async_request"],
    ]


def test_everything_is_put_back(recorded: Recorded, listener: Listener) -> None:
    """The methods are the very objects that they were, also where upstream's instrumentation was on."""
    Instrumentor().uninstrument()
    plain = _in_place()
    HTTPXClientInstrumentor().instrument()
    theirs = _in_place()
    Instrumentor().instrument()
    HTTPXClientInstrumentor().instrument()  # is on already, as far as it can tell
    synchronous("GET", f"{listener.url}/x")
    Instrumentor().uninstrument()
    assert all(a is b for a, b in zip(_in_place(), theirs, strict=True))
    synchronous("GET", f"{listener.url}/x")
    HTTPXClientInstrumentor().uninstrument()
    assert all(a is b for a, b in zip(_in_place(), plain, strict=True))
    Instrumentor().instrument()
    assert [span.name for span in recorded.spans] == ["GET /x", "GET"]


@pytest.mark.parametrize("method", ["FOO", "BAR1", "X" * 200])
def test_a_method_that_nobody_knows_names_no_span(recorded: Recorded, listener: Listener, method: str) -> None:
    """A program can send any word, so such spans are called HTTP; what was sent stands in an attribute."""
    synchronous(method, f"{listener.url}/items/7")
    (span,) = recorded.spans
    assert span.name == "HTTP /items/{id}"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert str(span.attributes["http.request.method_original"]).upper() == method
