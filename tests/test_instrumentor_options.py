"""Options of the instrumentors: each has an effect, or it is said that it has none."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import httpx
import pytest
import requests
from celery_here import make_app
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from plain_servers import http, speaking
from recorded import Recorded


def by_celery(url: str) -> None:  # noqa: ARG001
    make_app().tasks["add"].apply((1, 2))


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("library", "use"), [("requests", requests.get), ("httpx", httpx.get), ("celery", by_celery)], ids=lambda each: each
)
def test_a_meter_provider_gets_the_metrics(library: str, use: Callable[[str], Any]) -> None:
    """What upstream's instrumentation measures goes to the meter provider that is given."""
    reader = InMemoryMetricReader()
    instrumentor = import_module(f"otelsync.integrations.{library}").Instrumentor()
    instrumentor.instrument(meter_provider=MeterProvider([reader], shutdown_on_exit=False), skip_dep_check=True)
    try:
        with speaking(http(200, b"{}"), waits=True) as port:
            use(f"http://127.0.0.1:{port}/")
    finally:
        instrumentor.uninstrument()
    data = reader.get_metrics_data()
    assert data is not None
    names = [metric.name for each in data.resource_metrics for scope in each.scope_metrics for metric in scope.metrics]
    assert names


def test_span_links_have_no_effect_and_that_is_said(recorded: Recorded) -> None:
    """Celery's `use_span_links` is warned of, once."""
    instrumentor = import_module("otelsync.integrations.celery").Instrumentor()
    for _ in range(2):
        instrumentor.instrument(use_span_links=True, skip_dep_check=True)
        instrumentor.uninstrument()
    said = [line["event"] for line in recorded.lines if "use_span_links has no effect" in line["event"]]
    assert len(said) == 1
