"""No secret leaves, and no innocent is taken for one: a corpus of both, in every place, through every channel."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from otlp_server import OtlpServer, otlp_server
from recorded import Recorded
from secret_corpus import INNOCENT, SECRETS, VALUE, hidden_in

import otelsync
from otelsync.redaction import Redactor

PLACES = 16
"""Places where :func:`put` puts a text."""


def put(text: str) -> None:
    """Put a text wherever a program can put one."""
    log = otelsync.get_logger("app")
    log.info(text)
    log.warning("app.field", note=text)
    log.warning("app.nested", payload={"list": [{"deep": text}], "headers": [["X-Note", text]]})
    logging.getLogger("app.plain").warning("%s", text)
    logging.getLogger("app.plain").warning(text)
    with otelsync.sync_context(around=text), otelsync.pipeline(text, note=text) as run:
        run.event("app.event", note=text)
        with otelsync.pull_request(1, title=text) as pr:
            pr.skip(text)
        with otelsync.pull_request(2) as pr:
            pr.fail(text)
        try:
            with otelsync.repo(text):
                try:
                    raise KeyError(text)
                except KeyError as error:
                    raise ValueError(f"refused: {text}") from error
        except ValueError:
            log.exception("app.failed")
        with trace.get_tracer("app").start_as_current_span("theirs") as span:
            span.set_attribute("note", text)
            span.add_event("their.event", {"note": text})
            span.set_status(Status(StatusCode.ERROR, text))


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as server:
        yield server


def command(home: Path, *arguments: str, **variables: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "otelsync.cli", *arguments, "--home", str(home)],
        capture_output=True,
        timeout=300,
        check=False,
        cwd=home,
        env={**os.environ, **variables},
    )
    return done.stdout + done.stderr


def channels(recorded: Recorded, server: OtlpServer) -> Iterator[tuple[str, bytes]]:
    """Everything that leaves the process, and what the commands make of it."""
    yield "output", recorded.output.getvalue()
    yield "journal", b"".join(path.read_bytes() for path in recorded.journal.glob("*.journal"))
    yield "list", command(recorded.home, "list")
    yield "show", command(recorded.home, "show", "--all")
    yield "show --json", command(recorded.home, "show", "--json")
    yield "logs", command(recorded.home, "logs")
    yield "report", command(recorded.home, "report", "--output", str(recorded.home / "reports"))
    reports = [path for path in (recorded.home / "reports").rglob("*") if path.is_file()]
    assert reports
    yield "reports", b"".join(path.read_bytes() for path in reports)
    yield "doctor", command(recorded.home, "doctor")
    yield "ship", command(recorded.home, "ship", "--once", OTEL_EXPORTER_OTLP_ENDPOINT=server.url, OTELSYNC_STORE="on")
    yield "store", b"".join(path.read_bytes() for path in recorded.home.glob("store.db*"))
    assert server.received
    yield "endpoint", b"".join(request.message.SerializeToString() for request in server.received)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_in_any_channel(record: Any, server: OtlpServer, log_format: str) -> None:
    """170 secrets in 16 places each."""
    recorded = record(log_format=log_format, log_level="INFO", ship="off")
    for text in SECRETS:
        put(text)
    otelsync.shutdown()
    secrets = {secret.encode() for text in SECRETS for secret in hidden_in(text)}
    leaks = [(channel, secret) for channel, said in channels(recorded, server) for secret in secrets if secret in said]
    assert not leaks


def test_no_innocent_is_changed(record: Any) -> None:
    """What is no secret stays as it is, in every place."""
    recorded = record(log_format="json", log_level="INFO", ship="off")
    for text in INNOCENT:
        put(text)
    otelsync.shutdown()
    said = recorded.output.getvalue()
    assert b"[redacted]" not in said.replace(b"secret=[redacted]", b"")
    for text in INNOCENT:
        assert said.count(json.dumps(text, ensure_ascii=False).encode()[1:-1]) >= PLACES - 8, text
    for span in recorded.spans:
        values: Iterable[object] = (span.name, span.message, *span.attributes.values())
        assert not any("[redacted]" in str(value).replace("secret=[redacted]", "") for value in values), span


@pytest.mark.parametrize("text", SECRETS)
def test_each_secret_is_hidden_and_stays_hidden(text: str) -> None:
    """Redacting what was redacted changes nothing."""
    redactor = Redactor()
    clean = redactor.redact(text)
    assert not any(secret in clean for secret in hidden_in(text))
    assert hidden_in(text)
    assert redactor.redact(clean) == clean


@pytest.mark.parametrize("text", INNOCENT)
def test_each_innocent_is_the_same_object(text: str) -> None:
    assert Redactor().redact(text) is text


def test_fields_are_known_by_the_same_names() -> None:
    """One table for fields, headers, options and addresses."""
    redactor = Redactor()
    for name in ("password1", "token_2", "githubToken", "X-Shopify-Access-Token", "dd-api-key", "secrets", "pwd"):
        assert redactor.redact_value(name, VALUE) == "[redacted]", name
        assert redactor.redact(f"{name}={VALUE}") == f"{name}=[redacted]", name
    for name in ("next_page_token", "has_token", "author", "tokenizer", "primary_key", "token_count", "prompt_tokens"):
        assert redactor.redact_value(name, VALUE) == VALUE, name
        assert redactor.redact(f"{name}={VALUE}") == f"{name}={VALUE}", name


def test_settings_as_objects_and_pairs_are_hidden() -> None:
    """As APIs list them: a name and a value, or two of them in a list."""
    redactor = Redactor()
    assert redactor.redact_value("env", [{"name": "API_TOKEN", "value": "x1"}, {"name": "PAGE", "value": "2"}]) == [
        {"name": "API_TOKEN", "value": "[redacted]"},
        {"name": "PAGE", "value": "2"},
    ]
    assert redactor.redact_value("pairs", [["password", "x1"], ["page", "2"]]) == [
        ("password", "[redacted]"),
        ("page", "2"),
    ]
    names = ["id", "token", "name"]
    assert redactor.redact_value("columns", names) is names
    plain = [["a", 1], ["b", 2]]
    assert redactor.redact_value("pairs", plain) is plain
