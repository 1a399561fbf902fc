"""Private names of Celery and billiard, which are reached here alone.

``tests/test_private_names.py`` says which versions have which. Where one is missing, less is seen, and nothing fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from billiard import common
from celery.app.log import Logging
from celery.worker.request import Request

REVOKED: Final = "_announce_revoked"
"""The method of a request that says that its task was revoked."""
LOST: Final = "_retry_worker_lost"
"""The method of a request that publishes the next attempt of a task whose process was lost."""


def built_tasks() -> Iterator[Any]:
    """Yield the tasks of all apps that have a tracer already."""
    for app in list(getattr(sys.modules.get("celery._state"), "_apps", ())):
        for task in list(getattr(app, "_tasks", {}).values()):
            if task.__trace__ is not None:
                yield task


def logging_is_set_up() -> bool:
    """Return whether Celery has set up logging in this process."""
    return bool(getattr(Logging, "_setup", False))


def was_told_to_end() -> bool:
    """Return whether this process of a pool was told to end."""
    flag: Any = vars(common).get("_should_have_exited")
    return bool(flag and flag[0])


def is_over(request: Request) -> bool:
    """Return whether the task of a request was revoked or cancelled."""
    said = vars(request)
    return bool(said.get("_already_revoked") or said.get("_already_cancelled"))


def redis_client(backend: Any, options: Callable[[], Mapping[str, Any]]) -> Any:
    """Make another client of a backend whose results are in Redis; None if they are elsewhere."""
    make, parameters = getattr(backend, "_create_client", None), getattr(backend, "connparams", None)
    return make(**{**parameters, **options()}) if make is not None and isinstance(parameters, dict) else None
