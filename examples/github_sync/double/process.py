"""Start the double as a process of its own and stop it again, so that its CPU time and its log are apart."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_PATIENCE_SECONDS = 10


class DoubleFailedError(RuntimeError):
    """The double did not start; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Double:
    """A running double: its base URL, and how many pull requests each of its repositories has."""

    url: str
    repositories: dict[str, int]


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[Double]:
    """Run ``python -m examples.github_sync.double`` with these arguments for the length of the block.

    Raises DoubleFailedError when it does not come up, for instance because the recordings could not be fetched.
    """
    command = [sys.executable, "-m", "examples.github_sync.double", "--parent", *arguments]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, cwd=_ROOT
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            first = process.stdout.readline()
            if not first:
                process.wait(_PATIENCE_SECONDS)
                complaints.seek(0)
                raise DoubleFailedError(complaints.read().strip() or "the double ended without a word")
            yield Double(**json.loads(first))
        finally:
            # The end of its input ends it; it also comes when this process dies of anything.
            process.stdin.close()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
