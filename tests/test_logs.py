"""The log path: one record, rendered once and journalled once, whoever wrote it and whatever it holds."""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import io
import json
import logging
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from recorded import Recorded
from trace_tree import Line

import otelsync
from otelsync.logs.installed import active
from otelsync.logs.root_logger import RecordHandler

OWN = ["timestamp", "level", "service", "logger", "event"]
SECRET = "ghp_" + "a1B2" * 9


def content(line: Line) -> dict[str, Any]:
    """A journalled record in the form of a rendered one."""
    names = {"sync.id": "sync_id", "sync.pipeline": "pipeline", "sync.repo": "repo"}
    moment = datetime.datetime.fromtimestamp(line.time // 10**9, datetime.UTC)
    found = {
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{line.time // 1000 % 10**6:06d}Z",
        "level": line.level.lower(),
        "service": line.resource["service.name"],
        "logger": line.logger,
        "event": line.event,
    }
    if line.trace_id:
        found |= {"trace_id": line.trace_id, "span_id": line.span_id}
    return found | {names.get(key, key): value for key, value in line.attributes.items()}


def test_the_fields_that_are_always_there(recorded: Recorded) -> None:
    """Every record begins with timestamp, level, service, logger and event; the time is UTC to the microsecond."""
    otelsync.get_logger("app").info("said", b=1, a=2)
    (line,) = recorded.lines
    assert list(line) == [*OWN, "b", "a"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert (line["level"], line["service"], line["logger"], line["event"]) == ("info", "test", "app", "said")


def test_ids_are_padded_and_bare(recorded: Recorded) -> None:
    """Inside a span a record has 32 and 16 hex digits, zeros included and without 0x, also those of remote spans."""
    log = otelsync.get_logger()
    with trace.use_span(NonRecordingSpan(SpanContext(0xABC, 0xDEF, True, TraceFlags(1)))):
        log.info("remote")
        with otelsync.stage("s") as stage:
            log.info("ours")
    log.info("none")
    assert recorded.line("remote")["trace_id"] == "0" * 29 + "abc"
    assert recorded.line("remote")["span_id"] == "0" * 13 + "def"
    assert recorded.line("ours")["span_id"] == stage.span_id
    assert "trace_id" not in recorded.line("none")
    assert "span_id" not in recorded.line("none")


def test_the_sync_id_is_on_every_record_of_a_run(recorded: Recorded) -> None:
    """Records of a run carry its id, its pipeline and, below a repo, the repo, from whatever library they come."""
    other = trace.get_tracer("other")
    with otelsync.pipeline("p") as run, otelsync.repo("acme/api"), other.start_as_current_span("GET"):
        logging.getLogger("urllib3").warning("retrying")
    line = recorded.line("retrying")
    assert (line["sync_id"], line["pipeline"], line["repo"]) == (run.sync_id, "p", "acme/api")


VALUES: list[dict[str, Any]] = [
    {},
    {"text": "x", "empty": "", "unicode": "äß 日本 🎉", "newline": 'a\nb\t\\"', "long": "y" * 500},
    {"int": 1, "negative": -5, "zero": 0, "large": 2**62, "true": True, "false": False, "none": None, "float": 0.25},
    {"list": [1, "a", None, [True]], "map": {"a": {"b": [1]}}, "tuple": ("a", 1)},
    {"time": datetime.datetime(2025, 8, 2, 20, 27, tzinfo=datetime.UTC), "date": datetime.date(2025, 8, 2)},
    {"uuid": uuid.UUID(int=7), "path": Path("/a/b"), "error": ValueError("no"), "type": int},
    {"huge": 2**70, "small": -(2**70), "set": {"one"}},
    {"secret": "hunter2", "token": SECRET, "text": f"with {SECRET}", "nested": {"password": "hunter2", "fine": [1]}},
]


@pytest.mark.parametrize("fields", VALUES, ids=lambda fields: "-".join(fields))
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("stream", ["memory", "file"])
def test_what_is_journalled_is_what_is_rendered(
    record: Callable[..., Recorded], tmp_path: Path, fields: dict[str, Any], inside: bool, stream: str
) -> None:
    """Each record stands in the journal exactly once, with the content of the rendered line, first time and later."""
    with (tmp_path / "log").open("wb") as file:
        recorded = record(**({"log_stream": file} if stream == "file" else {}))
        log = otelsync.get_logger("app")

        def say() -> None:
            for _ in range(3):
                log.info("said", **fields)

        if inside:
            with otelsync.pipeline("p"), otelsync.pull_request(1):
                say()
        else:
            say()
        otelsync.shutdown()
    text = (tmp_path / "log").read_bytes() if stream == "file" else recorded.output.getvalue()
    rendered = [line for line in map(json.loads, text.splitlines()) if line["event"] == "said"]
    journalled = [content(line) for line in recorded.logs if line.event == "said"]
    assert len(rendered) == 3
    assert rendered == journalled
    assert SECRET.encode() not in text
    assert b"hunter2" not in text


def test_levels_have_their_otlp_numbers(recorded: Recorded) -> None:
    """Levels become OTLP severities; those between the named ones count as the one below."""
    logger = logging.getLogger("app")
    for level in (10, 20, 27, 30, 40, 50):
        logger.log(level, "said")
    assert [line.wire.severity_number for line in recorded.logs] == [5, 9, 9, 13, 17, 21]
    assert [line["level"] for line in recorded.lines] == ["debug", "info", "level 27", "warning", "error", "critical"]


def test_an_event_s_name_is_told_from_a_sentence(recorded: Recorded) -> None:
    """What has the look of an event's name is one in OTLP too; a sentence is a body alone."""
    otelsync.get_logger().info("sync.saved")
    otelsync.get_logger().info("a sentence of words")
    assert [line.wire.event_name for line in recorded.logs] == ["sync.saved", ""]


def test_standard_library_records_come_out_alike(recorded: Recorded) -> None:
    """Arguments are interpolated, extra fields kept, f-strings taken as they are, and wrong arguments no error."""
    logger = logging.getLogger("old.style")
    name = "acme"
    logger.info("saved %s of %d", "two", 2, extra={"pr": 7})
    logger.warning(f"saved {name}")  # what old code does
    # not through the logger: pytest's own handler raises for wrong arguments
    RecordHandler().handle(logging.LogRecord("old.style", 40, __file__, 1, "wrong %d", ("arguments",), None))
    logger.log(20, {"not": "text"})
    events = [(line["level"], line["logger"], line["event"]) for line in recorded.lines]
    assert events == [
        ("info", "old.style", "saved two of 2"),
        ("warning", "old.style", "saved acme"),
        ("error", "old.style", "wrong %d ('arguments',)"),
        ("info", "old.style", "{'not': 'text'}"),
    ]
    assert recorded.lines[0]["pr"] == 7
    assert list(recorded.lines[0]) == [*OWN, "pr"]


def test_exceptions_have_type_text_and_traceback(recorded: Recorded) -> None:
    """exc_info in any form, and exception(), give error, error_type and the traceback, with causes."""
    log, old = otelsync.get_logger("new"), logging.getLogger("old")
    try:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            raise ValueError("outer") from cause
    except ValueError as error:
        log.exception("one")
        log.error("two", exc_info=True)
        log.warning("three", exc_info=error)
        old.exception("four")
        old.warning("five", exc_info=sys.exc_info())
    log.info("six", exc_info=False)
    old.info("seven", exc_info=True)
    for line in recorded.lines[:5]:
        assert (line["error"], line["error_type"]) == ("outer", "ValueError"), line
        assert "KeyError: 'inner'" in line["exception"]
        assert line["exception"].endswith("ValueError: outer")
        assert "exc_info" not in line
    assert [line["level"] for line in recorded.lines[:2]] == ["error", "error"]
    for line in recorded.lines[5:]:
        assert "exception" not in line
        assert "exc_info" not in line


def test_an_exception_that_cannot_be_described_is_logged(recorded: Recorded) -> None:
    """An exception whose str() raises is logged with what can be said of it."""

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    try:
        raise UnspeakableError
    except UnspeakableError:
        otelsync.get_logger().exception("said")
    assert recorded.line("said")["error_type"].endswith("UnspeakableError")
    assert len(recorded.logs) == 1


def test_stack_info_is_the_stack(recorded: Recorded) -> None:
    """stack_info shows where the record was written, from both libraries."""
    otelsync.get_logger().info("new", stack_info=True)
    logging.getLogger().info("old", stack_info=True)
    for event in ("new", "old"):
        assert "test_stack_info_is_the_stack" in recorded.line(event)["stack"]


def test_structlog_binds_and_unbinds(recorded: Recorded) -> None:
    """bind, unbind, new and context variables work as structlog says, on loggers made before and after."""
    log = otelsync.get_logger("app", a=1).bind(b=2)
    log.info("bound")
    log.unbind("a").info("unbound")
    log.try_unbind("zzz").new(c=3).info("new")
    structlog.contextvars.bind_contextvars(d=4)
    try:
        log.info("context", b=5)
        with structlog.contextvars.bound_contextvars(e=6), otelsync.stage("s"):
            log.info("both")
    finally:
        structlog.contextvars.clear_contextvars()
    log.info("cleared")
    said = {line["event"]: {key: line[key] for key in "abcde" if key in line} for line in recorded.lines}
    assert said == {
        "bound": {"a": 1, "b": 2},
        "unbound": {"b": 2},
        "new": {"c": 3},
        "context": {"a": 1, "b": 5, "d": 4},
        "both": {"a": 1, "b": 2, "d": 4, "e": 6},
        "cleared": {"a": 1, "b": 2},
    }


def test_structlog_interpolates_arguments(recorded: Recorded) -> None:
    """Positional arguments are interpolated as structlog does it, and wrong ones harm nobody."""
    log = otelsync.get_logger()
    log.info("saved %d of %s", 1, "two")
    log.info("wrong %d", "x")
    assert [line["event"] for line in recorded.lines] == ["saved 1 of two", "wrong %d ('x',)"]


def test_async_methods_log(recorded: Recorded) -> None:
    """structlog's awaitable methods go the same way."""

    async def main() -> None:
        with otelsync.stage("s") as stage:
            await otelsync.get_logger("app").ainfo("awaited", a=1)
            assert recorded.line("awaited")["span_id"] == stage.span_id

    asyncio.run(main())
    assert recorded.line("awaited")["a"] == 1


def test_capture_logs_captures(recorded: Recorded) -> None:
    """structlog.testing.capture_logs() takes records away from the log path, and gives it back."""
    log = otelsync.get_logger("app")
    log.info("before")
    with structlog.testing.capture_logs() as captured:
        log.info("captured", a=1)
    log.info("after")
    assert captured == [{"event": "captured", "a": 1, "log_level": "info"}]
    assert [line["event"] for line in recorded.lines] == ["before", "after"]


def test_levels_filter(record: Callable[..., Recorded]) -> None:
    """What is below LOG_LEVEL is neither rendered nor journalled, from both libraries, and can be asked for."""
    recorded = record(log_level="WARNING")
    log = otelsync.get_logger("new")
    for write in (log, logging.getLogger("old")):
        write.debug("d")
        write.info("i")
        write.warning("w")
        write.error("e")
        write.critical("c")
    assert [line["event"] for line in recorded.lines] == ["w", "e", "c"] * 2
    assert len(recorded.logs) == 6
    assert log.is_enabled_for(30)
    assert not log.is_enabled_for(20)
    assert log.get_effective_level() == 30


def test_logs_can_be_kept_out_of_the_journal(record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_LOGS_EXPORTER=none records are rendered and not journalled."""
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    recorded = record()
    with otelsync.stage("s"):
        otelsync.get_logger().info("said")
    assert recorded.line("said")["trace_id"]
    assert recorded.logs == []


def test_fields_do_not_overwrite_what_a_record_says_of_itself(recorded: Recorded) -> None:
    """A field that is called like one of the record's own gets an underscore, in the journal as in the line."""
    with otelsync.stage("s") as stage:
        for _ in range(2):
            otelsync.get_logger("app").info(
                "said", timestamp=1, level="x", service="y", logger="z", trace_id="t", span_id="u"
            )
    for line in [*recorded.lines, *map(content, recorded.logs)]:
        assert (line["level"], line["service"], line["logger"], line["span_id"]) == (
            "info",
            "test",
            "app",
            stage.span_id,
        )
        assert {key: line[f"{key}_"] for key in ("timestamp", "level", "service", "logger", "trace_id", "span_id")} == {
            "timestamp": 1,
            "level": "x",
            "service": "y",
            "logger": "z",
            "trace_id": "t",
            "span_id": "u",
        }


class Raises:
    """Raises whenever it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def hostile() -> dict[str, Any]:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    return {
        "circle": circle,
        "deep": deep,
        "surrogate": "a\ud800b",
        "huge": 10**400,
        "raises": Raises(),
        "keys": {1: 2, (3, 4): 5, None: 6},
        "nan": float("nan"),
        "nul": "a\0b",
        "bytes": b"\xff\xfe",
        "nested": {"surrogate": "\udfff", "raises": [Raises()]},
    }


@pytest.mark.parametrize("name", hostile())
@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("inside", [False, True])
def test_hostile_values_cost_at_most_themselves(
    record: Callable[..., Recorded], name: str, log_format: str, inside: bool
) -> None:
    """Whatever a field holds, its record is rendered and journalled, with all its other fields."""
    recorded = record(log_format=log_format)
    log = otelsync.get_logger()

    def say() -> None:
        for _ in range(2):
            log.info("said", fine="kept", **{name: hostile()[name]})

    if inside:
        with otelsync.pull_request(1):
            say()
    else:
        say()
    lines = [line for line in recorded.text.splitlines() if "said" in line]
    assert len(lines) == 2
    assert all("kept" in line for line in lines)
    journalled = [line for line in recorded.logs if line.event == "said"]
    assert [line.attributes["fine"] for line in journalled] == ["kept", "kept"]


def test_an_event_may_be_anything(recorded: Recorded) -> None:
    """An event that is no text, empty, huge, half a surrogate or raises is no error."""
    log = otelsync.get_logger()
    for event in (None, 7, "", "x" * 100_000, "a\ud800b", ["list"]):
        log.info(event)
        log.info(event)
    log.info(Raises())
    log.info()
    assert len(recorded.lines) >= 13
    assert len(recorded.logs) == len(recorded.lines)


def test_console_format_is_for_people(record: Callable[..., Recorded]) -> None:
    """The console format shows level, event and fields, a record a line, without colours where there is no terminal."""
    recorded = record(log_format="console")
    otelsync.get_logger("app").info("said", number=1, text="two words")
    assert recorded.text.count("\n") == 1
    for part in ("info", "said", "number=1", "two words", "app"):
        assert part in recorded.text
    assert "\x1b" not in recorded.text


def test_console_format_escapes_what_steers_a_terminal(record: Callable[..., Recorded]) -> None:
    """Escape sequences, bells, carriage returns and invisible characters are shown, not sent, wherever they stand."""
    recorded = record(log_format="console")
    evil = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egnp.exe\u200b"
    log = otelsync.get_logger("app" + evil)
    log.info(evil, field=evil, nested={"a": [evil]}, **{f"key{evil}": 1})
    try:
        raise ValueError(evil)
    except ValueError:
        log.exception("failed")
    logging.getLogger("old").warning("%s", evil, extra={"x": [evil]})
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e]", recorded.text)
    assert "\\x1b]0;owned" in recorded.text
    assert "Traceback (most recent call last)" in recorded.text


def test_json_is_one_line(recorded: Recorded) -> None:
    """A record is one line of JSON, whatever newlines and controls it holds."""
    otelsync.get_logger().info("a\nb", field="c\r\n\u2028\x1b[2J\x00")
    assert len(recorded.output.getvalue().splitlines()) == 1
    assert b"\x1b" not in recorded.output.getvalue()
    assert recorded.lines[0]["field"] == "c\r\n\u2028\x1b[2J\x00"


def test_a_closed_stream_harms_nobody(tmp_path: Path) -> None:
    """When the stream is closed under us records go on into the journal."""
    for number, stream in enumerate((io.BytesIO(), io.StringIO(), (tmp_path / "log").open("wb"))):
        recorded = Recorded(tmp_path / f"home{number}", log_stream=stream)
        log = otelsync.get_logger()
        with otelsync.stage("s"):
            log.info("one")
            stream.close()
            log.info("two")
            log.info("two")
        assert [line.event for line in recorded.logs] == ["one", "two", "two"]
        otelsync.shutdown()


def test_a_pipe_without_reader_harms_nobody(tmp_path: Path) -> None:
    """When whoever reads our output has gone records go on into the journal."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as stream:
        recorded = Recorded(tmp_path / "home", log_stream=stream)
        os.close(reading)
        with otelsync.stage("s"):
            otelsync.get_logger().info("one")
            otelsync.get_logger().info("one")
        otelsync.shutdown()
    assert [line.event for line in recorded.logs] == ["one", "one"]


def test_a_reader_that_is_slow_gets_each_line_once(tmp_path: Path) -> None:
    """A descriptor that takes a part, then nothing for a while, gets the rest and no more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    got = bytearray()

    def read() -> None:
        while piece := os.read(reading, size // 3):
            got.extend(piece)

    reader = threading.Thread(target=read)
    with os.fdopen(writing, "wb", buffering=0) as stream:
        Recorded(tmp_path / "home", log_stream=stream, service_name="t")
        reader.start()
        for number in range(40):
            otelsync.get_logger().info("long", number=number, text="x" * size)
        otelsync.shutdown()
    reader.join()
    os.close(reading)
    assert [json.loads(line)["number"] for line in bytes(got).splitlines()] == list(range(40))


def test_text_and_binary_streams_get_the_same(record: Callable[..., Recorded]) -> None:
    """A stream of text gets what a stream of bytes gets."""
    stream = io.StringIO()
    record(log_stream=stream)
    otelsync.get_logger().info("said", text="ä\ud800")
    assert json.loads(stream.getvalue())["event"] == "said"


def test_standard_output_stays_in_order(record: Callable[..., Recorded], capfd: pytest.CaptureFixture[str]) -> None:
    """Records on standard output stand where they belong between what the program prints."""
    record(log_stream=None)
    print("one")
    otelsync.get_logger().info("two")
    print("three")
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "one"
    assert json.loads(out[1])["event"] == "two"
    assert out[2] == "three"


def test_before_and_after_configuration(record: Callable[..., Recorded], capsys: pytest.CaptureFixture[str]) -> None:
    """Logging before configure() and after shutdown() is no error; a logger made before goes the new way then."""
    log = otelsync.get_logger("early", a=1)
    logging.getLogger("early").warning("before")
    with otelsync.stage("s") as stage:
        stage.event("sync.x", a=1)
    recorded = record()
    log.info("during")
    logging.getLogger("early").info("during, too")
    otelsync.shutdown()
    log.info("after")
    logging.getLogger("early").warning("after")
    capsys.readouterr()
    assert [line.event for line in recorded.logs][1:3] == ["during", "during, too"]  # the first warns of the stage
    assert recorded.line("during")["a"] == 1


def test_root_handlers_are_restored(record: Callable[..., Recorded]) -> None:
    """Handlers that write to the terminal step aside meanwhile, others stay, and all are there again afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    terminal, memory = logging.StreamHandler(sys.stderr), logging.StreamHandler(io.StringIO())
    root.addHandler(terminal)
    root.addHandler(memory)
    root.setLevel(logging.ERROR)
    try:
        recorded = record()
        assert terminal not in root.handlers
        assert memory in root.handlers
        logging.getLogger("x").info("said")
        assert recorded.line("said")
        assert memory.stream.getvalue() == "said\n"
        otelsync.shutdown()
        assert set(root.handlers) == {*before, terminal, memory}
        assert root.level == logging.ERROR
    finally:
        root.removeHandler(terminal)
        root.removeHandler(memory)
        root.setLevel(level)


def test_structlog_s_configuration_is_restored(record: Callable[..., Recorded]) -> None:
    """A program's own configuration of structlog is what it was after shutdown()."""
    own = [structlog.processors.JSONRenderer()]
    structlog.configure(processors=own)
    try:
        record()
        assert structlog.get_config()["processors"] is not own
        otelsync.shutdown()
        assert structlog.get_config()["processors"] is own
    finally:
        structlog.reset_defaults()


def test_a_log_path_may_be_moved_to_a_file(record: Callable[..., Recorded], capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output can be exchanged for another stream, more than once; one that the program has named cannot."""
    first, second = io.BytesIO(), io.BytesIO()
    recorded = record(log_stream=None)
    path = active()
    assert path is not None
    otelsync.get_logger().info("shown")
    for stream in (first, second):
        path.write_to(stream)
        otelsync.get_logger().info("moved")
    assert json.loads(capsys.readouterr().out)["event"] == "shown"
    assert [json.loads(stream.getvalue())["event"] for stream in (first, second)] == ["moved", "moved"]
    assert len(recorded.logs) == 3
    otelsync.shutdown()
    named = Recorded(recorded.home, log_stream=(stream := io.BytesIO()))
    path = active()
    assert path is not None
    path.write_to(first)
    otelsync.get_logger().info("stays")
    assert json.loads(stream.getvalue())["event"] == "stays"
    assert named.settings.log_format == "json"
