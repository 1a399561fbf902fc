"""Logging that is kept: a program's records come out as ever, and are journalled once, with the ids of their span."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import Recorded
from test_configuration import python
from trace_tree import Line, logs_in_journal

import otelsync
from otelsync.configuration import lifecycle
from otelsync.configuration.recorder import JournalRecorder

SECRET = "ghp_" + "a1B2" * 9
PRELUDE = "from otelsync.configuration.lifecycle import begin_under_run; begin_under_run()\n"


class Kept(Recorded):
    """otelsync beside a program's own logging, which is a logger with one handler."""

    def __init__(self, home: Path, **options: Any) -> None:
        super().__init__(home, logging="keep", **options)
        self.logger = logging.getLogger("program")
        self.shown = io.StringIO()
        self.handler = logging.StreamHandler(self.shown)
        self.logger.addHandler(self.handler)
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False

    @property
    def said(self) -> list[Line]:
        """What was journalled of the program's records."""
        return [line for line in self.logs if not line.logger.startswith("otelsync")]

    def alone(self) -> None:
        """Take away the handlers that pytest has given to the logger."""
        self.logger.handlers = [self.handler]

    def close(self) -> None:
        self.logger.removeHandler(self.handler)
        self.logger.setLevel(logging.NOTSET)
        self.logger.propagate = True


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Configure otelsync to keep the program's logging."""
    made: list[Kept] = []

    def configure(**options: Any) -> Kept:
        made.append(Kept(tmp_path / "home", **options))
        return made[-1]

    yield configure
    for kept in made:
        kept.close()
    otelsync.shutdown(5)


@pytest.fixture
def kept(keep: Callable[..., Kept]) -> Kept:
    return keep()


def own(line: Line) -> dict[str, Any]:
    """The attributes of a record that are not those of the sync."""
    return {key: value for key, value in line.attributes.items() if not key.startswith("sync.")}


def test_a_record_is_journalled_with_the_ids_of_its_span(kept: Kept) -> None:
    """A record inside a span has its ids and the sync's fields in the journal; the program's line is what it was."""
    with otelsync.pipeline("p") as run:
        kept.logger.info("saved %d of %s", 2, "three", extra={"pr": 7})
    kept.logger.warning("outside")
    inside, outside = kept.said
    assert kept.shown.getvalue() == "saved 2 of three\noutside\n"
    assert (inside.event, inside.level, inside.logger) == ("saved 2 of three", "INFO", "program")
    assert (inside.trace_id, inside.span_id) == (run.trace_id, run.span_id)
    assert inside.attributes == {"sync.id": run.sync_id, "sync.pipeline": "p", "pr": 7}
    assert (outside.trace_id, own(outside)) == ("", {})


def test_what_the_message_was_made_from_is_no_field_as_well(kept: Kept) -> None:
    """Arguments that are given again as a field, as Celery does, are journalled in the message alone."""
    said = {"id": 7, "args": "(1, 2)"}
    kept.logger.info("task %(id)s", said, extra={"data": said, "other": {"id": 7}, "nothing": None})
    (line,) = kept.said
    assert (line.event, own(line)) == ("task 7", {"other": {"id": 7}, "nothing": None})


def test_the_program_s_levels_and_filters_rule(keep: Callable[..., Kept]) -> None:
    """What a logger does not let through is not journalled, and what it does is, whatever otelsync's own level says."""
    kept = keep(log_level="ERROR")

    def no_twos(record: logging.LogRecord) -> bool:
        return record.getMessage() != "two"

    kept.logger.addFilter(no_twos)
    try:
        kept.logger.setLevel(logging.DEBUG)
        kept.logger.debug("one")
        kept.logger.debug("two")
        kept.logger.setLevel(logging.WARNING)
        kept.logger.info("three")
    finally:
        kept.logger.removeFilter(no_twos)
    assert [line.event for line in kept.said] == ["one"]


@pytest.mark.parametrize("handlers", [0, 1, 3])
@pytest.mark.parametrize("propagate", [False, True])
def test_handlers_and_propagation_do_not_matter(kept: Kept, handlers: int, propagate: bool) -> None:
    """A record is journalled once, whether no handler or many see it."""
    logger = logging.getLogger("program.part")
    logger.handlers = [logging.NullHandler() for _ in range(handlers)]
    logger.propagate = propagate
    try:
        logger.warning("said")
    finally:
        logger.handlers = []
        logger.propagate = True
    assert [line.event for line in kept.said] == ["said"]


