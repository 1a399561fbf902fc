"""The correlation id: which ids are taken from others, how one is bound, and its way through messages of any queue."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from contextvars import Token
from typing import Any, Final

import opentelemetry.context as context_api
from opentelemetry import baggage
from opentelemetry.context import Context

from otelsync.hooks.harmless import harmless
from otelsync.hooks.propagators import propagate
from otelsync.recording.runtime_context import current_scope, leave
from otelsync.recording.scope import SCOPE_KEY, redactor
from otelsync.stages.misuse import warn_once
from otelsync.vocabulary import CORRELATION_ID

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}").fullmatch
_LONGEST: Final = 8_192
"""Characters in the longest field of a message that is read: W3C's limit of baggage."""


def new_id() -> str:
    """Return an id for a request that brought none: ``req_`` and eight hex digits."""
    return f"req_{os.urandom(4).hex()}"


def accepted(given: object) -> str | None:
    """Return an id that somebody else gave, or None, with one warning, if it cannot be one.

    It is at most 128 ASCII letters, digits and ``_.:-``, and no secret.
    """
    if not isinstance(given, str) or not given:
        return None
    if _ACCEPTED(given) is not None and redactor().redact_value(CORRELATION_ID, given) == given:
        return given
    warn_once(
        "correlation id",
        "a correlation id of %d characters was replaced: an id is at most 128 ASCII letters, digits and '_.:-', and no "
        "secret",
        len(given),
    )
    return None


def with_correlation(correlation_id: str, context: Context) -> Context:
    """Return `context` with the id in its baggage and on all spans and records inside."""
    scope = current_scope().with_fields({CORRELATION_ID: correlation_id})
    return context_api.set_value(SCOPE_KEY, scope, baggage.set_baggage(CORRELATION_ID, correlation_id, context=context))


@harmless
def inject(carrier: MutableMapping[str, str], /) -> None:
    """Write the current trace, baggage and correlation id into a message's fields or headers.

    They go wherever the message goes; the list of trusted hosts is for HTTP requests.
    """
    context = context_api.get_current()
    bound = current_scope().attributes.get(CORRELATION_ID) or baggage.get_baggage(CORRELATION_ID, context)
    if isinstance(bound, str):
        context = baggage.set_baggage(CORRELATION_ID, bound, context=context)
        carrier[CORRELATION_ID] = bound
    propagate.inject(carrier, context)


class extract:  # noqa: N801  # a verb of the API, as sync_context
    """Continue the trace of a message, with its baggage and correlation id: ``with otelsync.extract(message):``.

    What is current otherwise stays so, and is as before at the end. Fields that cannot be read are as if not there.

    Args:
        carrier: Fields or headers, as text or bytes, that :func:`inject` or another OpenTelemetry program has written.
    """

    def __init__(self, carrier: Mapping[Any, Any], /) -> None:
        self._carrier = carrier
        self._tokens: list[Token[Any] | None] = []

    def __enter__(self) -> None:
        self._tokens.append(_enter(self._carrier))

    def __exit__(self, *_: object) -> None:
        token = self._tokens.pop()
        if token is not None:
            leave(token)


@harmless
def _enter(carrier: Mapping[Any, Any]) -> Token[Any]:
    fields = _readable(carrier)
    context = propagate.extract(fields, context_api.get_current())
    given = accepted(fields.get(CORRELATION_ID)) or accepted(baggage.get_baggage(CORRELATION_ID, context))
    return context_api.attach(with_correlation(given, context) if given else context)


def _readable(carrier: Mapping[Any, Any]) -> dict[str, str]:
    """The fields that propagators read, and the correlation id, as text."""
    wanted = {CORRELATION_ID, *propagate.get_global_textmap().fields}
    readable = {}
    for key, value in carrier.items():
        name, text = _text(key), _text(value)
        if name is not None and text is not None and name.lower() in wanted:
            readable[name.lower()] = text
    return readable


def _text(given: object) -> str | None:
    if isinstance(given, bytes) and len(given) <= _LONGEST:
        return given.decode("latin-1")
    return given if isinstance(given, str) and len(given) <= _LONGEST else None
