"""Something is done as soon as a module is imported, and not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from otelsync.hooks.when_imported import when_imported


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that nobody has imported."""
    (tmp_path / "late_module.py").write_text("value = 1\n")
    (tmp_path / "late_broken.py").write_text("raise ImportError('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importers = list(sys.meta_path)
    yield "late_module"
    sys.modules.pop("late_module", None)
    assert sys.meta_path == importers


def test_the_callback_follows_the_import(importable: str) -> None:
    """It gets the module once that is complete, once, and nothing of ours is left in the module."""
    seen: list[ModuleType] = []
    when_imported(importable, seen.append)
    assert seen == []
    module = importlib.import_module(importable)
    importlib.reload(module)
    assert seen == [module]
    assert module.value == 1
    assert module.__spec__ is not None
    for loader in (module.__spec__.loader, module.__loader__):
        assert not type(loader).__module__.startswith("otelsync")


def test_a_module_that_is_there_is_taken_at_once() -> None:
    """What was imported before is handed over at once."""
    seen: list[ModuleType] = []
    when_imported("json", seen.append)
    assert [module.__name__ for module in seen] == ["json"]


def test_several_may_wait_and_one_may_leave(importable: str) -> None:
    """Callbacks of the same module are called in order; one that was called off is not, and may be again."""
    seen: list[str] = []
    when_imported(importable, lambda _: seen.append("first"))
    leave = when_imported(importable, lambda _: seen.append("second"))
    when_imported(importable, lambda _: seen.append("third"))
    leave()
    leave()
    importlib.import_module(importable)
    assert seen == ["first", "third"]


def test_a_callback_that_fails_harms_no_import(importable: str) -> None:
    """An exception of a callback is not the importing program's business."""

    def fail(_: ModuleType) -> None:
        raise RuntimeError("ours")

    seen: list[ModuleType] = []
    when_imported(importable, fail)
    when_imported(importable, seen.append)
    assert importlib.import_module(importable).value == 1
    assert len(seen) == 1


@pytest.mark.usefixtures("importable")
def test_an_import_that_fails_fails_as_ever() -> None:
    """A module that cannot be imported, or is not there, raises what it raised."""
    leaves = [when_imported(name, lambda _: None) for name in ("late_broken", "late_missing")]
    with pytest.raises(ImportError, match=r"^no$"):
        importlib.import_module("late_broken")
    with pytest.raises(ModuleNotFoundError, match="late_missing"):
        importlib.import_module("late_missing")
    for leave in leaves:
        leave()


def test_nobody_is_called_while_the_package_is_half_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is imported in the middle of another one of its package is handed over when that is complete."""
    package = tmp_path / "late_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").touch()
    (package / "outer.py").write_text("import late_package.inner\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[int] = []
    when_imported("late_package.inner", lambda _: seen.append(importlib.import_module("late_package.outer").value))
    importlib.import_module("late_package.outer")
    assert seen == [1]
    for name in ("late_package", "late_package.inner", "late_package.outer"):
        del sys.modules[name]
