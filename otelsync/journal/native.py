"""Find the C extension, which is optional: the same bytes are made without it, at twice the price.

``OTELSYNC_PURE_PYTHON=1`` in the environment leaves it unused. It relies on CPython's GIL.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from otelsync import secret_quick_test

if TYPE_CHECKING:
    from otelsync.journal import _native


HAS_GIL: Final = "t" not in getattr(sys, "abiflags", "")
"""False in a build without it, which `sysconfig` says too: it takes 1 ms to ask."""
F = TypeVar("F", bound=Callable[..., Any])


def _found() -> ModuleType | None:
    if (
        sys.implementation.name != "cpython"
        or not HAS_GIL
        or os.environ.get("OTELSYNC_PURE_PYTHON", "") not in ("", "0")
    ):
        return None
    try:
        from otelsync.journal import _native
    except ImportError:
        return None
    return _native


native = _found()
"""The extension, or None."""
secret_quick_test.quick_test = native.clears if native else None

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
