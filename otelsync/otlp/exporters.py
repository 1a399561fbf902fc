"""Exporters as ``OTEL_TRACES_EXPORTER``, ``OTEL_LOGS_EXPORTER`` and ``OTEL_METRICS_EXPORTER`` name them.

otelsync sends by OTLP, or does not: it has no other exporters. A signal for which others alone are named is not sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

PREFIX: Final = "OTEL_EXPORTER_OTLP_"
"""The beginning of the names of the variables about OTLP."""

_OTLP: Final = frozenset(("otlp", "otlp_proto_http", "otlp_proto_grpc"))
"""The names of OTLP; the last two are those of OpenTelemetry's Python packages, and the protocol is set elsewhere."""
_INSTEAD: Final = {
    "traces": "`otelsync show` draws what the local store has",
    "logs": "LOG_FORMAT=console renders records as text on standard output",
    "metrics": "OTELSYNC_METRICS_PORT serves them to Prometheus",
}


def variable_of(signal: str) -> str:
    """Return the variable that names the exporters of a signal."""
    return f"OTEL_{signal.upper()}_EXPORTER"


def is_configured(environment: Mapping[str, str]) -> bool:
    """Return whether a variable says anything of OTLP. Else :mod:`otelsync.otlp.options` need not be loaded."""
    return any(name.startswith(PREFIX) for name in environment)


def is_sent(variables: Mapping[str, str], signal: str) -> bool:
    """Return whether a signal is sent by OTLP, if it has an endpoint."""
    named = _named(variables, signal)
    return not named or not _OTLP.isdisjoint(named)


def without_effect(variables: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield, for each signal with exporters that otelsync does not have, the signal, a message and the fix."""
    for signal, instead in _INSTEAD.items():
        named = _named(variables, signal)
        others = [name for name in named if name not in _OTLP and (name != "none" or len(named) > 1)]
        if others:
            name = variable_of(signal)
            message = f"{name} names {', '.join(map(repr, others))}, which otelsync does not have"
            rest = "" if is_sent(variables, signal) else f", so {signal} are not sent"
            yield signal, message + rest, f"set it to otlp or none; {instead}"


def _named(variables: Mapping[str, str], signal: str) -> list[str]:
    names = (name.strip().lower() for name in variables.get(variable_of(signal), "").split(","))
    return [name for name in names if name]
