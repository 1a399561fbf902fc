"""Calls that requests makes: each send is a client span, redirects and repeats included."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from http.client import HTTPConnection
from time import perf_counter
from typing import Any, ClassVar, Final

from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.requests.version import __version__
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.util.http.httplib import set_ip_on_next_http_connection
from requests import PreparedRequest, Response, Session
from requests.structures import CaseInsensitiveDict
from requests.utils import resolve_proxies

from otelsync import vocabulary
from otelsync.hooks.harmless import harmless
from otelsync.hooks.patching import Patch
from otelsync.integrations.http import calls, retry_waits
from otelsync.integrations.http.calls import Call
from otelsync.integrations.http.conventions import ClientSpans, agent_attributes, are_plain, response_attributes, tell
from otelsync.integrations.http.credentials import credentials
from otelsync.integrations.http.methods import known_method, span_name_of
from otelsync.integrations.http.suppression import loud, quiet
from otelsync.integrations.http.upstream import stable_http_conventions, then
from otelsync.integrations.http.urls import without_secrets

_APPLIED: Final = "opentelemetry_instrumentation_requests_applied"
"""The mark of OpenTelemetry's instrumentation on its own ``Session.send``."""

_redirects: ContextVar[Redirects | None] = ContextVar("otelsync_requests_redirects", default=None)


class Redirects:
    """The number of sends of a session's request while its redirects are followed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sends = 1


class Instrumentor(RequestsInstrumentor):
    """OpenTelemetry's instrumentation of requests, with a span for each send, and with what :class:`Call` adds.

    It takes the same options. While it is on, OpenTelemetry's own cannot be switched on beside it.
    """

    _instance: ClassVar[Instrumentor | None] = None  # not upstream's
    _patch: Patch
    _upstream_was_on: bool

    def _instrument(self, **kwargs: Any) -> None:
        upstream = RequestsInstrumentor()
        patch = self._patch = Patch(Session, "send")
        plain: Any = Session.send
        if getattr(plain, _APPLIED, False):  # OpenTelemetry's own instrumentation is on
            plain = plain.__wrapped__
        if are_plain():
            traced: Any = _Traced(plain, kwargs)
        else:
            Session.send = plain  # type: ignore[method-assign]
            kwargs["request_hook"] = then(_begun, kwargs.get("request_hook"))
            kwargs["response_hook"] = then(_answered, kwargs.get("response_hook"))
            with stable_http_conventions():
                super()._instrument(**kwargs)
            traced = Session.send
        patch.put(_sending_once_each(patch, plain, traced))
        self._upstream_was_on = upstream._is_instrumented_by_opentelemetry
        upstream._is_instrumented_by_opentelemetry = True
        retry_waits.show("requests")

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002  # the signature is upstream's
        retry_waits.hide("requests")
        self._patch.undo()
        RequestsInstrumentor()._is_instrumented_by_opentelemetry = self._upstream_was_on


class _Traced:
    """``Session.send`` with a span around it, by the same conventions and options as OpenTelemetry's instrumentation.

    Args:
        plain: The method itself.
        options: As OpenTelemetry's instrumentation takes them.
    """

    def __init__(self, plain: Any, options: Mapping[str, Any]) -> None:
        self._plain = plain
        self._spans = ClientSpans(RequestsInstrumentor.__module__, __version__, "REQUESTS", options)
        self._request_hook: Callable[..., object] | None = options.get("request_hook")
        self._response_hook: Callable[..., object] | None = options.get("response_hook")

    def __call__(self, session: Session, request: PreparedRequest, **kwargs: Any) -> Response:
        if _is_unwanted(self._spans, request):
            return self._plain(session, request, **kwargs)  # type: ignore[no-any-return]
        call = calls.CURRENT.get()
        name, said = _described(call, request) or _barely_described(request) or ("HTTP", {})
        block = self._spans.tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=said)
        with block as span:
            _begun_plainly(call, request, span)
            if callable(self._request_hook):
                self._request_hook(span, request)
            _tell(call, request, span)
            clock = perf_counter()
            try:
                response = self._sent_quietly(span, session, request, kwargs)
            except Exception as error:
                seconds = perf_counter() - clock
                self._has_response(span, request, getattr(error, "response", None), said)
                self._spans.end_failed(span, type(error).__qualname__, seconds, said)
                raise
            seconds = perf_counter() - clock
            self._has_response(span, request, response, said)
            self._spans.end(seconds, said)
            return response

    def _sent_quietly(self, span: Span, session: Session, request: PreparedRequest, kwargs: dict[str, Any]) -> Response:
        """Send. No client below this one has a span; OpenTelemetry's for http.client, if on, tells ours the address."""
        outer = quiet(span)
        try:
            if hasattr(HTTPConnection.connect, "__wrapped__"):
                with set_ip_on_next_http_connection(span):
                    return self._plain(session, request, **kwargs)  # type: ignore[no-any-return]
            return self._plain(session, request, **kwargs)  # type: ignore[no-any-return]
        finally:
            loud(span, outer)

    def _has_response(self, span: Span, request: PreparedRequest, response: object, said: dict[str, Any]) -> None:
        if isinstance(response, Response):
            _say_response(span, response, said)
            _answered(span, request, response)
            if callable(self._response_hook):
                self._response_hook(span, request, response)


