"""The encoder, against protobuf's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from trace_tree import fields

from otelsync.otlp import encoding as otlp
from otelsync.otlp.encoding import AttributeEncoder
from otelsync.redaction import Redactor
from otelsync.secret_values import REDACTED

SECRET = "ghp_" + "a1B2" * 9

texts = st.text(max_size=20) | st.text(alphabet="xß", min_size=40, max_size=300)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 5000), st.floats(), texts, st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)
keys = st.text(min_size=1, max_size=8) | st.sampled_from(["long" * 40, "sync.id", "a", "b"])


def reference(value: Any) -> AnyValue:
    """The value as protobuf's own classes hold it."""
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case str():
            return AnyValue(string_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    return AnyValue(array_value=ArrayValue(values=[reference(item) for item in value]))


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=reference(value)) for key, value in attributes.items()]


@given(st.integers(0, 2**64 - 1))
def test_varints_are_read_back(number: int) -> None:
    """An unsigned integer of any size has protobuf's form."""
    span = Span.FromString(b"\x50" + otlp.varint(number & 0xFFFFFFFF))
    assert span.dropped_attributes_count == number & 0xFFFFFFFF
    assert AnyValue.FromString(b"\x18" + otlp.varint(number)).int_value % 2**64 == number


@settings(deadline=None)
@given(values)
def test_values_are_protobuf_s(value: Any) -> None:
    """Any value is encoded to bytes that decode to what protobuf makes of it."""
    assert AnyValue.FromString(otlp.any_value(value)).SerializeToString() == reference(value).SerializeToString()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(keys, values, max_size=6), min_size=1, max_size=4))
def test_attributes_are_protobuf_s(several: list[dict[str, Any]]) -> None:
    """Attributes decode to what protobuf makes of them, also when keys and values come again."""
    encoder = AttributeEncoder(0x4A)
    for attributes in several * 2:
        decoded = Span.FromString(encoder.encode(attributes))  # compared as bytes: not a number is not itself
        assert decoded.SerializeToString() == Span(attributes=pairs(attributes)).SerializeToString()


@settings(deadline=None)
@given(st.dictionaries(keys, scalars, max_size=4), texts, texts, texts)
def test_resources_and_scopes_are_protobuf_s(attributes: dict[str, Any], name: str, version: str, url: str) -> None:
    """A resource and a scope decode, in the form of the fields in which they are sent, to what went in."""
    encoded = ResourceSpans.FromString(otlp.resource(attributes))
    assert (
        encoded.SerializeToString()
        == ResourceSpans(resource=Resource(attributes=pairs(attributes))).SerializeToString()
    )
    scope = ScopeSpans.FromString(otlp.scope(name, version, attributes, url))
    assert (scope.scope.name, scope.scope.version, scope.schema_url) == (name, version, url)
    assert len(scope.scope.attributes) == len(attributes)


def test_types_that_are_equal_are_kept_apart() -> None:
    """True, 1 and 1.0 are equal keys of a dict, and different values all the same."""
    encoder = AttributeEncoder(0x4A)
    for value in (1, True, 1.0, 0, False, 0.0, 1, True, 1.0):
        (attribute,) = Span.FromString(encoder.encode({"k": value})).attributes
        assert attribute.value == reference(value)


def test_what_has_no_form_is_left_out_and_the_rest_stays() -> None:
    """An integer beyond 64 bits or an unknown object costs itself alone; half a surrogate becomes a question mark."""
    attributes = {"huge": 2**63, "odd": object(), "nested": [2**70], "half": "a\ud800b", "fine": 1}
    encoded = Span.FromString(AttributeEncoder(0x4A).encode(attributes))
    assert fields(encoded.attributes) == {"half": "a?b", "fine": 1}


def test_what_contains_itself_is_left_out() -> None:
    """A circular value is no error, with and without a redactor."""
    circle: list[Any] = []
    circle.append(circle)
    encoded = Span.FromString(AttributeEncoder(0x4A).encode({"circle": circle, "fine": 1}))
    assert fields(encoded.attributes) == {"fine": 1}
    encoded = Span.FromString(AttributeEncoder(0x4A, Redactor()).encode({"circle": circle, "fine": 1}))
    assert fields(encoded.attributes) == {"circle": ["[circular]"], "fine": 1}


@pytest.mark.parametrize("value", [SECRET, [SECRET], {"a": SECRET}, SECRET.encode(), f"a {SECRET} b", (SECRET, 1)])
def test_secrets_are_not_encoded(value: object) -> None:
    """A secret is taken out each time, wherever it stands, and the caller is told that there was one."""
    encoder = AttributeEncoder(0x4A, Redactor())
    for time in (1, 2, 3):
        encoded = encoder.encode({"field": value, "password": "hunter2", "fine": "x"})
        assert SECRET.encode() not in encoded
        assert b"hunter2" not in encoded
        assert encoder.redactions == 2 * time
    assert fields(Span.FromString(encoded).attributes)["password"] == REDACTED


def test_many_keys_and_values_do_not_fill_the_memory() -> None:
    """What is kept for the next time is bounded, and correct when the bound is passed."""
    encoder = AttributeEncoder(0x4A)
    for number in range(5000):
        attributes = {f"key {number}": "v", "same": f"value {number}", "number": number}
        assert fields(Span.FromString(encoder.encode(attributes)).attributes) == attributes
    assert len(encoder.strings) + len(encoder.ints) <= 5000
    assert len(encoder.strings["same"]) + len(encoder.ints["number"]) <= 5000
