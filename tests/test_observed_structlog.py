"""structlog that is kept: a program's events come out as ever, with ids, and are journalled once, whoever renders."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from recorded import Recorded
from test_configuration import python
from trace_tree import Line, logs_in_journal

import otelsync

SECRET = "ghp_" + "a1B2" * 9
PRELUDE = "from otelsync.configuration.lifecycle import begin_under_run; begin_under_run()\n"
ENVIRONMENT = {"OTELSYNC_SHIP": "off", "OTEL_SERVICE_NAME": "program"}


@pytest.fixture
def kept(record: Callable[..., Recorded]) -> Iterator[Recorded]:
    """otelsync beside whatever configuration of structlog a test makes."""
    yield record(logging="keep")
    otelsync.shutdown()
    structlog.reset_defaults()


def said(recorded: Recorded) -> list[Line]:
    return [line for line in recorded.logs if not line.logger.startswith("otelsync")]


def own(line: Line) -> dict[str, Any]:
    return {key: value for key, value in line.attributes.items() if not key.startswith("sync.")}


def render_json(stream: io.StringIO, *processors: Any) -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *processors,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


def test_an_event_has_the_ids_of_its_span_in_its_line_and_in_the_journal(kept: Recorded) -> None:
    """Inside a span an event gets trace_id, span_id and sync_id before the program's renderer; outside it gets none."""
    stream = io.StringIO()
    render_json(stream)
    log = structlog.get_logger()
    with otelsync.pipeline("p") as run:
        log.warning("saved", pr=7)
    log.info("outside")
    inside, outside = map(json.loads, stream.getvalue().splitlines())
    assert {**inside, "timestamp": ""} == {
        "event": "saved",
        "pr": 7,
        "level": "warning",
        "timestamp": "",
        "trace_id": run.trace_id,
        "span_id": run.span_id,
        "sync_id": run.sync_id,
    }
    assert list(outside) == ["event", "level", "timestamp"]
    first, second = said(kept)
    assert (first.event, first.level, first.logger, first.span_id) == ("saved", "WARNING", "root", run.span_id)
    assert first.attributes == {"sync.id": run.sync_id, "sync.pipeline": "p", "pr": 7}
    assert (second.event, second.trace_id, second.attributes) == ("outside", "", {})


def test_loggers_made_before_and_configured_later(record: Callable[..., Recorded]) -> None:
    """Loggers that were cached before, and processors that are configured after otelsync, are seen alike."""
    try:
        stream = io.StringIO()
        render_json(stream)
        early = structlog.get_logger()
        early.info("before")
        recorded = record(logging="keep")
        early.info("cached")
        structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
        structlog.get_logger().info("later")
        structlog.wrap_logger(structlog.ReturnLogger(), processors=[structlog.processors.JSONRenderer()]).info(
            "wrapped"
        )
        assert [line.event for line in said(recorded)] == ["cached", "later", "wrapped"]
        assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()[:2]] == ["before", "cached"]
    finally:
        structlog.reset_defaults()


