"""Verbosity: which records are let through, by the names of loggers and events, also while a program runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from recorded import Recorded

import otelsync
from otelsync.errors import ConfigurationError
from otelsync.levels import DEBUG, parse
from otelsync.logs import verbosity
from otelsync.logs.installed import active, enabled
from otelsync.logs.verbosity import Levels
from otelsync.settings import Settings


def events_of(recorded: Recorded) -> list[str]:
    return [line["event"] for line in recorded.lines]


def test_the_longest_beginning_of_a_name_counts() -> None:
    """By whole parts of a logger's or an event's name; what none is for has the least level."""
    levels = Levels(20, {"sync": 30, "sync.pr": 10, "app.client": 40})
    assert levels.of("otelsync", "sync.pr.failed") == 10
    assert levels.of("otelsync", "sync.pr") == 10
    assert levels.of("otelsync", "sync.prx") == 30
    assert levels.of("app.client.pages", "page.read") == 40
    assert levels.of("app.clients", "page.read") == 20
    assert (levels.lowest, Levels(20).lowest) == (10, 20)
    assert levels.changed({"sync.pr": 50, "*": 30}).of("x", "y") == 30


def test_a_logger_with_a_level_of_its_own_keeps_it() -> None:
    """What the program has set lower for a logger of the standard library is let through as before."""
    logging.getLogger("verbosity.own").setLevel(5)
    assert Levels(20, {"sync": 30}).of("verbosity.own.child", "hello") == 5


@pytest.mark.parametrize("given", ["sync.pr", "sync.pr=LOUD", "=DEBUG", "a b=DEBUG", "sync.*=DEBUG"])
def test_what_is_no_level_says_so(given: str) -> None:
    """A pair that cannot be read is an error that says how to write it."""
    with pytest.raises(ValueError, match=r"level|sync\.pr=WARNING"):
        parse([given])
    with pytest.raises(ConfigurationError, match="OTELSYNC_LOG_LEVELS"):
        Settings.from_environment({"OTELSYNC_LOG_LEVELS": given})


def test_levels_come_from_the_environment_or_an_argument() -> None:
    """As text, by comma, or as a mapping with levels by name."""
    read = Settings.from_environment
    expected = {"sync.pr": 30, "app": 10}
    assert read({"OTELSYNC_LOG_LEVELS": "sync.pr=WARNING, app=debug"}).log_levels == expected
    assert read({}, log_levels={"sync.pr": "warning", "app": "DEBUG"}).log_levels == expected
    assert read({}).log_levels == {}


def test_levels_by_name_override_the_least_one(record: Callable[..., Recorded]) -> None:
    """More of one logger, less of an event: of our own events, of structlog's and of the standard library's records."""
    recorded = record(log_level="INFO", log_levels="app.client=DEBUG,page=WARNING,sync.api=DEBUG,sync.repo=ERROR")
    for log in (otelsync.get_logger("app.client"), structlog.get_logger("app.client")):
        log.debug("asked")
    logging.getLogger("app.client").debug("asked")
    for log in (otelsync.get_logger("app.other"), structlog.get_logger("app.other")):
        log.debug("not asked")
        log.info("page.read")
        log.warning("page.slow")
    logging.getLogger("app.other").debug("not asked")
    with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"), otelsync.pull_request(1):
        for _ in range(2):
            otelsync.get_logger("app.other").info("page.read")
            otelsync.get_logger("app.client").debug("inside")
    assert events_of(recorded) == [
        *["asked"] * 3,
        *["page.slow"] * 2,
        "sync.pipeline.started",
        "sync.api.request",
        *["inside"] * 2,
        "sync.api.completed",
        "sync.pipeline.completed",
    ]
    assert [line.event for line in recorded.logs] == events_of(recorded)


def test_without_overrides_nothing_is_asked(record: Callable[..., Recorded]) -> None:
    """Where no level by name is in force the least level is all that is compared with."""
    record(log_level="INFO")
    path = active()
    assert path is not None
    assert (path.level, path._lets_all) == (20, True)
    assert not enabled(DEBUG)


def test_levels_change_while_a_program_runs(record: Callable[..., Recorded]) -> None:
    """A file in the journal's directory is noticed with the next record or span, and so is its end."""
    recorded = record(log_level="INFO")
    log, old = otelsync.get_logger("app"), logging.getLogger("app.old")
    log.info("before")
    verbosity.write(recorded.journal, {"app": 10})
    noticed(recorded)
    log.debug("detail")
    old.debug("old detail")
    verbosity.write(recorded.journal, {"app": 30}, until=time.time() + 3)
    noticed(recorded)
    log.info("less")
    noticed(recorded)
    log.info("again")
    log.debug("detail")
    changes = [line["levels"] for line in recorded.lines if line["event"] == "otelsync.verbosity.changed"]
    assert changes == ["app=DEBUG", "app=WARNING", ""]
    assert [event for event in events_of(recorded) if "verbosity" not in event] == [
        "before",
        "detail",
        "old detail",
        "again",
    ]
    assert logging.getLogger().level == 20


