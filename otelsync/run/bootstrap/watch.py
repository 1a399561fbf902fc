"""The watch for the moment at which a program under ``otelsync run`` is set up; ``sitecustomize`` beside it begins it.

That is when the program first imports something that is not of the standard library, or logs its first record. So a
short program that does neither is not slowed down, and gevent and eventlet patch the standard library before we use it.

Nothing of otelsync is imported here before it is needed: Pythons that have no otelsync find this file as well.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType
    from typing import Any

STANDS_BACK = frozenset(
    (
        "_cffi_backend",
        "celery",
        "cffi",
        "dns",
        "eventlet",
        "gevent",
        "greenlet",
        "sitecustomize",
        "usercustomize",
        "zope",
    )
)
"""Packages that may patch the standard library, and what they consist of."""

PATCHES = frozenset(("eventlet", "gevent"))
"""Packages that import whatever they stumble upon while they patch."""

BEFORE_CELERY_PATCHES = frozenset(("celery.__main__", "celery.local"))
"""Modules that Celery imports before ``celery.maybe_patch_concurrency()``."""


class Watch:
    """The first of the importers, until the program shows that it is more than a short helper."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Set the program up, if this is the moment; then find the module as always."""
        if name == "logging":
            spec = _find(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _UntilFirstRecord(spec.loader)  # type: ignore[assignment]
            return spec
        if _stands_back(name) or _find(name, path, target) is None or _is_patching():
            return None
        begin()
        loaded = sys.modules.get(name)
        if loaded is None or loaded.__spec__ is None:
            return _find(name, path, target)
        return _adopt(loaded, loaded.__spec__)


class _UntilFirstRecord:
    """Loads ``logging``, which sets the program up when it gets its first record to handle."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        handle = module.Logger.handle

        def restore() -> None:
            if module.Logger.handle is begin_and_handle:
                module.Logger.handle = handle

        def begin_and_handle(logger: Any, record: Any) -> None:
            restore()
            begin()
            logger.handle(record)

        module.Logger.handle = begin_and_handle
        undo.append(restore)


class _Adopted:
    """A loader of a module that was imported while it was being looked for. Otherwise it is that module's own."""

    def __init__(self, module: ModuleType, spec: ModuleSpec) -> None:
        self._module = module
        self._spec = spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spec.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _stands_back(name: str) -> bool:
    """Return whether an import of this name says nothing yet."""
    if name.startswith("celery."):
        return name in BEFORE_CELERY_PATCHES
    return "." in name or name in STANDS_BACK or name in sys.stdlib_module_names


def _is_patching() -> bool:
    """Return whether the standard library is being patched at this moment, by whoever has led to this import."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in PATCHES:
            return True
        frame = frame.f_back
    return False


def _adopt(module: ModuleType, spec: ModuleSpec) -> ModuleSpec:
    """A spec that loads the module that is there. Python loads by the module's own, once it is in ``sys.modules``."""
    adopting = type(spec)(spec.name, None)
    vars(adopting).update(vars(spec))
    adopting.loader = _Adopted(module, spec)  # type: ignore[assignment]
    module.__spec__ = adopting
    return adopting


def _find(name: str, path: Any, target: ModuleType | None) -> ModuleSpec | None:
    """Ask the other importers."""
    for finder in list(sys.meta_path):
        if finder is not watch and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


def begin() -> None:
    """Set the program up; once. Where there is no otelsync, or it cannot be imported, it runs as it is."""
    if watch not in sys.meta_path:
        return
    sys.meta_path.remove(watch)
    for action in undo:
        action()
    try:
        from otelsync.run.bootstrap import start
    except Exception as error:
        if getattr(error, "name", None) != "otelsync" and sys.stderr is not None:
            sys.stderr.write(f"otelsync records nothing of this program: {error}\n")
        return
    start()


watch = Watch()
undo: list[Any] = []


if __name__ == "watch":
    sys.meta_path.insert(0, watch)  # type: ignore[arg-type, unused-ignore]
