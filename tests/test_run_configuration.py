"""Under `otelsync run`: otelsync is configured before the program begins, and the program still has its say."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from trace_tree import logs_in_journal, spans_in_journal

import otelsync
from otelsync.configuration.lifecycle import begin_under_run
from otelsync.in_force import settings as configured
from otelsync.logs.installed import active


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Do what `otelsync run` does before a program begins; returns the journal's directory."""

    def start(**environment: str) -> Path:
        journal = tmp_path / "journals" / "run"
        given = {"OTELSYNC_HOME": str(tmp_path), "OTELSYNC_JOURNAL_DIR": str(journal), "OTELSYNC_SHIP": "off"}
        for name, value in {**given, "OTEL_SERVICE_NAME": "run", **environment}.items():
            monkeypatch.setenv(name, value)
        begin_under_run()
        return journal

    yield start
    otelsync.shutdown(5)


def rendered(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_logging_is_kept_until_the_program_says_otherwise(begin: Callable[..., Path]) -> None:
    """Before configure() the program's logging is its own; configure() takes it over; shutdown() gives it back."""
    original, handlers = logging.Logger.callHandlers, list(logging.getLogger().handlers)
    journal = begin()
    logging.getLogger("app").warning("before")
    assert logging.getLogger().handlers == handlers
    stream = io.StringIO()
    otelsync.configure(service_name="github-sync", log_format="json", log_stream=stream)
    logging.getLogger("app").warning("after")
    structlog.get_logger("app").warning("structured")
    otelsync.shutdown()
    assert logging.Logger.callHandlers is original
    assert logging.getLogger().handlers == handlers
    assert [(line["event"], line["service"]) for line in rendered(stream)] == [
        ("after", "github-sync"),
        ("structured", "github-sync"),
    ]
    assert [(line.event, line.resource["service.name"]) for line in logs_in_journal(journal)] == [
        ("before", "run"),
        ("after", "github-sync"),
        ("structured", "github-sync"),
    ]


def test_the_program_s_options_apply_and_the_run_s_journal_stays(begin: Callable[..., Path], tmp_path: Path) -> None:
    """Name, levels and redaction are the program's; where records go, and who ships them, is the run's."""
    journal = begin()
    tracer = trace.get_tracer("library")
    provider = trace.get_tracer_provider()
    with tracer.start_as_current_span("early", attributes={"walrus": "tusk"}):
        pass
    stream = io.StringIO()
    otelsync.configure(
        service_name="github-sync",
        log_level="ERROR",
        log_stream=stream,
        home=tmp_path / "elsewhere",
        ship="thread",
        redact_keys=["walrus"],
        redact_patterns=["walrus-\\d+"],
    )
    settings = configured()
    assert settings is not None
    assert (settings.journal, settings.ship, settings.service_name) == (journal, "off", "github-sync")
    assert trace.get_tracer_provider() is provider
    with tracer.start_as_current_span("walrus-17", attributes={"walrus": "tusk", "said": "walrus-4"}):
        logging.getLogger("app").warning("not shown")
        logging.getLogger("app").error("walrus-5")
    otelsync.shutdown()
    early, late = spans_in_journal(journal)
    assert (early.name, early.attributes["walrus"], early.resource["service.name"]) == ("early", "tusk", "run")
    assert (late.name, late.resource["service.name"]) == ("[redacted]", "github-sync")
    assert (late.attributes["walrus"], late.attributes["said"]) == ("[redacted]", "[redacted]")
    assert [line["event"] for line in rendered(stream)] == ["[redacted]"]
    assert not (tmp_path / "elsewhere").exists()


def test_the_run_s_name_stays_where_the_program_gives_none(begin: Callable[..., Path]) -> None:
    """configure() without a name changes logging, and not the service."""
    begin()
    otelsync.configure(log_stream=io.StringIO())
    settings = configured()
    assert settings is not None
    assert (settings.service_name, settings.logging) == ("run", "take")


def test_a_third_configure_changes_nothing(begin: Callable[..., Path]) -> None:
    """The program has its say once: the next configure() is a second one as ever."""
    begin()
    begin()
    otelsync.configure(service_name="first", log_stream=io.StringIO())
    begin()
    otelsync.configure(service_name="second", log_stream=io.StringIO())
    settings = configured()
    assert settings is not None
    assert settings.service_name == "first"


@pytest.mark.parametrize("way", ["configure", "setup_logging"])
def test_the_user_s_environment_wins(begin: Callable[..., Path], way: str) -> None:
    """With OTELSYNC_LOGGING=keep the program's own configure() and setup_logging() do not take logging over."""
    journal = begin(OTELSYNC_LOGGING="keep")
    handlers = list(logging.getLogger().handlers)
    if way == "configure":
        otelsync.configure(service_name="github-sync", log_format="json")
    else:
        otelsync.setup_logging("github-sync", "json")
    assert logging.getLogger().handlers == handlers
    logging.getLogger("app").warning("said")
    assert [line.event for line in logs_in_journal(journal)] == ["said"]


def test_the_user_may_have_logging_taken(begin: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """With OTELSYNC_LOGGING=take `otelsync run` renders the records of a program that knows nothing of it."""
    begin(OTELSYNC_LOGGING="take", LOG_FORMAT="json")
    logging.getLogger("app").warning("said")
    assert json.loads(capsys.readouterr().out)["event"] == "said"


def test_setup_logging_takes_logging_and_goes_on_journalling(
    begin: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """setup_logging() takes logging over under the run's name; configure() may still follow."""
    journal = begin()
    otelsync.setup_logging(log_format="json")
    logging.getLogger("app").warning("one")
    assert json.loads(capsys.readouterr().out)["service"] == "run"
    otelsync.configure(service_name="github-sync", log_format="json")
    logging.getLogger("app").warning("two")
    assert json.loads(capsys.readouterr().out)["service"] == "github-sync"
    assert [line.event for line in logs_in_journal(journal)] == ["one", "two"]


def test_an_endpoint_that_the_run_does_not_know_is_named(
    begin: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """configure(endpoint=...) cannot tell the run's shipper: a warning says what to set; the run's own is no news."""
    begin(OTEL_EXPORTER_OTLP_ENDPOINT="http://one:4318")
    otelsync.configure(endpoint="http://two:4318", log_stream=io.StringIO())
    assert ["http://two:4318" in message for message in caplog.messages] == [True]
    otelsync.shutdown()
    caplog.clear()
    begin_under_run()
    otelsync.configure(endpoint="http://one:4318", log_stream=io.StringIO())
    assert caplog.messages == []


def test_a_wrong_option_changes_nothing(begin: Callable[..., Path]) -> None:
    """A wrong option of the program's configure() raises, and recording goes on as the run has begun it."""
    journal = begin()
    path = active()
    with pytest.raises(otelsync.ConfigurationError, match="log_level='LOUD' cannot work"):
        otelsync.configure(log_level="LOUD")
    assert active() is path
    logging.getLogger("app").warning("said")
    assert [line.event for line in logs_in_journal(journal)] == ["said"]


def test_a_program_may_switch_recording_off(begin: Callable[..., Path]) -> None:
    """disabled=True ends what the run has begun; logging is the program's choice all the same."""
    journal = begin()
    stream = io.StringIO()
    otelsync.configure(disabled=True, log_stream=stream)
    with otelsync.stage("unseen"):
        logging.getLogger("app").warning("unseen")
    otelsync.shutdown()
    assert (spans_in_journal(journal), logs_in_journal(journal)) == ([], [])
    assert [line["event"] for line in rendered(stream)] == ["unseen"]


def test_a_forked_child_may_configure(begin: Callable[..., Path]) -> None:
    """A worker's child that calls configure() has its say as well, for itself."""
    journal = begin()
    pid = os.fork()
    if pid == 0:
        otelsync.configure(service_name="child", log_stream=io.StringIO())
        logging.getLogger("app").warning("child")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    logging.getLogger("app").warning("parent")
    said = {(line.event, line.resource["service.name"]) for line in logs_in_journal(journal)}
    assert said == {("child", "child"), ("parent", "run")}
