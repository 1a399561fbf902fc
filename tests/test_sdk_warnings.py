from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from recorded import Recorded

import otelsync
from otelsync.logs.sdk_warnings import LOGGER, MOST_DIFFERENT


@pytest.mark.parametrize("kept", [False, True])
def test_a_flood_of_warnings_about_attributes_is_one_of_each(
    record: Callable[..., Recorded], kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is logged once, by type or name, and no more than so many different ones; afterwards all is as before."""
    record(**({"logging": "keep"} if kept else {}))
    tracer = trace.get_tracer("app")
    odd: Any = {"a": object(), "b": [object()], "c": {"d": {1}}}
    for _ in range(50):
        with otelsync.stage("s") as stage, tracer.start_as_current_span("x", attributes=odd) as span:
            stage.span.set_attributes(odd)
            span.add_event("e", odd)
    said = Counter(record.getMessage() for record in caplog.records if record.name == LOGGER)
    assert said
    assert set(said.values()) == {1}
    for number in range(500):
        logging.getLogger(LOGGER).warning("about %s", f"a{number}")
    assert sum(record.name == LOGGER for record in caplog.records) == MOST_DIFFERENT
    otelsync.shutdown()
    logging.getLogger(LOGGER).warning("about %s", "a1")
    logging.getLogger(LOGGER).warning("about %s", "a1")
    assert sum(record.name == LOGGER for record in caplog.records) == MOST_DIFFERENT + 2
