"""Locks of repositories, so that two tasks never sync one at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .settings import Settings

LONGEST = 3600.0
"""Seconds after which Redis gives up the lock of a worker that has died."""


@contextmanager
def held(settings: Settings, name: str) -> Iterator[bool]:
    """Hold a lock for the length of the block; False where another holds it. Nobody waits."""
    if settings.broker_url.startswith("redis"):
        import redis

        lock = redis.Redis.from_url(settings.broker_url).lock(f"github-sync:{name}", timeout=LONGEST)
        is_held = lock.acquire(blocking=False)
        try:
            yield bool(is_held)
        finally:
            if is_held and lock.owned():
                lock.release()
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
