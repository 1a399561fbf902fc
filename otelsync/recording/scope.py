"""Fields that every span and record inside carries: the sync's id, its pipeline, the repo, and those a caller bound.

A scope is immutable and encoded when it is made, so that a span or a record that carries it copies bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

import opentelemetry.context as context_api
import orjson

from otelsync.hooks.host_errors import hand_back
from otelsync.otlp.encoding import any_value, field, key_value
from otelsync.redaction import Redactor
from otelsync.text.presentable import text_of
from otelsync.vocabulary import EVENT_ID, SUCCESS, SYNC_ID, SYNC_OUTCOME, SYNC_PIPELINE, group_kind

SCOPE_KEY: Final = context_api.create_key("otelsync-scope")

SPAN_TAG: Final = 0x4A
LOG_TAG: Final = 0x32
_SUCCESS: Final = field(SPAN_TAG, key_value(SYNC_OUTCOME, SUCCESS))


def rendered_name(key: str) -> str:
    """Return the name that an attribute has in a rendered log line: ``sync.customer`` is the customer.

    >>> rendered_name("sync.id"), rendered_name("sync.customer"), rendered_name("team_id")
    ('sync_id', 'customer', 'team_id')
    """
    if key == SYNC_ID:
        return "sync_id"
    word = key.removeprefix("sync.")
    return word if word and "." not in word else key


def _in_labels(key: str) -> str:
    """Return the name that an attribute has in Loki and Prometheus."""
    return key.replace(".", "_")


_NAMES_IN_STORES: Final = ("_msg", "_time", "_stream", "_stream_id")
"""Names that VictoriaLogs has for itself: a field of such a name is lost there, or takes the place of its own."""
OWN_NAMES: Final = frozenset(
    (
        *("timestamp", "level", "service", "logger", "event", "trace_id", "span_id", SYNC_ID, rendered_name(SYNC_ID)),
        *(SYNC_PIPELINE, _in_labels(SYNC_PIPELINE)),
        *_NAMES_IN_STORES,
    )
)
"""Names of a log record's own fields. A caller's field of such a name gets an underscore behind it: what a payload says
moves no record to another run.
"""

_SPECIAL: Final = OWN_NAMES | {"exc_info", "stack_info"}


class SyncScope:
    """The fields that spans and records inside carry, free of secrets, and the stage that collects their counts.

    Args:
        attributes: Of spans and OTLP log records, by attribute name.
        stage: The innermost stage that counts roll up to, if any; this room knows nothing of it.
    """

    __slots__ = (
        "attributes",
        "identity",
        "json_bytes",
        "keys",
        "log_bytes",
        "rendered",
        "reserved",
        "span_bytes",
        "stage",
        "succeeded",
    )

    def __init__(self, attributes: Mapping[str, Any], stage: Any = None) -> None:
        self.attributes: dict[str, Any] = {
            key: _plain(_redactor.redact_value(key, value)) for key, value in attributes.items()
        }
        self.stage = stage
        self.keys = frozenset(attributes)
        pairs = _encoded(self.attributes)
        self.span_bytes = b"".join([field(SPAN_TAG, pair) for pair in pairs])
        self.log_bytes = b"".join([field(LOG_TAG, pair) for pair in pairs])
        named = [key for key in self.attributes if key in (SYNC_ID, SYNC_PIPELINE) or group_kind(key)]
        self.identity: dict[str, object] = {
            name: self.attributes[key] for key in named for name in (key, rendered_name(key), _in_labels(key))
        }
        """Values of the attributes that say of which run and groups all inside is, by each name that they go by."""
        self.rendered = {rendered_name(key): value for key, value in self.attributes.items()}
        self.rendered.update((rendered_name(key), self.attributes[key]) for key in named)
        self.reserved = _SPECIAL | self.keys | self.rendered.keys() | self.identity.keys()
        """Names that a record's own fields cannot have if it is to be rendered as it stands."""
        self.json_bytes = b'",' + (_dumped(self.rendered)[1:-1] + b"," if self.rendered else b"")
        """JSON between a record's span id and its own fields."""
        self.succeeded: SyncScope | None = None
        """This scope and the outcome ``success``, once somebody has asked for it by :meth:`succeed`."""

    def with_fields(self, fields: Mapping[str, Any]) -> SyncScope:
        """This scope and further fields. Names that a record has for itself, and those of groups, get an underscore."""
        if not all(type(key) is str and key for key in fields):
            fields = {text_of(key): value for key, value in fields.items() if key != ""}
        own = OWN_NAMES | {EVENT_ID} | self.identity.keys()
        fields = {_set_aside(key) if key in own or group_kind(key) else key: value for key, value in fields.items()}
        return SyncScope({**self.attributes, **fields}, self.stage)

    def succeed(self) -> SyncScope:
        """Return this scope and the outcome ``success``: what nearly all items end with, encoded once for all."""
        scope = self.succeeded
        if scope is None:
            if SYNC_OUTCOME in self.keys:
                scope = SyncScope({**self.attributes, SYNC_OUTCOME: SUCCESS}, self.stage)
            else:
                scope = self.with_stage(self.stage)
                scope.attributes = {**self.attributes, SYNC_OUTCOME: SUCCESS}
                scope.keys = self.keys | {SYNC_OUTCOME}
                scope.span_bytes = self.span_bytes + _SUCCESS
            self.succeeded = scope
        return scope

    def with_stage(self, stage: Any) -> SyncScope:
        """This scope, with another stage to roll counts up to."""
        scope = SyncScope.__new__(SyncScope)
        for name in self.__slots__:
            setattr(scope, name, getattr(self, name))
        scope.stage = stage
        return scope


