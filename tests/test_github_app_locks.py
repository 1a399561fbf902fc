"""Locks of the application's repositories: held by one, free when it has died, wherever they are kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from brokers import RedisServer
from otlp_server import eventually

from examples.github_sync import locks
from examples.github_sync.settings import Settings

HOLD = """
import sys, time
from examples.github_sync import locks
from examples.github_sync.settings import Settings
locks.LEASE = 1.0
variables = {"GITHUB_SYNC_HOME": sys.argv[1], "CELERY_BROKER_URL": sys.argv[2]}
with locks.held(Settings.from_environment(variables), "it") as is_held:
    print(is_held, flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["directories", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an application that keeps its locks there."""
    server: RedisServer | None = request.getfixturevalue("redis") if request.param == "redis" else None
    url = f"filesystem://{tmp_path}" if server is None else server.broker().url
    return Settings.from_environment({"GITHUB_SYNC_HOME": str(tmp_path), "CELERY_BROKER_URL": url})


@pytest.fixture
def holder(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock."""
    command = [sys.executable, "-c", HOLD, str(settings.home), settings.broker_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_one_holds_it_for_as_long_as_it_lives(settings: Settings, holder: subprocess.Popen[str]) -> None:
    """Whatever the lease is, it is renewed; of a process that was killed nothing is left after it."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert not _is_free(settings)
        time.sleep(0.1)
    holder.send_signal(signal.SIGKILL)
    eventually(lambda: _is_free(settings))


def test_it_is_given_back(settings: Settings) -> None:
    """At the end of the block, whatever ends it."""
    with suppress(KeyError), locks.held(settings, "it") as is_held:
        assert is_held
        raise KeyError
    assert _is_free(settings)


def _is_free(settings: Settings) -> bool:
    with locks.held(settings, "it") as is_held:
        return is_held
