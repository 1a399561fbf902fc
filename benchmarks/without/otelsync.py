"""An otelsync that records nothing: as much of its public names as the GitHub sync uses in a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Stage:
    sync_id = ""
    total: int | None = None

    def _nothing(self, *_: object, **__: object) -> None:
        """Do nothing."""

    set = count = fail = event = advance = _nothing

    def track(self) -> _Stage:
        return self

    def dispatch(self, signature: Any) -> Any:
        return signature.apply_async()


_STAGE = _Stage()


@contextmanager
def _stage(*_: object, **__: object) -> Iterator[_Stage]:
    yield _STAGE


pipeline = repo = api_call = pull_request = batch = stage = rate_limit_wait = retry_wait = _stage


class _Logger:
    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __getattr__(self, level: str) -> Callable[..., None]:
        write = getattr(self._logger, level)
        return lambda event, **fields: write("%s %s", event, fields)


def get_logger(name: str) -> _Logger:
    """Return a logger of the standard library."""
    return _Logger(name)


class Catalogue:
    """Names of events, and nothing more."""

    def __init__(self, *_: object, **__: object) -> None:
        """Do nothing."""

    def event(self, _number: int, name: str, **_: object) -> str:
        """Return the name."""
        return name
