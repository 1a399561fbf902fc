"""Tracing for sync jobs: nested spans, correlated logs and rate limits, at next to no cost.

import otelsync

otelsync.configure(service_name="github-sync")
log = otelsync.get_logger(__name__)

with otelsync.pipeline("github.onboarding") as run:
    with otelsync.repo("acme/api"):
        with otelsync.api_call("list_pull_requests", page=1):
            with otelsync.pull_request(4711, state="open") as pr:
                log.info("pull_request.saved", number=4711)
                pr.set(action="created")
"""

import typing

from otelsync.configuration.lifecycle import configure, flush, setup_logging, shutdown
from otelsync.errors import ConfigurationError, DispatchError, OtelsyncError, RunNotFoundError, StoreError
from otelsync.logs.events import Catalogue
from otelsync.stages.kinds import (
    api_call,
    batch,
    group,
    item,
    pipeline,
    pull_request,
    repo,
    stage,
    sync_context,
    timed_operation,
)
from otelsync.version import __version__

if typing.TYPE_CHECKING:
    from otelsync.integrations.instrumentation import instrument, uninstrument
    from otelsync.logs.structlog_logger import get_logger
    from otelsync.stages.threads import executor, propagate
    from otelsync.stages.waits import rate_limit_wait, retry_wait

__all__ = [
    "Catalogue",
    "ConfigurationError",
    "DispatchError",
    "OtelsyncError",
    "RunNotFoundError",
    "StoreError",
    "__version__",
    "api_call",
    "batch",
    "configure",
    "executor",
    "flush",
    "get_logger",
    "group",
    "instrument",
    "item",
    "pipeline",
    "propagate",
    "pull_request",
    "rate_limit_wait",
    "repo",
    "retry_wait",
    "setup_logging",
    "shutdown",
    "stage",
    "sync_context",
    "timed_operation",
    "uninstrument",
]


_LATER = {
    "executor": "otelsync.stages.threads",
    "get_logger": "otelsync.logs.structlog_logger",
    "instrument": "otelsync.integrations.instrumentation",
    "propagate": "otelsync.stages.threads",
    "rate_limit_wait": "otelsync.stages.waits",
    "retry_wait": "otelsync.stages.waits",
    "uninstrument": "otelsync.integrations.instrumentation",
}
"""Names that only some programs use, or that load much, and the modules that hold them."""


def __getattr__(name: str) -> object:
    """Load what only some programs use when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
