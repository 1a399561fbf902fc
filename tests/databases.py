"""A real PostgreSQL for the tests: a cluster of its own in a temporary directory, on a free port of loopback.

It is the server of Debian's package, without its configuration, and it dies with the process that started it. It never
runs as root: there it is the user of the package.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from brokers import PATIENCE, as_user, free_port, server
from otlp_server import eventually

PROGRAMS: Final = Path("/usr/lib/postgresql")
"""Here the package of each version has a directory."""
USER: Final = "postgres"
_LEAN: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}


class PostgresServer:
    """A running PostgreSQL."""

    def __init__(self, port: int) -> None:
        self._address = f"{USER}@127.0.0.1:{port}"
        self._numbers = itertools.count()

    def database(self) -> str:
        """Make a database that nobody has used yet; returns its URL for SQLAlchemy."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(f"postgresql://{self._address}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{self._address}/{name}"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of one's own."""
    programs = _programs()
    user = USER if os.geteuid() == 0 else None
    # The directories of pytest are for root alone, and a path of a socket may not be long.
    with tempfile.TemporaryDirectory(prefix="otelsync-postgres-") as text:
        directory, port = Path(text), free_port()
        if user is not None:
            shutil.chown(directory, user, user)
        data = directory / "data"
        made = [str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        command = ["setpriv", *as_user(user), "--", *made, "--locale=C.UTF-8"]
        subprocess.run(command, check=True, capture_output=True, cwd=directory, timeout=PATIENCE)
        settings = {
            **_LEAN,
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(directory),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        started = [str(programs / "postgres"), "-D", str(data), *options]
        # SIGQUIT: it ends at once, and takes its shared memory with it.
        with server(started, directory / "postgres.log", {}, user=user, end=signal.SIGQUIT) as process:
            eventually(lambda: _is_up(port, process), PATIENCE)
            yield PostgresServer(port)


def _programs() -> Path:
    found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise RuntimeError("there is no PostgreSQL: tests/install-servers.sh installs what the tests need")
    return found[-1].parent


def _is_up(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
    try:
        psycopg.connect(f"postgresql://{USER}@127.0.0.1:{port}/postgres", connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True
