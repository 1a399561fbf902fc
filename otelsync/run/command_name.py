"""The default name of a service: that of the command that starts it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*")
_APP: Final = re.compile(r"([A-Za-z_][\w.]*):\w+(\(.*\))?")
_TAKES_A_VALUE: Final = frozenset(("-W", "-X", "--check-hash-based-pycs"))


def service_of(command: Sequence[str]) -> str:
    """The name of the service that a command starts; the same for all processes of one application.

    >>> service_of(["celery", "-A", "proj.worker:app", "worker", "-c", "4"])
    'proj'
    >>> service_of(["gunicorn", "-w", "2", "shop.wsgi:application"])
    'shop'
    >>> service_of(["python", "-u", "jobs/sync.py", "--full"])
    'sync'
    """
    for place, word in enumerate(command):
        if PurePath(word).name == "celery":
            return _of_celery(command[place + 1 :])
        if _PYTHON.fullmatch(PurePath(word).name):
            return _of_python(command[place + 1 :]) or PurePath(word).name
    for word in command[1:]:
        found = _APP.fullmatch(word)
        if found:
            return _package(found[1])
    return PurePath(command[0]).stem or command[0]


def _of_celery(arguments: Sequence[str]) -> str:
    """By the application: worker, beat and everything else of it are one service."""
    for place, word in enumerate(arguments):
        if word in ("-A", "--app") and place + 1 < len(arguments):
            return _package(arguments[place + 1])
        if word.startswith("--app="):
            return _package(word.removeprefix("--app="))
        if word.startswith("-A") and word != "-A":
            return _package(word.removeprefix("-A"))
    return "celery"


def _of_python(arguments: Sequence[str]) -> str:
    for place, word in enumerate(arguments):
        if word == "-m" and place + 1 < len(arguments):
            module = arguments[place + 1]
            return _of_celery(arguments[place + 2 :]) if module == "celery" else module.rpartition(".")[2]
        if word == "-c":
            return ""
        if word in _TAKES_A_VALUE:
            return _of_python(arguments[place + 2 :])
        if not word.startswith("-"):
            path = PurePath(word)
            return path.parent.name or path.stem if path.stem == "__main__" else path.stem
    return ""


def _package(place: str) -> str:
    """The top-level package of ``package.module:name``."""
    return place.partition(":")[0].partition(".")[0] or place
