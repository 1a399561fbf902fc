"""LogQL and TraceQL, read by Grafana's own parsers: a program for node, whose packages `make parsers` installs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent / "queries"
needed: Final = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").exists(),
    reason="`make parsers` has not installed Grafana's parsers",
)


def errors(queries: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return what is wrong with each query; a query is ``logql`` or ``traceql``, and its text."""
    done = subprocess.run(
        ["node", FOLDER / "parse.cjs"],
        input=json.dumps(queries),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return list(json.loads(done.stdout))
