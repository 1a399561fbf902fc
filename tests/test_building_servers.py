"""``collector/servers/build.sh`` on machines that lack something, by a stand-in for ``go``: what it says and keeps."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).parent.parent
SERVERS: Final = ROOT / "collector" / "servers"
PATIENCE: Final = 120.0
GO: Final = """#!/bin/sh
case $1 in
version) [ -z "$TOO_OLD" ] || { echo "go: go.mod requires go >= 1.26.5 (running go 1.21)" >&2; exit 1; }
         echo go1.26 ;;
env) echo http://127.0.0.1:9 ;;
list) echo "go: list" >>"$CALLS"
      [ "$(grep -c list "$CALLS")" -gt "$FAILURES" ] || { echo "dial tcp: lookup proxy.golang.org" >&2; exit 1; } ;;
build) echo "go: build" >>"$CALLS"
       while [ "$1" != -o ]; do shift; done
       echo "$$" >"$2"
       [ -z "$HANGS" ] || { echo "$PPID" >"$HANGS"; kill -STOP $$; }
       chmod +x "$2" ;;
esac
"""
"""Fails to download as often as it is told to, and builds a file."""
APT: Final = """#!/bin/sh
[ "$1" != download ] || touch prometheus_2.42.deb
"""
DPKG: Final = """#!/bin/sh
mkdir -p usr/bin; for name in prometheus promtool; do echo new >usr/bin/$name; chmod +x usr/bin/$name; done
"""
BUILT: Final = {"otelcol", "victoria-logs", "jaeger", "prometheus", "promtool"}


class Machine:
    """A machine with a `go` and Debian's tools of ours, and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache, self._tools, self._calls = folder / "cache", folder / "bin", folder / "calls"
        self._tools.mkdir()
        for name, text in {"go": GO, "apt-get": APT, "dpkg": DPKG, "sudo": '#!/bin/sh\nexec "$@"\n'}.items():
            (self._tools / name).write_text(text)
            (self._tools / name).chmod(0o755)
        self._environment = {
            "PATH": f"{self._tools}:/usr/bin:/bin",
            "STACK_SERVERS": str(self.cache),
            "STACK_RETRY_SECONDS": "0 0",
            "CALLS": str(self._calls),
        }

    def without(self, tool: str) -> None:
        """Take a tool away; what the system itself has of that name, too."""
        (self._tools / tool).unlink()
        for name in ("sh", "dirname", "mkdir", "find", "mktemp", "cat", "cksum", "sort", "rm", "sed", "tail"):
            (self._tools / name).symlink_to(f"/usr/bin/{name}")
        self._environment["PATH"] = str(self._tools)

    def begin(self, failures: int = 0, too_old: str = "", hangs: str = "") -> subprocess.Popen[str]:
        """Begin to build."""
        told = {"FAILURES": str(failures), "TOO_OLD": too_old, "HANGS": hangs}
        pipe, script = subprocess.PIPE, SERVERS / "build.sh"
        environment = {**self._environment, **told}
        return subprocess.Popen(["/bin/sh", script], env=environment, stderr=pipe, text=True, start_new_session=True)

    def build(self, failures: int = 0, too_old: str = "") -> tuple[int, str]:
        """Build; returns the exit status and what was said."""
        with self.begin(failures, too_old) as process:
            said = process.communicate(timeout=PATIENCE)[1]
        return process.returncode, said

    def calls(self) -> list[str]:
        """Return what `go` was asked for since the last time."""
        calls = self._calls.read_text().split("\n")[:-1] if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return [call.removeprefix("go: ") for call in calls]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_built_is_not_built_again(machine: Machine) -> None:
    """Nor is anything downloaded; nothing is left but the servers, their checksums and logs."""
    assert machine.build()[0] == 0
    assert machine.calls() == ["list", "build"] * 3
    assert {path.name.removesuffix(".stamp").removesuffix(".log") for path in machine.cache.iterdir()} == {*BUILT, "go"}
    assert machine.build() == (0, f"servers: all in {machine.cache}\n")
    assert machine.calls() == []


