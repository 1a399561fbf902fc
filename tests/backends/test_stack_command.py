"""``make stack`` and ``make demo STACK=1``: four servers in the foreground, and where each shows the demo's run."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from collector.stack import ROOT


def said_until_ready(process: subprocess.Popen[str]) -> str:
    """What the command has said when all is running."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "export OTELSYNC_TRACE_URL" in line:
            break
    return said


def test_the_demo_ends_with_its_links_and_the_servers_with_an_interrupt(tmp_path: Path) -> None:
    """Each link answers, what it shows is there, and nothing is left running."""
    command = [sys.executable, "-m", "collector", "demo", "--free-ports"]
    command += ["--state", str(tmp_path / "state"), "--home", str(tmp_path / "demo")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said = said_until_ready(process)
            links = re.findall(r"^  (trace|logs|metrics) +(\d+)  (http://\S+)$", said, re.MULTILINE)
            assert [what for what, _, _ in links] == ["trace", "logs", "metrics"], said
            for _, count, address in links:
                assert int(count) > 0, said
                with urllib.request.urlopen(address, timeout=60) as answer:
                    assert answer.status == 200
            (endpoint,) = re.findall(r"export OTEL_EXPORTER_OTLP_ENDPOINT='(\S+)'", said)
            ports = {re.sub(r"(http://[^/]+).*", r"\1", address) for _, _, address in links} | {endpoint}
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(300) == 0
    for port in ports:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(port, timeout=10)


def test_a_server_that_is_not_built_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that builds it."""
    monkeypatch.setenv("STACK_SERVERS", str(tmp_path))
    command = [sys.executable, "-m", "collector", "--free-ports", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/jaeger is not there: build it with collector/servers/build.sh" in done.stderr
