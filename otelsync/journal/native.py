"""Find the C extension, which is optional: the same bytes are made without it, at twice the price.

``OTELSYNC_PURE_PYTHON=1`` in the environment leaves it unused. It relies on CPython's GIL.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelsync.journal import _native


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

if TYPE_CHECKING:
    Place = _native.Place
else:
    Place = native.Place if native else object  # the base of a journal: without the extension there is nothing to add
