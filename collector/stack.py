"""Collector, Jaeger, VictoriaLogs and Prometheus as processes of this one, with data flowing from one to the next."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
PATIENCE: Final = 120.0
"""Seconds that a server may take to begin, or to end."""


class StackError(Exception):
    """A server is not there, or does not begin."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on 127.0.0.1."""

    grpc: int = 4317
    """The Collector's, for OTLP."""
    http: int = 4318
    health: int = 13133
    own_metrics: int = 8888
    queue: int = 4319
    """The Collector's own, for metrics on their way out."""
    jaeger: int = 16686
    """Jaeger's page and API."""
    jaeger_grpc: int = 14317
    jaeger_query: int = 16685
    jaeger_health: int = 13134
    logs: int = 9428
    """VictoriaLogs' page and API."""
    prometheus: int = 9090

    @classmethod
    def free(cls) -> Ports:
        """Return ports that nobody listens on now."""
        with ExitStack() as held:
            sockets = {each.name: held.enter_context(socket.socket()) for each in fields(cls)}
            for each in sockets.values():
                each.bind(("127.0.0.1", 0))
            return cls(**{name: each.getsockname()[1] for name, each in sockets.items()})


@dataclass
class Server:
    """One server, which may be ended and begun again.

    Args:
        name: What it is called in messages, and its log.
        command: Program and arguments.
        ready: What answers 200 when it has begun.
        folder: Where its log is.
        environment: Variables beside those of this process.
    """

    name: str
    command: Sequence[str | Path]
    ready: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Everything that it has said."""
        return self.folder / f"{self.name}.log"

    def begin(self) -> None:
        """Start it, and wait until it answers. Raises StackError."""
        if not Path(self.command[0]).exists():
            raise StackError(f"{self.command[0]} is not there: build it with collector/servers/build.sh")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, self.command)),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt on the terminal is for the one who ends them in turn
            )
        deadline = time.monotonic() + PATIENCE
        while not answers(self.ready):
            if self.process.poll() is not None:
                raise StackError(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} does not answer at {self.ready}: {self.last_words()}")
            time.sleep(0.1)

    def end(self) -> None:
        """Let it finish, or kill it where it does not."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


@dataclass(frozen=True)
class Stack:
    """The four servers, and where they are."""

    ports: Ports
    state: Path
    collector: Server
    jaeger: Server
    victorialogs: Server
    prometheus: Server

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them, in the order in which they begin: whoever sends comes after those who take it."""
        return self.jaeger, self.victorialogs, self.prometheus, self.collector

    @property
    def endpoint(self) -> str:
        """OTLP over http, for ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def grpc_endpoint(self) -> str:
        """OTLP over grpc."""
        return f"http://127.0.0.1:{self.ports.grpc}"

    @property
    def jaeger_url(self) -> str:
        """Jaeger's page."""
        return f"http://127.0.0.1:{self.ports.jaeger}"

    @property
    def logs_url(self) -> str:
        """VictoriaLogs."""
        return f"http://127.0.0.1:{self.ports.logs}"

    @property
    def prometheus_url(self) -> str:
        """Prometheus' page and API."""
        return f"http://127.0.0.1:{self.ports.prometheus}"


def servers_folder() -> Path:
    """Return where ``collector/servers/build.sh`` puts what it builds."""
    given = os.environ.get("STACK_SERVERS")
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(cache) if cache else Path.home() / ".cache") / "otelsync" / "servers"


