"""otelsync, shipping in a thread: under OpenTelemetry's API and with its stages, each with OTLP logs and without."""

from __future__ import annotations

from contextlib import AbstractContextManager

import structlog

import otelsync
from benchmarks.variants.opentelemetry_sdk import OpenTelemetry
from benchmarks.workload import PR_EVENT, PR_LOGGED, SERVICE, PullRequest, Setting

_LONGEST_FLUSH_S = 120.0


class _Delivering:
    """Delivery, which is the same however the spans are made."""

    def flush(self) -> None:
        """Deliver everything so far."""
        otelsync.flush(_LONGEST_FLUSH_S)

    def close(self) -> None:
        """Deliver everything, and stop."""
        otelsync.shutdown(_LONGEST_FLUSH_S)


class UnderTheApi(_Delivering, OpenTelemetry):
    """The very code that the SDK is measured with, over otelsync."""


class Stages(_Delivering):
    """The unit of work as a user of otelsync writes it."""

    def __init__(self) -> None:
        self._log = otelsync.get_logger("benchmark")
        self._pipeline = otelsync.pipeline("benchmark")
        self._pipeline.__enter__()

    def repo(self, name: str) -> AbstractContextManager[object]:
        """Open the repository's stage."""
        return otelsync.repo(name)

    def pull_request(self, pr: PullRequest) -> None:
        """Stage, attributes, event, record, end."""
        with otelsync.pull_request(
            pr.number, state=pr.state, **{"vcs.change.author": pr.author, "sync.api.page": pr.page}
        ) as stage:
            if pr.has_event:
                stage.span.add_event(PR_EVENT, {"sync.pr.files": pr.files})
            self._log.info(
                PR_LOGGED, number=pr.number, state=pr.state, action=pr.action, files=pr.files, title=pr.title
            )
            stage.set(action=pr.action, files=pr.files)

    def close(self) -> None:
        """End the pipeline, deliver everything, and stop."""
        self._pipeline.__exit__(None, None, None)
        super().close()


def through_the_api(setting: Setting) -> UnderTheApi:
    """Spans by ``tracer.start_as_current_span``, records by ``otelsync.get_logger()``."""
    _configure(setting, otlp_logs=False)
    return UnderTheApi(otelsync.get_logger("benchmark"))


def through_the_api_with_logs(setting: Setting) -> UnderTheApi:
    """The same, and OTLP log records."""
    _configure(setting, otlp_logs=True)
    return UnderTheApi(otelsync.get_logger("benchmark"))


def through_the_api_and_structlog(setting: Setting) -> UnderTheApi:
    """The same as `through_the_api`, with the logger that structlog itself hands out, behind its lazy proxy."""
    _configure(setting, otlp_logs=False)
    return UnderTheApi(structlog.get_logger("benchmark"))


def stages(setting: Setting) -> Stages:
    """Spans by ``otelsync.pull_request``, records by ``otelsync.get_logger()``."""
    _configure(setting, otlp_logs=False)
    return Stages()


def stages_with_logs(setting: Setting) -> Stages:
    """The same, and OTLP log records."""
    _configure(setting, otlp_logs=True)
    return Stages()


def _configure(setting: Setting, *, otlp_logs: bool) -> None:
    otelsync.configure(
        service_name=SERVICE,
        endpoint=setting.sink_url,
        home=setting.directory,
        log_level="INFO",
        log_format="json",
        log_stream=setting.log_file.open("ab"),
        journal_logs=otlp_logs,
        fold=False,  # the sink counts every span
    )
