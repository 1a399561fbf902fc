"""Constants that thousands of runs share (task, queue, worker and process), encoded once with their scope."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery.publishing import system_of
from otelsync.recording.scope import EMPTY, SyncScope
from otelsync.vocabulary import SYNC_ATTEMPT, SYNC_REDELIVERED

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
        **of.alike(request),
        "process.pid": os.getpid(),
        SYNC_ATTEMPT: (request.get("retries") or 0) + 1,
        SYNC_REDELIVERED: bool(info.get("redelivered")) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def scope_of_run(scope: SyncScope | None, name: str, request: Mapping[str, Any], system: str | None) -> SyncScope:
    """A scope that carries the run's constants besides what `scope` carries. It is for the run span alone."""
    info = request.get("delivery_info") or _EMPTY
    inherited = scope or EMPTY
    key = (inherited.span_bytes, name, os.getpid(), *info.values(), *map(request.get, of.KEYS_ALIKE))
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


class RunsOf:
    """Constants of the runs of one task in this process; those of the last run are at hand.

    Args:
        task: The task.
    """

    __slots__ = ("_last", "_task", "name", "span_name")

    def __init__(self, task: Any) -> None:
        self._task = task
        self.name: str = task.name
        self.span_name = f"run/{task.name}"
        self._last: tuple[SyncScope | None, int, object, object, SyncScope] | None = None

    def scope(self, inherited: SyncScope | None, request: Mapping[str, Any]) -> SyncScope:
        """The same as :func:`scope_of_run`."""
        info, alike, pid = request.get("delivery_info"), [*map(request.get, of.KEYS_ALIKE)], os.getpid()
        last = self._last
        if last is not None and last[0] is inherited and last[1] == pid and last[2] == alike and last[3] == info:
            return last[4]
        whole = scope_of_run(inherited, self.name, request, system_of(self._task.app))
        self._last = inherited, pid, alike, dict(info or _EMPTY), whole  # at once, since there may be threads
        return whole
