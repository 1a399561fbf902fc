"""The versions that otelsync takes: those that the oldest are tested with are those that pyproject.toml names."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LEFT_OUT = {"sqlalchemy"}
"""Requirements of the examples, which are not tested with the oldest versions."""


def test_the_oldest_versions_are_tested() -> None:
    """Each lower bound is a pin of constraints-oldest.txt, and nothing there says where it is to be had."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        (bound,) = requirement.specifier
        assert bound.operator == ">=", requirement
        bounds[canonicalize_name(requirement.name)] = Version(bound.version)
    pins: dict[str, Version] = {}
    for line in (ROOT / "constraints-oldest.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, pin = line.partition("==")
            pins[canonicalize_name(name)] = Version(pin)
    assert {name: pins.get(name) for name in bounds.keys() - LEFT_OUT} == {
        name: bound for name, bound in bounds.items() if name not in LEFT_OUT
    }
