"""The version of a logger, as its scope carries it: of its library, of the service, or of otelsync, which records."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Final

from otelsync.version import __version__

_SERVICE_VERSION: Final = "service.version"
_LONGEST: Final = 64


def version_of(logger: str, resource: Mapping[str, object]) -> str:
    """Return the ``__version__`` of the package that a logger is named after, or else of the service.

    A package that says nothing, of a service that says nothing, has that of otelsync, which recorded it.
    """
    package, _, _ = logger.partition(".")
    module = sys.modules.get(package)
    # Of its dictionary: some packages warn of a deprecated name where it is asked for as an attribute.
    known = object.__getattribute__(module, "__dict__") if issubclass(type(module), ModuleType) else {}
    for found in (known.get("__version__"), resource.get(_SERVICE_VERSION)):
        if type(found) is str and 0 < len(found) <= _LONGEST:
            return found
    return __version__
