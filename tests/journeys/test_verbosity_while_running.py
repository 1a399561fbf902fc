"""Levels of a program that runs are changed by a command, in its forked children too, and end by themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hosts import command, environment

_PROGRAM = """
import os, sys, time
import otelsync

otelsync.configure(service_name="worker", log_level="INFO")
log = otelsync.get_logger("app.client")
child = os.fork()
with otelsync.pipeline("endless"):
    while not os.path.exists(sys.argv[1]):
        with otelsync.pull_request(1):
            log.debug("page.read", is_child=child == 0)
        time.sleep(0.01)
if child:
    os.waitpid(child, 0)
"""


def test_a_command_changes_the_levels_of_all_processes_of_a_service(tmp_path: Path) -> None:
    """DEBUG of a logger comes out while it is asked for, from the worker and from its child, and of no other event."""
    surroundings = environment(tmp_path / "home")
    end = tmp_path / "end"
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(end)], env=surroundings, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert "sync.pipeline.started" in process.stdout.readline()
            command(surroundings, "verbosity", "--service", "worker", "--for", "3s", "app=DEBUG")
            lines: list[str] = []
            while sum('"levels":""' in line for line in lines) < 2:  # both have noticed that the time is over
                lines.append(process.stdout.readline())
                assert lines[-1]
        finally:
            end.touch()
            process.communicate()
    assert process.returncode == 0
    assert not any("sync.pr.processed" in line for line in lines)
    seen = {text for text in ('"is_child":true', '"is_child":false') for line in lines if text in line}
    assert seen == {'"is_child":true', '"is_child":false'}
