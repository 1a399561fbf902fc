"""Middleware and correlation ids, through Starlette, bare ASGI and wsgiref."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import httpx
import opentelemetry.context as context_api
import pytest
from opentelemetry import baggage, trace
from opentelemetry.trace import SpanKind
from recorded import Recorded
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import otelsync
from otelsync.middleware import ASGIMiddleware, WSGIMiddleware
from otelsync.stages import misuse

MADE = re.compile("req_[0-9a-f]{8}").fullmatch
HOSTILE = ["a\nb", "x" * 10_000, "<script>", "ghp_" + "a" * 36, "é"]


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests."""
    return "asyncio"


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """otelsync, configured."""
    yield Recorded(tmp_path)
    otelsync.shutdown()


async def echo(request: Request) -> JSONResponse:
    """Answer with the id that baggage has, after a stage and a record that say whose they are."""
    with otelsync.stage("work", whose=request.query_params.get("n", "")):
        await asyncio.sleep(0)
        otelsync.get_logger("app").info("worked", n=request.query_params.get("n"))
    return JSONResponse({"id": baggage.get_baggage("correlation_id")})


async def parts(_: Request) -> StreamingResponse:
    """Answer in parts, each of which logs."""

    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            otelsync.get_logger("app").info("part", number=number)
            yield b"x"

    return StreamingResponse(body())


async def broken(_: Request) -> JSONResponse:
    """Fail."""
    raise KeyError("mine")


APP = ASGIMiddleware(Starlette(routes=[Route("/echo", echo), Route("/parts", parts), Route("/broken", broken)]))


