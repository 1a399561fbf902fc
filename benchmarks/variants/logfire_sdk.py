"""Pydantic's logfire: its span beside a structlog record, sent by OpenTelemetry's batch processor to the sink."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.variants import structlog_setups
from benchmarks.variants.structlog_setups import add_opentelemetry_ids
from benchmarks.workload import PR_EVENT, PR_LOGGED, PR_SPAN, REPO_SPAN, SERVICE, PullRequest, Setting

# Installed by `make bench` alone: type checker and tests do without it.
logfire = import_module("logfire")


class Logfire:
    """The unit of work as a user of logfire writes it."""

    def __init__(self, setting: Setting) -> None:
        exporter = OTLPSpanExporter(f"{setting.sink_url}/v1/traces")
        queue_size = 2 * setting.prs + 2048
        logfire.configure(
            service_name=SERVICE,
            send_to_logfire=False,
            console=False,
            metrics=False,
            inspect_arguments=False,
            additional_span_processors=[BatchSpanProcessor(exporter, max_queue_size=queue_size)],
        )
        self._log = structlog_setups.fastest(setting.log_file, [add_opentelemetry_ids])

    def repo(self, name: str) -> AbstractContextManager[object]:
        """Open the repository's span."""
        span = logfire.span(REPO_SPAN, **{"vcs.repository.name": name})
        return cast(AbstractContextManager[object], span)

    def pull_request(self, pr: PullRequest) -> None:
        """Span, attributes, event, record, end."""
        attributes = {
            "vcs.change.id": pr.change_id,
            "vcs.change.state": pr.state,
            "vcs.change.author": pr.author,
            "sync.api.page": pr.page,
        }
        with logfire.span(PR_SPAN, **attributes) as span:
            if pr.has_event:
                span.add_event(PR_EVENT, {"sync.pr.files": pr.files})
            self._log.info(
                PR_LOGGED, number=pr.number, state=pr.state, action=pr.action, files=pr.files, title=pr.title
            )
            span.set_attribute("sync.action", pr.action)
            span.set_attribute("sync.pr.files", pr.files)

    def flush(self) -> None:
        """Deliver everything so far."""
        logfire.force_flush()

    def close(self) -> None:
        """Deliver everything, and stop."""
        self.flush()
        logfire.shutdown()
