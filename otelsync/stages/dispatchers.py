"""Integrations that can run a pipeline's body elsewhere, registered by themselves when they are switched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from otelsync.errors import DispatchError

Dispatch: TypeAlias = Callable[[Any, Any, dict[str, Any]], object]
"""Takes the pipeline, the canvas, and the options of its ``apply_async``; returns what that returns."""

_dispatchers: dict[str, Dispatch] = {}


def register(name: str, dispatch: Dispatch | None) -> None:
    """Let `dispatch` publish the canvases of the library of this name from now on; None: nobody does."""
    if dispatch is None:
        _dispatchers.pop(name, None)
    else:
        _dispatchers[name] = dispatch


def dispatcher() -> Dispatch:
    """Return what publishes canvases.

    Raises:
        DispatchError: No integration that is switched on can.
    """
    dispatch = next(iter(_dispatchers.values()), None)
    if dispatch is None:
        raise DispatchError(
            "no integration that runs tasks is switched on, so nobody would end the pipeline. Did you forget "
            'otelsync.instrument("celery"), or `otelsync run`? It needs Celery: the extra otelsync[celery]'
        )
    return dispatch
