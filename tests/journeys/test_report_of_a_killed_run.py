"""SIGKILL of everything in mid-run: the next `otelsync report` tells how far the run came."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from hosts import command, environment

_PROGRAM = """
import sys, time
import otelsync

otelsync.configure(service_name="killed", log_stream=sys.stderr)
with otelsync.pipeline("nightly"):
    with otelsync.repo("acme/done"), otelsync.api_call("list_pull_requests", page=1):
        for number in range(3):
            with otelsync.pull_request(number) as pr:
                pr.set(action="updated")
    with otelsync.repo("acme/half"), otelsync.api_call("list_pull_requests", page=1):
        for number in range(5):
            with otelsync.pull_request(number) as pr:
                pr.set(action="created")
        print("half way", flush=True)
        time.sleep(600)
"""


def test_the_report_of_a_run_whose_processes_were_killed(tmp_path: Path) -> None:
    """Its outcome is interrupted, and the counts are those of every pull request that had been finished."""
    surroundings = environment(tmp_path / "home")
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half way\n"
        process.send_signal(signal.SIGKILL)
    command(surroundings, "report", "--output", str(tmp_path / "out"))
    (folder,) = (tmp_path / "out").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["outcome"] == "interrupted"
    assert (summary["items"]["fetched"], summary["items"]["updated"], summary["items"]["created"]) == (8, 3, 5)
    assert {group["name"]: group["outcome"] for group in summary["groups"]} == {
        "acme/done": "success",
        "acme/half": "interrupted",
    }
    assert summary["discrepancies"] == []
    assert "**The run was interrupted.**" in (folder / "_SYNC_SUMMARY.md").read_text()
