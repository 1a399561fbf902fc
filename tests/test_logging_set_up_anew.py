"""Logging that is set up anew after configure(): its handlers show records, which are journalled all the same."""

from __future__ import annotations

import io
import logging
import logging.config
import logging.handlers
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from recorded import Recorded

import otelsync


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for known in logging.Logger.manager.loggerDict.values():
        if isinstance(known, logging.Logger):  # dictConfig() and fileConfig() switch off what they do not know
            known.disabled = False
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger in map(logging.getLogger, ("app", "apart", "apart.below", "otelsync", "queued")):
        logger.handlers.clear()
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)
    structlog.reset_defaults()


def _basic(shown: io.StringIO) -> None:
    logging.basicConfig(stream=shown, force=True, level=logging.INFO)


def _dict(shown: io.StringIO, **more: Any) -> None:
    handler = {"class": "logging.StreamHandler", "stream": shown}
    root = {"level": "INFO", "handlers": ["h"]}
    logging.config.dictConfig({"version": 1, "handlers": {"h": handler}, "root": root, **more})


def _file(shown: io.StringIO) -> None:
    text = """
        [loggers]
        keys=root
        [handlers]
        keys=h
        [formatters]
        keys=
        [logger_root]
        level=INFO
        handlers=h
        [handler_h]
        class=StreamHandler
        args=()
    """
    logging.config.fileConfig(io.StringIO("\n".join(map(str.strip, text.splitlines()))))
    handler = logging.root.handlers[-1]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(shown)


def _by_hand(shown: io.StringIO) -> None:
    logging.root.handlers = [logging.StreamHandler(shown)]


WAYS = [_basic, _dict, _file, _by_hand]


@pytest.mark.parametrize("set_up", WAYS)
def test_journalling_goes_on(recorded: Recorded, set_up: Callable[[io.StringIO], None]) -> None:
    """Each record is shown by the new handlers alone, journalled once with its ids, and that is logged."""
    shown, log = io.StringIO(), logging.getLogger("app")
    with otelsync.pipeline("p") as run:
        log.warning("before")
        set_up(shown)
        log.disabled = False  # dictConfig() and fileConfig() switch loggers off that they do not know
        log.warning("after %d", 1, extra={"team": 7})
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("failed")
    assert "after 1" in shown.getvalue()
    assert [line["event"] for line in recorded.lines if line["logger"] == "app"] == ["before"]
    before, after, failed = (line for line in recorded.logs if line.logger == "app")
    assert (before.event, after.event, after.attributes["team"]) == ("before", "after 1", 7)
    assert {line.trace_id for line in (before, after, failed)} == {run.trace_id}
    assert (failed.attributes["error"], failed.attributes["error_type"]) == ("no", "ValueError")
    assert [line.event for line in recorded.logs].count("sync.pipeline.completed") == 1
    assert sum("set up anew" in line.event for line in recorded.logs) == 1


def test_where_nobody_would_show_records_they_are_shown_as_before(recorded: Recorded) -> None:
    """A configuration without handlers leaves them to otelsync."""
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "INFO"}})
    logging.getLogger("app").error("after")
    logging.getLogger("app").info("again")
    assert [line["event"] for line in recorded.lines if line["logger"] == "app"] == ["after", "again"]
    assert [line.event for line in recorded.logs if line.logger == "app"] == ["after", "again"]


def test_levels_that_were_set_anew_rule(recorded: Recorded) -> None:
    """What the program no longer wants to see is not journalled either, and verbosity does not change its level."""
    logging.basicConfig(stream=io.StringIO(), force=True, level=logging.ERROR)
    logging.getLogger("app").warning("unwanted")
    from otelsync.logs.installed import active

    path = active()
    assert path is not None
    path.set_level(logging.DEBUG)
    logging.getLogger("app").warning("still unwanted")
    assert logging.root.level == logging.ERROR
    assert not [line for line in recorded.logs if line.logger == "app"]


def test_loggers_that_do_not_propagate_are_journalled_as_they_are_shown(recorded: Recorded) -> None:
    """Also those below them; one without handlers, or with a NullHandler alone, stays silent."""
    shown = io.StringIO()
    apart = logging.getLogger("apart")
    apart.propagate = False
    logging.getLogger("apart.below").error("silent")
    apart.addHandler(logging.NullHandler())
    apart.error("silent")
    apart.addHandler(logging.StreamHandler(shown))
    apart.error("one")
    logging.getLogger("apart.below").error("two")
    assert shown.getvalue() == "one\ntwo\n"
    assert [line.event for line in recorded.logs] == ["one", "two"]
    assert not recorded.lines


def test_a_record_that_is_handed_on_is_journalled_once(recorded: Recorded) -> None:
    """A queue brings it from a logger that does not propagate to one that does."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    queued = logging.getLogger("queued")
    queued.propagate = False
    handler = logging.handlers.QueueHandler(waiting)
    handler.prepare = lambda record: record  # type: ignore[method-assign]  # the very record
    queued.addHandler(handler)
    queued.error("once")
    logging.getLogger("app").handle(waiting.get())
    assert [line.event for line in recorded.logs] == ["once"]


@pytest.mark.parametrize("set_up", WAYS)
def test_shutdown_leaves_what_was_set_up_since(
    record: Callable[..., Recorded], set_up: Callable[[io.StringIO], None]
) -> None:
    """Its handlers, its level and its structlog are the program's own."""
    record()
    set_up(io.StringIO())
    handlers = list(logging.root.handlers)
    logging.root.setLevel(logging.ERROR)
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    otelsync.shutdown()
    assert (logging.root.handlers, logging.root.level) == (handlers, logging.ERROR)
    assert isinstance(structlog.get_config()["processors"][0], structlog.processors.JSONRenderer)


def test_structlog_that_is_configured_anew_is_journalled(recorded: Recorded) -> None:
    """Its records go where the program wants them, and to the journal with their fields and ids."""
    shown = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(shown)
    )
    with otelsync.pipeline("p") as run:
        structlog.get_logger("app").error("said", team=7)
    assert '"said"' in shown.getvalue()
    (line,) = (line for line in recorded.logs if line.event == "said")
    assert (line.trace_id, line.attributes["team"]) == (run.trace_id, 7)
    assert not [line for line in recorded.lines if line["event"] == "said"]


def test_a_file_of_the_program_s(recorded: Recorded, tmp_path: Path) -> None:
    """A handler that is added beside ours shows what it shows, and nothing comes twice."""
    handler = logging.FileHandler(tmp_path / "log")
    logging.root.addHandler(handler)
    logging.getLogger("app").error("said")
    handler.close()
    assert (tmp_path / "log").read_text() == "said\n"
    assert [line.event for line in recorded.logs] == ["said"]
