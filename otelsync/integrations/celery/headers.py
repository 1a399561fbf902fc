"""Our header of a message: where its canvas was first published, when, and the fields of the sync.

It is one header, ``otelsync``, a compact JSON text beside the standard ``traceparent``. Whoever can write to the broker
can write it, so what is read is checked field by field, and what does not fit is as if it were not there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson
from opentelemetry.trace import SpanContext, TraceFlags

from otelsync.recording.scope import SyncScope

HEADER: Final = "otelsync"
"""The header's key, and the key under which a task's request holds it."""

CHORD_HEADER: Final = "otelsync_chord"
"""In the signature of a chord's body: what its headers' spans can be found by. It does not go into messages."""

LONGEST: Final = 16_384
"""Characters in the longest header that is read."""
LONGEST_SCOPE: Final = 8_192
MOST_FIELDS: Final = 64
LONGEST_KEY: Final = 128
LONGEST_VALUE: Final = 1_024
MOST_LINKS: Final = 128
"""The SDK's default limit of links a span."""
_LATEST: Final = 2**63
TRACE_ID: Final = slice(3, 35)
SPAN_ID: Final = slice(36, 52)
"""Slices of a ``traceparent`` that hold the ids."""
_TRACEPARENT: Final = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
FLAGS: Final = tuple(TraceFlags(number) for number in range(256))
"""All trace flags, by their number."""
_SEED: Final = re.compile("([0-9a-f]{16}):([0-9]{1,9})").fullmatch
_CACHED: Final = 1_024


@dataclass(frozen=True, slots=True)
class Envelope:
    """Contents of the header.

    Args:
        origin: The span under which everything of this canvas hangs; None if it is not known.
        published: Nanoseconds since the epoch; 0 if it is not known.
        sync_scope: What every span and record of the task carries.
        run: The key of the dispatched pipeline that the task is a part of.
        chord: What finds the spans of the chord's headers, if the task is a chord's body.
    """

    origin: SpanContext | None = None
    published: int = 0
    sync_scope: SyncScope | None = None
    run: str | None = None
    chord: Chord | None = None

    def to_header(self) -> str:
        """The header's value; :func:`parse` reads it."""
        said: dict[str, Any] = {}
        if self.origin is not None and self.origin.is_valid:
            said["origin"] = to_traceparent(self.origin)
        if self.published:
            said["published"] = self.published
        if self.sync_scope is not None and self.sync_scope.attributes:
            said["scope"] = _scope_text(self.sync_scope)
        if self.run is not None:
            said["run"] = self.run
        if self.chord is not None:
            said["chord"] = self.chord.to_text()
        return orjson.dumps(said).decode()


@dataclass(frozen=True, slots=True)
class Chord:
    """A seed that the span ids of a chord's headers are drawn from, so that its body finds them without a store.

    Args:
        seed: 16 lower-case hex digits.
        count: How many headers there are.
    """

    seed: str
    count: int

    def span_id(self, index: int) -> int:
        """The id of the span that publishes the header of that ``group_index`` for the first time."""
        return derived_id(f"{self.seed}|{index}".encode())

    def to_text(self) -> str:
        """The text that :meth:`of` reads."""
        return f"{self.seed}:{self.count}"

    @classmethod
    def of(cls, text: object) -> Chord | None:
        """Read a seed from its text; None if it is not one of ours."""
        found = _SEED(text) if isinstance(text, str) else None
        return cls(found[1], int(found[2])) if found is not None else None


_NOTHING: Final = Envelope()
"""The envelope of a message that has none."""


def read(headers: object) -> Envelope:
    """The envelope in a message's headers, or in a task's request; an empty one if there is none that can be read.

    Args:
        headers: A mapping, or an object with the header as an attribute, as Celery's ``Context``.
    """
    text = headers.get(HEADER) if isinstance(headers, dict) else getattr(headers, HEADER, None)
    return (parse(text) if text is not None else None) or _NOTHING


def parse(text: object) -> Envelope | None:
    """Read a header, as far as it is valid; None if it is not one of ours. Never raises."""
    if not isinstance(text, str) or len(text) > LONGEST:
        return None
    try:
        said = orjson.loads(text)
    except ValueError:
        return None
    if type(said) is not dict:
        return None
    get = said.get
    published, run, chord = get("published"), get("run"), get("chord")
    return Envelope(
        from_traceparent(get("origin")),
        published if type(published) is int and 0 < published < _LATEST else 0,
        _scope_of(get("scope")),
        run if isinstance(run, str) and 0 < len(run) <= LONGEST_KEY else None,
        Chord.of(chord) if chord is not None else None,
    )


def to_traceparent(context: SpanContext) -> str:
    """A span context in W3C's form; source: www.w3.org/TR/trace-context, "traceparent header"."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"


def from_traceparent(text: object, *, is_remote: bool = True) -> SpanContext | None:
    """Read a ``traceparent`` of version 00; None if it is not valid."""
    if not isinstance(text, str) or not is_traceparent(text):
        return None
    return SpanContext(int(text[TRACE_ID], 16), int(text[SPAN_ID], 16), is_remote, FLAGS[int(text[53:], 16)])


def is_traceparent(text: str) -> bool:
    """Return whether it is a valid ``traceparent`` of version 00."""
    return _TRACEPARENT(text) is not None and text[TRACE_ID] != _NO_TRACE and text[SPAN_ID] != _NO_SPAN


def derived_id(seed: bytes) -> int:
    """A span id that is always the same for the same seed."""
    return int.from_bytes(blake2b(seed, digest_size=8).digest(), "big") or 1


def with_id(context: SpanContext, span_id: int) -> SpanContext:
    """A span of this process in the trace of `context`, under another id."""
    return SpanContext(context.trace_id, span_id, False, context.trace_flags, context.trace_state)


# A worker runs many tasks of few scopes, and encoding one costs more than all the rest of the header.
_scope_texts: dict[bytes, str] = {}


def _scope_text(scope: SyncScope) -> str:
    text = _scope_texts.get(scope.span_bytes)
    if text is None:
        text = _bounded(scope.attributes)
        if len(_scope_texts) >= _CACHED:
            _scope_texts.clear()
        _scope_texts[scope.span_bytes] = text
    return text


def _bounded(attributes: Mapping[str, Any]) -> str:
    """The fields that fit, in their order."""
    kept: dict[str, Any] = {}
    room = LONGEST_SCOPE - 2
    for key, value in attributes.items():
        if not _is_field(key, value) or len(kept) == MOST_FIELDS:
            continue
        room -= len(orjson.dumps({key: value})) - 1
        if room < 0:
            break
        kept[key] = value
    return orjson.dumps(kept).decode()


def _scope_of(text: object) -> SyncScope | None:
    return _new_scope(text) if isinstance(text, str) and len(text) <= LONGEST_SCOPE else None


@lru_cache(_CACHED)
def _new_scope(text: str) -> SyncScope | None:
    try:
        said = orjson.loads(text)
    except ValueError:
        return None
    if type(said) is not dict or len(said) > MOST_FIELDS:
        return None
    fields = {key: value for key, value in said.items() if _is_field(key, value)}
    return SyncScope(fields) if fields else None


def _is_field(key: object, value: object) -> bool:
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or not _is_text(key):
        return False
    if isinstance(value, str):
        return len(value) <= LONGEST_VALUE and _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool) or (isinstance(value, int) and -_LATEST <= value < _LATEST)


def _is_text(text: str) -> bool:
    """Return whether it has no half of a surrogate pair, which neither JSON nor protobuf can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
