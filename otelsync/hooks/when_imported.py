"""Do something as soon as a module is imported, and not before: `import structlog` alone costs 50 ms.

One finder stands first on ``sys.meta_path`` as long as anything is waited for. It finds nothing itself: it lets the
others find the modules of the package, and has their loaders call back. Nobody is called while any of them is half
imported: `from celery import chord` imports `celery.app` in the middle of `celery.canvas`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from otelsync.hooks.host_errors import forgive

Callback = Callable[[ModuleType], None]

_waiting: dict[str, list[Callback]] = {}
_going_on: list[str] = []
"""The modules of packages that are waited for, while they are executed."""


def when_imported(name: str, callback: Callback) -> Callable[[], None]:
    """Call `callback` with the module `name`: now, if it is there, else right after its first import.

    Then it is called before the program's import statement returns, when no module of the package is half imported. An
    exception of the callback is logged at DEBUG; the import goes on.

    Returns:
        What calls the waiting off.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        _call(callback, module)
        return lambda: None
    _waiting.setdefault(name, []).append(callback)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    return lambda: _leave(name, callback)


def _leave(name: str, callback: Callback) -> None:
    callbacks = _waiting.get(name, [])
    if callback in callbacks:
        callbacks.remove(callback)
    if not callbacks:
        _waiting.pop(name, None)
    _leave_the_importers()


def _leave_the_importers() -> None:
    if not _waiting and _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)


def _call_back(package: str) -> None:
    """Call those who wait for a module of `package`, unless some of it is still on its way."""
    if any(_package_of(name) == package for name in _going_on):
        return
    for name in [name for name in _waiting if _package_of(name) == package and name in sys.modules]:
        for callback in _waiting.pop(name, []):
            _call(callback, sys.modules[name])
    _leave_the_importers()


def _package_of(name: str) -> str:
    return name.partition(".")[0]


def _call(callback: Callback, module: ModuleType) -> None:
    try:
        callback(module)
    except Exception as error:
        forgive(error, "what was to follow the import of %s failed", module.__name__)


class _Finder(MetaPathFinder):
    """Lets the other importers find the modules of a package that is waited for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = _package_of(fullname)
        if not any(_package_of(name) == package for name in _waiting):
            return None
        for finder in [*sys.meta_path]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None or finder is self else find(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(Loader):
    """Knows when its module is there. To everybody else it is the loader that it stands for."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        name = module.__name__
        _going_on.append(name)
        try:
            self._loader.exec_module(module)
        finally:
            _going_on.remove(name)
        _call_back(_package_of(name))


_FINDER = _Finder()
