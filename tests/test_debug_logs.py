"""DEBUG records on their way to OTLP: those of stages that failed or were slow, and every record accounted for."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otlp_server import Answer, OtlpServer, otlp_server
from recorded import Recorded

import otelsync
from otelsync.configuration.destinations import make_shipper
from otelsync.shipping.folding import debug_logs
from otelsync.shipping.folding.debug_logs import Choice
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.shipper import Shipper


@pytest.fixture
def endpoint() -> Iterator[OtlpServer]:
    """Where records are sent."""
    with otlp_server() as server:
        yield server


@pytest.fixture
def recording(record: Callable[..., Recorded], endpoint: OtlpServer) -> Recorded:
    """An otelsync that journals DEBUG and sends what failed."""
    return record(endpoint=endpoint.url, store="on", log_level="INFO", debug_logs="failed")


def sent(endpoint: OtlpServer) -> list[str]:
    """What was accepted, as event and note, in order."""
    return [
        f"{record.body.string_value} {_note(record)}".strip()
        for request in endpoint.accepted
        if isinstance(request.message, ExportLogsServiceRequest)
        for of_resource in request.message.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]


def _note(record: Any) -> str:
    return next((pair.value.string_value for pair in record.attributes if pair.key == "note"), "")


def noted(endpoint: OtlpServer) -> Counter[str]:
    """Of what was accepted, the events ``note``, by what they say."""
    return Counter(line.partition(" ")[2] for line in sent(endpoint) if line.startswith("note "))


def ship(recording: Recorded, *, drains: bool = True) -> None:
    """Ship what is there, with a shipper of its own; afterwards every record is accounted for."""
    shipper = make_shipper(recording.settings)()
    try:
        assert shipper.own()
        assert shipper.drain(120) or not drains
    finally:
        shipper.close()
    assert read_ledger(recording.journal).reconciles, str(read_ledger(recording.journal))


def note(text: str) -> None:
    """Log at DEBUG."""
    otelsync.get_logger("app").debug("note", note=text)


def test_what_failed_is_sent_in_detail_and_the_rest_is_not(recording: Recorded, endpoint: OtlpServer) -> None:
    """Of a failed pull request all DEBUG records go out, also those of spans below it; of the others none."""
    other = trace.get_tracer("other")
    with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"):
        for number in range(6):
            with suppress(ValueError), otelsync.pull_request(number):
                note(f"{number} in")
                with other.start_as_current_span("GET"):
                    note(f"{number} below")
                if number == 3:
                    raise ValueError("no title")
                note(f"{number} out")
    note("outside any stage")
    otelsync.get_logger("app").info("note", note="at INFO")
    otelsync.shutdown()
    ship(recording)
    assert noted(endpoint) == {"3 in": 1, "3 below": 1, "at INFO": 1}
    assert Counter(line for line in sent(endpoint) if line.startswith("sync."))["sync.pr.processed"] == 0
    with closing(sqlite3.connect(recording.settings.store_file)) as store:
        (stored,) = store.execute("SELECT count(*) FROM logs WHERE event = 'note'").fetchone()
    assert stored == 6 * 3 - 1 + 2
    (account,) = [each for each in read_ledger(recording.journal).accounts if each.sink == "logs"]
    assert account.folded > 0
    assert account.shipped == len(sent(endpoint))
    assert (account.pending, account.dropped) == (0, {})


def test_a_stage_that_is_partly_done_or_marked_failed_is_sent(recording: Recorded, endpoint: OtlpServer) -> None:
    """An outcome other than success is enough, and so is the action of a pull request."""
    with otelsync.pipeline("p"):
        with otelsync.repo("acme/api"), otelsync.api_call("list"):
            note("of a call with a failed item")
            with otelsync.pull_request(1) as pr:
                note("of the item")
                pr.set(action="failed")
        with otelsync.repo("acme/web"), otelsync.api_call("list"):
            note("of a call that went well")
        with otelsync.stage("metrics") as stage:
            note("of a stage that failed")
            stage.fail("no")
        with otelsync.stage("metrics"):
            note("of a stage that went well")
    otelsync.shutdown()
    ship(recording)
    assert noted(endpoint) == {"of a call with a failed item": 1, "of the item": 1, "of a stage that failed": 1}


def test_what_was_slow_is_sent(recording: Recorded, endpoint: OtlpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that took far longer than others of its name is sent in detail."""
    monkeypatch.setattr(debug_logs, "SLOW_FLOOR", 1)
    tracer = otelsync.stages.stage.current_tracer()
    with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"):
        for number in range(40):
            span = tracer.start_span("sync.pr", start_time=10**18)
            with trace.use_span(span, end_on_exit=False):
                note(str(number))
            span.end(10**18 + (10**9 if number == 30 else 10**6))
    otelsync.shutdown()
    ship(recording)
    assert noted(endpoint) == {"30": 1}