@pytest.mark.parametrize("name", ["otelcol", "promtool"])
@pytest.mark.parametrize("how", ["cut off", "unstamped", "not executable", "away"])
def test_what_is_not_whole_is_built_again(machine: Machine, name: str, how: str) -> None:
    """A cache that was copied or written in part, too."""
    machine.build()
    machine.calls()
    server = machine.cache / name
    if how == "cut off":
        os.truncate(server, server.stat().st_size - 1)
    elif how == "unstamped":
        (machine.cache / f"{name}.stamp").unlink()
    elif how == "not executable":
        server.chmod(0o644)
    else:
        server.unlink()
    assert machine.build()[0] == 0
    assert machine.calls() == ([] if name.startswith("prom") else ["list", "build"])
    assert os.access(server, os.X_OK)
    assert machine.build() == (0, f"servers: all in {machine.cache}\n")


def test_a_build_that_is_killed_leaves_nothing_half_done(machine: Machine, tmp_path: Path) -> None:
    """What it was at is not in the cache under its name."""
    os.mkfifo(hangs := tmp_path / "hangs")
    with machine.begin(hangs=str(hangs)) as process:
        hangs.read_text()
        os.killpg(process.pid, signal.SIGKILL)
    assert not BUILT & {path.name for path in machine.cache.iterdir()}
    assert machine.build()[0] == 0
    assert {path.name for path in machine.cache.iterdir()} >= BUILT


def test_a_download_that_fails_is_tried_again(machine: Machine) -> None:
    """Twice."""
    assert machine.build(failures=2)[0] == 0
    assert machine.calls()[:4] == ["list", "list", "list", "build"]


def test_without_a_network_it_says_what_to_do(machine: Machine) -> None:
    """With the cause, and without building."""
    status, said = machine.build(failures=3)
    assert status == 1
    assert machine.calls() == ["list"] * 3
    assert "servers: the modules of otelcol could not be downloaded" in said
    assert "dial tcp: lookup proxy.golang.org" in said
    assert "set GOPROXY (now http://127.0.0.1:9)" in said
    assert "or STACK_SERVERS to a folder with servers" in said


def test_without_go_it_says_what_to_do(machine: Machine) -> None:
    """With the address of Go."""
    machine.without("go")
    status, said = machine.build()
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("servers: there is no go in PATH. Install Go (https://go.dev/dl/)")


def test_with_an_old_go_it_says_what_to_do(machine: Machine) -> None:
    """With what Go itself says."""
    status, said = machine.build(too_old="yes")
    assert status == 1
    assert "go.mod requires go >= 1.26.5 (running go 1.21)" in said
    assert "Install a newer Go" in said


def test_the_sources_of_the_collector_are_those_that_it_is_described_by() -> None:
    """`sources/` is made of `builder.yaml`: the same parts in the same versions, and each of them has its sum."""
    folder = SERVERS / "collector"
    described = yaml.safe_load((folder / "builder.yaml").read_text())
    parts = {part["gomod"] for kind in described.values() if isinstance(kind, list) for part in kind if "gomod" in part}
    modules, sums = (folder / "sources" / "go.mod").read_text(), (folder / "sources" / "go.sum").read_text()
    code = "".join(path.read_text() for path in (folder / "sources").glob("*.go"))
    assert len(parts) > 15
    for part in parts:
        assert f"\t{part}\n" in modules
        assert f"{part} h1:" in sums
        assert f'"{part.split()[0]}"' in code
    direct = re.findall(
        r"^\t(\S+/(?:receiver|processor|connector|exporter|extension)/\S+ v\S+)$", modules, re.MULTILINE
    )
    assert set(direct) <= parts
    assert described["dist"]["version"] in code
