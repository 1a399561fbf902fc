"""A disk that is full is said once, ends nothing, and loses nothing that was on it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from otelsync.configuration.destinations import make_shipper
from otelsync.settings import Settings
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.saying import Saying

KILLED = """
import os, sys, otelsync
from otelsync.in_force import settings
otelsync.configure(home=sys.argv[1], service_name="full", ship="off", log_level="ERROR", journal_max_bytes="512KiB")
run = otelsync.pipeline("nightly"); run.__enter__()
repos = [otelsync.repo(f"acme/{number}") for number in range(20)]
for repo in repos: repo.__enter__()
for _ in range(100):
    with otelsync.pull_request(1) as pull: pull.set(action="created")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A home on a full disk, in which a killed program has left its open stages."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("only root can mount a small disk, where it is let")
    try:
        killed = subprocess.run([sys.executable, "-c", KILLED, disk / "home"], check=False, timeout=300)
        assert killed.returncode == -9
        with (disk / "filling").open("wb", buffering=0) as filling, suppress(OSError):
            while True:
                filling.write(bytes(4096))
        yield disk / "home"
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def command(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otelsync.cli", *arguments],
        env={**os.environ, "OTELSYNC_HOME": str(home), "OTEL_SERVICE_NAME": "full", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_shipper_says_once_that_the_disk_is_full(full: Path) -> None:
    """However often it tries; and when there is room again, all is there."""
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    for arguments in (["ship", "--once", "--timeout", "2"], ["run", "sleep", "1"]):
        said = command(*arguments, home=full, **nowhere).stderr.splitlines()
        assert [line for line, count in Counter(said).items() if count > 1] == []
        assert len(said) < 10
        assert sum("No space left on device" in line for line in said) in (1, 2)  # a stage's end, the checkpoint
    (full.parent / "filling").unlink()
    assert command("ship", "--once", home=full).returncode == 0
    (row,) = command("list", home=full).stdout.splitlines()[1:]
    assert row.split()[-3:] == ["interrupted", "121", "1"]
    ledger = read_ledger(full / "journals" / "full")
    assert ledger.reconciles
    assert ledger.recorded["span"] == 121


def test_what_is_on_a_full_disk_can_be_looked_at(full: Path) -> None:
    """A look writes nothing, and ends."""
    looked = command("list", home=full)
    assert (looked.returncode, looked.stderr) == (0, "")
    assert looked.stdout.splitlines()[1].split()[-3:] == ["interrupted", "121", "1"]
    assert command("ledger", home=full).stdout.splitlines()[1].split()[-1] == "100"


def test_ends_that_could_not_all_be_written_are_there_once(full: Path) -> None:
    """No end of a failed try stays, so none is recorded twice."""
    settings = Settings.from_environment(home=full, service_name="full", endpoint="http://127.0.0.1:1", store="off")
    with closing(make_shipper(settings)()) as shipper:
        for _ in range(5):
            shipper.step()
        assert read_ledger(settings.journal).recorded["span"] == 100
        (full.parent / "filling").unlink()
        for _ in range(5):
            shipper.step()
        assert read_ledger(settings.journal).recorded["span"] == 121


def test_a_message_is_said_again_after_a_while_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    """What still holds is not forgotten, and what changes is said at once."""
    log = logging.getLogger("otelsync.shipping.test")
    with caplog.at_level(logging.WARNING):
        saying = Saying(log)
        for message in ("full", "full", "full", "broken", "full", "broken"):
            saying.say(message)
        assert [record.getMessage() for record in caplog.records] == ["full", "broken"]
        caplog.clear()
        saying = Saying(log, again_after=0)
        saying.say("full")
        saying.say("full", error=ValueError("odd"))
        assert [record.getMessage() for record in caplog.records] == ["full", "full (again, 1 times in 0 minutes)"]
        assert caplog.records[-1].exc_info is not None


def test_messages_that_are_remembered_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A shipper that has ever new things to say forgets the oldest."""
    with caplog.at_level(logging.CRITICAL):
        saying = Saying(logging.getLogger("otelsync.shipping.test"))
        for number in range(3000):
            saying.say(str(number))
    assert len(saying._said) == 1000
