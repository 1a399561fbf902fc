"""Real message brokers for the tests: Redis and RabbitMQ, each a process of this session on free ports of loopback.

They are the servers of Debian's packages, without a configuration, a cookie or data of the machine's own, and they die
with the process that started them. Each `Broker` that they give out is a place of its own: nobody else sees its
messages.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from otlp_server import eventually

DATABASES = 1000
"""Of Redis. Each broker that it gives out has one."""
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Behind the script of the package in /usr/sbin, which would run it as the machine's own node."""
PATIENCE = 120.0
"""Seconds until a server has to answer. RabbitMQ takes 6 to 20."""

_RABBITMQ_CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = error
log.file = false
disk_free_limit.absolute = 1MB
"""


@dataclass(frozen=True)
class Broker:
    """A place for messages and results that nobody else uses."""

    system: str
    """What OpenTelemetry calls it: redis or rabbitmq."""
    url: str
    results: str
    """The URL of the result backend."""
    prefix: str
    """What the names of queues and exchanges begin with."""

    @property
    def queue(self) -> str:
        """The default queue."""
        return f"{self.prefix}tasks"

    @property
    def environment(self) -> dict[str, str]:
        """What a program has to know of it; `celery_app.py` reads it."""
        return {"TEST_BROKER": self.url, "TEST_RESULTS": self.results, "TEST_PREFIX": self.prefix}


class RedisServer:
    """A running Redis that keeps nothing on disk."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        self._databases = itertools.count()

    def broker(self) -> Broker:
        """A database that nobody has used yet, for messages and for results."""
        url = f"redis://127.0.0.1:{self.port}/{next(self._databases)}"
        return Broker("redis", url, url, "")


class RabbitServer:
    """A running RabbitMQ, with a directory in which programs leave the results of their tasks."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], results: Path) -> None:
        self.port = port
        self.process = process
        self._results = results
        self._places = itertools.count()

    def broker(self) -> Broker:
        """Queues and exchanges that nobody has used yet; results are files, so a chord is polled for."""
        place = f"place{next(self._places)}"
        results = self._results / place
        results.mkdir(parents=True)
        return Broker("rabbitmq", f"amqp://guest:guest@127.0.0.1:{self.port}//", results.as_uri(), f"{place}.")


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """A Redis of one's own."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    command += ["--databases", str(DATABASES), "--dir", str(directory)]
    with server(command, directory / "redis.log", {}) as process:
        eventually(lambda: answers(port, b"PING\r\n", b"+PONG", process), PATIENCE)
        yield RedisServer(port, process)


@contextmanager
def rabbitmq_server(directory: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ node of one's own, with its own name server (epmd), cookie and data, and without plugins."""
    port, names, distribution = free_port(), free_port(), free_port()
    (directory / "home").mkdir()
    (directory / "rabbitmq.conf").write_text(_RABBITMQ_CONF.format(port=port))
    (directory / "no-environment.conf").touch()
    (directory / "plugins").write_text("[].\n")
    environment = {
        "HOME": str(directory / "home"),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "otelsync-tests@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "no-environment.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # Its script then becomes the server, instead of waiting for it in a process between.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    with (
        server(["epmd", "-port", str(names)], directory / "epmd.log", environment),
        server([str(RABBITMQ)], directory / "rabbitmq.log", environment) as process,
    ):
        eventually(lambda: answers(port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00", process), PATIENCE)
        yield RabbitServer(port, process, directory / "results")


@contextmanager
def server(
    command: list[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    user: str | None = None,
    end: signal.Signals = signal.SIGKILL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process. It is killed at the end, and by the kernel if this process is: what it keeps is for nobody.

    `user`: whose process it is, where that is not ours; `end`: the signal that kills it.
    """
    path = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
    if shutil.which(command[0], path=path) is None:
        raise RuntimeError(f"{command[0]} is not installed: tests/install-servers.sh installs what the tests need")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", *as_user(user), "--pdeathsig", end.name.removeprefix("SIG"), "--", *command],
            env={"PATH": path, "LANG": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what a terminal sends to the tests is not for it
        )
    try:
        yield process
    finally:
        if end is not signal.SIGKILL:
            process.send_signal(end)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def as_user(name: str | None) -> list[str]:
    """Return options of setpriv(1) for a process of that user."""
    return [f"--reuid={name}", f"--regid={name}", "--clear-groups"] if name else []


def answers(port: int, question: bytes, answer: bytes, process: subprocess.Popen[bytes]) -> bool:
    """Whether a server answers as it should; that it has ended is an error."""
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(question)
            return connection.recv(len(answer)) == answer
    except OSError:
        return False


def free_port() -> int:
    """A port that no connection gets by chance between now and the server's start: one below the ephemeral ones."""
    while True:
        port = random.randrange(10_000, 32_768)
        with closing(socket.socket()) as bound, suppress(OSError):
            bound.bind(("127.0.0.1", port))
            return port
