"""Put off the loading of modules that others import, and that a process of our own has no use for as a rule."""

from __future__ import annotations

import sys
from types import ModuleType

UNUSED_BY_SHIPPERS = (
    *("inspect", "tokenize", "textwrap", "calendar", "ipaddress"),  # dataclasses, linecache, traceback, urllib.parse
    "google.protobuf.internal.python_message",  # google.protobuf, which has it for where there is no C
)
"""Modules that a shipper uses at most when something fails: a fifth of its start."""


def put_off(*names: str) -> None:
    """Let modules that are not loaded yet be loaded when somebody looks into them.

    For processes of our own alone: whoever gets such a stand-in by an import keeps it, and it is no loaded module yet.
    """
    for name in names:
        sys.modules.setdefault(name, _stand_in(name))


def _stand_in(name: str) -> ModuleType:
    stand_in = ModuleType(name)

    def load(attribute: str) -> object:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        __import__(name)
        return getattr(sys.modules[name], attribute)

    stand_in.__getattr__ = load  # type: ignore[method-assign]
    return stand_in
