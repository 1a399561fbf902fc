"""What tests share: an environment without our variables, and a configured otelsync that is always shut down."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from brokers import RabbitServer, RedisServer, rabbitmq_server, redis_server
from recorded import Recorded

import otelsync
from collector.stack import Stack, running, servers_folder
from otelsync.stages import misuse

for number in (signal.SIGHUP, signal.SIGQUIT):  # a shell lets what it starts in the background ignore them
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("otelsync", deadline=None)  # no test depends on speed
hypothesis.settings.load_profile("otelsync")
os.environ["OTELSYNC_REPORTS"] = "off"  # they would go where pytest was started
_OURS = ("OTEL_", "OTELSYNC_", "LOG_", "SERVICE_NAME", "XDG_STATE_HOME", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
SERVERS = ("otelcol", "jaeger", "victoria-logs", "prometheus", "promtool")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let workers of pytest-xdist send reports whose captured output is not valid Unicode, as hostile text is not."""
    return _valid((yield))


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _valid(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_valid, value))
    return value


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the variables of whoever runs it, makes reports unasked, or leaves otelsync configured.

    What is warned of once a process is warned of once a test.
    """
    misuse.forget()
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTELSYNC_REPORTS", "off")
    monkeypatch.setenv("OTELSYNC_SHUTDOWN_TIMEOUT", "5")  # programs end when what they recorded was shipped
    yield
    otelsync.shutdown(1)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Callable[..., Recorded]]:
    """Configure otelsync with a home in `tmp_path`, by default with a journal that nobody ships."""

    def configure(**options: Any) -> Recorded:
        return Recorded(tmp_path / "home", **options)

    yield configure
    otelsync.shutdown(5)


@pytest.fixture
def recorded(record: Callable[..., Recorded]) -> Recorded:
    """An otelsync that is configured in the ordinary way."""
    return record()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all tests that want one."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ for all tests that want one."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests in ``backends`` where a server has not been built."""
    missing = [name for name in SERVERS if not (servers_folder() / name).exists()]
    mark = pytest.mark.skip(reason=f"collector/servers/build.sh has not been run: there is no {', '.join(missing)}")
    for item in items if missing else ():
        if Path(__file__).parent / "backends" in item.path.parents:
            item.add_marker(mark)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All servers of ``collector/servers``, for tests that look at what is their own in them."""
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call() -> Iterator[None]:
    """End a child that a test has forked, and that an exception would let go on with all other tests."""
    pid = os.getpid()
    try:
        return (yield)
    finally:
        if os.getpid() != pid:
            traceback.print_exc()
            os._exit(70)
