"""Journal files that cannot be read as they are: it is said, counted, and nothing is skipped in silence."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from journal_files import JournalFile

from otelsync.shipping.backlog import Backlog
from otelsync.shipping.checkpoint import STAGES


def shipped(directory: Path) -> Backlog:
    """Ship all that is there, into a sink that takes everything."""
    backlog = Backlog(directory, {"sink": ["span", "log"]})
    backlog.resume()
    backlog.scan()
    for segment in list(backlog.segments.values()):
        for sink in (STAGES, "sink"):
            while (batch := backlog.read(segment, segment.progress.cursor(sink), 1 << 20, 1000)) is not None:
                backlog.take(sink, batch)
    backlog.retire()
    backlog.close()
    return backlog


def test_a_file_of_another_version_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is renamed when its process is gone, which is said, and so it counts towards no bound any more."""
    file = JournalFile(tmp_path, alive=False).spans(2)
    file.version = 2
    file.write()
    with caplog.at_level(logging.WARNING, "otelsync.shipping"):
        shipped(tmp_path)
        shipped(tmp_path)
    assert not file.path.exists()
    assert (tmp_path / f"{file.name}.other-version").exists()
    (message,) = [record.message for record in caplog.records]
    assert f"{file.name} was set aside as {file.name}.other-version" in message
    assert "format version 2" in message


def test_a_file_of_another_version_that_is_being_written_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as the process of the other release runs, its file keeps its name."""
    file = JournalFile(tmp_path, alive=True).spans(2)
    file.version = 2
    file.write()
    with caplog.at_level(logging.WARNING, "otelsync.shipping"):
        shipped(tmp_path)
    assert file.path.exists()
    assert f"{file.name} is left alone as long as its process runs" in caplog.text


@pytest.mark.parametrize("left", [0, 100])
def test_a_file_that_was_cut_to_nothing_is_damage(tmp_path: Path, left: int, caplog: pytest.LogCaptureFixture) -> None:
    """How many records it held nobody knows: the bytes of its header that are missing are counted, and it is said."""
    file = JournalFile(tmp_path, alive=False).spans(2)
    file.write()
    os.truncate(file.path, left)
    with caplog.at_level(logging.WARNING, "otelsync.shipping"):
        backlog = shipped(tmp_path)
    assert backlog.checkpoint.corrupted_bytes == 512 - left
    assert f"the header of {file.name} is damaged: it holds nothing" in caplog.text
    assert not file.path.exists()


def test_what_stands_behind_a_damaged_header_is_shipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The records are found one by one, and that the header is damaged is said."""
    file = JournalFile(tmp_path, alive=False).spans(3)
    file.magic = b"\0" * 8
    file.write()
    with caplog.at_level(logging.WARNING, "otelsync.shipping"):
        backlog = shipped(tmp_path)
    assert backlog.checkpoint.recorded["span"] == 3
    assert f"the header of {file.name} is damaged: what can be found in it is shipped" in caplog.text


@pytest.mark.parametrize("reserved", [0, 4096])
def test_a_file_whose_process_was_killed_while_it_made_it_is_no_damage(
    tmp_path: Path, reserved: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Until its header is there a file is read-only, and holds nothing that could be lost."""
    file = JournalFile(tmp_path, alive=False)
    file.path.write_bytes(bytes(reserved))
    file.path.chmod(0o400)
    backlog = shipped(tmp_path)
    assert backlog.checkpoint.corrupted_bytes == 0
    assert caplog.text == ""
    assert not file.path.exists()
