"""The versions that otelsync takes: those that the oldest are tested with are those that pyproject.toml names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LEFT_OUT = {"alembic", "graphql-core", "groq", "sqlalchemy", "starlette", "uvicorn"}
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


def versions(place: Path, *names: str, python: str | Path = sys.executable) -> tuple[int, list[str]]:
    """Run the script in `place`, and return its exit status and what it has said."""
    (place / "tests").mkdir()
    for name in ("versions.sh", "pythons.py"):
        shutil.copy(ROOT / "tests" / name, place / "tests")
    for name in ("pyproject.toml", "requirements-versions.txt", "constraints.txt"):
        shutil.copy(ROOT / name, place)
    (place / "otelsync" / "journal").mkdir(parents=True)
    shutil.copy(ROOT / "otelsync" / "journal" / "_native.c", place / "otelsync" / "journal")
    environment = {**os.environ, "PYTHON": str(python), "PYENV_ROOT": str(place), "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        ["bash", "tests/versions.sh", *names], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("versions:")]


def test_a_python_that_is_missing_is_said(tmp_path: Path) -> None:
    """It is no failure: not every machine has all of them."""
    assert versions(tmp_path, "3.98", "3.99") == (
        0,
        [
            "versions: no Python 3.98 on this machine; its tests are left out",
            "versions: no Python 3.99 on this machine; its tests are left out",
            "versions: passed: none; failed: none; not on this machine: 3.98 3.99",
        ],
    )


@pytest.mark.parametrize("what", ["no environment can be made", "a test fails", "nobody can say which are there"])
def test_a_python_that_fails_is_a_failure(tmp_path: Path, what: str) -> None:
    """Whatever fails of it, the others have their turn, and the end says which it was."""
    here = "{}.{}".format(*sys.version_info)
    python: str | Path = sys.executable
    if what == "nobody can say which are there":
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o700)
    environment = tmp_path / ".versions" / here
    environment.mkdir(parents=True)
    if what == "a test fails":  # its environment is there, and up to date
        (environment / "bin").mkdir()
        (environment / "bin" / "python").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python\n')
        (environment / "bin" / "python").chmod(0o700)
        sources = ("pyproject.toml", "requirements-versions.txt", "constraints.txt", "otelsync/journal/_native.c")
        content = b"".join((ROOT / name).read_bytes() for name in sources)
        made_from = subprocess.run(["sha256sum"], input=content, capture_output=True, check=True)
        (environment / "made-from").write_bytes(made_from.stdout)
    status, said = versions(tmp_path, here, "3.99", python=python)
    assert status == 1
    missing = "none" if what == "nobody can say which are there" else "3.99"
    failed = f"{here} 3.99" if missing == "none" else here
    assert said[-1] == f"versions: passed: none; failed: {failed}; not on this machine: {missing}"
