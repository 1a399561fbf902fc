"""The environments of what is started: a program under ``otelsync run``, set up before its first line; a report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from otelsync.settings import Settings

BOOTSTRAP: Final = str(Path(__file__).parent / "bootstrap")


def environment_of_program(
    settings: Settings, environment: Mapping[str, str], *, log_format: str | None = None
) -> dict[str, str]:
    """What the program and all that it starts find in their environment.

    Args:
        settings: Of the run. All processes share its service, its journal and who ships it.
        environment: What it is made from, and left as it is in everything else.
        log_format: How otelsync renders the program's records; None leaves them to the program.
    """
    path = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", BOOTSTRAP)]
    ours = {
        "PYTHONPATH": os.pathsep.join([BOOTSTRAP, *path]),
        "OTEL_SERVICE_NAME": settings.service_name,
        "OTELSYNC_HOME": str(settings.home),
        "OTELSYNC_JOURNAL_DIR": str(settings.journal),
        "OTELSYNC_SHIP": settings.ship,
    }
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


def environment_of_report(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """What the process that makes reports finds in its environment: where the data is, and nothing to record or ship.

    Args:
        settings: Of whoever ships; no other option of the environment has a say.
        environment: What it is made from.
    """
    options = {variable for option in fields(Settings) for variable in option.metadata["variables"]}
    others = {name: value for name, value in without_bootstrap(environment).items() if name not in options}
    ours = {
        "OTELSYNC_HOME": str(settings.home),
        "OTELSYNC_STORE_PATH": str(settings.store_file),
        "OTELSYNC_REPORTS_KEEP": str(settings.reports_keep),
        "OTELSYNC_REPORTS": "off",
        "OTELSYNC_SHIP": "off",
        "OTEL_SDK_DISABLED": "true",  # also for another tool that sets up every Python
    }
    if settings.journal_dir is not None:
        ours["OTELSYNC_JOURNAL_DIR"] = str(settings.journal_dir)
    return {**others, **ours}


def without_bootstrap(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment, for a process that is not to be recorded."""
    path = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", BOOTSTRAP)]
    others = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return {**others, "PYTHONPATH": os.pathsep.join(path)} if path else others
