"""Locks of repositories, so that two tasks never sync one at the same time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .settings import Settings

if TYPE_CHECKING:
    from redis.lock import Lock

LEASE = 30.0
"""Seconds after which Redis gives up the lock of a process that has died; one that lives renews it in time."""


@contextmanager
def held(settings: Settings, name: str) -> Iterator[bool]:
    """Hold a lock for the length of the block; False where another holds it. Nobody waits."""
    if settings.broker_url.startswith("redis"):
        with _leased(settings.broker_url, name) as is_held:
            yield is_held
        return
    folder = settings.home / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def _leased(url: str, name: str) -> Iterator[bool]:
    import redis

    lock = redis.Redis.from_url(url).lock(f"github-sync:{name}", timeout=LEASE, thread_local=False)
    if not lock.acquire(blocking=False):
        yield False
        return
    is_over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lock, is_over), name="github-sync-lock", daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        is_over.set()
        renewing.join()
        if lock.owned():
            lock.release()


def _renew(lock: Lock, is_over: threading.Event) -> None:
    """Renew a lease until the block is over. Should Redis be away for as long as one, the lock is lost."""
    from redis.exceptions import RedisError

    while not is_over.wait(LEASE / 3):
        try:
            lock.reacquire()
        except RedisError:
            continue
