"""Find the C extension, which is optional: the same bytes are made without it, at twice the price.

``OTELSYNC_PURE_PYTHON=1`` in the environment leaves it unused. It relies on CPython's GIL.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from otelsync import secret_patterns

if TYPE_CHECKING:
    from otelsync.journal import _native


F = TypeVar("F", bound=Callable[..., Any])


def _found() -> ModuleType | None:
    has_gil = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
    if not has_gil or os.environ.get("OTELSYNC_PURE_PYTHON", "") not in ("", "0"):
        return None
    try:
        from otelsync.journal import _native
    except ImportError:
        return None
    return _native


native = _found()
"""The extension, or None."""
secret_patterns.quick_test = native.clears if native else None

if TYPE_CHECKING:
    Place = _native.Place
else:
    Place = native.Place if native else object  # the base of a journal: without the extension there is nothing to add


def guarded_by(despite: Callable[..., Any]) -> Callable[[F], F]:
    """Decorate a method that has to be whole: what is raised in it goes to `despite`, which does the rest.

    An exception of a signal handler can come before the first line of a function, where no ``try`` of its own helps:
    a block would be left with its span open and current. The C extension has no such place.

    Args:
        despite: Takes the object, the exception, and the method's other arguments; it returns in its place.
    """

    def decorate(function: F) -> F:
        if native is not None:
            return cast("F", native.Guarded(function, despite))

        @functools.wraps(function)
        def guarded(self: Any, *args: Any) -> Any:
            try:
                return function(self, *args)
            except BaseException as error:
                return despite(self, error, *args)

        return cast("F", guarded)

    return decorate
