"""The store of an app's tallies; one that cannot be reached does not harm the host."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from celery import Celery
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otelsync import in_force
from otelsync.errors import DispatchError
from otelsync.hooks.host_errors import hand_back
from otelsync.integrations.celery.activation import log
from otelsync.integrations.celery.celery_names import redis_client
from otelsync.integrations.celery.tally import WAIT_SECONDS, RedisClient, RedisTally, SqliteTally, Tally

R = TypeVar("R")

TALLIES: Final = "tallies.sqlite"
"""The file in otelsync's home, where neither the result backend nor the broker is Redis."""
PAUSE_SECONDS: Final = 10.0
"""Seconds for which a store that could not be reached is left alone, so that not every publish waits for it."""


def tally_of(app: Celery) -> Tally:
    """The tallies of an app: in Redis if its results or its messages are there, else in a file of this host."""
    try:
        return cast(Tally, app.__dict__["_otelsync_tally"])
    except KeyError:
        client = _redis_of_results(app) or _redis_of_broker(app)
        if client is not None:
            weakref.finalize(app, client.connection_pool.disconnect)
        tally: Tally = RedisTally(client) if client is not None else _local_tally()
        app.__dict__["_otelsync_tally"] = tally
        return tally


def _redis_of_results(app: Celery) -> RedisClient | None:
    # Its own client waits for two minutes where Redis says nothing.
    return cast("RedisClient | None", redis_client(app.backend, _impatience))


def _redis_of_broker(app: Celery) -> RedisClient | None:
    with app.connection_for_write() as connection:
        url = connection.as_uri(include_password=True)
    if not url.startswith(("redis://", "rediss://")):
        return None
    import redis

    return cast(RedisClient, redis.Redis.from_url(url, **_impatience()))


def _impatience() -> dict[str, Any]:
    """Options of a connection that neither waits long nor pauses between attempts."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once_more = Retry(NoBackoff(), 1)  # the server may have closed a connection that was idle
    return {"socket_timeout": WAIT_SECONDS, "socket_connect_timeout": WAIT_SECONDS, "retry": once_more}


def _local_tally() -> Tally:
    settings = in_force.settings()
    if settings is None:
        raise DispatchError("otelsync is not configured, so it has no home for the tallies of dispatched pipelines")
    return SqliteTally(settings.home / TALLIES)


_unreachable_until = 0.0
_said: set[str] = set()


def at_store(ask: Callable[[], R], otherwise: R) -> R:
    """Ask the store; `otherwise` where it cannot be reached, which is logged once and never raised."""
    global _unreachable_until
    if time.monotonic() < _unreachable_until:
        return otherwise
    try:
        return quietly(ask)
    except Exception as error:
        hand_back(error)
        _unreachable_until = time.monotonic() + PAUSE_SECONDS
        say_once(error)
        return otherwise


def quietly(ask: Callable[[], R]) -> R:
    """Without spans of the Redis and SQLite instrumentations, which would be the host's."""
    with suppress_instrumentation():
        return ask()


def say_once(error: Exception) -> None:
    if (kind := type(error).__name__) not in _said:
        _said.add(kind)
        log.warning("the tally of a dispatched pipeline cannot be kept: %s: %s", kind, error)