def test_the_program_s_processors_decide(kept: Recorded) -> None:
    """What a processor drops is not journalled; what it masks or adds is journalled so."""

    def drop(_: object, __: str, event_dict: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event_dict.get("noise"):
            raise structlog.DropEvent
        return {**event_dict, "email": "***", "region": "eu", "trace_id": "its own"}

    stream = io.StringIO()
    render_json(stream, drop)
    log = structlog.get_logger()
    with otelsync.stage("s") as stage:
        log.info("kept", email="a@b.c")
        log.info("dropped", noise=True)
    (line,) = said(kept)
    assert (line.event, line.trace_id) == ("kept", stage.trace_id)
    assert own(line) == {"email": "***", "region": "eu", "trace_id_": "its own"}
    assert json.loads(stream.getvalue())["trace_id"] == "its own"


def through_stdlib(last: Any, logger: logging.Logger) -> Any:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            last,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return structlog.get_logger(logger.name)


LAST = {
    "json": structlog.processors.JSONRenderer(),
    "console": structlog.dev.ConsoleRenderer(colors=False),
    "formatter": structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    "kwargs": structlog.stdlib.render_to_log_kwargs,
}
if hasattr(structlog.stdlib, "render_to_log_args_and_kwargs"):  # since 25.1
    LAST["arguments"] = structlog.stdlib.render_to_log_args_and_kwargs


@pytest.mark.parametrize("last", LAST)
def test_an_event_that_goes_to_the_standard_library_is_one_record(kept: Recorded, last: str) -> None:
    """However structlog hands an event on, it is journalled once, with its fields, under the standard logger's name."""
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    if last == "formatter":
        renderer = structlog.processors.JSONRenderer()
        handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer))
    logger = logging.getLogger("program.structlog")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        log = through_stdlib(LAST[last], logger)
        with otelsync.pipeline("p") as run:
            log.info("saved", pr=7)
            log.debug("not let through", pr=8)
            logger.info("saved")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    first, second = said(kept)
    assert (first.event, first.level, first.logger, first.span_id) == ("saved", "INFO", logger.name, run.span_id)
    assert own(first) == {"pr": 7}
    assert (second.event, own(second)) == ("saved", {})
    if last in ("json", "console", "formatter"):
        assert run.trace_id in shown.getvalue()


def test_exceptions_go_along(kept: Recorded) -> None:
    """exc_info is kept, whether a processor has made text of it or not."""
    shown = io.StringIO()
    render_json(shown)
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("raw")
        render_json(shown, structlog.processors.format_exc_info)
        structlog.get_logger().error("text", exc_info=True)
    raw, text = said(kept)
    assert (raw.level, raw.attributes["error"], raw.attributes["error_type"]) == ("ERROR", "no", "ValueError")
    assert raw.attributes["exception"].endswith("ValueError: no")
    assert text.attributes["exception"].endswith("ValueError: no")


def test_the_caller_is_the_program(kept: Recorded) -> None:
    """Processors that look for the caller find the program, and nothing of otelsync."""
    stream = io.StringIO()
    callsite = structlog.processors.CallsiteParameterAdder(
        [structlog.processors.CallsiteParameter.FUNC_NAME, structlog.processors.CallsiteParameter.MODULE]
    )
    render_json(stream, callsite, structlog.processors.StackInfoRenderer())
    structlog.get_logger().info("said", stack_info=True)
    line = json.loads(stream.getvalue())
    assert (line["func_name"], line["module"]) == ("test_the_caller_is_the_program", "test_observed_structlog")
    assert line["stack"].endswith('structlog.get_logger().info("said", stack_info=True)')
    assert said(kept)[0].attributes["func_name"] == "test_the_caller_is_the_program"


def test_secrets_do_not_reach_the_journal(kept: Recorded) -> None:
    """Events and fields lose their secrets in the journal; what the program shows is its own."""
    stream = io.StringIO()
    render_json(stream)
    structlog.get_logger().info(f"with {SECRET}", password="hunter2")
    (line,) = said(kept)
    assert (line.event, own(line)) == ("with [redacted]", {"password": "[redacted]"})
    assert SECRET in stream.getvalue()


def test_async_loggers_and_bound_fields(kept: Recorded) -> None:
    """Bound fields, context variables that a processor merges, and awaited events have the ids of their span."""
    render_json(io.StringIO(), structlog.contextvars.merge_contextvars)
    spans: list[str] = []

    async def main() -> None:
        with otelsync.stage("s") as stage, structlog.contextvars.bound_contextvars(team=7):
            spans.append(stage.span_id)
            await structlog.get_logger().bind(a=1).ainfo("awaited", b=2)

    asyncio.run(main())
    (line,) = said(kept)
    assert (line.event, line.span_id, own(line)) == ("awaited", spans[0], {"a": 1, "b": 2, "team": 7})


