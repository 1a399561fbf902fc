"""Stages, spans and log records in the middle of which something of the host's comes: nothing of either is lost.

Each piece of work is interrupted at every point, by a real signal whose handler raises. The exception reaches the
program; what was begun has ended, once; the context is what it was before; the counts are those of the records.
"""

from __future__ import annotations

import gc
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from interruptions import Interrupted, Places, Struck
from opentelemetry import trace
from recorded import Recorded

import otelsync
from otelsync.recording.runtime_context import CURRENT
from otelsync.shipping.ledger import read_ledger
from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limits import RateLimits
from otelsync.stages.stage import Stage

HERE = Path(otelsync.__file__).parent
PLACES = [HERE / room for room in ("recording", "stages", "logs", "otlp", "text")]


@pytest.fixture
def struck() -> Iterator[Struck]:
    """Signals that come where they are told to."""
    struck = Struck()
    before = signal.signal(signal.SIGUSR1, struck.handle)
    yield struck
    signal.signal(signal.SIGUSR1, before)


Begun = Callable[[], None]


def _current() -> Any:
    return CURRENT.get()


def _item(number: int, begun: Begun) -> None:
    with otelsync.pull_request(number, state="open") as pull:
        begun()
        pull.set(action="created", tags=["a", "b"])


def _failing_item(number: int, begun: Begun) -> None:
    with otelsync.item("order", number) as order:
        begun()
        order.fail("no customer")


def _stage(number: int, begun: Begun) -> None:
    with otelsync.stage(str(number), part=1) as stage:
        begun()
        stage.set(found={"a": 1})


def _api_call(number: int, begun: Begun) -> None:
    with otelsync.api_call(str(number), page=1) as call:
        begun()
        call.count(created=1)


def _span(number: int, begun: Begun) -> None:
    with trace.get_tracer("app").start_as_current_span(str(number), attributes={"a": 1}):
        begun()


def _span_with_more(number: int, begun: Begun) -> None:
    with trace.get_tracer("app").start_as_current_span(str(number), record_exception=False) as span:
        begun()
        span.add_event("e", {"a": [1]})


BLOCKS = [_item, _failing_item, _stage, _api_call, _span, _span_with_more]


@pytest.mark.parametrize("level", ["ERROR", "DEBUG"])
@pytest.mark.parametrize("records", [False, True], ids=["raises", "records and raises"])
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__.strip("_"))
def test_an_interrupted_block(
    record: Callable[..., Recorded],
    struck: Struck,
    block: Callable[[int, Begun], None],
    records: bool,
    level: str,
) -> None:
    """It has one span if it was begun, is counted once, and leaves the context as it was."""
    recorded = record(log_level=level, debug_logs="off")
    struck.records = records
    begun: list[int] = []
    names: dict[str, str] = {}
    with otelsync.repo("acme/api") as repo:
        number = 100

        def work() -> None:
            nonlocal number
            number += 1
            struck.raised = 0
            try:
                block(number, lambda: begun.append(number))
            except Interrupted:
                struck.raised = 0

        for point in Places(*PLACES, do=struck.strike, ends=False).visit(work):
            names[str(number)] = point
            assert struck.raised == 0, f"swallowed {point}"
            assert _current() is repo.span, point
        counted = sum(repo.items.values()) if block in (_item, _failing_item) else repo.good + repo.failed
    ended = Counter(_number_of(span.name, span.attributes) for span in recorded.spans if span.name != "of the handler")
    assert {point for each, point in names.items() if ended[each] > 1} == set()
    assert {names[each] for each in map(str, begun) if each in names and not ended[each]} == set()
    if block not in (_span, _span_with_more):
        assert counted == sum(ended[each] for each in ended if each.isdecimal())
    assert not any(read_ledger(recorded.journal).dropped.values())


def _number_of(name: str, attributes: Any) -> str:
    return str(attributes.get("vcs.change.id") or attributes.get("sync.item.id") or name.rpartition(" ")[2])


def _own_log(number: int) -> None:
    otelsync.get_logger("app").info("said", number=number)


def _nested_log(number: int) -> None:
    otelsync.get_logger("app").info("said", number=number, nested={"a": [1]})


def _error_log(number: int) -> None:
    otelsync.get_logger("app").error("failed", number=number, exc_info=ValueError("x"))


def _stdlib_log(number: int) -> None:
    logging.getLogger("app").warning("%s of %s", "one", [1], extra={"number": number})


