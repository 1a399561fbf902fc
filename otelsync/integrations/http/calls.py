"""Spans of HTTP calls, with more than OpenTelemetry's own: the route, a URL without secrets, the sends, and the
rate limits that the responses tell of.

The instrumentations of HTTP clients make a :class:`Call` for each call of theirs and tell it what happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from time import time
from typing import Any, Final

import orjson
from opentelemetry.trace import Span, SpanKind, StatusCode

from otelsync import vocabulary
from otelsync.hooks.harmless import harmless
from otelsync.integrations.http.methods import OTHER_METHOD, known_method, span_name_of
from otelsync.integrations.http.routes import ANY, Routes, is_github_path
from otelsync.integrations.http.urls import address_of
from otelsync.levels import INFO
from otelsync.logs.installed import emit
from otelsync.recording.clock import present_of
from otelsync.recording.runtime_context import current_scope
from otelsync.stages import rate_limits
from otelsync.stages.kinds import ApiCall
from otelsync.stages.rate_limit import Observation
from otelsync.stages.rate_limit_fields import read_graphql, read_response
from otelsync.stages.rate_limit_graphql import SAYS_LIMITS
from otelsync.stages.stage import current_tracer

CURRENT: Final[ContextVar[Call | None]] = ContextVar("otelsync_http_call", default=None)
"""The call that is being made now."""
SPEAKS_GITHUB: Final[ContextVar[bool]] = ContextVar("otelsync_speaks_github", default=False)
"""True where calls are of GitHub's API, whatever the host is called."""

_LONGEST_METHOD: Final = 256
_SMALL: Final = 65_536
"""Bytes of a refusal that are looked at for which limit it is about."""
_LARGE: Final = 4 * 1024 * 1024
"""A larger body of GraphQL is not decoded, since that takes the program's time."""
_ALL_GRAPHQL: Final = "api.monday.com"
"""A host whose addresses do not say that they are of GraphQL."""

_routes = Routes()


