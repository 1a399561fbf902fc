"""Trace headers and baggage leave for another host only if the user has listed it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, cast

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import Span, SpanKind, format_trace_id

from otelsync.hooks.harmless import harmless
from otelsync.hooks.own_messages import own_logger
from otelsync.integrations.http.urls import host_of, is_loopback, plain_host
from otelsync.vocabulary import HTTP_REQUEST_METHOD, SERVER_ADDRESS, URL_FULL

_log = own_logger("otelsync")

_HTTP: Final = frozenset((HTTP_REQUEST_METHOD, "http.method", URL_FULL, "http.url"))
"""Attributes of which a client span of HTTP has one, by the stable or the older semantic conventions."""
_URLS: Final = (URL_FULL, "http.url")
_HOSTS: Final = (SERVER_ADDRESS, "net.peer.name", "http.host")

_MOST_TOLD: Final = 8
_told: ContextVar[tuple[str, ...]] = ContextVar("otelsync_told_traces", default=())
"""The traces that requests of this thread or task have told of lately: outside any span each send is one of its own."""


class TrustedHosts:
    """The hosts that may learn of a trace: loopback, and what the user has listed.

    Args:
        patterns: Host names, ``*.example.com`` for all names below one, or ``*`` for all hosts.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = frozenset(pattern.lower().rstrip(".") for pattern in patterns)
        self._endings = tuple(pattern[1:] for pattern in self._patterns if pattern.startswith("*."))

    def __contains__(self, host: object) -> bool:
        if not isinstance(host, str) or not host:
            return False
        return (
            is_loopback(host)
            or host in self._patterns
            or "*" in self._patterns
            or bool(self._endings and host.endswith(self._endings))
        )


class GuardedPropagator(TextMapPropagator):
    """The propagator that was there before, silent where a client span of HTTP leads to a host that is not trusted.

    It sees the client spans of every instrumentation, since all of them inject while their span is current. Messages
    to a broker, and what the program injects itself, are as before.
    """

    def __init__(self, guarded: TextMapPropagator, hosts: TrustedHosts) -> None:
        self.guarded = guarded
        self.hosts = hosts
        self._fields: tuple[str, ...] | None = None

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Extract as the guarded propagator does."""
        return self.guarded.extract(carrier, context, getter)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Inject as the guarded one does, or not at all."""
        span = trace.get_current_span(context)
        if not self._may_learn(span):
            self._take_back(carrier, span)
            return
        self.guarded.inject(carrier, context, setter)
        _remember(span)

    def inject_for(self, host: str, carrier: MutableMapping[str, Any], span: Span) -> None:
        """Inject `span`, the current one, into the headers of a request to `host`, or not at all, as :meth:`inject`.

        `host` is as :func:`~otelsync.integrations.http.urls.plain_host` writes it; nothing is read from the span.
        """
        if host in self.hosts:
            self.guarded.inject(carrier)
            _remember(span)
        else:
            self._take_back(carrier, span)

    @property
    def fields(self) -> set[str]:
        """The headers that the guarded one sets."""
        return self.guarded.fields

    @harmless
    def _may_learn(self, span: Span) -> bool:
        """Return whether the host may; None, which is no, where it cannot be told."""
        named = hosts_named_by(span)
        return named is None or (bool(named) and all(host in self.hosts for host in named))

    @harmless
    def _take_back(self, carrier: object, span: Span) -> None:
        """Take out what an earlier send of the same request was given: a redirect copies its headers."""
        if not isinstance(carrier, MutableMapping):
            return
        headers = cast("MutableMapping[str, Any]", carrier)
        if self._fields is None:
            self._fields = tuple(self.guarded.fields)
        there = [name for name in self._fields if name in headers]
        traces = (_hex(span), *_told.get()) if there else ()
        if any(trace_id in str(headers[name]) for name in there for trace_id in traces):
            for name in there:
                del headers[name]


@harmless
def _remember(span: Span) -> None:
    """Remember what trace was told of."""
    if getattr(span, "kind", None) is SpanKind.CLIENT:
        _told.set((_hex(span), *_told.get()[: _MOST_TOLD - 1]))


def _hex(span: Span) -> str:
    return format_trace_id(span.get_span_context().trace_id)


def hosts_named_by(span: Span) -> set[str] | None:
    """The hosts that a client span of HTTP leads to, an empty text for one that cannot be told; None for other spans.

    They should all be the same. Where they are not, none of them is to be believed alone.
    """
    if getattr(span, "kind", None) is not SpanKind.CLIENT:
        return None
    attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
    if _HTTP.isdisjoint(attributes):
        return None
    hosts = {host_of(str(attributes[name])) for name in _URLS if name in attributes}
    return hosts | {plain_host(str(attributes[name])) for name in _HOSTS if name in attributes}


def load() -> None:
    """Load the propagators: before logging is set up, as it warns of those that are missing."""
    from otelsync.hooks.propagators import propagate  # noqa: F401


def install(patterns: Iterable[str]) -> None:
    """Guard the global propagator; a guard that is there already gets the new list."""
    from otelsync.hooks.propagators import propagate

    uninstall()
    propagate.set_global_textmap(GuardedPropagator(propagate.get_global_textmap(), TrustedHosts(patterns)))


def uninstall() -> None:
    """Put back the propagator that :func:`install` found."""
    if "opentelemetry.propagate" not in sys.modules:
        return  # and it is not loaded for this, which takes a while
    from otelsync.hooks.propagators import propagate

    current = propagate.get_global_textmap()
    if isinstance(current, GuardedPropagator):
        propagate.set_global_textmap(current.guarded)