@pytest.mark.parametrize("form", ["json", "keep"])
@pytest.mark.parametrize("log", [_own_log, _nested_log, _error_log, _stdlib_log], ids=lambda log: log.__name__[1:])
def test_an_interrupted_record(
    record: Callable[..., Recorded], struck: Struck, log: Callable[[int], None], form: str
) -> None:
    """Once the log path has it, it is in the journal, once; the next one as well."""
    if form == "keep" and log is not _stdlib_log:
        pytest.skip("the program's own structlog is what it interrupts")
    recorded = record(log_level="INFO", **({"logging": "keep"} if form == "keep" else {}))
    logging.getLogger("app").addHandler(logging.NullHandler())
    number, names, has_raised = 0, {}, False

    def work() -> None:
        nonlocal number, has_raised
        number, has_raised, struck.raised = number + 1, False, 0
        try:
            log(number)
        except Interrupted:
            has_raised = True

    with otelsync.stage("s"):
        for _ in range(3):  # what is learnt from the first ones is known
            log(0)
        for point in Places(*PLACES, do=struck.strike, ends=False).visit(work):
            names[number] = point
            assert has_raised == bool(struck.raised), f"swallowed {point}"
        log(-1)
    found = Counter(line.attributes.get("number") for line in recorded.logs)
    assert {point for each, point in names.items() if found[each] > 1} == set()
    begins = " at the beginning of "  # of what leads to the log path: nothing was begun
    assert {point for each, point in names.items() if not found[each] and begins not in point} == set()
    assert found[-1] == 1
    assert not any(read_ledger(recorded.journal).dropped.values())


def test_a_recovery_that_is_interrupted(record: Callable[..., Recorded], struck: Struck) -> None:
    """The failures that a stage remembers are those that it counts."""
    record(log_level="ERROR", debug_logs="off")
    stages: list[Stage] = []

    def work() -> None:
        with otelsync.repo("acme/api") as repo:
            stages.append(repo)
            for attempt in (1, 2, 3):
                with otelsync.stage("load") as load:
                    if attempt < 3:
                        load.fail("not yet")

    for point in Places(HERE / "stages", do=struck.strike, ends=False).visit(work):
        repo = stages[-1]
        remembered = sum(number for keys in repo.failures.values() for number in keys.values())
        assert repo.failed in (remembered, remembered + 1), point  # the last one is remembered, then counted
        assert repo.failed + repo.good <= 3, point


def test_limits_that_come_at_any_time(record: Callable[..., Recorded]) -> None:
    """Signals at random moments, as those of Celery's soft time limits: each is seen by the program."""
    recorded = record(log_level="INFO")
    sent = seen = 0

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal sent
        sent += 1
        raise TimeoutError  # an OSError, as those of a disk are

    before = signal.signal(signal.SIGALRM, handle)
    gc.disable()  # a callback of hypothesis's runs with each collection, and there CPython swallows exceptions
    log = otelsync.get_logger("app")
    begun = 0
    try:
        with otelsync.repo("acme/api") as repo:
            while sent < 150:
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.003))
                    had = sent
                    while sent == had:
                        with otelsync.pull_request(1) as pull:
                            begun += 1
                            pull.set(action="created", tags=["a"])
                            log.info("saved", nested={"a": 1})
                except TimeoutError:
                    seen += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                assert _current() is repo.span
    finally:
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert seen == sent
    dropped = sum(read_ledger(recorded.journal).dropped["span"].values())
    ended = sum(span.name == "sync.pr" for span in recorded.spans)  # none twice, says who reads them
    assert begun <= ended + dropped <= begun + sent


def test_a_handler_that_asks_an_api_waits_for_nobody(recorded: Recorded) -> None:
    """A signal handler that notes limits, records or waits itself, in the middle of the same, is no deadlock."""
    limits = RateLimits(low=0.1)
    seen = Observation(limits=(RateLimit(resource="core", limit=100, remaining=90, reset=time.time() + 60),))

    def everything() -> None:
        limits.observe("h", seen)
        with otelsync.stage("s") as stage, otelsync.rate_limit_wait(0.1):
            stage.event("sync.x")
        trace.get_tracer(f"t{time.time_ns()}").start_span("a").end()

    everything()
    for _ in Places(HERE / "stages", HERE / "recording", do=everything, ends=False).visit(everything):
        pass
    assert limits.standings()[0].limit.remaining == 90
    assert recorded.spans