def test_a_record_that_is_handed_on_is_journalled_once(kept: Kept) -> None:
    """A record that a handler passes to another logger, or that comes from another process of ours, is the same one."""
    other = logging.getLogger("program.other")

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other.handle(record)

    forward = Forward()
    other.propagate = False
    kept.logger.addHandler(forward)
    try:
        kept.logger.info("handed on")
    finally:
        kept.logger.removeHandler(forward)
        other.propagate = True
    record = logging.makeLogRecord({"name": "program", "msg": "elsewhere", "levelno": 20, "process": os.getpid() + 1})
    record.otelServiceName = "test"
    kept.logger.handle(pickle.loads(pickle.dumps(record)))
    assert [line.event for line in kept.said] == ["handed on"]


def test_formats_of_the_logging_instrumentation_work(kept: Kept) -> None:
    """Formats may ask for otelTraceID, otelSpanID, otelTraceSampled and otelServiceName, in and outside of spans."""
    kept.handler.setFormatter(
        logging.Formatter("%(otelTraceID)s %(otelSpanID)s %(otelTraceSampled)s %(otelServiceName)s %(message)s")
    )
    with otelsync.stage("s") as stage:
        kept.logger.info("in")
    kept.logger.info("out")
    assert kept.shown.getvalue() == f"{stage.trace_id} {stage.span_id} True test in\n0 0 False test out\n"
    assert [own(line) for line in kept.said] == [{}, {}]


class Unequal:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


def test_attributes_of_others_harm_nobody(kept: Kept) -> None:
    """A record that has attributes of these names already is journalled, whatever they are."""
    kept.logger.info("one", extra={"otelServiceName": Unequal(), "otelTraceID": 7})
    kept.logger.info("two", extra={"otelServiceName": "".join("test")})
    assert [line.event for line in kept.said] == ["one", "two"]


