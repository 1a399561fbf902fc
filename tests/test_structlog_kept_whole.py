"""structlog's loggers can do under otelsync what they can do without: be pickled, and what structlog.stdlib has."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from recorded import Recorded

import otelsync

MADE_BEFORE = structlog.get_logger("before")


def _used() -> Any:
    logger = structlog.get_logger("used")
    logger.info("first use")
    return logger


LOGGERS: dict[str, Callable[[], Any]] = {
    "lazy": lambda: structlog.get_logger("lazy"),
    "with fields": lambda: structlog.get_logger("lazy", a=1),
    "used": _used,
    "bound": lambda: structlog.get_logger("bound").bind(a=1),
    "of structlog.stdlib": lambda: structlog.stdlib.get_logger("stdlib"),
    "made before": lambda: MADE_BEFORE,
    "of otelsync": lambda: otelsync.get_logger("ours", a=1),
    "of otelsync, bound": lambda: otelsync.get_logger("ours").bind(a=1),
}


@pytest.mark.parametrize("again", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize("make", LOGGERS.values(), ids=LOGGERS)
def test_loggers_can_be_pickled_and_copied(
    recorded: Recorded, make: Callable[[], Any], again: Callable[[Any], Any]
) -> None:
    """The copy logs as the logger does, with its name and its fields."""
    logger = make()
    again(logger).warning("once more")
    logger.warning("once more")
    first, second = ({**line, "timestamp": ""} for line in recorded.lines[-2:])
    assert first == second
    assert first["event"] == "once more"


def test_a_logger_that_was_used_is_pickled_after_the_end_too(record: Callable[..., Recorded]) -> None:
    """What it has cached at its first use does not come in the way later."""
    record()
    logger = _used()
    otelsync.shutdown()
    assert pickle.dumps(logger)


STDLIB = [name for name in dir(structlog.stdlib.BoundLogger) if not name.startswith("_")]


@pytest.mark.parametrize("make", [structlog.get_logger, otelsync.get_logger])
def test_nothing_of_structlog_stdlib_is_missing(recorded: Recorded, make: Callable[[str], Any]) -> None:
    """Every public name of ``structlog.stdlib.BoundLogger`` is there, and is of the same sort."""
    assert recorded
    logger, reference = make("app"), structlog.stdlib.BoundLogger(logging.getLogger("app"), [], {})
    for name in STDLIB:
        ours, theirs = getattr(logger, name), getattr(reference, name)
        assert callable(ours) == callable(theirs), name
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs), name
    assert (logger.name, logger.parent, logger.getChild("x")) == ("app", logging.root, logging.getLogger("app.x"))


def test_handlers_of_the_standard_library_s_logger(recorded: Recorded) -> None:
    """They are those of the logger of that name."""
    assert recorded
    logger, handler = structlog.get_logger("app.alone"), logging.NullHandler()  # "app" is other tests' as well
    logger.addHandler(handler)
    assert logger.handlers == logging.getLogger("app.alone").handlers == [handler]
    logger.removeHandler(handler)
    assert not logging.getLogger("app.alone").handlers


@pytest.mark.parametrize("make", [structlog.get_logger, otelsync.get_logger])
def test_a_level_that_is_set_holds(record: Callable[..., Recorded], make: Callable[[str], Any]) -> None:
    """``setLevel`` of a logger decides what is shown of it, and of nobody else."""
    recorded = record(log_level="INFO")
    quiet, loud, other = make("quiet"), make("loud"), make("other")
    try:
        quiet.setLevel("ERROR")
        loud.setLevel(logging.DEBUG)
        for logger in (quiet, loud, other):
            logger.debug("debug")
            logger.info("info")
            logger.error("error")
    finally:
        for name in ("quiet", "loud"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert [(line["logger"], line["event"]) for line in recorded.lines] == [
        ("quiet", "error"),
        *(("loud", event) for event in ("debug", "info", "error")),
        *(("other", event) for event in ("info", "error")),
    ]


@pytest.mark.parametrize("make", [structlog.get_logger, otelsync.get_logger, logging.getLogger])
def test_arguments_are_put_in_as_in_the_standard_library(recorded: Recorded, make: Callable[[str], Any]) -> None:
    """A single mapping gives values by name."""
    logger = make("app")
    logger.info("%(a)s of %(b)s", {"a": 1, "b": 2})
    logger.info("%s of %s", 1, 2)
    logger.info("all: %s", {"a": 1})
    logger.info("none: %s", {})
    assert [line["event"] for line in recorded.lines] == ["1 of 2", "1 of 2", "all: {'a': 1}", "none: {}"]


def test_arguments_that_do_not_fit_stand_beside_the_message(recorded: Recorded) -> None:
    """A name that the mapping has not costs no record."""
    structlog.get_logger("app").info("%(c)s", {"a": 1})
    assert recorded.lines[0]["event"].startswith("%(c)s ")
