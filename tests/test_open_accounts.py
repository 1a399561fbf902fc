"""Accounts that are kept up while journals are read: the quick way to an item says what the general one says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelsync.journal.batch import Batch, Group
from otelsync.journal.native import native
from otelsync.otlp.encoding import field
from otelsync.shipping import open_accounts

NAMES = ["sync.pr", "sync.order", "sync.", "sync.api list", "sync.rate_limit.wait", "GET /", "", "sync.é", "sync.pr "]
KEYS = ["sync.action", "sync.outcome", "sync.attempt", "sync.recovered", "sync.required", "sync.id", "vcs.change.id"]
values = st.one_of(
    st.builds(AnyValue, string_value=st.sampled_from(["created", "failed", "", "x" * 300, "sync.action"])),
    st.builds(AnyValue, int_value=st.integers(-5, 5)),
    st.just(AnyValue()),
)
spans = st.builds(
    Span,
    trace_id=st.just(b"t" * 16),
    span_id=st.just(b"s" * 8),
    parent_span_id=st.sampled_from([b"", b"p" * 8, b"p" * 7]),
    name=st.sampled_from(NAMES),
    kind=st.integers(0, 5),
    start_time_unix_nano=st.just(7),
    attributes=st.lists(
        st.builds(KeyValue, key=st.sampled_from(KEYS), value=values), max_size=6, unique_by=lambda p: p.key
    ),
    status=st.one_of(st.none(), st.builds(Status, code=st.integers(0, 2))),
)


@given(spans)
def test_c_and_python_read_an_item_alike(span: Any) -> None:
    """Whatever the span is."""
    if native is None:
        pytest.skip("there is no extension")
    body = field(0x12, span.SerializeToString())
    assert native.item_of(body) == open_accounts._item_of(body)


@given(st.binary(max_size=300))
def test_rubbish_is_read_in_full(rubbish: bytes) -> None:
    """What is no span is left to the general way."""
    for item_of in {open_accounts.item_of, open_accounts._item_of}:
        assert item_of(rubbish) in (None, False)
        assert item_of(field(0x12, rubbish)) in (None, False)


@pytest.mark.parametrize("action", ["created", "creatd", "é", None])
def test_an_item_says_where_it_stands_and_what_became_of_it(action: str | None) -> None:
    """Parent, name, action."""
    said = [] if action is None else [KeyValue(key="sync.action", value=AnyValue(string_value=action))]
    span = Span(
        span_id=b"s" * 8, parent_span_id=b"p" * 8, name="sync.order", kind=Span.SPAN_KIND_INTERNAL, attributes=said
    )
    found = open_accounts.item_of(field(0x12, span.SerializeToString()))
    assert found == b"pppppppp" + b"sync.order\0" + (action or "").encode()


def test_what_waits_for_a_span_that_never_comes_is_bounded() -> None:
    """Items below a span that was recorded elsewhere, or not at all, fill neither memory nor checkpoint."""
    accounts = open_accounts.OpenAccounts()
    for first in range(0, 12_000, 1_000):
        group = Group(b"", b"")
        for number in range(first, first + 1_000):
            body = Span(
                trace_id=b"t" * 16,
                span_id=number.to_bytes(8, "big"),
                parent_span_id=b"never!!!",
                name="sync.order",
                kind=Span.SPAN_KIND_INTERNAL,
                end_time_unix_nano=number + 1,
            )
            group.spans.append(field(0x12, body.SerializeToString()))
        accounts.take([Batch("1-1-00000000-000000.journal", 0, 1, [group])])
    assert accounts.dump().count("sync.order") <= open_accounts.MOST_WAITING
