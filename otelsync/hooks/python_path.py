"""The place on ``PYTHONPATH`` by which a program is set up before its first line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

BOOTSTRAP: Final = str(Path(__file__).parents[1] / "run" / "bootstrap")


def other_places(environment: Mapping[str, str]) -> list[str]:
    """Return the places on the ``PYTHONPATH`` of `environment` that are not ours."""
    return [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", BOOTSTRAP)]


def without_bootstrap(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the same environment, for a process that is not to be recorded."""
    path = other_places(environment)
    others = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return {**others, "PYTHONPATH": os.pathsep.join(path)} if path else others