def make_stack(
    state: Path,
    ports: Ports,
    *,
    configs: Sequence[Path] = (ROOT / "otel-collector.yaml",),
    environment: Mapping[str, str] | None = None,
) -> Stack:
    """Describe the servers; none is started.

    Args:
        state: Where they keep their data and logs.
        ports: Where they listen.
        configs: The Collector's, each over those before it.
        environment: Variables of the Collector that are to be other than here.
    """
    programs = servers_folder()
    at = "http://127.0.0.1:"
    collector = Server(
        "otelcol",
        [programs / "otelcol", *(part for config in configs for part in ("--config", config))],
        f"{at}{ports.health}",
        state,
        {
            "COLLECTOR_GRPC_PORT": str(ports.grpc),
            "COLLECTOR_HTTP_PORT": str(ports.http),
            "COLLECTOR_HEALTH_PORT": str(ports.health),
            "COLLECTOR_METRICS_PORT": str(ports.own_metrics),
            "COLLECTOR_QUEUE_PORT": str(ports.queue),
            "COLLECTOR_STATE": str(state / "otelcol"),
            "TRACES_ENDPOINT": f"127.0.0.1:{ports.jaeger_grpc}",
            "LOGS_ENDPOINT": f"{at}{ports.logs}/insert/opentelemetry/v1/logs",
            "METRICS_ENDPOINT": f"{at}{ports.prometheus}/api/v1/write",
            "SPAN_METRICS_EVERY": "2s",
            **(environment or {}),
        },
    )
    return Stack(
        ports,
        state,
        collector,
        _jaeger(programs, state, ports),
        Server(
            "victoria-logs",
            [
                programs / "victoria-logs",
                f"-storageDataPath={state / 'logs'}",
                f"-httpListenAddr=127.0.0.1:{ports.logs}",
                "-retentionPeriod=30d",
            ],
            f"{at}{ports.logs}/health",
            state,
        ),
        Server(
            "prometheus",
            [
                programs / "prometheus",
                f"--config.file={_prometheus_config(state, ports)}",
                f"--storage.tsdb.path={state / 'metrics'}",
                f"--web.listen-address=127.0.0.1:{ports.prometheus}",
                "--web.enable-remote-write-receiver",
                "--enable-feature=native-histograms,exemplar-storage",
            ],
            f"{at}{ports.prometheus}/-/ready",
            state,
        ),
    )


def _jaeger(programs: Path, state: Path, ports: Ports) -> Server:
    ui = state / "jaeger-ui.json"
    text = (HERE / "servers" / "jaeger" / "ui.json").read_text()
    ui.write_text(text.replace("http://127.0.0.1:9428", f"http://127.0.0.1:{ports.logs}"))
    return Server(
        "jaeger",
        [programs / "jaeger", "--config", HERE / "servers" / "jaeger" / "config.yaml"],
        f"http://127.0.0.1:{ports.jaeger_health}/status",
        state,
        {
            "JAEGER_GRPC_PORT": str(ports.jaeger_grpc),
            "JAEGER_HTTP_PORT": str(ports.jaeger),
            "JAEGER_QUERY_PORT": str(ports.jaeger_query),
            "JAEGER_HEALTH_PORT": str(ports.jaeger_health),
            "JAEGER_UI": str(ui),
        },
    )


def _prometheus_config(state: Path, ports: Ports) -> Path:
    """Write Prometheus' configuration with our ports and the place of the rules: it takes no variables."""
    written, source = state / "prometheus.yaml", HERE / "prometheus"
    text = (source / "prometheus.yaml").read_text().replace(":8888", f":{ports.own_metrics}")
    written.write_text(
        text.replace("rules/*.yaml", f"{source}/rules/*.yaml").replace("targets/*.", f"{source}/targets/*.")
    )
    return written


@contextmanager
def running(state: Path, ports: Ports | None = None) -> Iterator[Stack]:
    """Run all four in a directory, on ports that are free unless some are given, until the end of the block.

    Raises:
        StackError: One is not there, or does not begin.
    """
    state.mkdir(parents=True, exist_ok=True)
    stack = make_stack(state, ports or Ports.free())
    with ExitStack() as ending:
        for server in stack.servers:
            ending.callback(server.end)
            server.begin()
        yield stack


def answers(url: str) -> bool:
    """Return whether somebody answers 200 there."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False