@harmless
def _is_unwanted(spans: ClientSpans, request: PreparedRequest) -> bool:
    return not spans.want(request.url)


@harmless
def _described(call: Call | None, request: PreparedRequest) -> tuple[str, dict[str, Any]] | None:
    if call is None:
        return None
    name, said = call.description()
    headers = request.headers
    said.update(agent_attributes(headers.get("User-Agent") if headers is not None else None))
    return name, said


@harmless
def _barely_described(request: PreparedRequest) -> tuple[str, dict[str, Any]]:
    """Return what a span needs at least, where more could not be told."""
    method = known_method(request.method or "")
    said = {vocabulary.HTTP_REQUEST_METHOD: method, vocabulary.URL_FULL: without_secrets(request.url or "")}
    return span_name_of(method), said


@harmless
def _begun_plainly(call: Call | None, request: PreparedRequest, span: Span) -> None:
    if call is not None:
        call.is_of(span)
    if request.headers is None:
        request.headers = CaseInsensitiveDict()


@harmless
def _tell(call: Call | None, request: PreparedRequest, span: Span) -> None:
    tell(call.host if call is not None else "", request.headers, span)


@harmless
def _say_response(span: Span, response: Response, said: dict[str, Any]) -> None:
    found = response_attributes(response.status_code, getattr(response.raw, "version", None))
    said.update(found)
    span.set_attributes(found)
    if vocabulary.ERROR_TYPE in found:
        span.set_status(StatusCode.ERROR)


def _sending_once_each(patch: Patch, plain: Any, traced: Any) -> Any:
    """``Session.send`` with a span for each send.

    Requests follows redirects inside the first call of ``send``, so all of them would be one span. Here that call ends
    with the first response, and its redirects are followed after it, by the session's own method.
    """

    @functools.wraps(plain)
    def send(self: Session, request: PreparedRequest, **kwargs: Any) -> Response:
        if not patch.is_on or not isinstance(request, PreparedRequest):
            return plain(self, request, **kwargs)  # type: ignore[no-any-return]
        if not kwargs.get("allow_redirects", True):
            return _sent(traced, self, request, kwargs)
        _complete(self, request, kwargs)
        first = _sent(traced, self, request, {**kwargs, "allow_redirects": False})
        if first.next is None:
            return first
        first._next = None  # type: ignore[attr-defined]  # as it is where redirects are followed
        kwargs.pop("allow_redirects", None)
        return _followed(self, first, request, kwargs)

    setattr(send, _APPLIED, True)
    return send


def _complete(session: Session, request: PreparedRequest, kwargs: dict[str, Any]) -> None:
    """Fill in the session's own options, as ``Session.send`` does before it follows redirects."""
    for name in ("stream", "verify", "cert"):
        kwargs.setdefault(name, getattr(session, name))
    if "proxies" not in kwargs:
        kwargs["proxies"] = resolve_proxies(request, dict(session.proxies), session.trust_env)


def _followed(session: Session, first: Response, request: PreparedRequest, kwargs: dict[str, Any]) -> Response:
    redirects, before = Redirects(session), _redirects.get()
    try:  # a token that is made right before may be lost to a signal handler that raises
        _redirects.set(redirects)
        history = [first, *session.resolve_redirects(first, request, **kwargs)]
    finally:
        _redirects.set(before)
    last: Response = history.pop()
    last.history = history
    return last


def _sent(traced: Any, session: Session, request: PreparedRequest, kwargs: dict[str, Any]) -> Response:
    """One send, with its span."""
    redirects = _redirects.get()
    if redirects is None or redirects.session is not session:
        redirects = None
    call = _call(request, redirects.sends if redirects else 0)
    before = calls.CURRENT.get()
    try:
        calls.CURRENT.set(call)
        response: Response = traced(session, request, **kwargs)
        return response
    finally:
        calls.CURRENT.set(before)
        if redirects is not None:
            redirects.sends += call.sends if call is not None else 1


@harmless
def _call(request: PreparedRequest, resends: int) -> Call:
    url = request.url or ""
    return Call(request.method or "", url, credentials=credentials(request.headers, url), resends=resends)


@harmless
def _begun(span: Span, _request: PreparedRequest) -> None:
    call = calls.CURRENT.get()
    if call is not None:
        call.begun(span)


@harmless
def _answered(span: Span, _request: PreparedRequest, response: Response) -> None:
    call = calls.CURRENT.get()
    if call is not None:
        body = response._content
        call.answered(
            span,
            response.status_code,
            response.headers,
            body if isinstance(body, bytes) else b"",
            more_resends=len(response.history),
        )
