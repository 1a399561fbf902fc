"""The clock of spans: read once a trace, and monotonic from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context
from recorded import Recorded

import otelsync
from otelsync.journal.native import native
from otelsync.recording import clock
from otelsync.recording.span import RecordedSpan

THEN = 1_754_166_420_000_000_000
FAR = 2**63
SECOND = 10**9


def started(name: str = "s", **options: Any) -> RecordedSpan:
    span = trace.get_tracer("test").start_span(name, **options)
    assert isinstance(span, RecordedSpan)
    return span


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the wall clock from which traces begin; it stands still."""
    return lambda now: monkeypatch.setattr(clock, "time_ns", lambda: now)


class TestPresent:
    @given(st.integers(-(2**62), 2**62), st.integers(0, 2**64 - 1))
    def test_both_ways_say_the_same(self, offset: int, earliest: int) -> None:
        """The C extension and Python give the same time, as far as one can be called right after the other."""
        if native is None:
            pytest.skip("there is no C extension here")
        first = clock._present_in_python(offset, earliest)
        found = native.present(offset, earliest)
        last = clock._present_in_python(offset, earliest)
        assert first <= found <= last

    def test_it_is_never_before_the_earliest(self) -> None:
        """Though the clock stands at an earlier time."""
        assert clock.present(0, FAR) == FAR

    @pytest.mark.parametrize("wrong", [None, "1", 1.5, 2**70])
    def test_junk_raises(self, wrong: Any) -> None:
        """It is called with our own numbers alone; anything else is a mistake of ours, and no crash."""
        if native is None:
            pytest.skip("there is no C extension here")
        for arguments in ((wrong, 0), (0, wrong), (0,)):
            with pytest.raises((TypeError, OverflowError)):
                native.present(*arguments)


class TestSpans:
    def test_a_trace_begins_by_the_wall_clock(self, recorded: Recorded, set_clock: Callable[[int], None]) -> None:
        """Each root anew: what comes after the clock was set has the new time."""
        assert recorded.home
        for now in (THEN, THEN - 3600 * SECOND):
            set_clock(now)
            root = started()
            assert now <= root.start_time < now + SECOND

    def test_what_is_below_shares_its_clock(self, recorded: Recorded, set_clock: Callable[[int], None]) -> None:
        """However it is begun: as a child, in a block, with other flags or state, or under ids that were decided."""
        set_clock(THEN)
        assert recorded.home
        tracer: Any = trace.get_tracer("test")
        with tracer.start_as_current_span("root") as root:
            set_clock(2 * THEN)
            own = SpanContext(root.trace.id, 7, False, TraceFlags(1), TraceState([("a", "b")]))
            children = [
                started(),
                started(links=[trace.Link(own)]),
                tracer.start_span_as(own, "decided", parent=root.get_span_context(), kind=SpanKind.INTERNAL),
            ]
            with tracer.start_as_current_span("block") as block:
                children.append(block)
            for child in children:
                child.end()
        for child in children:
            assert root.start_time <= child.start_time <= child.end_time <= root.end_time

    def test_a_remote_parent_has_a_clock_of_its_own(self, recorded: Recorded, set_clock: Callable[[int], None]) -> None:
        """Nothing is known of it but its ids."""
        assert recorded.home
        set_clock(THEN)
        parent = SpanContext(5, 7, True, TraceFlags(1))
        span = started(context=set_span_in_context(NonRecordingSpan(parent)))
        assert THEN <= span.start_time < THEN + SECOND

    def test_given_times_stay(self, recorded: Recorded) -> None:
        """A start and an end that a caller gives are his."""
        assert recorded.home
        span = started(start_time=123)
        span.end(end_time=100)
        assert (span.start_time, span.end_time) == (123, 100)

    def test_a_span_never_ends_before_a_start_that_was_given(self, recorded: Recorded) -> None:
        """One that begins in the future ends as it begins, and one of the past ends now."""
        assert recorded.home
        future = time.time_ns() + 3600 * SECOND
        later, sooner = started(start_time=future), started(start_time=THEN)
        later.end()
        sooner.end()
        assert (later.start_time, later.end_time) == (future, future)
        assert sooner.end_time is not None
        assert abs(sooner.end_time - time.time_ns()) < 60 * SECOND

    def test_events_lie_in_their_span(self, recorded: Recorded, set_clock: Callable[[int], None]) -> None:
        """By the same clock; one with a time of its own has that."""
        assert recorded.home
        set_clock(THEN)
        span = started()
        span.add_event("now")
        span.add_event("then", timestamp=5)
        span.end()
        now, then = span.events
        assert span.end_time is not None
        assert span.start_time <= now.timestamp <= span.end_time
        assert then.timestamp == 5

    def test_processors_see_the_same_times(self, recorded: Recorded, set_clock: Callable[[int], None]) -> None:
        """What a span processor is handed is what is recorded."""
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        exporter = InMemorySpanExporter()
        set_clock(THEN)
        provider: Any = trace.get_tracer_provider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        started("seen").end()
        (seen,) = exporter.get_finished_spans()
        found = recorded.span("seen")
        assert (seen.start_time, seen.end_time) == (found.start, found.end)
        assert THEN <= found.start < THEN + SECOND


class TestStages:
    def test_duration_and_span_agree(self, recorded: Recorded) -> None:
        """The record of a stage's end says how long its span is; an item's, but for what it takes to log it."""
        with otelsync.repo("acme/api"), otelsync.pull_request(1):
            time.sleep(0.01)

        def lasted(name: str) -> float:
            span = recorded.span(name)
            assert span.end is not None
            return round((span.end - span.start) / 1e6, 3)

        assert recorded.line("sync.repo.completed")["duration_ms"] == lasted("sync.repo acme/api")
        assert 10 <= recorded.line("sync.pr.processed")["duration_ms"] <= lasted("sync.pr")

    def test_spans_of_another_provider_keep_its_clock(self) -> None:
        """The SDK's spans take the wall clock; how long one of them took is not asked of it."""
        span = SdkProvider(shutdown_on_exit=False).get_tracer("test").start_span("s")
        assert clock.elapsed_of(span) is None
        assert abs(clock.present_of(span) - time.time_ns()) < 60 * SECOND
        assert abs(clock.present_of(None) - time.time_ns()) < 60 * SECOND