class Call:
    """One call of an HTTP client: at least one physical send, or several where it is sent again below the client.

    Args:
        method: The request's method.
        url: Where it goes, with all that stands in it.
        credentials: What it proves itself by (see `credentials`), to tell rate limits of several tokens apart.
        resends: How often the same request was sent before, for redirects and the like.
    """

    def __init__(self, method: str, url: str, *, credentials: str = "", resends: int = 0) -> None:
        self.method = known_method(method)
        self.original_method = method[:_LONGEST_METHOD].strip()
        self.address = address_of(url)
        self.url, self.host = self.address.shown, self.address.host
        self.token = rate_limits.fingerprint(credentials)
        self.resends = resends
        self._span: Span | None = None
        self._told = 0
        """Sends below the client that have a span of their own."""
        self._all_told = False
        self._sent_at = 0
        self.refused = ""
        """The kind of limit that the latest response has refused for; empty for none."""
        self.is_failing = False
        """True while a policy decides what becomes of a send that has come to nothing."""
        self._body = b""
        """Of the latest refusal, where somebody else has read it."""
        self._retry: dict[str, Any] = {}
        """Fields of the event that is logged once the request is sent again."""

    @property
    def sends(self) -> int:
        """Number of sends so far, as far as it is known."""
        return max(1, self._told)

    @harmless
    def begun(self, span: Span) -> None:
        """Name the client span, which an instrumentation of OpenTelemetry's has just begun."""
        attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
        for key in (vocabulary.URL_FULL, "http.url"):
            if key in attributes:
                span.set_attribute(key, self.url)
        name, route = self._name_and_route() or ("", "")
        if route:
            span.set_attribute(vocabulary.URL_TEMPLATE, route)
        if name:
            span.update_name(name)
        self.is_of(span)

    def is_of(self, span: Span) -> None:
        """Take `span`, which has just begun, as the client span of this call."""
        self._span = span
        self._sent_at = present_of(span)

    def description(self) -> tuple[str, dict[str, Any]]:
        """Return name and first attributes of a client span, by the stable conventions of HTTP."""
        name, route = self._name_and_route() or ("", "")
        address = self.address
        found: dict[str, Any] = {vocabulary.HTTP_REQUEST_METHOD: self.method, vocabulary.URL_FULL: self.url}
        if self.original_method != self.method:
            found[vocabulary.HTTP_REQUEST_METHOD_ORIGINAL] = self.original_method
        if address.server:
            found[vocabulary.SERVER_ADDRESS] = found[vocabulary.NETWORK_PEER_ADDRESS] = address.server
        if address.port:
            found[vocabulary.SERVER_PORT] = found[vocabulary.NETWORK_PEER_PORT] = address.port
        if route:
            found[vocabulary.URL_TEMPLATE] = route
        return name or span_name_of(self.method), found

    @harmless
    def _name_and_route(self) -> tuple[str, str]:
        """Return the span's name, empty where the route has no place in it, and the route."""
        host, path = self.host, self.address.path
        is_github = SPEAKS_GITHUB.get() or is_github_path(host, path)
        route = _routes.route(host, path, is_github=is_github)
        # The route of a path that is not known may hold a name of somebody's. Within an API call there is another name.
        if route != ANY and (is_github or not isinstance(current_scope().stage, ApiCall)):
            return f"{span_name_of(self.method)} {route}", route
        return "", route

    @harmless
    def send_failed(
        self, status: int | None, headers: Mapping[str, str], error: BaseException | None, *, is_last: bool
    ) -> None:
        """A send below the client came to nothing. What its response says is learned, whatever happens then."""
        if self._span is None:
            return
        self._say_retry()
        observation = self._read(status, headers, self._body) if status is not None else Observation()
        self._body = b""
        if status is not None:
            self._span.set_attribute(vocabulary.HTTP_RESPONSE_STATUS_CODE, status)
        if is_last and not self._told:  # the only one is what the client span itself tells of
            rate_limits.note(observation, host=self.host, token=self.token, span=self._span)
            return
        span = self._send_ended(status, error)
        self._told += 1
        self._all_told = is_last
        rate_limits.note(observation, host=self.host, token=self.token, span=span)
        span.end()
        if not is_last:
            self._retry = self._retry_of(status, error)
        self._sent_at = present_of(self._span)

    def _read(self, status: int, headers: Mapping[str, str], body: bytes) -> Observation:
        """Read a response: the one place where a refusal of this call is judged."""
        observation = read_response(status, headers, time(), body[:_SMALL])
        self.refused = observation.refused
        return observation

    def refusal_read(self, body: bytes) -> None:
        """Take the body of a refusal that somebody reads below the client, before the send is said to have failed."""
        self._body = body

    def _retry_of(self, status: int | None, error: BaseException | None) -> dict[str, Any]:
        fields = {
            "reason": "connection" if status is None else self.refused or "server",
            "attempt": self.resends + self._told,
            "status": status,
            "error_type": type(error).__qualname__ if error is not None else None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _say_retry(self) -> None:
        retry, self._retry = self._retry, {}
        if retry:
            emit(INFO, "otelsync", "sync.api.retry", retry)

    @harmless
    def sent_again(self) -> None:
        """The next send begins."""
        self._say_retry()
        self._sent_at = present_of(self._span)

    @harmless
    def answered(
        self, span: Span, status: int, headers: Mapping[str, str], body: bytes | None = b"", *, more_resends: int = 0
    ) -> None:
        """The client has its response; `body` is empty if it was not read, and None if :meth:`note_late_body` follows.

        `more_resends` are sends inside the client that it was not told of, such as those of digest authentication.
        """
        self._say_retry()
        if self._told and not self._all_told:
            self._send_ended(status, None).end()
            self._told += 1
        if sends := self.resends + max(0, self._told - 1) + more_resends:
            span.set_attribute(vocabulary.HTTP_REQUEST_RESEND_COUNT, sends)
        self._note_limits(status, headers, body, span)
        self._note_body(body or b"", headers, span)

    def _note_limits(self, status: int, headers: Mapping[str, str], body: bytes | None, span: Span) -> None:
        """Note what the headers say of rate limits; after most responses that is one figure."""
        if status < 400 and span.is_recording():
            said = rate_limits.observed.unchanged(self.host, headers, token=self.token)
            if said is not None:
                self.refused = ""
                span.set_attributes(said)
                return
        observation = self._read(status, headers, body or b"")
        if body is None and observation.refused:
            observation = replace(observation, refused="")  # which limit it is about, its body may say
        told = headers if status < 400 else None
        rate_limits.note(observation, host=self.host, token=self.token, span=span, headers=told)

    def _note_body(self, body: bytes, headers: Mapping[str, str], span: Span | None) -> None:
        """Note what a body of GraphQL says of rate limits."""
        is_graphql = "graphql" in self.url.partition("?")[0] or self.host == _ALL_GRAPHQL
        if is_graphql and len(body) <= _LARGE and any(word in body for word in SAYS_LIMITS):
            observation = read_graphql(orjson.loads(body), time(), headers)
            rate_limits.note(observation, host=self.host, token=self.token, span=span)

    @harmless
    def note_late_body(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Note what the body of a response says of rate limits, when the client span has ended."""
        if status in (403, 429):
            rate_limits.note(self._read(status, headers, body), host=self.host, token=self.token)
        self._note_body(body, headers, None)

    def _send_ended(self, status: int | None, error: BaseException | None) -> Span:
        """A span of one of several sends, begun when it was sent; still to be ended."""
        attributes: dict[str, Any] = {vocabulary.HTTP_REQUEST_METHOD: self.method, vocabulary.URL_FULL: self.url}
        if self.method == OTHER_METHOD:
            attributes[vocabulary.HTTP_REQUEST_METHOD_ORIGINAL] = self.original_method
        if self.host:
            attributes[vocabulary.SERVER_ADDRESS] = self.host
        if isinstance(call := current_scope().stage, ApiCall):
            attributes[vocabulary.SYNC_API_OPERATION] = call.name
        if ordinal := self.resends + self._told:
            attributes[vocabulary.HTTP_REQUEST_RESEND_COUNT] = ordinal
        if status is not None:
            attributes[vocabulary.HTTP_RESPONSE_STATUS_CODE] = status
        problem = type(error).__qualname__ if error is not None else str(status) if status and status >= 400 else ""
        if problem:
            attributes[vocabulary.ERROR_TYPE] = problem
        span = current_tracer().start_span(
            span_name_of(self.method), None, SpanKind.CLIENT, attributes, None, self._sent_at
        )
        if problem:
            span.set_status(StatusCode.ERROR)
        return span
