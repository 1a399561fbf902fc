"""Our spans against the SDK's: the same calls, the same bytes on the wire."""

from __future__ import annotations

import itertools
import logging
import string
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from packaging.version import Version

from otelsync.journal.writer import Journal
from otelsync.recording.provider import TracerProvider


class CountingIds(IdGenerator):
    """Ids that two providers draw alike."""

    def __init__(self) -> None:
        self.numbers = itertools.count(0x1111)

    def generate_span_id(self) -> int:
        return next(self.numbers)

    def generate_trace_id(self) -> int:
        return next(self.numbers) << 64 | 7

    def is_trace_id_random(self) -> bool:
        return True


class KeptJournal(Journal):
    """A journal that also keeps what it was given."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.bodies: list[bytes] = []

    def append(self, kind: int, ref: int, body: bytes) -> None:
        super().append(kind, ref, body)
        self.bodies.append(body)

    def spans(self) -> list[WireSpan]:
        wire = ScopeSpans()
        wire.ParseFromString(b"".join(self.bodies))
        return list(wire.spans)


words = st.text(alphabet=string.ascii_letters + 'äß✓𝄞\n\x1b"', max_size=12)
keys = st.sampled_from(["a", "b", "c.d", "long" * 40, "", "key-ä"])
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-300, 70_000), st.floats(allow_nan=False), st.booleans()
)
scalars = st.one_of(words, numbers, st.binary(max_size=8), st.none(), st.text(alphabet="x", min_size=120, max_size=300))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("pqr"), inner, max_size=3)),
    max_leaves=5,
)
if Version(version("opentelemetry-exporter-otlp-proto-common")) < Version("1.43"):  # it drops what has None in it
    values = scalars.filter(lambda value: value is not None)
attributes = st.dictionaries(keys, values, max_size=6)
times = st.integers(1, 2**63)
contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    st.sampled_from([TraceState(), TraceState([("vendor", "v1"), ("other", "x")])]),
)
statuses = st.one_of(
    st.sampled_from(list(StatusCode)).map(lambda code: (code,)),
    st.tuples(st.sampled_from(list(StatusCode)), words),
    st.builds(lambda text: (Status(StatusCode.ERROR, text),), words),
)
calls = st.lists(
    st.one_of(
        st.tuples(st.just("set_attribute"), st.tuples(keys, values)),
        st.tuples(st.just("set_attributes"), st.tuples(attributes)),
        st.tuples(st.just("add_event"), st.tuples(words, attributes, times)),
        st.tuples(st.just("add_link"), st.tuples(contexts, attributes)),
        st.tuples(st.just("update_name"), st.tuples(words)),
        st.tuples(st.just("set_status"), statuses),
        st.tuples(st.just("start"), st.tuples(words, st.sampled_from(list(SpanKind)), attributes, times)),
        st.tuples(st.just("end"), st.tuples(times)),
    ),
    max_size=25,
)
limits = st.builds(
    lambda a, e, k, n: {
        "max_span_attributes": a,
        "max_events": e,
        "max_links": e,
        "max_event_attributes": k,
        "max_link_attributes": k,
        "max_attribute_length": n,
    },
    st.sampled_from([None, 0, 1, 3]),
    st.sampled_from([None, 0, 2]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([None, 0, 5]),
)


def play(provider: sdk.TracerProvider, remote: SpanContext | None, script: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Make the calls on a stack of spans; each `start` nests, each `end` ends the innermost."""
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context, use_span

    tracer = provider.get_tracer("test", "1.0", "https://example.invalid/schema", {"k": "v"})
    root_context = set_span_in_context(NonRecordingSpan(remote)) if remote else None
    span = tracer.start_span("root", context=root_context, start_time=5)
    stack = [span]
    for name, arguments in script:
        if name == "start":
            title, kind, given_attributes, start = arguments
            with use_span(stack[-1]):
                stack.append(tracer.start_span(title, kind=kind, attributes=given_attributes, start_time=start))
        elif name == "end":
            stack[-1].end(*arguments)
            if len(stack) > 1:
                stack.pop()
        else:
            getattr(stack[-1], name)(*arguments)
    for span in reversed(stack):
        if span.is_recording():
            span.end(2**62)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Misuse is part of the script; its warnings are not what is tested."""
    loggers = [logging.getLogger(name) for name in ("opentelemetry.sdk.trace", "opentelemetry.attributes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("quiet")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(script=calls, remote=st.one_of(st.none(), contexts), bounds=st.one_of(st.just({}), limits))
def test_wire_equals_the_sdk(
    tmp_path: Path,
    script: list[tuple[str, tuple[Any, ...]]],
    remote: SpanContext | None,
    bounds: dict[str, int | None],
) -> None:
    """Whatever is done to spans, what ours encode decodes to what the SDK's exporter encodes."""
    exporter = InMemorySpanExporter()
    resource = Resource({"service.name": "test"})
    theirs = sdk.TracerProvider(
        resource=resource, id_generator=CountingIds(), span_limits=sdk.SpanLimits(**bounds), shutdown_on_exit=False
    )
    theirs.add_span_processor(SimpleSpanProcessor(exporter))
    play(theirs, remote, script)
    journal = KeptJournal(tmp_path)
    ours = TracerProvider(
        journal,
        resource=resource,
        id_generator=CountingIds(),
        span_limits=sdk.SpanLimits(**bounds),
        shutdown_on_exit=False,
    )
    play(ours, remote, script)
    encoded = encode_spans(exporter.get_finished_spans())
    expected = [span for r in encoded.resource_spans for s in r.scope_spans for span in s.spans]
    journal.close()
    assert journal.spans() == expected