def test_what_waits_is_known_to_the_next_shipper(recording: Recorded, endpoint: OtlpServer) -> None:
    """A shipper that stops in the middle of a stage leaves its records to whoever goes on, each once."""
    failing, fine = otelsync.api_call("failing"), otelsync.api_call("fine")
    with otelsync.pipeline("p"):
        with suppress(ValueError), failing:
            note("before")
            ship(recording, drains=False)
            (account,) = [each for each in read_ledger(recording.journal).accounts if each.sink == "logs"]
            assert account.pending == 2  # the call's own start, too
            note("after")
            raise ValueError("no")
        with fine:
            note("fine before")
            ship(recording, drains=False)
            note("fine after")
    otelsync.shutdown()
    assert noted(endpoint) == {"before": 1, "after": 1}
    ship(recording)
    assert noted(endpoint) == {"before": 1, "after": 1}


def test_an_endpoint_that_is_down_costs_no_record(recording: Recorded, endpoint: OtlpServer) -> None:
    """What is sent again is decided again, and comes to the same."""
    with otelsync.pipeline("p"), otelsync.repo("acme/api"):
        for number in range(3):
            with suppress(ValueError), otelsync.api_call("list"):
                note(str(number))
                if number == 1:
                    raise ValueError("no")
    otelsync.shutdown()
    endpoint.answers.extend([Answer(503, close=True)] * 4)
    ship(recording)
    assert noted(endpoint) == {"1": 1}


def test_what_a_killed_process_leaves_is_sent(recording: Recorded, endpoint: OtlpServer) -> None:
    """Its stages were interrupted: they failed, and nobody can tell how its pull request would have ended."""
    otelsync.shutdown()
    program = """
import os, otelsync
otelsync.configure(log_stream=open(os.devnull, "w"))
log = otelsync.get_logger("app")
with otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"):
    with otelsync.pull_request(1):
        log.debug("note", note="of one that went well")
    log.debug("note", note="of the call")
    with otelsync.pull_request(2):
        log.debug("note", note="of one in the middle")
        os.kill(os.getpid(), 9)
"""
    environment = {
        "OTELSYNC_HOME": str(recording.home),
        "OTEL_SERVICE_NAME": "test",
        "OTELSYNC_DEBUG_LOGS": "failed",
        "OTELSYNC_SHIP": "off",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=300, check=False)
    ship(recording)
    assert noted(endpoint) == {"of the call": 1, "of one in the middle": 1}


def test_what_waits_is_bounded(recording: Recorded, endpoint: OtlpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too much waits for stages that are still open, the oldest goes out: it may be of a failure."""
    monkeypatch.setattr(debug_logs, "MOST_BYTES", 20_000)
    with otelsync.pipeline("p"):
        with otelsync.repo("acme/old"):
            for number in range(200):
                note(f"{number:03d} {'x' * 100}")
            ship(recording, drains=False)
            assert noted(endpoint).total() == 200
            note("later")
        with otelsync.repo("acme/new"):
            note("of the new one")
    otelsync.shutdown()
    ship(recording)
    assert noted(endpoint).total() == 200


def test_state_that_cannot_be_read_is_counted(recording: Recorded, endpoint: OtlpServer) -> None:
    """What was kept back in it is lost, and the ledger says so; the rest goes on."""
    shipper: Shipper = make_shipper(recording.settings)()
    with otelsync.pipeline("p"), suppress(ValueError), otelsync.api_call("list"):
        note("one")
        ship(recording, drains=False)
        assert shipper.own()
        shipper._backlog.checkpoint.debug_logs = "[[1]]"
        shipper._debug_logs.resume()
        note("two")
        shipper.drain(0)
        raise ValueError("no")
    otelsync.shutdown()
    assert shipper.drain(120)
    shipper.close()
    assert noted(endpoint) == {"two": 1}
    (account,) = [each for each in read_ledger(recording.journal).accounts if each.sink == "logs"]
    assert account.dropped == {"vanished": 2}
    assert account.reconciles


def test_the_choice_can_be_switched_off(
    recording: Recorded, endpoint: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipper that sends everything lets go of what another one kept back."""
    with otelsync.pipeline("p"), otelsync.api_call("list"):
        note("one")
        ship(recording, drains=False)
        monkeypatch.setenv("OTELSYNC_DEBUG_LOGS", "all")
        object.__setattr__(recording.settings, "debug_logs", "all")
        ship(recording)
        assert noted(endpoint) == {"one": 1}
        note("two")
    otelsync.shutdown()
    ship(recording)
    assert noted(endpoint) == {"one": 1, "two": 1}


def test_nothing_to_choose_leaves_no_state() -> None:
    """Without records that wait the checkpoint holds nothing of the choice."""
    assert debug_logs._dump(Choice()) == ""
