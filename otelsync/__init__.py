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

from otelsync.version import __version__

TYPE_CHECKING = False  # typing takes 3 ms, and so does each of what most of our own commands do not need
if TYPE_CHECKING:
    from otelsync.configuration.lifecycle import configure, flush, setup_logging, shutdown
    from otelsync.errors import ConfigurationError, DispatchError, OtelsyncError, RunNotFoundError, StoreError
    from otelsync.integrations.instrumentation import instrument, uninstrument
    from otelsync.logs.events import Catalogue
    from otelsync.logs.structlog_logger import get_logger
    from otelsync.stages.correlation import extract, inject
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
    from otelsync.stages.nodes import node, tool
    from otelsync.stages.threads import executor, propagate
    from otelsync.stages.waits import rate_limit_wait, retry_wait
del TYPE_CHECKING

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
    "extract",
    "flush",
    "get_logger",
    "group",
    "inject",
    "instrument",
    "item",
    "node",
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
    "tool",
    "uninstrument",
]


_TOGETHER = ("otelsync.errors", "otelsync.configuration.lifecycle", "otelsync.logs.events", "otelsync.stages.kinds")
"""Modules that recording needs; they are loaded together, so that no thread waits for the next of them later."""
_HELD_BY = {
    "Catalogue": "otelsync.logs.events",
    **dict.fromkeys(("configure", "flush", "setup_logging", "shutdown"), "otelsync.configuration.lifecycle"),
    **dict.fromkeys(
        ("ConfigurationError", "DispatchError", "OtelsyncError", "RunNotFoundError", "StoreError"), "otelsync.errors"
    ),
    **dict.fromkeys(
        (
            *("api_call", "batch", "group", "item", "pipeline", "pull_request", "repo", "stage", "sync_context"),
            "timed_operation",
        ),
        "otelsync.stages.kinds",
    ),
    **dict.fromkeys(("node", "tool"), "otelsync.stages.nodes"),
    **dict.fromkeys(("extract", "inject"), "otelsync.stages.correlation"),
    **dict.fromkeys(("executor", "propagate"), "otelsync.stages.threads"),
    "get_logger": "otelsync.logs.structlog_logger",
    **dict.fromkeys(("instrument", "uninstrument"), "otelsync.integrations.instrumentation"),
    **dict.fromkeys(("rate_limit_wait", "retry_wait"), "otelsync.stages.waits"),
}
"""Modules that hold the public names."""


def __getattr__(name: str) -> object:
    """Load what holds a public name when one is first asked for: our own commands and shippers use none of them.

    All names of the modules that are loaded are set at once, since a finalizer at the end of the process that asks for
    one of them could load nothing any more.
    """
    if name not in _HELD_BY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    wanted = _HELD_BY[name]
    loaded = {each: import_module(each) for each in (_TOGETHER if wanted in _TOGETHER else (wanted,))}
    globals().update({each: getattr(loaded[held], each) for each, held in _HELD_BY.items() if held in loaded})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
