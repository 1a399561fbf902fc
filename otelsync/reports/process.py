"""The process that makes reports: started beside the program, asked how it went, left to itself at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Final

from otelsync.hooks.python_path import without_bootstrap
from otelsync.settings import Settings

_PYTHON: Final = re.compile(r"python|pypy")
_MOST_SAID: Final = 4096
_LONGEST_CAUSE: Final = 300
_OURS: Final = "otelsync: "
"""The beginning of a command's own message."""


def environment_of_report(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the process that makes reports: where the data is, and nothing to record or ship.

    Args:
        settings: Of whoever ships; no other option of the environment has a say.
        environment: What it is made from.
    """
    options = {variable for option in fields(Settings) for variable in option.metadata["variables"]}
    others = {name: value for name, value in without_bootstrap(environment).items() if name not in options}
    ours = {
        "OTELSYNC_HOME": str(settings.home),
        "OTELSYNC_STORE_PATH": str(settings.store_file),
        "OTELSYNC_REPORTS_KEEP": str(settings.reports_keep),
        "OTELSYNC_REPORTS": "off",
        "OTELSYNC_SHIP": "off",
        "OTEL_SDK_DISABLED": "true",  # also for another tool that sets up every Python
    }
    if settings.trace_url is not None:
        ours["OTELSYNC_TRACE_URL"] = settings.trace_url
    if settings.journal_dir is not None:
        ours["OTELSYNC_JOURNAL_DIR"] = str(settings.journal_dir)
    return {**others, **ours}


class ReportProcess(subprocess.Popen[bytes]):
    """An ``otelsync report`` of low priority that says nothing unless it fails.

    It is in a session of its own, so no signal for the program's group or terminal ends it.

    Raises:
        OSError: It cannot be started.
        ValueError: A name, or the directory, cannot be an argument.
    """

    def __init__(self, names: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        # -P: no module is taken from wherever the program happens to be
        command = [_python(), "-P", "-m", "otelsync.cli", "report", f"--output={directory}"]
        super().__init__(
            [*command, *(f"--in-background={name}" for name in names)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __del__(self) -> None:
        """Outlive us without a warning, on purpose."""

    def failure(self) -> str | None:
        """Return the reason for a failure; empty if there is none, and None while the process goes on."""
        code = self.poll()
        if code is None:
            return None
        lines = self._said().strip().splitlines()
        self._close()
        # The exit code is 0 too if the program, or its supervisor, has waited for every child that there was.
        if code == 0 and not any(line.startswith(_OURS) for line in lines):
            return ""
        how = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with {code}"
        return lines[-1].removeprefix(_OURS)[:_LONGEST_CAUSE] if lines else how

    def leave(self) -> None:
        """Let it go on by itself. It is only waited for so that nothing of it stays in the table of processes."""
        self._close()
        with suppress(RuntimeError):  # no thread to be had, such as at the end of the interpreter
            threading.Thread(target=self.wait, name="otelsync-report", daemon=True).start()

    def _said(self) -> str:
        """Read what there is: another child of the program may hold the pipe open, so there may be no end."""
        assert self.stderr is not None
        number = self.stderr.fileno()
        try:
            os.set_blocking(number, False)
            return os.read(number, _MOST_SAID).decode("utf-8", "replace")
        except OSError:
            return ""

    def _close(self) -> None:
        if self.stderr is not None:
            self.stderr.close()


def _python() -> str:
    """The interpreter. Where Python is embedded, or the program was frozen, this would be the program itself."""
    if getattr(sys, "frozen", False) or not _PYTHON.match(Path(sys.executable or "").name):
        raise OSError(f"{sys.executable or 'sys.executable'} is no Python that could be started")
    return sys.executable
