"""Variables of the environment that nobody reads, though their names say that somebody should: misspelt ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Final, NamedTuple

from otelsync.settings.options import Settings

_OURS: Final = "OTELSYNC_"
_AT_IMPORT: Final = frozenset(("OTELSYNC_PURE_PYTHON",))
"""Variables of ours that are no options."""
_FREE: Final = tuple(
    f"OTEL_{word}_"
    for word in (
        *("PYTHON", "INSTRUMENTATION", "RESOURCE_ATTRIBUTES", "EXPERIMENTAL", "SEMCONV", "COLLECTOR", "INJECTOR"),
        *("CPP", "DOTNET", "EBPF", "GO", "JAVA", "JAVAAGENT", "NODE", "PHP", "RUBY", "RUST", "SWIFT"),
    )
)
"""Beginnings of names of which each language, or each instrumentation, has its own."""
_SIGNALS: Final = ("TRACES", "METRICS", "LOGS", "PROFILES")
_OF_OTLP: Final = (
    *("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "COMPRESSION", "ENDPOINT", "HEADERS", "INSECURE"),
    *("PROTOCOL", "TIMEOUT"),
)
_SPECIFIED: Final = frozenset(
    (
        *(f"OTEL_EXPORTER_OTLP_{option}" for option in _OF_OTLP),
        *(f"OTEL_EXPORTER_OTLP_{signal}_{option}" for signal in _SIGNALS for option in _OF_OTLP),
        *(f"OTEL_{signal}_EXPORTER" for signal in _SIGNALS),
        *(f"OTEL_EXPORTER_OTLP_{signal}_INSECURE" for signal in ("SPAN", "METRIC")),
        *(f"OTEL_EXPORTER_JAEGER_{option}" for option in ("AGENT_HOST", "AGENT_PORT", "AGENT_SPLIT_OVERSIZED_BATCHES")),
        *(f"OTEL_EXPORTER_JAEGER_{option}" for option in ("CERTIFICATE", "ENDPOINT", "PASSWORD", "PROTOCOL")),
        *("OTEL_EXPORTER_JAEGER_TIMEOUT", "OTEL_EXPORTER_JAEGER_USER", "OTEL_EXPORTER_JAEGER_GRPC_INSECURE"),
        *("OTEL_ENTITIES", "OTEL_EXPORTER_ZIPKIN_PROTOCOL", "OTEL_PROPAGATORS", "OTEL_CONFIG_FILE"),
    )
)
"""Names of https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ that the SDK lacks."""
_LIKENESS: Final = 0.89
"""Likeness, by `difflib`, of names of which one is the other misspelt: above it are a letter too few and two of four
transposed, below it are names such as ``OTEL_SERVICE_NAMESPACE`` that people make up."""


class Unread(NamedTuple):
    """A variable that nobody reads."""

    name: str
    meant: str
    """The variable that has the name most like it; empty if none is like it."""

    @property
    def message(self) -> str:
        """The fact, in words."""
        return f"{self.name} is set, and nothing reads it"

    @property
    def fix(self) -> str:
        """The fix, in words."""
        return f"did you mean {self.meant}?" if self.meant else "unset it: docs/settings.md lists what there is"


def unread(environment: Mapping[str, str]) -> Iterator[Unread]:
    """Yield each variable with a name like those of otelsync or OpenTelemetry that is none of them.

    Names that begin with ``OTELSYNC_`` are ours alone. Others have to be very like a known one.
    """
    named = [name for name in sorted(environment) if name.startswith("OTEL") and environment[name]]
    ours = {name for option in fields(Settings) for name in option.metadata["variables"]} | _AT_IMPORT
    unknown = [name for name in named if name not in ours | _SPECIFIED and not name.startswith(_FREE)]
    if not unknown:
        return
    theirs = _of_the_sdk()
    for name in unknown:
        if name in theirs:
            continue
        meant = _most_like(name, ours | theirs | _SPECIFIED)
        if meant or name.startswith(_OURS):
            yield Unread(name, meant)


def _of_the_sdk() -> frozenset[str]:
    from opentelemetry import environment_variables as of_the_api
    from opentelemetry.sdk import environment_variables as of_the_sdk

    return frozenset(name for module in (of_the_api, of_the_sdk) for name in vars(module) if name.startswith("OTEL_"))


def _most_like(name: str, known: frozenset[str] | set[str]) -> str:
    from difflib import get_close_matches

    beginning, likeness = (_OURS, 0.6) if name.startswith(_OURS) else ("", _LIKENESS)
    words = sorted(each.removeprefix(beginning) for each in known if each.startswith(beginning))
    return next((beginning + word for word in get_close_matches(name.removeprefix(beginning), words, 1, likeness)), "")