def test_wrong_arguments_are_the_program_s_business(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """A record whose arguments do not fit is journalled as it is, and the standard library reports it as ever."""
    kept.alone()
    kept.logger.info("%d", "x")
    assert [line.event for line in kept.said] == ["%d ('x',)"]
    errors = capsys.readouterr().err
    assert errors.count("--- Logging error ---") == 1
    assert "Message: '%d'\nArguments: ('x',)" in errors


class Hostile:
    """Raises whenever it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def test_what_cannot_be_shown_says_so(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that nobody can put into words raises nothing, and is there as far as it can be shown."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    kept.alone()
    kept.logger.info("%s %s", Hostile())
    kept.logger.info("fine")
    unfit, fine = [line.event for line in kept.said]
    assert (unfit.startswith("%s %s (") and "<Hostile whose text raises " in unfit, fine) == (True, "fine")
    recorder = lifecycle._running.recorder  # type: ignore[union-attr]
    assert isinstance(recorder, JournalRecorder)
    assert recorder.journal.dropped == {}


def test_exceptions_are_kept(kept: Kept) -> None:
    """exc_info gives error, error_type and the traceback in the journal; the program's line has its traceback."""
    try:
        raise ValueError("outer") from KeyError("inner")
    except ValueError:
        kept.logger.exception("failed")
        kept.logger.warning("again", exc_info=sys.exc_info())
    for line in kept.said:
        assert (line.attributes["error"], line.attributes["error_type"]) == ("outer", "ValueError")
        assert line.attributes["exception"].endswith("ValueError: outer")
        assert "KeyError: 'inner'" in line.attributes["exception"]
    assert kept.shown.getvalue().count("Traceback (most recent call last)") == 2


def test_secrets_do_not_reach_the_journal(keep: Callable[..., Kept]) -> None:
    """Messages, arguments and extra fields lose their secrets in the journal; what the program shows is its own."""
    kept = keep(redact_patterns=["walrus-\\d+"])
    kept.logger.info("with %s", SECRET, extra={"password": "hunter2", "deep": {"token": "hunter2", "fine": 1}})
    kept.logger.info("a walrus-17")
    kept.logger.info("a walrus-17")
    first, *rest = kept.said
    assert first.event == "with [redacted]"
    assert own(first) == {"password": "[redacted]", "deep": {"token": "[redacted]", "fine": 1}}
    assert [line.event for line in rest] == ["a [redacted]"] * 2
    assert SECRET in kept.shown.getvalue()


def test_fields_do_not_overwrite_what_a_record_says_of_itself(kept: Kept) -> None:
    """Extra fields that are called like a record's own get an underscore, and one like the sync's does."""
    with otelsync.pipeline("p"):
        kept.logger.info("said", extra={"level": "x", "trace_id": "mine", "sync.pipeline": "q"})
    (line,) = kept.said
    assert (line.attributes["level_"], line.attributes["trace_id_"]) == ("x", "mine")
    assert (line.attributes["sync.pipeline"], line.attributes["sync.pipeline_"]) == ("p", "q")


class Talker:
    """Logs when it is turned into text."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger

    def __str__(self) -> str:
        self.logger.info("being shown")
        return "talker"


def test_a_record_that_logs_while_it_is_formatted(kept: Kept) -> None:
    """What an argument logs when it becomes text is journalled too, and nothing locks or recurses."""
    kept.alone()
    kept.logger.info("hello %s", Talker(kept.logger))
    # once for the journal, once for the handler
    assert sorted(line.event for line in kept.said) == ["being shown", "being shown", "hello talker"]


def test_a_handler_that_logs(kept: Kept) -> None:
    """A handler may log: both records are journalled, each once."""

    class Chatty(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "program":
                logging.getLogger("program.handler").info("handling %s", record.msg)

    chatty = Chatty()
    kept.logger.addHandler(chatty)
    try:
        kept.logger.info("said")
    finally:
        kept.logger.removeHandler(chatty)
    assert [line.event for line in kept.said] == ["said", "handling said"]


def test_records_that_are_huge_or_odd(kept: Kept) -> None:
    """Messages of megabytes, of which a part stands for all, half surrogates and messages that are no text."""
    kept.logger.info("x" * 1_000_000)
    kept.logger.info("y" * 5_000_000)
    kept.logger.info("a\ud800\0b")
    kept.logger.info({"not": "text"})
    kept.logger.info(17)
    assert kept.said[1].event.endswith("y... (5,000,000 characters, cut)")
    assert [line.event[:13] for line in kept.said] == ["x" * 13, "y" * 13, "a?\0b", "{'not': 'text"[:13], "17"]


def test_threads_log_at_once(kept: Kept) -> None:
    """Records of many threads are each journalled once, with the ids of their own spans."""
    ids: dict[str, str] = {}

    def work(name: str) -> None:
        with otelsync.stage(name) as stage:
            ids[name] = stage.span_id
            for number in range(50):
                kept.logger.info("%s %d", name, number)

    threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{name} {number}": ids[name] for name in ids for number in range(50)}
    assert len(kept.said) == len(expected)
    assert {line.event: line.span_id for line in kept.said} == expected


def test_forked_children_go_on(kept: Kept) -> None:
    """A forked child's records are journalled too, whatever its parent was doing."""
    with otelsync.stage("s") as stage:
        pid = os.fork()
        if pid == 0:
            kept.logger.info("child")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        kept.logger.info("parent")
    assert sorted((line.event, line.span_id) for line in kept.said) == [
        ("child", stage.span_id),
        ("parent", stage.span_id),
    ]


def test_the_original_is_left_behind(keep: Callable[..., Kept]) -> None:
    """Handlers, levels and Logger.callHandlers are not touched, or are what they were after shutdown()."""
    original = logging.Logger.callHandlers
    handlers = list(logging.getLogger().handlers)
    kept = keep()
    assert logging.Logger.callHandlers is not original
    assert logging.getLogger().handlers == handlers
    otelsync.shutdown()
    assert logging.Logger.callHandlers is original
    kept.logger.info("after")
    assert kept.said == []


def test_whoever_wraps_after_us_stays(keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """If another library wraps what we wrapped, its wrapper stays after shutdown(), and ours does nothing."""
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    kept = keep()
    ours = logging.Logger.callHandlers
    seen: list[str] = []

    def theirs(self: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        ours(self, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
    kept.logger.info("one")
    otelsync.shutdown()
    kept.logger.info("two")
    assert logging.Logger.callHandlers is theirs
    assert seen == ["one", "two"]
    assert [line.event for line in kept.said] == ["one"]
    assert kept.shown.getvalue() == "one\ntwo\n"


def test_otelsync_s_own_events_are_journalled_and_not_shown(
    keep: Callable[..., Kept], capfd: pytest.CaptureFixture[str]
) -> None:
    """Milestones go to the journal at otelsync's level, and not into the program's output."""
    kept = keep(log_level="INFO", log_stream=None)
    with otelsync.pipeline("p"), otelsync.repo("a/b"), otelsync.api_call("c"):
        pass
    events = [line.event for line in kept.logs]
    assert events[0] == "sync.pipeline.started"
    assert events[-1] == "sync.pipeline.completed"
    assert not [event for event in events if "api" in event]
    assert capfd.readouterr() == ("", "")


def test_records_can_be_kept_out_of_the_journal(keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_LOGS_EXPORTER=none nothing is journalled; formats still find the ids."""
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    kept = keep()
    kept.handler.setFormatter(logging.Formatter("%(otelSpanID)s %(message)s"))
    with otelsync.stage("s") as stage:
        kept.logger.info("said")
    assert kept.logs == []
    assert kept.shown.getvalue() == f"{stage.span_id} said\n"


PROGRAMS = {
    "nothing": "log = logging.getLogger('a')",
    "basicConfig": "logging.basicConfig(level=10, format='%(name)s %(message)s'); log = logging.getLogger('a')",
    "force": "logging.basicConfig(); log = logging.getLogger('a');"
    " logging.basicConfig(force=True, stream=sys.stdout, level=20, format='%(message)s')",
    "dictConfig": "import logging.config; logging.config.dictConfig({'version': 1, 'disable_existing_loggers': True,"
    " 'formatters': {'f': {'format': '%(levelname)s|%(message)s'}},"
    " 'handlers': {'h': {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout', 'formatter': 'f'}},"
    " 'loggers': {'a': {'handlers': ['h'], 'level': 'DEBUG', 'propagate': False}}, 'root': {'handlers': ['h']}});"
    " log = logging.getLogger('a')",
    "queue": "import logging.handlers, queue; q = queue.SimpleQueue(); log = logging.getLogger('a'); log.setLevel(10);"
    " log.addHandler(logging.handlers.QueueHandler(q)); l = logging.handlers.QueueListener(q,"
    " logging.StreamHandler(sys.stdout)); l.start(); import atexit; atexit.register(l.stop)",
    "adapter": "logging.basicConfig(level=10); log = logging.LoggerAdapter(logging.getLogger('a'), {'x': 1})",
    "subclass": "class Mine(logging.Logger):\n    def handle(self, record):\n        super().handle(record)\n"
    "logging.setLoggerClass(Mine); log = logging.getLogger('a'); log.setLevel(10)",
    "memory": "import logging.handlers; log = logging.getLogger('a'); log.setLevel(10);"
    " log.addHandler(logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout)))",
}
SAYS = """
log.debug("one"); log.info("two %d", 2); log.warning("three %s", "x")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("four")
log.error("%d", "wrong")
logging.getLogger("b.c").error("five")
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unmodified_program_prints_what_it_prints(name: str, tmp_path: Path) -> None:
    """Whatever a program does with logging, its output is the same to the byte, and each record is there once."""
    program = tmp_path / "program.py"
    program.write_text(f"import logging, sys\n{PROGRAMS[name]}\n{SAYS}")
    run = f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"
    alone = python("pass\n" + run)
    beside = python(PRELUDE + run, OTELSYNC_HOME=str(tmp_path), OTELSYNC_SHIP="off", OTEL_SERVICE_NAME="program")
    assert (beside.returncode, beside.stdout, beside.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    assert alone.returncode == 0, alone.stderr
    events = [line.event for line in logs_in_journal(tmp_path / "journals" / "program")]
    assert events[-4:] == ["three x", "four", "%d ('wrong',)", "five"]
    assert len(set(events)) == len(events)


def test_a_child_s_records_that_its_parent_logs_again_are_once(tmp_path: Path) -> None:
    """With a queue of records, what a child process logged and its parent handles is journalled once."""
    code = (
        "import logging, logging.handlers, multiprocessing\n"
        "logging.basicConfig(format='%(message)s')\n"
        "def work(queue):\n"
        "    logging.getLogger().handlers = [logging.handlers.QueueHandler(queue)]\n"
        "    logging.getLogger('child').warning('said')\n"
        "context = multiprocessing.get_context('fork')\n"
        "queue = context.Queue()\n"
        "child = context.Process(target=work, args=(queue,)); child.start()\n"
        "record = queue.get(timeout=120)\n"
        "logging.getLogger(record.name).handle(record); child.join()\n"
    )
    done = python(PRELUDE + code, OTELSYNC_HOME=str(tmp_path), OTELSYNC_SHIP="off", OTEL_SERVICE_NAME="program")
    assert (done.returncode, done.stderr) == (0, "said\n")
    assert [line.event for line in logs_in_journal(tmp_path / "journals" / "program")] == ["said"]


def test_greenlets_log_under_gevent(tmp_path: Path) -> None:
    """Under gevent, patched after otelsync began, each greenlet's records have the ids of its own span."""
    pytest.importorskip("gevent")
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent, json, logging, otelsync\n"
        "logging.basicConfig(level=20, handlers=[logging.NullHandler()])\n"
        "ids = {}\n"
        "def work(name):\n"
        "    with otelsync.stage(name) as stage:\n"
        "        ids[name] = stage.span_id\n"
        "        for n in range(5):\n"
        "            logging.info('%s %d', name, n); gevent.sleep(0)\n"
        "gevent.joinall([gevent.spawn(work, f'g{n}') for n in range(5)], raise_error=True)\n"
        "print(json.dumps(ids))\n"
    )
    done = python(PRELUDE + code, OTELSYNC_HOME=str(tmp_path), OTELSYNC_SHIP="off", OTEL_SERVICE_NAME="program")
    assert done.returncode == 0, done.stderr
    ids = json.loads(done.stdout)
    said = {line.event: line.span_id for line in logs_in_journal(tmp_path / "journals" / "program")}
    assert said == {f"{name} {n}": ids[name] for name in ids for n in range(5)}
