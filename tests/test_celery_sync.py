"""The example in Celery workers: it runs, and the trace of its pipeline is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.celery_sync.__main__ import main


@pytest.mark.slow
def test_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two repositories in two processes are one run: partial, with tasks below it, the summary last, and a report."""
    home = tmp_path / "demo"
    monkeypatch.setenv("OTELSYNC_REPORTS", "auto")
    assert main(home, repositories=2) == 0
    printed = capfd.readouterr().out
    assert "2 repositories, 95 pull requests created, 1 failed" in printed
    depth_of = {
        line.strip().split(" ")[0]: len(line) - len(line.lstrip()) for line in printed.splitlines() if "|" in line
    }
    assert depth_of["sync.pipeline"] == 0
    assert depth_of["apply_async/sync_repository"] == depth_of["apply_async/summarise"] == 2
    assert depth_of["run/sync_repository"] == depth_of["run/summarise"] == 4
    assert depth_of["sync.repo"] == 6
    records = [json.loads(line) for line in (home / "worker.log").read_text().splitlines() if line.startswith("{")]
    ended = [record for record in records if record["event"] == "sync.pipeline.completed"]
    assert [(record["outcome"], record["fetched"], record["failed"]) for record in ended] == [("partial", 96, 1)]
    (report,) = (home / "reports" / "sync").iterdir()
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["outcome"], summary["items"]["fetched"], summary["discrepancies"]) == ("partial", 96, [])
    assert str(report / "_SYNC_SUMMARY.md") in printed
