"""Values whose text cannot be made, and names that are none: they cost themselves, not the record and not the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from recorded import Recorded

import otelsync
from otelsync.shipping.ledger import read_ledger
from otelsync.text.presentable import presentable, text_of


class Detached:
    """A row whose session is gone: its text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no session")

    __repr__ = __str__


class Circular(dict[str, Any]):
    """A mapping whose text raises on the way."""

    def __repr__(self) -> str:
        raise RecursionError


ODD: list[Any] = [Detached(), Circular(a=1), [Detached()], {"a": Detached()}, Path("/x"), None, b"\xff", 1.5, object]
ODD_NAMES = ["Detached", "Circular", "list", "dict", "Path", "None", "bytes", "float", "class"]


def _stages(odd: Any) -> None:
    for make in (otelsync.pipeline, otelsync.repo, otelsync.api_call, otelsync.pull_request, otelsync.stage):
        with make(odd, given=odd) as stage:
            stage.set(found=odd)
            stage.event("sync.x", field=odd)
            stage.event(odd)
            stage.skip(odd)
    with otelsync.timed_operation(odd, given=odd):
        pass


def _failures(odd: Any) -> None:
    with otelsync.pull_request(1) as pull:
        pull.set(action=odd)
        pull.fail(odd)
    with otelsync.stage("s") as stage:
        stage.fail(ValueError(odd))


def _context(odd: Any) -> None:
    with otelsync.sync_context(team=odd), otelsync.stage("s"):
        otelsync.get_logger().info("inside")


def _structlog(odd: Any) -> None:
    log = otelsync.get_logger("app", bound=odd)
    log.info(odd)
    log.info("said", field=odd, **{"": odd})
    log.info("said", exc_info=ValueError(odd))


def _stdlib(odd: Any) -> None:
    log = logging.getLogger("app")
    log.warning("row %s", odd)
    log.warning("rows %s %d", odd, odd)
    log.warning("named %(row)s", {"row": odd})
    log.warning(odd)
    log.warning("said", extra={"field": odd, "": odd, "odd": {404: odd, "": odd}})


def without_pytests_handlers() -> None:
    """Take pytest's handlers away, for the rest of a test: they raise what a message raises."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)


USES: list[Callable[[Any], None]] = [_stages, _failures, _context, _structlog, _stdlib]


@pytest.mark.parametrize("odd", ODD, ids=ODD_NAMES)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_value_harms_the_host(
    record: Callable[..., Recorded],
    capsys: pytest.CaptureFixture[str],
    use: Callable[[Any], None],
    odd: Any,
    log_format: str,
) -> None:
    """Whatever is given as a name, a value or a message: nothing raises, and no record or span is lost."""
    without_pytests_handlers()
    recorded = record(log_format=log_format, log_level="DEBUG")
    use(odd)
    assert not any(read_ledger(recorded.journal).dropped.values())
    assert "a log record was lost" not in capsys.readouterr().err
    assert recorded.output.getvalue()
    otelsync.shutdown()


def test_what_cannot_be_shown_says_so(recorded: Recorded) -> None:
    """The rest of the message stands."""
    without_pytests_handlers()
    logging.getLogger("app").warning("row %s of %d", Detached(), 7)
    logging.getLogger("app").warning("row %s of %d", 7)
    with otelsync.stage("s") as stage:
        stage.fail(LookupError("no author"))
    assert recorded.lines[0]["event"].startswith("row <Detached whose text raises RuntimeError> ")
    assert recorded.lines[1]["event"] == "row %s of %d (7,)"
    assert recorded.span("sync.stage s").message == "LookupError: no author"


@pytest.mark.parametrize("key", [404, "", None, ("a", 1), b"x", 1.5])
def test_an_odd_key_costs_no_record(recorded: Recorded, key: Any) -> None:
    """A key that is no text is shown as text; an empty one is left out of the journal."""
    with otelsync.stage("s"):
        logging.getLogger("app").warning("said", extra={key: "value", "other": 1})
    (line,) = recorded.logs
    assert line.attributes["other"] == 1
    assert line.attributes.get(str(key), "value") == "value"
    assert recorded.lines[0]["other"] == 1


def test_a_kept_logging_harms_nobody(record: Callable[..., Recorded]) -> None:
    """Where the program's own logging stays, what it does with such a record is its own; ours is journalled."""
    without_pytests_handlers()
    recorded = record(logging="keep")
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with otelsync.stage("s"):
            logging.getLogger("app").warning("row %s", Detached(), extra={"": 1})
    finally:
        logging.getLogger().removeHandler(handler)
    assert [line.event for line in recorded.logs] == ["row <Detached whose text raises RuntimeError>"]


def test_text_of_anything() -> None:
    """Text stays, exceptions have their type, the rest is shown as far as it can be."""
    assert [text_of(value) for value in ("a", 7, KeyError("k"), Detached())] == [
        "a",
        "7",
        "KeyError: 'k'",
        "<Detached whose text raises RuntimeError>",
    ]
    one = object()
    assert presentable(one) is one


NAMES: list[Any] = [5, None, b"\xff", ["unhashable"], Detached(), Path("/x")]
TIMES: list[Any] = [1.5e18, float("nan"), float("inf"), -1, 2**70, "noon", Detached()]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: type(name).__name__)
def test_a_span_whose_name_is_no_text(recorded: Recorded, name: Any) -> None:
    """It has the text of its name, however it is begun; so have its events."""
    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span(name), tracer.start_as_current_span(name):
        pass
    with otelsync.stage("s"), tracer.start_as_current_span(name) as span:
        span.add_event(name)
    tracer.start_span(name).end()
    span = tracer.start_span("x")
    span.update_name(name)
    span.end()
    assert [span.name for span in recorded.spans].count(text_of(name)) == 5


@pytest.mark.parametrize("given", TIMES, ids=lambda given: type(given).__name__)
def test_a_time_that_is_none(recorded: Recorded, given: Any) -> None:
    """A span with a time that is no integer, or beyond all of them, has the nearest there is, or the present."""
    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("a", start_time=given) as span:
        span.add_event("e", timestamp=given)
    tracer.start_span("b", start_time=given).end(given)
    assert sorted(span.name for span in recorded.spans) == ["a", "b"]
    assert all(0 <= span.start < 2**64 for span in recorded.spans)
    assert not any(read_ledger(recorded.journal).dropped.values())
