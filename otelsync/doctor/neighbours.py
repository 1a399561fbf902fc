"""Others in the same process: tracers in OpenTelemetry's place, log bridges that double records, Celery untraced.

The doctor is a program like those it looks after: what the environment loads into it (``sitecustomize`` on
``PYTHONPATH``, `opentelemetry-instrument`) it loads into them.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePath
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.hooks.opentelemetry_api import provider_that_is_set

_TRACERS: Final = {
    "ddtrace": ("Datadog's ddtrace", "start the program without ddtrace-run, or take ddtrace off PYTHONPATH"),
    "newrelic": ("New Relic's agent", "start the program without newrelic-admin, or take it off PYTHONPATH"),
    "elasticapm": ("Elastic's agent", "start the program without elasticapm-run, or take it off PYTHONPATH"),
    "sentry_sdk": ("Sentry's SDK", "do not initialise it from sitecustomize, or leave its tracing off"),
}
_TRUE: Final = frozenset(("1", "true", "yes", "on"))


@dataclass(frozen=True)
class Company:
    """Everything that is loaded into a program that is started here."""

    variables: Mapping[str, str]
    modules: Collection[str]
    """Names of the modules that are loaded."""
    provider: str = ""
    """Module and class of OpenTelemetry's tracer provider; "" if none is set."""
    bridges: Sequence[str] = ()
    """Module and class of each handler of the root logger that hands records to OpenTelemetry."""
    has_celery: bool = False


def observe(variables: Mapping[str, str]) -> Company:
    """Look at what is loaded into this process."""
    handlers = [_class_of(handler) for handler in logging.getLogger().handlers]
    provider = provider_that_is_set()
    return Company(
        variables,
        modules=set(sys.modules),
        provider=_class_of(provider) if provider is not None else "",
        bridges=[name for name in handlers if name.startswith("opentelemetry.")],
        has_celery=find_spec("celery") is not None,
    )


def examine(company: Company) -> list[Finding]:
    """Find what is in the way."""
    found = [*_providers(company), *_other_tracers(company), *_log_bridges(company), *_celery(company)]
    return found or [ok("alone", "no other tracer and no second log bridge is loaded or asked for")]


def _class_of(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _providers(company: Company) -> Iterator[Finding]:
    if company.provider and not company.provider.startswith("otelsync."):
        message = f"{company.provider} is the tracer provider before the program begins: its spans are not journalled"
        fix = "start the program with `otelsync run` instead of opentelemetry-instrument, or set "
        yield problem(
            "other_provider", message, f"{fix}OTEL_PYTHON_DISTRO=otelsync and OTEL_PYTHON_CONFIGURATOR=otelsync"
        )
    for variable in ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"):
        value = company.variables.get(variable, "")
        if value not in ("", "otelsync"):
            message = f"{variable}={value!r}: under opentelemetry-instrument that one sets up tracing, and not otelsync"
            yield problem("other_distro", message, f"set {variable}=otelsync, or unset it and use `otelsync run`")


def _other_tracers(company: Company) -> Iterator[Finding]:
    path = [PurePath(entry).parts for entry in company.variables.get("PYTHONPATH", "").split(os.pathsep)]
    for module, (name, fix) in _TRACERS.items():
        on_path = any(module in parts and "bootstrap" in parts for parts in path)
        if on_path or module in company.modules:
            how = "on PYTHONPATH" if on_path else "loaded at the start of every program"
            message = f"{name} is {how}: it traces the same libraries, so each call is recorded twice"
            yield problem("other_tracer", message, fix)


def _log_bridges(company: Company) -> Iterator[Finding]:
    variable = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"
    if company.variables.get(variable, "").strip().lower() in _TRUE:
        message = f"{variable} puts the SDK's LoggingHandler beside otelsync's: each record is sent twice"
        yield problem("two_log_bridges", message, f"unset {variable}")
    for bridge in company.bridges:
        message = f"{bridge} is on the root logger: each record is sent twice"
        yield problem("two_log_bridges", message, "take the handler off; otelsync journals every record itself")


def _celery(company: Company) -> Iterator[Finding]:
    off = {name.strip() for name in company.variables.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    if company.has_celery and off & {"celery", "*"}:
        message = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS switches the tracing of Celery off"
        yield warning("celery_switched_off", message, "take celery out of it")
