"""The wheel: what is in it, and that it works in an environment with nothing but what it asks for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import documents
import pytest

from otelsync import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_INFO = f"otelsync-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built from a copy: setuptools leaves folders where it builds."""
    directory, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    shutil.copytree(
        documents.ROOT / "otelsync", source / "otelsync", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", "pytest_otelsync.py"):
        shutil.copy(documents.ROOT / name, source)
    _pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(directory), str(source))
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment that has the wheel and what it requires, and nothing else."""
    directory = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    python = directory / "bin" / "python"
    _pip(python, "install", "--no-compile", "-c", str(documents.ROOT / "constraints.txt"), str(wheel))
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module, pytest's plugin, the mark of typed packages, licence and command; no tests, examples or C source.

    The extension is there where it could be built.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = message_from_bytes(archive.read(f"{_INFO}/METADATA"))
        commands = archive.read(f"{_INFO}/entry_points.txt").decode()
    source = documents.ROOT / "otelsync"
    modules = {str(path.relative_to(documents.ROOT)) for path in source.rglob("*.py")}
    info = {
        f"{_INFO}/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    }
    extension = {name for name in names if re.fullmatch(r"otelsync/journal/_native\.[\w.-]+\.so", name)}
    assert len(extension) <= 1
    templates = {f"{name}.html.jinja" for name in ("page", "summary", "tables", "waterfall")} | {"page.css", "page.js"}
    templates |= {f"{name}.md.jinja" for name in ("group", "sections", "summary")}
    others = {"py.typed", "journal/_native.pyi", *(f"reports/templates/{name}" for name in templates)}
    assert names - extension == modules | {"pytest_otelsync.py"} | info | {f"otelsync/{name}" for name in others}
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "otelsync = otelsync.cli:main" in commands


def test_the_readme_example_runs_where_only_the_wheel_is(bare_python: Path, tmp_path: Path) -> None:
    """The README's program runs, the run is listed and drawn, with what the wheel requires alone."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "example.py").write_text(documents.example(), encoding="utf-8")
    documents.run(home, str(tmp_path / "example.py"), python=bare_python)
    command = bare_python.with_name("otelsync")
    assert re.search(r"-SYNC-.*github\.onboarding", documents.run(home, str(command), "list", python=bare_python))
    shown = documents.run(home, str(command), "show", python=bare_python)
    assert documents.normalised(shown) == documents.normalised(documents.printed())


def test_importing_otelsync_loads_nothing_that_only_some_need(bare_python: Path, tmp_path: Path) -> None:
    """``import otelsync`` loads no task queue, HTTP client, renderer, database or gRPC."""
    code = "import sys, otelsync; otelsync.configure; print(*sys.modules)"
    loaded = documents.run(tmp_path, "-c", code, python=bare_python)
    top_level = {name.partition(".")[0] for name in loaded.split()}
    assert "otelsync" in top_level
    assert not top_level & {"celery", "requests", "rich", "sqlalchemy", "grpc"}


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert finished.returncode == 0, finished.stderr
