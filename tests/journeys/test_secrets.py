"""Secrets through every channel at once, for real: none is in any journal, store, report, on stdout or in an export.

What is looked for is the bare secret, in the bytes of files and of requests as they stand.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import structlog
from brokers import RedisServer
from celery_here import make_app, outcome, working
from click.testing import CliRunner
from otlp_server import OtlpServer, otlp_server
from plain_servers import http, speaking
from recorded import Recorded
from workers import publishing_app, worker

import otelsync
from otelsync.cli import main
from otelsync.configuration.destinations import make_shipper

TAIL: Final = "a1B2c3D4e5F6g7H8i9J0"
SECRETS: Final = {
    "GitHub's personal token": ("ghp_" + TAIL * 2, "pushing with {} failed"),
    "GitHub's OAuth token": ("gho_" + TAIL * 2, "{}"),
    "GitHub's user token": ("ghu_" + TAIL * 2, "user:{}"),
    "GitHub's installation token": ("ghs_" + TAIL * 2, "https://x-access-token:{}@github.com/acme/api.git"),
    "GitHub's refresh token": ("ghr_" + TAIL * 2, "refresh={}"),
    "GitHub's fine-grained token": ("github_pat_" + TAIL + "_" + TAIL * 2, "with '{}'"),
    "Groq's key": ("gsk_" + TAIL * 2, "llm({})"),
    "AWS' key id": ("AKIA" + "IOSFODNN7QQQQQQQ", "key {}"),
    "AWS' key id of a session": ("ASIA" + "IOSFODNN7QQQQQQQ", "key {}"),
    "AWS' secret key": ("wJalrXUtnFEMIK7MDENGbPxRfiCYQQQQQQQQQQQQ", "aws_secret_access_key={} region=eu"),
    "AWS' session token": ("IQoJb3JpZ2luX2VjEQQQQQQQQ", "{{'aws_session_token': '{}'}}"),
    "a bearer": ("bearer7hunter" + TAIL, "Authorization: Bearer {}"),
    "a header as Python shows it": ("pair7hunter" + TAIL, "[('Authorization', 'token {}')]"),
    "basic credentials": ("aHVudGVyOmh1bnRlcjdIdW50ZXI", '{{"authorization": "Basic {}="}}'),
    "a password in a URL": ("url7hunter" + TAIL, "amqp://sync:{}@broker:5672//"),
    "a token in a query": ("query7hunter" + TAIL, "GET /repos?per_page=100&access_token={} HTTP/1.1"),
    "a presigned URL": ("5d672d79c15b13162d9279b0855cfba6", "https://b.s3.amazonaws.com/k?X-Amz-Signature={}&x=1"),
    "its credential": ("cred7hunter" + TAIL, "PUT https://b.s3.amazonaws.com/k?X-Amz-Credential={}%2Fs3"),
    "a SAS URL": ("sas7hunter" + TAIL, "https://x.blob.core.windows.net/c?sv=2022-11-02&sig={}&se=2026"),
    "a password": ("pass7hunter" + TAIL, "PGPASSWORD={} psql"),
    "a private key": ("MIIEow7hunter" + TAIL, "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----"),
    "a key of the user's": ("iban7hunter" + TAIL, "iban: {}, and so on"),
    "a pattern of the user's": ("cust-7007007", "customer {} is late"),
}
USERS: Final[dict[str, list[str]]] = {"redact_keys": ["iban"], "redact_patterns": [r"cust-\d+"]}
UNTOUCHED: Final = "author=octocat, authority=high, tokenizer=bpe, design=signature"


class LeakError(Exception):
    """What is raised with a secret in it."""


@pytest.fixture
def endpoint() -> Iterator[OtlpServer]:
    """Where everything is sent."""
    with otlp_server() as server:
        yield server


def through_stages(text: str, secret: str) -> None:
    """Attributes, names of attributes, events, outcomes, counts and exceptions of stages."""
    with suppress(LeakError), otelsync.pipeline("leaks", note=text, token=secret) as run:
        run.set(title=text, **{"sync.list": [text, "b"]})
        run.event("page.read", title=text, password=secret)
        run.phase(text)
        with otelsync.repo("acme/api", url=text), otelsync.stage("s") as stage:
            stage.skip(text)
            stage.fail(text)
        with otelsync.repo("acme/web"), otelsync.api_call(text, page=1), otelsync.pull_request(7, title=text):
            try:
                raise ValueError(text)
            except ValueError as error:
                raise LeakError(text, {"api_key": secret}) from error


def through_logs(text: str, secret: str) -> None:
    """Messages, fields at any depth, bound fields and exceptions, by each library, in a run and outside."""
    ours, theirs, old = otelsync.get_logger("ours"), structlog.get_logger("theirs"), logging.getLogger("old")

    def say() -> None:
        for log in (ours, theirs, ours.bind(note=text)):
            log.info(text)
            log.info(
                "page.read", title=text, deep={"list": [text], "client_secret": secret}, headers={"Cookie": secret}
            )
            log.info("page.read", title=text)
        old.warning(text)
        old.warning("the text %s", text, extra={"title": text, "access_token": secret})
        old.warning("%(title)s", {"title": text})
        try:
            raise LeakError(text)
        except LeakError:
            ours.exception("page.lost")
            old.exception("lost: %s", text)

    say()
    with otelsync.sync_context(note=text, secret=secret), otelsync.pipeline("leaks"), otelsync.stage("s"):
        say()
        say()  # by the short way


def through_requests(text: str, secret: str, port: int) -> None:
    """User, query, headers and body of a request, answered and refused."""
    with otelsync.pipeline("leaks"), otelsync.repo("acme/api"), otelsync.api_call("get"):
        for address in (
            f"http://me:{secret}@127.0.0.1:{port}/a?access_token={secret}&X-Amz-Signature={secret}&iban={secret}",
            f"http://127.0.0.1:1/b?sig={secret}&client_secret={secret}",
        ):
            with suppress(requests.RequestException):
                requests.get(
                    address, headers={"Authorization": f"Bearer {secret}", "X-Note": text.split("\n")[0]}, timeout=60
                )


def leak(text: str, *, token: str) -> None:
    """A task that fails with what it was given."""
    logging.getLogger("task").info("given %s and %s", text, {"token": token})
    raise LeakError(text)


def through_celery(texts: list[tuple[str, str]]) -> None:
    """Arguments of tasks, their exceptions and what Celery logs of both."""
    app = make_app()
    task = app.task(name="leak", shared=False)(leak)
    with working(app):
        for text, secret in texts:
            with otelsync.pipeline("leaks"):
                outcome(task.delay(text, token=secret))


def everything(folder: Path, *, besides: str = "/") -> bytes:
    """All bytes of all files of a folder, and their names; those whose names begin with `besides` are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(besides))
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)


