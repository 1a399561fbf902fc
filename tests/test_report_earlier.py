"""Earlier reports: the oldest make room, and whatever is not certainly a report of ours stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from stored import batch, span, store

from otelsync.reports.writing import remove_oldest, write_report

IDS = [f"202508022027-SYNC-0000000{number}" for number in range(4)]
"""Of runs that are reported in this order."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Four reports, the first of them the oldest."""
    traces = [sync[-8:].ljust(32, "0") for sync in IDS]
    roots = [span("sync.pipeline p", 1, trace=trace, sync=sync) for trace, sync in zip(traces, IDS, strict=True)]
    repos = [
        span("sync.repo acme/api", 2, 1, trace=trace, sync=sync, sync__repo="acme/api")
        for trace, sync in zip(traces, IDS, strict=True)
    ]
    path = store(tmp_path / "store.db", batch(*roots, *repos))
    for number, sync in enumerate(IDS):
        folder = write_report(path, sync, tmp_path / "reports")
        assert (folder / "acme-api.md").exists()
        os.utime(folder / "summary.json", (number + 1, number + 1))
    return tmp_path / "reports"


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(("keep", "left"), [(0, 4), (1, 1), (2, 2), (4, 4), (100, 4)])
def test_those_written_last_are_kept(directory: Path, keep: int, left: int) -> None:
    """As many as are asked for stay, whole, and of the others nothing; none is too many if 0 is asked for."""
    remove_oldest(directory, keep)
    assert listed(directory) == IDS[4 - left :]
    assert all(len(listed(directory / sync)) == 4 for sync in IDS[4 - left :])


def test_an_old_run_that_is_reported_again_is_new(directory: Path) -> None:
    """What counts is when a report was written, not when its run was."""
    os.utime(directory / IDS[0] / "summary.json", (9, 9))
    remove_oldest(directory, 2)
    assert listed(directory) == [IDS[0], IDS[3]]


def test_a_stranger_s_file_stays_with_its_folder(directory: Path) -> None:
    """A file that somebody has put into a report stays where it is; the report itself goes."""
    (directory / IDS[0] / "notes.txt").write_text("mine")
    (directory / IDS[0] / "attachments").mkdir()
    remove_oldest(directory, 3)
    assert listed(directory / IDS[0]) == ["attachments", "notes.txt"]
    remove_oldest(directory, 3)
    assert listed(directory) == IDS


def test_what_is_not_a_report_is_left_alone(directory: Path, tmp_path: Path) -> None:
    """Neither removed nor counted: other names, no summary or another's, files, links, and what links lead to."""
    elsewhere = tmp_path / "elsewhere" / IDS[0]
    elsewhere.parent.mkdir()
    (directory / IDS[0]).rename(elsewhere)
    (directory / IDS[0]).symlink_to(elsewhere)
    ours = (directory / IDS[1] / "summary.json").read_bytes()

    def folder(name: str, summary: bytes | None) -> Path:
        (directory / name).mkdir()
        if summary is not None:
            (directory / name / "summary.json").write_bytes(summary)
        return directory / name

    folder("my-own", ours)
    folder("202501010101-SYNC-AAAAAAAA", None)
    folder("202501010101-SYNC-BBBBBBBB", b'{"name": "of another program"}')
    folder("202501010101-SYNC-CCCCCCCC", b"")
    (folder("202501010101-SYNC-DDDDDDDD", None) / "summary.json").symlink_to(elsewhere / "summary.json")
    (folder("202501010101-SYNC-EEEEEEEE", None) / "summary.json").mkdir()
    os.mkfifo(folder("202501010101-SYNC-FFFFFFFF", None) / "summary.json")
    (directory / "202501010101-SYNC-00000000").write_text("a file")
    before = listed(directory)
    remove_oldest(directory, 1)
    assert listed(directory) == [name for name in before if name not in IDS[1:3]]
    assert len(listed(elsewhere)) == 4


def test_a_summary_cannot_name_files_that_are_not_ours(directory: Path, tmp_path: Path) -> None:
    """Of what a damaged or forged summary lists, only names of reports' files in that very folder are removed."""
    (tmp_path / "precious.md").write_text("mine")
    (directory / "precious.md").write_text("mine")
    summary = json.loads((directory / IDS[0] / "summary.json").read_text())
    summary["groups"] = [{"file": name} for name in ("../precious.md", "../../precious.md", "/etc/x.md", "", 7, None)]
    (directory / IDS[0] / "summary.json").write_text(json.dumps(summary, indent=2))
    os.utime(directory / IDS[0] / "summary.json", (1, 1))
    remove_oldest(directory, 3)
    assert (tmp_path / "precious.md").exists()
    assert listed(directory) == [*IDS, "precious.md"]
    assert listed(directory / IDS[0]) == ["acme-api.md"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Nothing to remove is no error."""
    remove_oldest(tmp_path / "none", 1)
    (tmp_path / "file").write_text("")
    remove_oldest(tmp_path / "file", 1)
