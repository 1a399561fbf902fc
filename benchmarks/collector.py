"""The Collector's own share: CPU and memory of each process on the way of a million spans, beside the ways without it.

    python -m benchmarks.collector [--spans 300000] [--only WAY ...]

A program records as fast as it can: runs of 1,000 pull requests, each a span with a log record, and its shipper sends
them over loopback. The figures are CPU seconds of each process (user and system), scaled to a million spans with their
records, and the most memory that it had. Everything ends by itself. It needs what `collector/servers/build.sh` builds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.report import draw
from collector.stack import ROOT, Ports, Server, Stack, make_stack, servers_folder

PATIENCE: Final = 600.0
_TICK: Final = os.sysconf("SC_CLK_TCK")
WAYS: Final = {
    "store": "the local store alone",
    "jaeger": "straight to Jaeger, no log records",
    "collector": "through a Collector",
    "sampling": "the same, with tail sampling",
    "tiers": "through an agent and a gateway",
}


def record(spans: int) -> None:
    """Be the program."""
    import otelsync

    otelsync.configure(service_name="load", log_level="INFO")
    log = otelsync.get_logger("load")
    recorded = 0
    while recorded < spans:
        with otelsync.pipeline("load"), otelsync.repo("acme/api"):
            for page in range(10):
                with otelsync.api_call("list", page=page):
                    for number in range(100):
                        with otelsync.pull_request(number, state="open") as pr:
                            log.info("pr.saved", number=number)
                            pr.set(action="created")
        recorded += 1012
        time.sleep(0.01)
    print(otelsync.shutdown(PATIENCE))


@dataclass
class Share:
    """What one process took."""

    name: str
    cpu: float
    """Seconds."""
    memory: float
    """Megabytes, at most."""


@dataclass
class Figures:
    """One way."""

    way: str
    spans: int
    arrived: int
    shares: list[Share] = field(default_factory=list)


def measured(way: str, spans: int) -> Figures:
    """Record that many spans and send them that way; return what it took."""
    with tempfile.TemporaryDirectory() as folder, begun(way, Path(folder)) as (stack, servers):
        before = {server.name: taken(server) for server in servers}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))},
            "OTELSYNC_HOME": str(Path(folder) / "home"),
            "OTELSYNC_FOLD": "off",
            **_endpoint(way, stack),
        }
        command = [sys.executable, "-m", "benchmarks.collector", "--record", str(spans)]
        begin = os.times()
        subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=PATIENCE, check=True)
        end = os.times()
        arrived = _settled(stack) if servers else spans
        program = end.children_user + end.children_system - begin.children_user - begin.children_system
        shares = [Share("program and shipper", program, 0.0)]
        shares += [Share(each.name, taken(each) - before[each.name], most_memory(each)) for each in servers]
        return Figures(way, spans, arrived, shares)


def _endpoint(way: str, stack: Stack) -> Mapping[str, str]:
    if way == "store":
        return {"OTELSYNC_STORE": "on"}
    if way == "jaeger":
        endpoint = f"http://127.0.0.1:{stack.ports.jaeger_grpc}"
        return {
            "OTELSYNC_STORE": "off",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_LOGS_EXPORTER": "none",
        }
    return {"OTELSYNC_STORE": "off", "OTEL_EXPORTER_OTLP_ENDPOINT": stack.endpoint}


@contextmanager
def begun(way: str, folder: Path) -> Iterator[tuple[Stack, list[Server]]]:
    """Run what that way needs."""
    more = ["collector/tail-sampling.yaml"] if way == "sampling" else []
    configs = [ROOT / "otel-collector.yaml", *(ROOT / each for each in more)]
    sampling = {"SAMPLING_WAIT": "5s", "SAMPLING_PERCENT": "100"}
    stack = make_stack(folder, Ports.free(), configs=configs, environment=sampling)
    servers = {"store": [], "jaeger": [stack.jaeger]}.get(way, list(stack.servers))
    if way == "tiers":
        servers[-1:] = _tiers(stack, folder)
    with ExitStack() as ending:
        for server in servers:
            ending.callback(server.end)
            server.begin()
        yield stack, servers


def _tiers(stack: Stack, folder: Path) -> list[Server]:
    """A gateway in the place of the Collector, and an agent before it that listens where the Collector did."""
    ports, own = Ports.free(), stack.collector.environment
    program = servers_folder() / "otelcol"
    names = ("otel-collector.yaml", "collector/tail-sampling.yaml", "collector/gateway.yaml")
    configs = [part for name in names for part in ("--config", ROOT / name)]
    moved = {
        "COLLECTOR_GRPC_PORT": str(ports.grpc),
        "COLLECTOR_HTTP_PORT": str(ports.http),
        "COLLECTOR_HEALTH_PORT": str(ports.health),
        "COLLECTOR_METRICS_PORT": str(ports.own_metrics),
        "COLLECTOR_STATE": str(folder / "gateway"),
    }
    gateway = Server("gateway", [program, *configs], f"http://127.0.0.1:{ports.health}", folder, {**own, **moved})
    agent = Server(
        "agent",
        [program, "--config", ROOT / "collector" / "agent.yaml"],
        stack.collector.ready,
        folder,
        {**own, "GATEWAYS": f"[127.0.0.1:{ports.grpc}]"},
    )
    return [gateway, agent]


def taken(server: Server) -> float:
    """Return the CPU seconds of a server since it began."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def most_memory(server: Server) -> float:
    """Return the most resident memory that a server had, in megabytes."""
    assert server.process is not None
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _settled(stack: Stack) -> int:
    """Wait until Jaeger takes no more CPU; return how many spans it has."""
    last, quiet = -1.0, 0
    while quiet < 8:
        time.sleep(1.0)
        now = taken(stack.jaeger)
        quiet = quiet + 1 if now - last < 0.05 else 0
        last = now
    return arrived_in_jaeger(stack)


def arrived_in_jaeger(stack: Stack) -> int:
    """Return how many spans Jaeger has of the load."""
    url = f"{stack.jaeger_url}/api/traces?service=load&limit=100000&lookback=1h"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return sum(len(trace["spans"]) for trace in json.load(answer)["data"])


def table(results: list[Figures]) -> str:
    """Return the figures of all ways, a line a process."""
    rows = []
    for each in results:
        for share in each.shares:
            scaled = share.cpu * 1_000_000 / each.spans
            memory = f"{share.memory:.0f}" if share.memory else ""
            rows.append([WAYS[each.way], share.name, f"{scaled:.1f}", memory])
        rows.append([WAYS[each.way], "arrived", f"{each.arrived:,} of {each.spans:,}", ""])
    return draw([["way", "process", "CPU s a million spans", "MB at most"], *rows])


def main() -> None:
    """Measure every way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collector", description=__doc__)
    parser.add_argument("--spans", type=int, default=300_000, help="how many are recorded each way (default: 300,000)")
    parser.add_argument(
        "--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=f"of {', '.join(WAYS)}"
    )
    parser.add_argument("--record", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.record:
        record(asked.record)
        return
    spans = -(-asked.spans // 1012) * 1012
    print(table([measured(way, spans) for way in asked.only]))


if __name__ == "__main__":
    main()
