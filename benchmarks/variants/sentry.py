"""Sentry's SDK: a transaction a repository, a child span a pull request, a structlog record beside it.

Its transport's queue holds the whole round, and a repository stays below the thousand spans that a transaction keeps.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, cast

from benchmarks.variants import structlog_setups
from benchmarks.workload import PR_LOGGED, PR_SPAN, REPO_SPAN, PullRequest, Setting

# Installed by `make bench` alone: type checker and tests do without it.
sentry_sdk = import_module("sentry_sdk")


class Sentry:
    """The unit of work as a user of sentry-sdk writes it; Sentry has no span events."""

    def __init__(self, setting: Setting) -> None:
        sentry_sdk.init(
            dsn=setting.sink_url.replace("://", "://public@") + "/1",
            traces_sample_rate=1.0,
            transport_queue_size=setting.prs,
            send_client_reports=False,
            auto_session_tracking=False,
        )
        self._log = structlog_setups.fastest(setting.log_file, [_add_ids])

    def repo(self, name: str) -> AbstractContextManager[object]:
        """Open the repository's transaction."""
        transaction = sentry_sdk.start_transaction(op=REPO_SPAN, name=name)
        return cast(AbstractContextManager[object], transaction)

    def pull_request(self, pr: PullRequest) -> None:
        """Span, attributes, record, end."""
        with sentry_sdk.start_span(op=PR_SPAN) as span:
            span.set_data("vcs.change.id", pr.change_id)
            span.set_data("vcs.change.state", pr.state)
            span.set_data("vcs.change.author", pr.author)
            span.set_data("sync.api.page", pr.page)
            self._log.info(
                PR_LOGGED, number=pr.number, state=pr.state, action=pr.action, files=pr.files, title=pr.title
            )
            span.set_data("sync.action", pr.action)
            span.set_data("sync.pr.files", pr.files)

    def flush(self) -> None:
        """Deliver everything so far."""
        sentry_sdk.get_client().flush(timeout=120)

    def close(self) -> None:
        """Deliver everything, and stop."""
        sentry_sdk.get_client().close(timeout=120)


def _add_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    span = sentry_sdk.get_current_span()
    if span is not None:
        event["trace_id"] = span.trace_id
        event["span_id"] = span.span_id
    return event
