"""Attributes of publish and run spans, under the names that users of the upstream instrumentation know.

The names and values are those of ``opentelemetry.instrumentation.celery.utils.set_attributes_from_context``; a test
holds that. Two are not: ``celery.delivery_info``, a dict as Python prints it, whose parts have names of their own here,
and ``messaging.destination``, which is the queue once more. That function sets each on the span, one by one; these
build one dict, and tell apart what is the same for thousands of messages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery.utils.time import maybe_iso8601, maybe_make_aware
from opentelemetry.instrumentation.celery.utils import CELERY_CONTEXT_ATTRIBUTES

from otelsync import vocabulary
from otelsync.hooks.host_errors import hand_back
from otelsync.recording.scope import EMPTY, SyncScope

ACTION: Final = "celery.action"
STATE: Final = "celery.state"
TASK_NAME: Final = vocabulary.CELERY_TASK_NAME
RETRY_REASON: Final = vocabulary.CELERY_RETRY_REASON
WORKER: Final = "celery.worker"
"""The worker's node name. Upstream's ``celery.hostname`` is the publisher's, since Celery 4."""
MESSAGE_ID: Final = vocabulary.MESSAGING_MESSAGE_ID
CONVERSATION_ID: Final = "messaging.conversation_id"
DESTINATION_KIND: Final = "messaging.destination_kind"
DESTINATION_NAME: Final = "messaging.destination.name"
OPERATION: Final = "messaging.operation.type"
SYSTEM: Final = vocabulary.MESSAGING_SYSTEM

SYSTEMS: Final = {"amqp": "rabbitmq", "py-amqp": "rabbitmq", "sqs": "aws_sqs", "gcpubsub": "gcp_pubsub"}
"""The semantic conventions' names of transports that Celery calls otherwise."""

_RENAMED: Final = {
    "id": MESSAGE_ID,
    "correlation_id": CONVERSATION_ID,
    "routing_key": DESTINATION_NAME,
    "origin": "celery.hostname",
    "declare": DESTINATION_KIND,
}
_NAMES: Final = tuple(
    (key, _RENAMED.get(key, f"celery.{key}")) for key in CELERY_CONTEXT_ATTRIBUTES if key != "delivery_info"
)
_OWN: Final = frozenset(("id", "correlation_id", "eta", "expires", "countdown", "timelimit"))
"""Attributes that differ from message to message, or have no hash."""
_NAMES_OF_MESSAGE: Final = tuple(pair for pair in _NAMES if pair[0] in _OWN)
_NAMES_ALIKE: Final = tuple(pair for pair in _NAMES if pair[0] not in _OWN)
_KEYS_ALIKE: Final = tuple(key for key, _ in _NAMES_ALIKE)
_PARTS_OF_DELIVERY: Final = ("exchange", "priority")
_EMPTY: Final[dict[str, Any]] = {}
_NO_LIMITS: Final = ((None, None), [None, None])
_UNLIMITED: Final = (*_NO_LIMITS, None)


def of_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return upstream's attributes for a request, or for the arguments of a publish signal."""
    info = context.get("delivery_info")
    return {**(_of_delivery(info) if info is not None else {}), **_named(context, _NAMES)}


def of_message(context: Mapping[str, Any]) -> dict[str, Any]:
    """The part of :func:`of_context` that is another one for each message."""
    get = context.get
    task_id, correlation_id = get("id"), get("correlation_id")
    is_like_most = task_id and correlation_id and not (get("eta") or get("expires"))
    if is_like_most and get("timelimit") in _UNLIMITED and get("countdown") is None:
        return {MESSAGE_ID: task_id, CONVERSATION_ID: correlation_id}
    return _named(context, _NAMES_OF_MESSAGE)


