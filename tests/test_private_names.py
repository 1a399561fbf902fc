"""Private names of other packages: one module reaches each, and it is known which versions have it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from private_names import PRIVATE, Private

ROOT = Path(__file__).parent.parent / "otelsync"
OF_TABLE = {private.name for private in PRIVATE}


def _owner(place: str) -> Any:
    """The module, class or object that has a name: ``module:Class``, ``module:Class().attribute``."""
    module, _, rest = place.partition(":")
    owner: Any = import_module(module)
    for part in filter(None, rest.split(".")):
        owner = getattr(owner, part.removesuffix("()"))
        owner = owner() if part.endswith("()") else owner
    return owner


@pytest.mark.parametrize("private", PRIVATE, ids=lambda private: f"{private.distribution}:{private.name}")
def test_the_installed_version_has_the_name_or_has_it_not(private: Private) -> None:
    """The table is right about the version that is installed: with the oldest, with the newest, with any between."""
    installed = Version(version(private.distribution)).release
    has = not private.since or installed >= Version(private.since).release
    has = has and (not private.until or installed < Version(private.until).release)
    owner = _owner(private.place)
    in_class = isinstance(owner, type) and any(private.name in vars(each) for each in owner.__mro__)
    assert (in_class or hasattr(owner, private.name)) == has


def _reached(path: Path) -> Iterator[str]:
    """The private names that a module reaches by attribute, import or text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("otelsync"):
            yield from (alias.name for alias in node.names)
            yield from (part for part in (node.module or "").split(".") if part.startswith("_"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_private_name_is_reached_in_one_module(path: Path) -> None:
    """A name of the table is used in its module alone, and what is imported from others is public or in the table."""
    here = path.relative_to(ROOT).as_posix()
    may = {private.name for private in PRIVATE if private.used_in == here}
    assert set(_reached(path)) & OF_TABLE <= may
    imported = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("otelsync", "__future__"))
        for alias in node.names
        if re.match(r"_[A-Za-z]", alias.name)
    }
    assert imported <= may


WITHOUT = """
import sys
names = sys.argv[2:]
import opentelemetry.context, opentelemetry.trace
from opentelemetry.sdk import trace
from celery.app.log import Logging
for owner in (opentelemetry.context, opentelemetry.trace, trace.Tracer, trace.SpanProcessor, Logging):
    for name in names:
        if name in vars(owner) and name not in ("_TRACER_PROVIDER", "_RUNTIME_CONTEXT"):
            delattr(owner, name)
import otelsync
otelsync.configure(service_name="svc", home=sys.argv[1], ship="off", logging="keep")
otelsync.instrument("celery")
with otelsync.pipeline("p"), otelsync.repo("a/b"):
    pass
otelsync.uninstrument()
otelsync.shutdown()
print("recorded")
"""


def test_without_a_private_name_it_goes_on(tmp_path: Path) -> None:
    """Another version of the SDK, of the API or of Celery may have dropped a name: less is seen, and nothing fails."""
    names = ["_is_enabled", "_on_ending", "_RuntimeContext", "_setup"]
    command = [sys.executable, "-c", WITHOUT, str(tmp_path), *names]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "recorded\n", "")
