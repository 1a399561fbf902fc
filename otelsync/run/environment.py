"""The environment of a program under ``otelsync run``, which sets it up before its first line."""

from __future__ import annotations

import os
from collections.abc import Mapping

from otelsync.hooks.python_path import BOOTSTRAP, other_places
from otelsync.settings import Settings


def environment_of_program(
    settings: Settings, environment: Mapping[str, str], *, log_format: str | None = None
) -> dict[str, str]:
    """Return the environment of the program and all that it starts.

    Args:
        settings: Of the run. All processes share its service, its journal and who ships it.
        environment: What it is made from, and left as it is in everything else.
        log_format: How otelsync renders the program's records; None leaves them to the program.
    """
    ours = {
        "PYTHONPATH": os.pathsep.join([BOOTSTRAP, *other_places(environment)]),
        "OTEL_SERVICE_NAME": settings.service_name,
        "OTELSYNC_HOME": str(settings.home),
        "OTELSYNC_JOURNAL": settings.journalling,
        "OTELSYNC_JOURNAL_DIR": str(settings.journal),
        "OTELSYNC_SHIP": settings.ship,
    }
    if settings.journal_spool is not None:
        ours["OTELSYNC_JOURNAL_SPOOL"] = str(settings.journal_spool)
    if settings.endpoint is not None:
        ours["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.endpoint
    if settings.metrics_port is not None:
        ours |= {"OTELSYNC_METRICS_PORT": str(settings.metrics_port), "OTELSYNC_METRICS_HOST": settings.metrics_host}
    if log_format is not None:
        ours |= {"OTELSYNC_LOGGING": "take", "LOG_FORMAT": log_format}
    unless_set = {
        # OpenTelemetry's names of HTTP attributes as they are now, not as they were before they became stable
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        # a program that is started by opentelemetry-instrument in turn
        "OTEL_PYTHON_DISTRO": "otelsync",
        "OTEL_PYTHON_CONFIGURATOR": "otelsync",
    }
    return {**unless_set, **environment, **ours}
