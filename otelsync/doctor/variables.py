"""Settings and variables: values that cannot work, and variables that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from otelsync.configuration.way import why_not_by_journal
from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.errors import ConfigurationError
from otelsync.otlp.exporters import PREFIX, without_effect
from otelsync.otlp.options import (
    OtlpEndpoint,
    endpoints_from_environment,
    metrics_from_environment,
    ports_of_other_protocol,
)
from otelsync.settings import Settings
from otelsync.settings.variables import unread

_GENERAL: Final = f"{PREFIX}ENDPOINT"
_SIGNALS: Final = ("traces", "logs")


@dataclass(frozen=True)
class Asked:
    """Plans of a program that is started in this environment."""

    variables: Mapping[str, str]
    """The environment, with what the command line put in its place."""
    settings: Settings | None = None
    """None: they cannot work."""
    endpoints: tuple[OtlpEndpoint, ...] = ()
    why_standard: str = ""
    """Reason for the standard way, in which there is no journal; empty if there is one."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def wants_store(self) -> bool:
        """True if runs go to the local store."""
        settings = self.settings
        if settings is None or self.why_standard:
            return False
        return settings.store == "on" or (settings.store == "auto" and not self.endpoints)


def read(environment: Mapping[str, str], **overrides: Any) -> Asked:
    """The settings and endpoints of an environment. What cannot work becomes a finding; nothing is raised."""
    variables = dict(environment)
    for option, variable in (("endpoint", _GENERAL), ("service_name", "OTEL_SERVICE_NAME")):
        if overrides.get(option):
            variables[variable] = overrides[option]
    try:
        settings = Settings.from_environment(environment, **overrides)
        wanted = variables if settings.journal_logs else {**variables, "OTEL_LOGS_EXPORTER": "none"}
        endpoints = endpoints_from_environment(wanted, endpoint=settings.endpoint)
        metrics_from_environment(variables, endpoint=settings.endpoint)
        asked = Asked(variables, settings, endpoints, why_not_by_journal(settings))
    except ConfigurationError as error:
        asked = Asked(variables)
        asked.findings.append(problem("wrong_value", f"{error.option}={_shown(error.value)} cannot work", error.fix))
    else:
        asked.findings.extend(_destination(asked, settings))
    asked.findings.extend((*_names(variables), *_urls(variables), *_exporters(asked), *_sampler(variables)))
    return asked


def _shown(value: object) -> str:
    """A value without user name and password."""
    text = str(value)
    scheme, mark, rest = text.rpartition("://")
    return repr(scheme + mark + rest.rpartition("@")[2])


def _destination(asked: Asked, settings: Settings) -> Iterator[Finding]:
    if settings.disabled:
        yield problem("disabled", "OTEL_SDK_DISABLED is true: nothing is recorded", "unset OTEL_SDK_DISABLED")
    places = [f"{each.signal} to {each.place} by {each.protocol}" for each in asked.endpoints]
    if asked.wants_store:
        places.append(f"runs to {settings.store_file}")
    if places:
        yield ok("destination", f"{settings.service_name}: {', '.join(places)}")
    elif not asked.why_standard:
        message = "records go nowhere: no endpoint is set and OTELSYNC_STORE is off"
        yield problem("nowhere", message, f"set {_GENERAL}, or OTELSYNC_STORE=on")


def _names(variables: Mapping[str, str]) -> Iterator[Finding]:
    for variable in unread(variables):
        yield warning("unknown_variable", variable.message, variable.fix)


def _urls(variables: Mapping[str, str]) -> Iterator[Finding]:
    for message, fix in ports_of_other_protocol(variables):
        yield warning("port_of_other_protocol", message, fix)
    for signal in ("", *_SIGNALS):
        prefix = f"{PREFIX}{signal.upper()}_" if signal else PREFIX
        value = variables.get(f"{prefix}ENDPOINT", "").strip()
        protocol = (variables.get(f"{prefix}PROTOCOL") or variables.get(f"{PREFIX}PROTOCOL", "")).strip()
        if value:
            with suppress(ValueError):  # said already, as a value that cannot work
                parts = urlsplit(value if "://" in value else f"//{value}")
                if protocol != "grpc":
                    yield from _path(f"{prefix}ENDPOINT", parts, signal)


def _path(name: str, parts: SplitResult, signal: str) -> Iterator[Finding]:
    path = parts.path.rstrip("/")
    ending = next((each for each in _SIGNALS if path.endswith(f"/v1/{each}")), "")
    if not signal and ending:
        fix = f"end it before /v1/{ending}, or name it {PREFIX}{ending.upper()}_ENDPOINT"
        yield problem("path_twice", f"{name} ends in /v1/{ending}, to which /v1/{ending} is added again", fix)
    elif signal and not path:
        message = f"{name} has no path, and none is added to it"
        yield warning("no_path", message, f"end it in /v1/{signal}, or use {_GENERAL}")
    elif signal and ending and ending != signal:
        yield problem("path_of_other_signal", f"{name} ends in /v1/{ending}", f"end it in /v1/{signal}")


def _exporters(asked: Asked) -> Iterator[Finding]:
    signals = {endpoint.signal for endpoint in asked.endpoints}
    ignored = {signal: said for signal, *said in without_effect(asked.variables)}
    for signal in _SIGNALS:
        name = f"OTEL_{signal.upper()}_EXPORTER"
        value = asked.variables.get(name, "").strip().lower()
        if value == "none":
            yield warning(f"no_{signal}", f"{name} is none: {signal} are not sent", f"unset {name} to send them")
        elif signal in ignored:
            yield warning("exporter_ignored", *ignored[signal])
        elif signals and signal not in signals:
            yield warning(
                f"{signal}_without_endpoint",
                f"{signal} have no endpoint, while the other signal has one: they are not sent",
                f"set {_GENERAL}, or {PREFIX}{signal.upper()}_ENDPOINT, or {name}=none if that is meant",
            )


def _sampler(variables: Mapping[str, str]) -> Iterator[Finding]:
    name = variables.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if name.endswith("always_off"):
        fix = "unset OTEL_TRACES_SAMPLER, or set it to parentbased_always_on"
        yield problem("sampler_drops_all", f"OTEL_TRACES_SAMPLER={name} drops every new trace", fix)
