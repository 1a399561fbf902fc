"""The probe of the standard way: a span and a log record go by the SDK's own exporters, and are looked for."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

from otelsync.doctor.findings import PROBE, Finding, ok, problem
from otelsync.levels import INFO
from otelsync.logs.output import Output
from otelsync.logs.path import LogPath
from otelsync.otlp.options import OtlpEndpoint
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.standard.providers import Standard
from otelsync.standard.sending import Tally
from otelsync.version import __version__


def send(settings: Settings, endpoints: Sequence[OtlpEndpoint], seconds: float) -> list[Finding]:
    """Send a span and a log record within `seconds`, and say what became of each.

    `endpoints`: those that may take records.
    """
    redactor = Redactor(settings.redact_keys, settings.redact_patterns)
    try:
        standard = Standard(endpoints, redactor, settings.service_name, settings.place)
    except ValueError as error:
        message = f"the SDK cannot work with what the environment says: {error}"
        return [problem("sdk_refuses", message, "unset the OTEL_ variable that it names, or set it as it says")]
    path = LogPath(service=settings.service_name, level=INFO, output=Output(io.BytesIO()), redactor=redactor)
    path.journal_to(standard.destination)
    span = standard.tracers.get_tracer("otelsync.doctor", __version__).start_span(PROBE, attributes={PROBE: True})
    path.emit(INFO, "otelsync.doctor", PROBE, {PROBE: True}, span)
    span.end()
    deadline = time.monotonic() + seconds
    standard.flush(seconds * 0.8)
    standard.close(deadline)
    what = {"traces": ("the span", standard.spans), "logs": ("the log record", standard.log_records)}
    return [_fate(*what[endpoint.signal], endpoint.place) for endpoint in endpoints if endpoint.signal in what]


def _fate(what: str, tally: Tally, place: str) -> Finding:
    if tally.made == 0:
        return ok("not_sampled", f"{what} was not sampled, as OTEL_TRACES_SAMPLER says: {place}")
    if tally.missing == 0:
        return ok("delivered", f"{what} has arrived: {place}")
    message = f"{what} has not arrived in time: {place}"
    return problem("not_delivered", message, "see the endpoint above, and its own log")
