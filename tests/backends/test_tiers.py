"""Two tiers of Collectors on loopback: an agent, and two gateways that share the traces by their ids."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from stores import (
    PATIENCE,
    eventually,
    ids_in_jaeger,
    in_prometheus,
    logs_in_victorialogs,
    own_metric,
    settings,
)

from collector.stack import ROOT, Ports, Server, Stack, make_stack, servers_folder
from otelsync.testing.reading import Span, logs_in, spans_in

PROGRAM: Final = """
import sys, otelsync
otelsync.configure(service_name="tiers", log_level="WARNING")
for number in range(40):
    with otelsync.pipeline("plain"), otelsync.repo("acme/api"), otelsync.pull_request(number):
        pass
for what in ("failed", "kept", "limited", "partial"):
    with otelsync.pipeline(what) as run, otelsync.repo("acme/web") as repo, otelsync.pull_request(1) as pr:
        if what == "kept":
            run.set(**{"sync.keep": True})
        if what == "limited":
            with otelsync.rate_limit_wait(0.001):
                pass
        if what == "failed":
            pr.fail("no author")
        if what == "partial":
            repo.count(failed=1, created=1)
print(otelsync.shutdown(60))
"""
GATEWAY: Final = ("otel-collector.yaml", "collector/tail-sampling.yaml", "collector/gateway.yaml")


@dataclass
class Tiers:
    """The servers behind, two gateways, and the agent before them."""

    stack: Stack
    gateways: tuple[Server, Server]
    gateway_ports: tuple[Ports, Ports]
    agent: Server
    ports: Ports


@pytest.fixture
def tiers(tmp_path: Path) -> Iterator[Tiers]:
    stack = make_stack(tmp_path, Ports.free())
    ports = (Ports.free(), Ports.free(), Ports.free())
    gateways = [gateway(tmp_path, number, ports[number], stack) for number in (0, 1)]
    agent = Server(
        "agent",
        [servers_folder() / "otelcol", "--config", ROOT / "collector" / "agent.yaml"],
        f"http://127.0.0.1:{ports[2].health}",
        tmp_path,
        collector_at(ports[2], tmp_path / "agent")
        | {"GATEWAYS": f"[127.0.0.1:{ports[0].grpc}, 127.0.0.1:{ports[1].grpc}]"},
    )
    with ExitStack() as ending:
        for server in (stack.jaeger, stack.victorialogs, stack.prometheus, *gateways, agent):
            ending.callback(server.end)
            server.begin()
        yield Tiers(stack, (gateways[0], gateways[1]), (ports[0], ports[1]), agent, ports[2])


def collector_at(ports: Ports, state: Path) -> dict[str, str]:
    """Return the variables of a Collector of its own ports and queues."""
    return {
        "COLLECTOR_GRPC_PORT": str(ports.grpc),
        "COLLECTOR_HTTP_PORT": str(ports.http),
        "COLLECTOR_HEALTH_PORT": str(ports.health),
        "COLLECTOR_METRICS_PORT": str(ports.own_metrics),
        "COLLECTOR_QUEUE_PORT": str(ports.queue),
        "COLLECTOR_STATE": str(state),
    }


def gateway(folder: Path, number: int, ports: Ports, stack: Stack) -> Server:
    """Describe a gateway that keeps none of the traces that nothing says to keep, and decides soon."""
    name = f"gateway{number}"
    sampling = {"SAMPLING_WAIT": "2s", "SAMPLING_PERCENT": "0"}
    return Server(
        name,
        [servers_folder() / "otelcol", *(part for each in GATEWAY for part in ("--config", ROOT / each))],
        f"http://127.0.0.1:{ports.health}",
        folder,
        {**stack.collector.environment, **collector_at(ports, folder / name), **sampling},
    )


def record(home: Path, ports: Ports) -> list[Span]:
    """Run the program against the agent."""
    command = [sys.executable, "-c", PROGRAM]
    environment = settings(home, f"http://127.0.0.1:{ports.http}")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.splitlines()[-1] == "True", done.stderr
    return spans_in(home)


def to_keep(spans: list[Span]) -> Counter[str]:
    """Return the spans of the runs that are to be kept."""
    return Counter(span.span_id for span in spans if span.attributes["sync.pipeline"] != "plain")


def test_gateways_keep_whole_traces_that_matter(tiers: Tiers, tmp_path: Path) -> None:
    """Each trace is at one gateway, whole; errors, limits, unfinished runs and sync.keep stay, and figures have all."""
    spans = record(tmp_path / "home", tiers.ports)
    traces = {span.trace_id for span in spans}
    eventually(lambda: ids_in_jaeger(tiers.stack, traces), to_keep(spans), *tiers.gateways, tiers.agent)
    taken = [own_metric(each.own_metrics, "otelcol_receiver_accepted_spans") for each in tiers.gateway_ports]
    assert sum(taken) == len(spans)
    assert min(taken) > 0
    counted = 'sum by (span_name) (spans_calls_total{service_name="tiers"})'
    wanted = {"sync.pr": 44, "sync.repo": 44, "sync.pipeline plain": 40}
    eventually(
        lambda: {
            series["metric"]["span_name"]: int(series["value"][1])
            for series in in_prometheus(tiers.stack, counted)
            if series["metric"]["span_name"] in wanted
        },
        wanted,
        *tiers.gateways,
    )
    records = {log.span_id for log in logs_in(tmp_path / "home")}
    found = 'service.name:="tiers"'
    eventually(lambda: {line["span_id"] for line in logs_in_victorialogs(tiers.stack, found)}, records, tiers.agent)


def test_a_gateway_that_is_away_loses_nothing(tiers: Tiers, tmp_path: Path) -> None:
    """The agent keeps what it has taken for a gateway that is away, and after a SIGKILL of its own too."""
    tiers.gateways[0].end()
    spans = record(tmp_path / "home", tiers.ports)
    tiers.agent.kill()
    tiers.agent.begin()
    tiers.gateways[0].begin()
    traces = {span.trace_id for span in spans}
    eventually(lambda: ids_in_jaeger(tiers.stack, traces), to_keep(spans), *tiers.gateways, tiers.agent)


def test_agents_and_nodes_hide_the_same() -> None:
    """What is secret is said in two files, and is the same in both."""
    said = [
        (ROOT / name).read_text().split("  redaction:\n")[1].split("    summary")[0]
        for name in ("otel-collector.yaml", "collector/agent.yaml")
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "names",
    [
        ("otel-collector.yaml",),
        ("otel-collector.yaml", "collector/tail-sampling.yaml"),
        GATEWAY,
        ("collector/agent.yaml",),
        ("collector/agent.yaml", "collector/agent-dns.yaml"),
    ],
)
def test_configurations_are_valid(tmp_path: Path, names: tuple[str, ...]) -> None:
    """As the Collector itself says, with no variable set but the folder of its state."""
    configs = [part for name in names for part in ("--config", str(ROOT / name))]
    environment = {"PATH": os.environ["PATH"], "COLLECTOR_STATE": str(tmp_path)}
    command = [str(servers_folder() / "otelcol"), "validate", *configs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