def noticed(recorded: Recorded) -> None:
    """Append spans until another change of levels was noticed; each look is a second after the last."""

    def changes() -> int:
        return recorded.text.count("otelsync.verbosity.changed")

    before, deadline = changes(), time.monotonic() + 120
    while changes() == before:
        assert time.monotonic() < deadline
        with otelsync.stage("s"):
            time.sleep(0.01)


def test_a_program_begins_with_what_was_asked_for(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """Whoever restarts a worker does not lose the levels that were asked for."""
    directory = tmp_path / "home" / "journals" / "test"
    directory.mkdir(parents=True)
    verbosity.write(directory, {"app": 10, "*": 40})
    recorded = record(log_level="INFO")
    otelsync.get_logger("app").debug("detail")
    otelsync.get_logger("other").warning("nothing")
    assert [event for event in events_of(recorded) if "." not in event] == ["detail"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"levels": 1}', '{"levels": {"a": 1}}', '{"levels": {}, "until": "x"}', "9" * 100_000]
)
def test_a_file_that_says_something_else_changes_nothing(
    record: Callable[..., Recorded], tmp_path: Path, text: str
) -> None:
    """It is said once, and the levels stay."""
    directory = tmp_path / "home" / "journals" / "test"
    directory.mkdir(parents=True)
    (directory / verbosity.FILE).write_text(text)
    recorded = record(log_level="INFO")
    otelsync.get_logger("app").info("page.read")
    otelsync.get_logger("app").debug("page.lost")
    (said, event) = events_of(recorded)
    assert "is left alone" in said
    assert event == "page.read"


def test_a_kept_logging_keeps_its_own_levels(record: Callable[..., Recorded]) -> None:
    """There the levels by name are for otelsync's own events alone."""
    recorded = record(logging="keep", log_level="INFO", log_levels="sync.repo=ERROR,app=ERROR")
    logging.getLogger("app").warning("page.slow")
    with otelsync.pipeline("p"), otelsync.repo("acme/api"):
        pass
    assert [line.event for line in recorded.logs] == [
        "page.slow",
        "sync.pipeline.started",
        "sync.pipeline.completed",
    ]


@pytest.mark.parametrize("debug_logs", ["failed", "all"])
def test_debug_records_can_be_journalled_and_not_shown(record: Callable[..., Recorded], debug_logs: str) -> None:
    """The least level then rules what is shown alone; everything from DEBUG on is journalled, by the short way too."""
    recorded = record(log_level="INFO", debug_logs=debug_logs)
    log, old = otelsync.get_logger("app"), logging.getLogger("old")
    log.debug("outside", page=1)
    with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"), otelsync.pull_request(1):
        for page in range(3):
            log.debug("page.read", page=page, token="hunter2")
            log.info("page.saved", page=page)
            old.debug("old %s", page)
    assert [line["level"] for line in recorded.lines] == ["info"] * 7
    shown = {json.dumps(line) for line in recorded.lines}
    assert len(shown) == 7
    journalled = [(line.level, line.event) for line in recorded.logs]
    assert journalled[0] == ("DEBUG", "outside")
    assert journalled.count(("DEBUG", "page.read")) == 3
    assert [line.attributes["token"] for line in recorded.logs if line.event == "page.read"] == ["[redacted]"] * 3
    assert [event for level, event in journalled if level == "DEBUG" and event.startswith("old")] == [
        "old 0",
        "old 1",
        "old 2",
    ]
    assert ("DEBUG", "sync.pr.processed") in journalled


def test_debug_records_that_are_journalled_are_those_that_would_be_shown(record: Callable[..., Recorded]) -> None:
    """Not being shown changes nothing in the record: ids, scope and fields are the same."""
    recorded = record(log_level="INFO", debug_logs="all")
    log = otelsync.get_logger("app")
    with otelsync.pipeline("p"), otelsync.stage("s"):
        for _ in range(2):
            log.debug("page.read", page=1, size=2.5, last=True)
            log.info("page.read", page=1, size=2.5, last=True)
    found = [line for line in recorded.logs if line.event == "page.read"]
    assert [line.level for line in found] == ["DEBUG", "INFO"] * 2
    assert len({json.dumps([line.attributes, line.trace_id, line.span_id]) for line in found}) == 1
