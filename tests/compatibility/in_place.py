"""A plugin of pytest that puts otelsync in the place of what a foreign suite tests, and lists the tests that failed.

It is loaded by name (``-p in_place``), before the suite's own modules. ``IN_PLACE`` says what is replaced, in words
divided by commas: ``sdk``, ``celery``, ``requests`` or ``httpx``; ``FAILED_TESTS`` names the file for the list.
"""

from __future__ import annotations

import json
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

CLASSES = {
    "celery": ("opentelemetry.instrumentation.celery", "CeleryInstrumentor"),
    "requests": ("opentelemetry.instrumentation.requests", "RequestsInstrumentor"),
    "httpx": ("opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
}
"""Modules and names of the instrumentors, by the integration that takes their place."""

_failed: list[str] = []


def replace_provider() -> None:
    """Let the SDK's tests make providers of ours, which take the same arguments, with a journal for each run."""
    import opentelemetry.sdk.trace as sdk

    from otelsync.journal.writer import Journal
    from otelsync.recording import runtime_context
    from otelsync.recording.provider import TracerProvider

    runtime_context.install()
    journals = Path(tempfile.mkdtemp(prefix="otelsync-"))

    class InPlace(TracerProvider):
        def __init__(self, sampler: Any = None, resource: Any = None, **options: Any) -> None:
            super().__init__(Journal(journals), sampler=sampler, resource=resource, **options)

    sdk.TracerProvider = InPlace  # type: ignore[assignment, misc]


def replace_instrumentor(integration: str) -> None:
    """Let a suite test our instrumentor under the name of upstream's."""
    module, name = CLASSES[integration]
    setattr(import_module(module), name, import_module(f"otelsync.integrations.{integration}").Instrumentor)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test, or its set-up, that failed."""
    if report.failed and report.nodeid not in _failed:
        _failed.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a module that could not be loaded."""
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the list, in the process that hears of all tests."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["FAILED_TESTS"]).write_text(json.dumps(_failed))


for word in filter(None, os.environ.get("IN_PLACE", "").split(",")):
    if word == "sdk":
        replace_provider()
    else:
        replace_instrumentor(word)
