"""Examples for Kubernetes, systemd and containers: what can be held of them without running them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COLLECTOR = ROOT / "collector"
MANIFESTS = sorted((COLLECTOR / "kubernetes").glob("*.yaml"))
UNITS = sorted((COLLECTOR / "systemd").glob("*.service"))
VARIABLE = re.compile(r"\$\{env:([A-Z_]+)")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def variables(*names: str) -> set[str]:
    return {found for name in names for found in VARIABLE.findall((ROOT / name).read_text())}


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The kind, the pod and the container of each workload."""
    workloads = [each for path in MANIFESTS for each in documents(path) if "template" in each["spec"]]
    return [
        (each["kind"], each["spec"]["template"]["spec"], container)
        for each in workloads
        for container in each["spec"]["template"]["spec"]["containers"]
    ]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_have_what_kubernetes_requires(path: Path) -> None:
    """The fields without which an API server refuses them (kubernetes.io/docs/reference), and selectors that match."""
    for each in documents(path):
        assert each.keys() >= {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", each["metadata"]["name"])
        if each["kind"] == "Service":
            assert all(port.keys() >= {"name", "port"} for port in each["spec"]["ports"])
            continue
        template = each["spec"]["template"]
        assert each["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        if each["kind"] == "StatefulSet":
            assert each["spec"]["serviceName"] in {other["metadata"]["name"] for other in documents(path)}


def test_containers_mount_what_there_is_and_set_what_is_read() -> None:
    """Volumes, ports of probes and variables are those that the configurations name."""
    read = variables("otel-collector.yaml", *(f"collector/{name}.yaml" for name in ("agent", "agent-dns", "gateway")))
    for kind, pod, container in containers():
        assert container["image"] == "otel/opentelemetry-collector-contrib:0.161.0"
        claimed = {"state"} if kind == "StatefulSet" else set()
        assert {each["name"] for each in container["volumeMounts"]} == {
            each["name"] for each in pod["volumes"]
        } | claimed
        assert {each["name"] for each in container["env"]} - {"GOMEMLIMIT"} <= read
        files = [Path(argument.partition("=")[2]).name for argument in container["args"]]
        assert all((COLLECTOR / name).exists() or (ROOT / name).exists() for name in files)


def test_the_disk_of_a_gateway_holds_its_full_queues() -> None:
    """Each of three may be twice as large as its bound (collector/README.md): a disk that is full loses records."""
    text = (ROOT / "otel-collector.yaml").read_text()
    exporters = yaml.safe_load(text)["exporters"].values()
    queues = [each["sending_queue"] for each in exporters if "sending_queue" in each]
    assert {queue["queue_size"] for queue in queues} == {"${env:COLLECTOR_DISK_BYTES:-2000000000}"}
    (claim,) = (
        claim["spec"]["resources"]["requests"]["storage"]
        for each in documents(COLLECTOR / "kubernetes" / "gateway.yaml")
        for claim in each["spec"].get("volumeClaimTemplates", ())
    )
    assert int(claim.removesuffix("Gi")) * 2**30 > 2 * 2_000_000_000 * len(queues)


def test_the_agents_find_the_gateways() -> None:
    """The name that agents ask for is the gateways' headless service."""
    service = next(each for each in documents(COLLECTOR / "kubernetes" / "gateway.yaml") if each["kind"] == "Service")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    values = [
        each["value"]
        for _, _, container in containers()
        for each in container["env"]
        if each["name"] == "GATEWAYS_HOST"
    ]
    assert values == [host]
    assert service["spec"]["clusterIP"] == "None"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_understood(path: Path) -> None:
    """systemd has nothing to say but that the program is not installed here."""
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "is not executable" not in line] == []


def test_containers_are_pinned_and_closed() -> None:
    """Each image has a version, each port is open to this machine alone, and what is mounted is there."""
    compose = yaml.safe_load((COLLECTOR / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith(("./", "../"))


@pytest.mark.parametrize("name", [".env", "light.env"])
def test_each_way_of_containers_has_where_its_data_goes(name: str) -> None:
    """Endpoints are services of the profile that the same file switches on."""
    said = dict(line.split("=", 1) for line in (COLLECTOR / name).read_text().splitlines() if "=" in line)
    services = yaml.safe_load((COLLECTOR / "compose.yaml").read_text())["services"]
    on = {
        name
        for name, each in services.items()
        if said["COMPOSE_PROFILES"] in each.get("profiles", [said["COMPOSE_PROFILES"]])
    }
    for endpoint in (said["TRACES_ENDPOINT"], said["LOGS_ENDPOINT"].removeprefix("http://")):
        assert endpoint.split(":")[0] in on


def test_loki_has_three_labels() -> None:
    """More make a stream of each process, or of each item."""
    limits = yaml.safe_load((COLLECTOR / "loki" / "loki.yaml").read_text())["limits_config"]
    of_resources = limits["otlp_config"]["resource_attributes"]
    (rule,) = of_resources["attributes_config"]
    assert of_resources["ignore_defaults"] is True
    assert rule == {
        "action": "index_label",
        "attributes": ["service.name", "service.namespace", "deployment.environment.name"],
    }


def test_tempo_takes_a_trace_of_the_largest_size() -> None:
    """otelsync's budget is 5,000 spans a trace; 4,000 bytes each are taken."""
    tempo = yaml.safe_load((COLLECTOR / "tempo" / "tempo.yaml").read_text())
    assert tempo["overrides"]["defaults"]["global"]["max_bytes_per_trace"] >= 5_000 * 4_000
