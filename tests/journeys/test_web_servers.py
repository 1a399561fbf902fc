"""Real web servers, which fork in ways that Python does and does not see: each request is recorded once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trace_tree
from hosts import command, environment, reconciled
from otlp_server import eventually
from workers import BARE, JOURNEYS, PATIENCE

BIN = Path(sys.executable).parent
REQUESTS = 90
UWSGI = ("--http-socket", "127.0.0.1:{port}", "--master", "--die-on-term", "--need-app", "--module", "web_app")
GUNICORN = ("--bind", "127.0.0.1:{port}", "--workers", "3", "web_app")

SERVERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "uwsgi": ("uwsgi", (*UWSGI, "--processes", "3")),
    "uwsgi, each worker loads the app": ("uwsgi", (*UWSGI, "--processes", "3", "--lazy-apps")),
    "uwsgi, threads": ("uwsgi", (*UWSGI, "--processes", "2", "--enable-threads", "--threads", "3")),
    "uwsgi, short-lived workers": ("uwsgi", (*UWSGI, "--processes", "2", "--max-requests", "10")),
    "gunicorn": ("gunicorn", GUNICORN),
    "gunicorn, loaded before the fork": ("gunicorn", ("--preload", *GUNICORN)),
    "gunicorn, as another user": ("gunicorn", ("--user", "nobody", *GUNICORN)),
    "gunicorn, loaded before it becomes another user": (
        "gunicorn",
        ("--user", "nobody", "--group", "nogroup", "--preload", *GUNICORN),
    ),
    "gunicorn, short-lived workers": ("gunicorn", ("--preload", "--max-requests", "10", *GUNICORN)),
}


@contextmanager
def serving(home: Path, server: str, arguments: tuple[str, ...], *, under_run: bool) -> Iterator[str]:
    """A server, ended as systemd does it; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [str(BIN / server), *(argument.format(port=port) for argument in arguments)]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))},
        **BARE,
        "OTELSYNC_HOME": str(home),
        "OTELSYNC_REPORTS": "off",
        "PYTHONPATH": str(JOURNEYS),
    }
    if under_run:
        started = [sys.executable, "-m", "otelsync.cli", "run", "--service-name", "web", *started]
        variables["CONFIGURED"] = "yes"
    with (home.parent / "output").open("wb") as output:
        process = subprocess.Popen(
            started, env=variables, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        eventually(lambda: _answers(port) or process.poll() is not None, PATIENCE)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _is_for_everybody(path: Path) -> bool:
    """Return whether other users get to a directory."""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def _get(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        pid, trace_id = answer.read().decode().split()
        return pid, trace_id


@pytest.mark.parametrize(
    ("name", "under_run"),
    [*((name, False) for name in SERVERS), ("uwsgi", True), ("gunicorn, loaded before the fork", True)],
)
def test_each_request_is_recorded_once(tmp_path: Path, name: str, under_run: bool) -> None:
    """No span is lost or comes twice, no two requests share a trace, and the ledger agrees."""
    server, arguments = SERVERS[name]
    if "--user" in arguments and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if "--user" in arguments and "--preload" not in arguments and not _is_for_everybody(Path(sys.base_prefix)):
        pytest.skip("other users cannot read this Python")
    if not (BIN / server).exists():
        pytest.skip(f"{server} is not installed: make servers")
    home = tmp_path / "home"
    with serving(home, server, arguments, under_run=under_run) as url, ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(_get, (f"{url}/{number}" for number in range(REQUESTS))))
    assert len({trace_id for _, trace_id in answers}) == REQUESTS
    command(environment(home), "ship", "--once")
    spans = trace_tree.spans_in_store(home / "store.db")
    runs = Counter(span.trace_id for span in spans if span.name == "sync.pipeline request")
    assert runs == Counter(trace_id for _, trace_id in answers)
    assert Counter(span.trace_id for span in spans if span.name == "sync.order") == runs
    reconciled(home / "journals" / "web")