def test_an_otelsync_logger_goes_the_program_s_way(kept: Recorded) -> None:
    """otelsync.get_logger() renders as the program has configured structlog, and is journalled once."""
    stream = io.StringIO()
    render_json(stream)
    with otelsync.stage("s") as stage:
        otelsync.get_logger("app", a=1).info("said", b=2)
    assert json.loads(stream.getvalue())["span_id"] == stage.span_id
    (line,) = said(kept)
    assert (line.event, own(line)) == ("said", {"a": 1, "b": 2})


def test_a_renderer_that_is_not_the_last(kept: Recorded) -> None:
    """Where an event is text before the last processor, its text is journalled."""

    def shout(_: object, __: str, text: Any) -> Any:
        return text.upper()

    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer(), shout],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    structlog.get_logger().info("said")
    assert stream.getvalue() == "EVENT='SAID'\n"
    assert [line.event for line in said(kept)] == ["event='said'"]


def test_the_original_is_left_behind(record: Callable[..., Recorded]) -> None:
    """structlog's configuration is not touched, and its method is what it was after shutdown()."""
    original = structlog.BoundLoggerBase._process_event
    own_processors = [structlog.processors.JSONRenderer()]
    structlog.configure(processors=own_processors)
    try:
        record(logging="keep")
        assert structlog.get_config()["processors"] is own_processors
        with structlog.testing.capture_logs() as captured:
            structlog.get_logger().info("captured", a=1)
        assert captured == [{"a": 1, "event": "captured", "log_level": "info"}]
        otelsync.shutdown()
        assert structlog.BoundLoggerBase._process_event is original
    finally:
        structlog.reset_defaults()


def test_structlog_is_not_imported_for_a_program_that_does_not(tmp_path: Path) -> None:
    """otelsync run loads no structlog; whoever imports it later is seen, and nothing is left on the import path."""
    code = (
        "import sys, otelsync\n"
        "importers = len(sys.meta_path)\n"
        "assert 'structlog' not in sys.modules and 'rich' not in sys.modules\n"
        "import structlog\n"
        "assert len(sys.meta_path) < importers\n"
        "assert type(structlog.__spec__.loader) is type(otelsync.__spec__.loader) is type(structlog.__loader__)\n"
        "with otelsync.stage('s') as stage:\n"
        "    structlog.get_logger().info('said', a=1)\n"
        "print(stage.span_id)\n"
    )
    done = python(PRELUDE + code, OTELSYNC_HOME=str(tmp_path), **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    line, span_id = done.stdout.splitlines()
    assert span_id in line
    assert [(line.event, line.span_id) for line in logs_in_journal(tmp_path / "journals" / "program")] == [
        ("said", span_id)
    ]


def test_an_unmodified_program_prints_what_it_prints(tmp_path: Path) -> None:
    """Outside spans the output of a program with structlog is the same to the byte."""
    program = tmp_path / "program.py"
    program.write_text(
        "import logging, structlog\n"
        "structlog.get_logger('x').info('default', a=1)\n"
        "logging.basicConfig(level=20, format='%(message)s')\n"
        "structlog.configure(processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()],\n"
        "    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)\n"
        "log = structlog.get_logger('y')\n"
        "log.info('json', a=1); log.debug('no'); log.warning('no %d', 3)\n"
    )
    run = f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"
    alone = python(run, PYTHONHASHSEED="0")
    beside = python(PRELUDE + run, OTELSYNC_HOME=str(tmp_path), **ENVIRONMENT)
    assert alone.returncode == 0, alone.stderr
    assert (beside.stdout[19:], beside.stderr) == (alone.stdout[19:], alone.stderr)  # behind the time
    events = [line.event for line in logs_in_journal(tmp_path / "journals" / "program")]
    assert events == ["default", "json", "no %d"]
