"""Calls that requests makes: each send is a client span, redirects and repeats included."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.trace import Span
from requests import PreparedRequest, Response, Session
from requests.utils import resolve_proxies

from otelsync.hooks.harmless import harmless
from otelsync.hooks.patching import Patch
from otelsync.integrations.http import calls, retry_waits
from otelsync.integrations.http.calls import Call
from otelsync.integrations.http.credentials import credentials
from otelsync.integrations.http.upstream import stable_http_conventions, then

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
        Session.send = plain  # type: ignore[method-assign]
        kwargs["request_hook"] = then(_begun, kwargs.get("request_hook"))
        kwargs["response_hook"] = then(_answered, kwargs.get("response_hook"))
        with stable_http_conventions():
            super()._instrument(**kwargs)
        patch.put(_sending_once_each(patch, plain, Session.send))
        self._upstream_was_on = upstream._is_instrumented_by_opentelemetry
        upstream._is_instrumented_by_opentelemetry = True
        retry_waits.show("requests")

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002  # the signature is upstream's
        retry_waits.hide("requests")
        self._patch.undo()
        RequestsInstrumentor()._is_instrumented_by_opentelemetry = self._upstream_was_on


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
