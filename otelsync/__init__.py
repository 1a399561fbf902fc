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

from otelsync.configuration import configure, flush, setup_logging, shutdown
from otelsync.errors import ConfigurationError, OtelsyncError, RunNotFoundError, StoreError
from otelsync.logs import get_logger
from otelsync.stages import (
    api_call,
    pipeline,
    pull_request,
    repo,
    stage,
    sync_context,
    timed_operation,
)
from otelsync.version import __version__

__all__ = [
    "ConfigurationError",
    "OtelsyncError",
    "RunNotFoundError",
    "StoreError",
    "__version__",
    "api_call",
    "configure",
    "flush",
    "get_logger",
    "pipeline",
    "pull_request",
    "repo",
    "setup_logging",
    "shutdown",
    "stage",
    "sync_context",
    "timed_operation",
]
