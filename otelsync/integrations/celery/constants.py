"""What thousands of runs say alike (their task, queue, worker and process), encoded once together with their scope."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from otelsync.context import EMPTY, SyncScope
from otelsync.integrations.celery import attributes as of

_EMPTY: Final[dict[str, Any]] = {}
_MOST: Final = 1_024

_scopes: dict[tuple[object, ...], SyncScope] = {}


def constants(name: str, request: Mapping[str, Any], system: str | None) -> dict[str, Any]:
    """The attributes that the runs of one task in one process have in common."""
    info = request.get("delivery_info") or _EMPTY
    found = {
        of.ACTION: "run",
        of.TASK_NAME: name,
        of.OPERATION: "process",
        of.SYSTEM: system,
        of.WORKER: request.get("hostname"),
        of.DESTINATION_NAME: info.get("routing_key"),
        **(of.of_delivery(info) if info else _EMPTY),
        "process.pid": os.getpid(),
        "sync.attempt": (request.get("retries") or 0) + 1,
        "sync.redelivered": bool(info.get("redelivered")) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def scope_of_run(scope: SyncScope | None, name: str, request: Mapping[str, Any], system: str | None) -> SyncScope:
    """A scope that carries the run's constants besides what `scope` carries. It is for the run span alone."""
    info = request.get("delivery_info") or _EMPTY
    inherited = scope or EMPTY
    key = (inherited.span_bytes, name, request.get("hostname"), request.get("retries"), os.getpid(), *info.values())
    try:
        found = _scopes.get(key)
    except TypeError:  # something in the delivery info has no hash
        found, key = None, ()
    if found is None:
        found = SyncScope({**inherited.attributes, **constants(name, request, system)})
        if key:
            if len(_scopes) >= _MOST:
                _scopes.clear()
            _scopes[key] = found
    return found
