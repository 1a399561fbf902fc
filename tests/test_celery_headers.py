"""The header: what is written is read again, and what anybody may have put in its place does no harm."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from celery.app.task import Context
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

from otelsync.integrations.celery.headers import (
    LONGEST,
    MOST_FIELDS,
    Chord,
    Envelope,
    from_traceparent,
    parse,
    read,
    to_traceparent,
)
from otelsync.recording.scope import SyncScope

span_contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.just(True),
    st.integers(0, 255).map(TraceFlags),
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
values = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), names
)
scopes = st.dictionaries(names, values, min_size=1, max_size=8).map(SyncScope)
chords = st.builds(Chord, st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}"), st.integers(0, 10_000))
envelopes = st.builds(
    Envelope,
    origin=st.none() | span_contexts,
    published=st.integers(0, 2**63 - 1),
    sync_scope=st.none() | scopes,
    run=st.none() | st.text("0123456789abcdef", min_size=1, max_size=32),
    chord=st.none() | chords,
)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("origin", "published", "scope", "run", "chord")


def _fields(envelope: Envelope) -> dict[str, Any]:
    return envelope.sync_scope.attributes if envelope.sync_scope is not None else {}


@given(envelopes)
def test_what_is_written_is_read(envelope: Envelope) -> None:
    """Everything that an envelope says arrives."""
    got = parse(envelope.to_header())
    assert got is not None
    assert _fields(got) == _fields(envelope)
    for name in ("origin", "published", "run", "chord"):
        assert getattr(got, name) == getattr(envelope, name), name


@given(st.text() | st.binary() | json)
def test_rubbish_is_ignored(rubbish: Any) -> None:
    """Whatever stands in the header, reading it does not raise, and what comes of it is an envelope."""
    assert isinstance(read({"otelsync": rubbish}), Envelope)


@given(st.dictionaries(st.sampled_from(KEYS), json | st.text(max_size=60)))
def test_rubbish_in_the_fields_is_ignored(said: dict[str, Any]) -> None:
    """A field that is not what it should be is as if it were not there; the envelope can be written again."""
    try:
        text = orjson.dumps(said).decode()
    except TypeError:
        return
    envelope = parse(text)
    assert envelope is not None
    assert envelope.published >= 0
    assert envelope.origin is None or envelope.origin.is_valid
    again = parse(envelope.to_header())
    assert again is not None
    assert (again.origin, again.published) == (envelope.origin, envelope.published)
    assert _fields(again) == _fields(envelope)


@given(st.text("0123456789abcdefABCDEFxg-+_ \u0660", min_size=50, max_size=60))
def test_a_traceparent_is_exact(text: str) -> None:
    """What reads as a traceparent is one: written again, it is the same text."""
    context = from_traceparent(text)
    assert context is None or to_traceparent(context) == text


@pytest.mark.parametrize(
    "text",
    [
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 31 + "_-" + "1" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01",
        55,
        None,
    ],
)
def test_no_traceparent(text: object) -> None:
    """All zeros, capitals, underscores, other versions and other types are no span context."""
    assert from_traceparent(text) is None


def test_the_fields_are_bounded() -> None:
    """A scope of any size goes into a header of bounded size, and what is too large for it is left out."""
    huge = SyncScope({"first": "kept", **{f"field{n}": "x" * 900 for n in range(1000)}, "long": "y" * 100_000})
    header = Envelope(sync_scope=huge).to_header()
    assert len(header) < LONGEST
    got = parse(header)
    assert got is not None
    fields = _fields(got)
    assert fields["first"] == "kept"
    assert len(fields) <= MOST_FIELDS
    assert "long" not in fields
    assert parse("x" * (LONGEST + 1)) is None


def test_secrets_do_not_travel() -> None:
    """A field that is a secret is redacted in the header already."""
    header = Envelope(sync_scope=SyncScope({"api_key": "hunter2hunter2", "note": "password=hunter2"})).to_header()
    assert "hunter2" not in header


def test_a_celery_context_is_read_like_a_dict() -> None:
    """A task's `request` object has the header as an attribute."""
    header = Envelope(published=7).to_header()
    envelope = read(Context({"otelsync": header}))
    assert envelope.published == 7
    assert read(Context({})) == Envelope()


def test_ids_from_a_seed_differ() -> None:
    """Each header of a chord has an id of its own, the same wherever it is drawn."""
    chord = Chord("0123456789abcdef", 1000)
    ids = {chord.span_id(index) for index in range(1000)}
    assert len(ids) == 1000
    assert Chord.of(chord.to_text()) == chord
    assert all(0 < span_id < 2**64 for span_id in ids)
