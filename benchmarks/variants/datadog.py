"""Datadog's ddtrace: its span beside a structlog record, sent by its native writer to an agent.

Telemetry about itself, remote configuration and start-up checks are off, and its buffer holds the whole round.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, cast

from benchmarks.variants import structlog_setups
from benchmarks.workload import PR_EVENT, PR_LOGGED, PR_SPAN, REPO_SPAN, SERVICE, PullRequest, Setting

_BUFFER_BYTES = 256 * 1024 * 1024


class Datadog:
    """The unit of work as a user of ddtrace writes it."""

    def __init__(self, setting: Setting) -> None:
        os.environ |= {
            "DD_TRACE_AGENT_URL": setting.sink_url,
            "DD_SERVICE": SERVICE,
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_TRACE_STARTUP_LOGS": "false",
            "DD_TRACE_WRITER_BUFFER_SIZE_BYTES": str(_BUFFER_BYTES),
        }
        # Reads its environment when imported; installed by `make bench` alone.
        self._tracer = import_module("ddtrace.trace").tracer
        self._log = structlog_setups.fastest(setting.log_file, [self._add_ids])

    def _add_ids(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        span = self._tracer.current_span()
        if span is not None:
            event["trace_id"] = f"{span.trace_id:032x}"
            event["span_id"] = f"{span.span_id:016x}"
        return event

    def repo(self, name: str) -> AbstractContextManager[object]:
        """Open the repository's span."""
        span = self._tracer.trace(REPO_SPAN)
        span.set_tag("vcs.repository.name", name)
        return cast(AbstractContextManager[object], span)

    def pull_request(self, pr: PullRequest) -> None:
        """Span, attributes, event, record, end."""
        with self._tracer.trace(PR_SPAN) as span:
            span.set_tag("vcs.change.id", pr.change_id)
            span.set_tag("vcs.change.state", pr.state)
            span.set_tag("vcs.change.author", pr.author)
            span.set_metric("sync.api.page", pr.page)
            if pr.has_event:
                span._add_event(PR_EVENT, {"sync.pr.files": pr.files})
            self._log.info(
                PR_LOGGED, number=pr.number, state=pr.state, action=pr.action, files=pr.files, title=pr.title
            )
            span.set_tag("sync.action", pr.action)
            span.set_metric("sync.pr.files", pr.files)

    def flush(self) -> None:
        """Deliver everything so far."""
        self._tracer.flush()

    def close(self) -> None:
        """Deliver everything, and stop."""
        self.flush()
        self._tracer.shutdown()