def _set_aside(key: str) -> str:
    """Return another name for a caller's field that is called like one of ours; it names no group either."""
    name = f"{key}_"
    return _in_labels(name) if group_kind(name) else name


def _encoded(attributes: Mapping[str, Any]) -> list[bytes]:
    """Each as a ``KeyValue``, made for this once: an encoder would learn the keys, which costs more than encoding."""
    if not all(type(key) is str and key for key in attributes):
        raise TypeError("an attribute's key is a string that is not empty")
    return [key_value(key, value) for key, value in attributes.items()]


def _plain(value: object) -> object:
    """The value itself where both JSON and OTLP have a form for it, else its text."""
    if (type(value) is str and value.isascii()) or type(value) is bool or (type(value) is int and abs(value) < _LARGE):
        return value
    try:
        orjson.dumps(value)
        any_value(value)
    except (TypeError, ValueError) as error:
        hand_back(error)
        return text_of(value).encode("utf-8", "backslashreplace").decode()
    return value


_LARGE: Final = 2**63
_redactor = Redactor()


def redact_with(redactor: Redactor | None = None) -> None:
    """Let `redactor` take secrets out of all scopes that are made from now on; by default one without options."""
    global _redactor
    _redactor = redactor or Redactor()


def redactor() -> Redactor:
    """Return what takes secrets out of scopes now; it knows the keys and patterns of the settings."""
    return _redactor


EMPTY: Final = SyncScope({})


_scopes: Final[WeakKeyDictionary[Any, SyncScope]] = WeakKeyDictionary()
"""Scopes of spans of other providers, which have no place for them."""


def note_scope(span: object, scope: SyncScope) -> None:
    """Remember the scope of a span that has no place for it, so that records about it carry its fields."""
    with suppress(TypeError):  # there can be no reference to it
        _scopes[span] = scope


def scope_of(span: object) -> SyncScope | None:
    """Return the scope of a span, of ours or another provider's."""
    scope = getattr(span, "scope", None)
    if scope is None and span is not None:
        with suppress(TypeError):
            scope = _scopes.get(span)
    return scope if isinstance(scope, SyncScope) else None


def _dumped(fields: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:  # half a surrogate pair in a name
        return orjson.dumps({key.encode("utf-8", "replace").decode(): value for key, value in fields.items()})