def leaks_in(places: dict[str, bytes]) -> list[tuple[str, str, bytes]]:
    """Which secret is where, and what stands around it."""
    return [
        (name, place, _around(content, secret))
        for place, content in places.items()
        for name, (secret, _) in SECRETS.items()
        if secret.encode() in content
    ]


def _around(content: bytes, secret: str) -> bytes:
    at = content.index(secret.encode())
    return content[max(0, at - 100) : at + 60]


def shown(*arguments: str) -> bytes:
    """What a command prints."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output.encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"log_format": "console"}, {"logging": "keep"}, {"debug_logs": "all"}], ids=str
)
def test_no_secret_leaves_the_process(
    record: Callable[..., Recorded],
    endpoint: OtlpServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
) -> None:
    """Each secret, in each form, through each channel: its bytes are nowhere, and the words around it are there."""
    caplog.set_level(logging.DEBUG)
    level = {"log_level": "INFO"} if "debug_logs" in options else {}
    recorded = record(endpoint=endpoint.url, store="on", **USERS, **level, **options)
    monkeypatch.setenv("OTELSYNC_HOME", str(recorded.home))
    texts = [(form.format(secret) + f" ({UNTOUCHED})", secret) for secret, form in SECRETS.values()]
    otelsync.instrument("requests")
    try:
        with speaking(http(200, b"{}")) as port:
            for text, secret in texts:
                through_stages(text, secret)
                through_logs(text, secret)
                through_requests(text, secret, port)
    finally:
        otelsync.uninstrument("requests")
    through_celery(texts)

    places = {"journal": everything(recorded.journal), "stdout": recorded.output.getvalue()}
    shipper = make_shipper(recorded.settings)()
    assert shipper.own()
    assert shipper.drain(60)
    shipper.close()
    otelsync.shutdown()
    places["export"] = b"\n".join(request.message.SerializeToString() for request in endpoint.accepted)
    places["store"] = b"\n".join(path.read_bytes() for path in recorded.home.glob("store.db*"))
    shown("report", "--output", str(tmp_path / "reports"))
    places["report"] = everything(tmp_path / "reports")
    places["terminal"] = b"".join(shown(command) for command in ("list", "show", "logs", "ledger"))
    places["home"] = everything(recorded.home)

    assert leaks_in(places) == []
    wanted = (
        ("journal", "export", "store") if options.get("logging") == "keep" else ("journal", "export", "store", "stdout")
    )
    assert [place for place in wanted if places[place].count(UNTOUCHED.encode()) < len(SECRETS)] == []


@pytest.mark.slow
def test_no_secret_leaves_a_worker(tmp_path: Path, redis: RedisServer, endpoint: OtlpServer) -> None:
    """The same for the processes of a prefork worker under `otelsync run`, one of which is killed while it has them."""
    home, broker = tmp_path / "home", redis.broker()
    begun = tmp_path / "begun"
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url,
        "OTELSYNC_REDACT_KEYS": ",".join(USERS["redact_keys"]),
        "OTELSYNC_REDACT_PATTERNS": "\n".join(USERS["redact_patterns"]),
    }
    texts = [(form.format(secret) + f" ({UNTOUCHED})", secret) for secret, form in SECRETS.values()]
    with worker(home, broker, environment=environment) as running, publishing_app(broker) as app:
        for text, secret in texts:
            outcome(app.tasks["leak"].delay(text, token=secret))
        app.tasks["hold"].delay(str(begun), texts[0][0])
        running.wait_until(begun.exists)
        os.kill(int(begun.read_text()), signal.SIGKILL)
        running.wait_until(lambda: "WorkerLostError" in running.log)
        assert running.end() == 0, running.log
    places = {
        "home": everything(home, besides="output-"),
        "export": b"\n".join(request.message.SerializeToString() for request in endpoint.accepted),
        "metrics": b"\n".join(request.SerializeToString() for request in endpoint.metrics),
    }
    assert leaks_in(places) == []
    assert places["export"].count(UNTOUCHED.encode()) >= len(SECRETS)