def _named(context: Mapping[str, Any], names: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    get = context.get
    for key, name in names:
        value = get(key)
        if value is None or value == "":
            continue
        if key == "timelimit":
            if value not in _NO_LIMITS:
                found[name] = ["" if limit is None else str(limit) for limit in value] if None in value else value
        elif key == "declare":
            kind = _kind(value)
            if kind is not None:
                found[name] = kind
        elif key != "retries" or value != 0:
            found[name] = value
    return found


def _of_delivery(info: Mapping[str, Any]) -> dict[str, Any]:
    """The part of :func:`of_context` that says from where a message came."""
    routing_key = info.get("routing_key")
    found = {} if routing_key is None else {DESTINATION_NAME: routing_key}
    for name in _PARTS_OF_DELIVERY:
        if value := info.get(name):
            found[f"celery.delivery_info.{name}"] = value
    return found


def _kind(declared: Any) -> str | None:
    for queue in declared:
        kind = queue.exchange.type
        if kind in ("direct", "topic"):
            return "queue" if kind == "direct" else "topic"
    return None


def planned(eta: object, timezone: Any) -> int:
    """Return when a task is to run, in nanoseconds since the epoch; 0 if at once, or if the message is not valid."""
    if not isinstance(eta, (str, datetime)):
        return 0
    try:
        moment = maybe_iso8601(eta)
        return int(maybe_make_aware(moment, timezone).timestamp() * 1e9) if moment is not None else 0
    except (TypeError, ValueError, AttributeError, OverflowError):
        return 0


def seconds_of(nanoseconds: int) -> float:
    """Return seconds to the microsecond."""
    return nanoseconds // 1_000 / 1e6


def waits(published: int, eta: int, start: int) -> dict[str, float]:
    """Return the time in the queue and the planned delay of a task; each moment in nanoseconds since the epoch.

    Clocks of two hosts can differ: a wait is never less than 0.
    """
    found: dict[str, float] = {}
    due = max(published, eta)
    if due:
        found[vocabulary.SYNC_QUEUE_WAIT_SECONDS] = seconds_of(max(0, start - due))
    if eta and published:
        found[vocabulary.SYNC_QUEUE_PLANNED_DELAY_SECONDS] = seconds_of(max(0, eta - published))
    return found


_systems: Final[WeakKeyDictionary[Any, str | None]] = WeakKeyDictionary()


def system_of(app: Any) -> str | None:
    """Return the name of an app's transport in the semantic conventions, such as ``redis`` or ``rabbitmq``."""
    try:
        return _systems[app]
    except KeyError:
        system = _systems[app] = _new_system(app)
        return system


def _new_system(app: Any) -> str | None:
    try:
        driver = app.connection_for_write().transport.driver_type
    except Exception as error:
        hand_back(error)
        return None
    return SYSTEMS.get(driver, str(driver))


# What thousands of runs share (task, queue, worker and process) is encoded once, with their scope

_MOST_SCOPES: Final = 1_024
_scopes: dict[tuple[object, ...], SyncScope] = {}


def constants(task: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that the runs of one task in one process have in common."""
    info = request.get("delivery_info") or _EMPTY
    found = {
        ACTION: "run",
        TASK_NAME: task.name,
        OPERATION: "process",
        SYSTEM: system_of(task.app),
        WORKER: request.get("hostname"),
        **(_of_delivery(info) if info else _EMPTY),
        **_named(request, _NAMES_ALIKE),
        "process.pid": os.getpid(),
        vocabulary.SYNC_ATTEMPT: (request.get("retries") or 0) + 1,
        vocabulary.SYNC_REDELIVERED: bool(info.get("redelivered")) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def scope_of_run(scope: SyncScope | None, task: Any, request: Mapping[str, Any]) -> SyncScope:
    """A scope that carries the run's constants besides what `scope` carries. It is for the run span alone."""
    info = request.get("delivery_info") or _EMPTY
    inherited = scope or EMPTY
    key = (inherited.span_bytes, task.name, os.getpid(), *info.values(), *map(request.get, _KEYS_ALIKE))
    try:
        found = _scopes.get(key)
    except TypeError:  # something in the delivery info has no hash
        found, key = None, ()
    if found is None:
        found = SyncScope({**inherited.attributes, **constants(task, request)})
        if key:
            if len(_scopes) >= _MOST_SCOPES:
                _scopes.clear()
            _scopes[key] = found
    return found


class RunsOf:
    """Constants of the runs of one task in this process; those of the last run are at hand."""

    __slots__ = ("_last", "_task", "span_name")

    def __init__(self, task: Any) -> None:
        self._task = task
        self.span_name = f"run/{task.name}"
        self._last: tuple[SyncScope | None, int, object, object, SyncScope] | None = None

    def scope(self, inherited: SyncScope | None, request: Mapping[str, Any]) -> SyncScope:
        """The same as :func:`scope_of_run`."""
        info, alike, pid = request.get("delivery_info"), [*map(request.get, _KEYS_ALIKE)], os.getpid()
        last = self._last
        if last is not None and last[0] is inherited and last[1] == pid and last[2] == alike and last[3] == info:
            return last[4]
        whole = scope_of_run(inherited, self._task, request)
        self._last = inherited, pid, alike, dict(info or _EMPTY), whole  # at once, since there may be threads
        return whole