def client(app: Any = APP) -> httpx.AsyncClient:
    """A client of the application in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_an_id_is_made_bound_logged_and_answered(recorded: Recorded) -> None:
    """One id stands in the header, the baggage, on spans and on records, and nothing is bound afterwards."""
    before = context_api.get_current()
    async with client() as http:
        response = await http.get("/echo")
    made = response.headers["X-Correlation-ID"]
    assert MADE(made)
    assert response.json() == {"id": made}
    assert {line["correlation_id"] for line in recorded.lines if line["event"] in ("worked", "http_request")} == {made}
    line = recorded.line("http_request")
    assert (line["method"], line["path"], line["status_code"], line["level"]) == ("GET", "/echo", 200, "info")
    assert line["duration_ms"] >= 0
    assert line["id"] == "mw-001"
    assert {node.attributes["correlation_id"] for node in recorded.spans} == {made}
    assert recorded.span("sync.stage work").parent_id == recorded.span("GET").span_id
    assert context_api.get_current() == before


async def test_a_thousand_requests_mix_no_ids(recorded: Recorded) -> None:
    """With fifty at a time, ids made and taken: no record or span has an id that is not its own."""
    gate = asyncio.Semaphore(50)
    async with client() as http:

        async def one(number: int) -> str:
            async with gate:
                headers = {"X-Correlation-ID": f"mine-{number}"} if number % 2 else {}
                response = await http.get("/echo", params={"n": number}, headers=headers)
            answered: str = response.headers["X-Correlation-ID"]
            assert answered == f"mine-{number}" if number % 2 else MADE(answered)
            assert response.json() == {"id": answered}
            return answered

        ids = await asyncio.gather(*map(one, range(1_000)))
    worked = {line["n"]: line["correlation_id"] for line in recorded.lines if line["event"] == "worked"}
    assert worked == {str(number): each for number, each in enumerate(ids)}
    stages = [node.attributes for node in recorded.spans if node.name == "sync.stage work"]
    assert {each["whose"]: each["correlation_id"] for each in stages} == worked
    served = [line["correlation_id"] for line in recorded.lines if line["event"] == "http_request"]
    assert sorted(served) == sorted(ids)


async def test_hostile_ids_are_replaced_and_that_is_logged_once(recorded: Recorded) -> None:
    """Neither the answer nor any record has them."""
    misuse.forget()
    for hostile in HOSTILE * 2:
        headers = [(b"x-correlation-id", hostile.encode())]
        assert MADE((await bare(APP, "/echo", headers))["x-correlation-id"])
    assert recorded.text.count("correlation id of") == 1
    assert not any(each in recorded.text for each in HOSTILE)


async def bare(app: Any, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that an application answers a request with that no client would send."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def test_a_streamed_response_is_in_its_request(recorded: Recorded) -> None:
    """Each part has the id, and the request is logged after the last."""
    async with client() as http:
        response = await http.get("/parts")
    assert response.text == "xxx"
    events = [line["event"] for line in recorded.lines if "correlation_id" in line]
    assert events == ["part", "part", "part", "http_request"]


async def test_an_exception_of_the_application_passes(recorded: Recorded) -> None:
    """It is the same one; the request is logged with the status of its answer, and its span has failed."""
    async with client() as http:
        with pytest.raises(KeyError, match="mine"):
            await http.get("/broken")
    assert recorded.line("http_request")["status_code"] == 500
    assert recorded.span("GET").attributes["error.type"] == "KeyError"


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_scopes_pass_as_they_are(recorded: Recorded, kind: str) -> None:
    """The application gets the very objects of the server."""
    got: list[Any] = []

    async def app(*given: Any) -> None:
        got.extend(given)

    given: list[Any] = [{"type": kind}, object(), object()]
    await ASGIMiddleware(app)(*given)
    assert all(one is other for one, other in zip(got, given, strict=True))
    assert recorded.spans == []


async def test_a_server_span_that_is_current_is_used(recorded: Recorded) -> None:
    """There is no second one, and it carries the id."""
    tracer = trace.get_tracer("theirs")
    async with client() as http:
        with tracer.start_as_current_span("GET /echo", kind=SpanKind.SERVER):
            made = (await http.get("/echo")).headers["X-Correlation-ID"]
    assert {node.name for node in recorded.spans} == {"GET /echo", "sync.stage work"}
    assert recorded.span("GET /echo").attributes["correlation_id"] == made


def wsgi(app: Callable[..., Any], **environ: str) -> tuple[list[Any], bytes]:
    """The header list and body of an application behind the middleware, both held to PEP 3333."""
    setup_testing_defaults(given := dict(environ, QUERY_STRING=""))
    started: list[Any] = []

    def start(status: str, headers: Any, *_: Any) -> Callable[[bytes], object]:
        started[:] = [status, dict(headers)]
        return started.append

    body = validator(WSGIMiddleware(validator(app)))(given, start)
    try:
        return started, b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]


def test_wsgi_streams_in_the_request_and_closes(recorded: Recorded) -> None:
    """Parts are made in the context, which the server does not have in between; close() is called."""
    closed: list[object] = []

    def app(_: Any, start_response: Any) -> Iterator[bytes]:
        start_response("201 Created", [("Content-Type", "text/plain")])
        try:
            for _ in range(2):
                otelsync.get_logger("app").info("part")
                yield b"x"
        finally:
            closed.append(baggage.get_baggage("correlation_id"))

    before = context_api.get_current()
    (status, headers), body = wsgi(app, HTTP_X_CORRELATION_ID="mine-1")
    assert (status, headers["X-Correlation-ID"], body, closed) == ("201 Created", "mine-1", b"xx", ["mine-1"])
    assert [line["event"] for line in recorded.lines if line.get("correlation_id") == "mine-1"] == [
        *("part", "part", "http_request")
    ]
    assert recorded.line("http_request")["status_code"] == 201
    assert context_api.get_current() == before


def test_an_exception_of_a_wsgi_application_passes(recorded: Recorded) -> None:
    """It is the same one, and the context is as before."""
    error = KeyError("mine")

    def app(*_: Any) -> list[bytes]:
        raise error

    with pytest.raises(KeyError) as caught:
        wsgi(app)
    assert caught.value is error
    assert recorded.line("http_request")["status_code"] == 500
    assert baggage.get_baggage("correlation_id") is None


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_message_carries_trace_and_id(recorded: Recorded, as_bytes: bool) -> None:
    """What is bound when it is sent is bound where it is received, also from a queue that returns bytes."""
    message: dict[Any, Any] = {"text": "hello"}
    with otelsync.sync_context(correlation_id="msg_1"), otelsync.stage("send"):
        otelsync.inject(message)
    assert message["correlation_id"] == "msg_1"
    if as_bytes:
        message = {key.encode(): value.encode() for key, value in message.items()}
    with otelsync.extract(message):
        assert baggage.get_baggage("correlation_id") == "msg_1"
        with otelsync.stage("receive"):
            pass
    assert baggage.get_baggage("correlation_id") is None
    assert recorded.span("sync.stage receive").parent_id == recorded.span("sync.stage send").span_id
    assert recorded.span("sync.stage receive").attributes["correlation_id"] == "msg_1"


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("hostile", [*HOSTILE, None, 7, b"\xff", object()])
def test_a_hostile_message_binds_nothing(hostile: Any) -> None:
    """Nothing is raised either, whatever the carrier is."""
    for carrier in ({"correlation_id": hostile, "traceparent": hostile, "baggage": hostile}, hostile):
        with otelsync.extract(carrier):
            assert baggage.get_baggage("correlation_id") is None
        otelsync.inject(hostile)
