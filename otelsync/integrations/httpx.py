"""Calls that httpx makes, by its synchronous and asynchronous clients: each send is a client span."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, ClassVar

import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor, RequestInfo, ResponseInfo
from opentelemetry.trace import Span

from otelsync.hooks.harmless import harmless
from otelsync.hooks.patching import Patch
from otelsync.integrations.http.calls import Call
from otelsync.integrations.http.credentials import credentials
from otelsync.integrations.http.upstream import stable_http_conventions, then


class Sends:
    """The sends that one call of a client comes to: the request, its redirects, what authentication sends again."""

    def __init__(self) -> None:
        self.count = 0
        self.latest: Call | None = None


_sends: ContextVar[Sends | None] = ContextVar("otelsync_httpx_sends", default=None)
_latest: ContextVar[Call | None] = ContextVar("otelsync_httpx_latest", default=None)


class Instrumentor(HTTPXClientInstrumentor):
    """OpenTelemetry's instrumentation of httpx, with what :class:`Call` adds.

    It takes the same options. While it is on, OpenTelemetry's own cannot be switched on beside it.
    """

    _instance: ClassVar[Instrumentor | None] = None  # not upstream's
    _patches: list[Patch]
    _upstream_was_on: bool

    def _instrument(self, **kwargs: Any) -> None:
        upstream = HTTPXClientInstrumentor()
        transports = [Patch(httpx.HTTPTransport, "handle_request")]
        transports.append(Patch(httpx.AsyncHTTPTransport, "handle_async_request"))
        for patch in transports:
            patch.put(getattr(patch.before, "__wrapped__", patch.before))
        for name, ours in (("request_hook", _begun), ("response_hook", _answered)):
            kwargs[name] = then(ours, kwargs.get(name))
            kwargs[f"async_{name}"] = _then_async(ours, kwargs.get(f"async_{name}"))
        with stable_http_conventions():
            super()._instrument(**kwargs)
        for patch in transports:
            patch.put(patch.current)
        client, async_client = Patch(httpx.Client, "send"), Patch(httpx.AsyncClient, "send")
        client.put(_sending(client, httpx.Client.send))
        async_client.put(_sending_async(async_client, httpx.AsyncClient.send))
        self._patches = [*transports, client, async_client]
        self._upstream_was_on = upstream._is_instrumented_by_opentelemetry
        upstream._is_instrumented_by_opentelemetry = True

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002  # the signature is upstream's
        for patch in self._patches:
            patch.undo()
        HTTPXClientInstrumentor()._is_instrumented_by_opentelemetry = self._upstream_was_on


def _then_async(ours: Callable[..., object], theirs: Callable[..., object] | None) -> Callable[..., Any]:
    async def both(*args: Any) -> None:
        ours(*args)
        if theirs is not None and isinstance(said := theirs(*args), Awaitable):  # a hook may be a plain function
            await said

    return both


@harmless
def _begun(span: Span, request: RequestInfo) -> None:
    _latest.set(None)
    sends = _sends.get()
    url, resends = str(request.url), sends.count if sends is not None else 0
    proof = credentials(request.headers, url)
    call = Call(request.method.decode("latin-1"), url, credentials=proof, resends=resends)
    _latest.set(call)
    if sends is not None:
        sends.count += 1
        sends.latest = call
    call.begun(span)


@harmless
def _answered(span: Span, _request: RequestInfo, response: ResponseInfo) -> None:
    call = _latest.get()
    if call is not None:
        call.answered(span, response.status_code, response.headers or {}, None if _sends.get() else b"")


def _sending(patch: Patch, original: Any) -> Any:
    """``Client.send``, which counts its sends, and looks at the body that only it has."""

    @functools.wraps(original)
    def send(self: httpx.Client, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        if not patch.is_on:
            return original(self, request, **kwargs)  # type: ignore[no-any-return]
        sends, before = Sends(), _sends.get()
        try:
            _sends.set(sends)
            response: httpx.Response = original(self, request, **kwargs)
        finally:
            _sends.set(before)
        _look_at_body(sends, response, kwargs)
        return response

    return send


def _sending_async(patch: Patch, original: Any) -> Any:
    """The same for ``AsyncClient.send``."""

    @functools.wraps(original)
    async def send(self: httpx.AsyncClient, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        if not patch.is_on:
            return await original(self, request, **kwargs)  # type: ignore[no-any-return]
        sends, before = Sends(), _sends.get()
        try:
            _sends.set(sends)
            response: httpx.Response = await original(self, request, **kwargs)
        finally:
            _sends.set(before)
        _look_at_body(sends, response, kwargs)
        return response

    return send


@harmless
def _look_at_body(sends: Sends, response: httpx.Response, kwargs: dict[str, Any]) -> None:
    """A response's body is read after its span has ended, so what it says goes to the API call around."""
    if sends.latest is not None:
        body = b"" if kwargs.get("stream") else response.content
        sends.latest.note_late_body(response.status_code, response.headers, body)
