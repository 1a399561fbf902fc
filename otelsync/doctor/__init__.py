"""The doctor: everything that can be wrong between a program and where its telemetry should arrive, each with its fix.

Nothing is left behind but one trace of one span at the endpoint, marked ``otelsync.probe``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from otelsync.configuration import way
from otelsync.doctor import neighbours, variables, versions
from otelsync.doctor.endpoint import visit
from otelsync.doctor.findings import Finding, Status, ok, problem, warning, worst
from otelsync.doctor.variables import Asked
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.text.printable import printable
from otelsync.version import __version__

_LONGEST_MESSAGE = 600
_SHIPPING_SECONDS = 4.0


@dataclass(frozen=True)
class Report:
    """Findings of the doctor, free of secrets and printable."""

    service: str | None
    """None: the settings cannot work."""
    findings: Mapping[str, Sequence[Finding]]
    """By step, in the order of `STEPS`; only steps with any."""
    seconds: float
    """Duration of the examination."""

    @property
    def status(self) -> Status:
        """The worst of them."""
        return worst(finding for found in self.findings.values() for finding in found)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "otelsync": __version__,
            "service": self.service,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "findings": [
                {"step": step, **asdict(finding)} for step, found in self.findings.items() for finding in found
            ],
        }


def examine(**overrides: Any) -> Report:
    """Examine everything. It takes about 15 seconds at the most, unless a disk hangs.

    Args:
        overrides: Options of :class:`~otelsync.settings.Settings` that go before the variables of this process.
    """
    start = time.monotonic()
    asked = variables.read(os.environ, **overrides)
    settings = asked.settings
    found = {
        "settings": asked.findings,
        "neighbours": neighbours.examine(neighbours.observe(asked.variables)),
        "versions": versions.examine(versions.installed()),
    }
    if settings is not None:
        found["way"] = [_way(asked, settings)]
        if not way.cannot_have_one_here():
            found |= _disk(asked, settings)
        go = _go_the_standard_way if asked.why_standard else _go_the_way
        found["endpoint"], found["probe"] = go(asked, settings)
    cleaned = {step: [_clean(finding, asked) for finding in findings] for step, findings in found.items() if findings}
    service = printable(settings.service_name, 100) if settings else None
    return Report(service, cleaned, time.monotonic() - start)


def _disk(asked: Asked, settings: Settings) -> dict[str, list[Finding]]:
    """Look at the journal's directory, at what waits, and at the store."""
    from otelsync.doctor import backlog, home

    return {
        "directory": [] if settings.journalling == "off" else home.examine_journal(settings),
        "backlog": backlog.examine(settings),
        "store": [home.examine_store(settings)] if asked.wants_store else [],
    }


def _way(asked: Asked, settings: Settings) -> Finding:
    """Say which way is in force, and what it means that it is not the journal's."""
    why, endpoints = asked.why_standard, asked.endpoints
    if not why:
        return ok("journal", f"by the journal in {settings.journal}")
    message, fix = way.explained(why, endpoints), way.fix(why, endpoints)
    if not endpoints:
        return problem("standard", message, fix)
    return warning("standard", message, fix) if fix else ok("standard", message)


def _go_the_standard_way(asked: Asked, settings: Settings) -> tuple[list[Finding], list[Finding]]:
    """Go to the endpoints, and send as the SDK does; returns what was found of the endpoints, and of the probe."""
    from otelsync.doctor import standard_probe

    visited = visit(asked.endpoints)
    if settings.disabled or not asked.endpoints:
        return visited.findings, []
    if not visited.usable:
        message = "the probe was not sent, as no endpoint takes it"
        return visited.findings, [warning("not_sent", message, "fix the endpoint first")]
    return visited.findings, standard_probe.send(settings, visited.usable, _SHIPPING_SECONDS)


def _go_the_way(asked: Asked, settings: Settings) -> tuple[list[Finding], list[Finding]]:
    """Record, go to the endpoints, ship; in this order, as a fork should come before any thread.

    Returns:
        What was found of the endpoints, and of the probe.
    """
    from otelsync.doctor import home, probe

    with ExitStack() as places:
        found: list[Finding] = []
        try:
            place = places.enter_context(home.temporary(settings.journal, but_not=settings.journals))
            store = places.enter_context(home.temporary(settings.store_file.parent)) if asked.wants_store else None
            found += [] if settings.disabled else [probe.record(settings, place)]
        except OSError as error:
            message = f"the probe cannot be recorded: {error.strerror}"
            found.append(problem("not_recorded", message, "fix the directory above first"))
        visited = visit(asked.endpoints)
        if found and worst(found) == "ok":
            if asked.endpoints and not visited.usable:
                message = "the probe was not sent, as no endpoint takes it"
                found.append(warning("not_sent", message, "fix the endpoint first"))
            else:
                found += probe.ship(place, visited.usable, store / "store.db" if store else None, _SHIPPING_SECONDS)
        return visited.findings, found


def _clean(finding: Finding, asked: Asked) -> Finding:
    """A finding without secrets, and printable. What an endpoint sends back may hold what it was sent."""
    message = Redactor().redact(finding.message)
    for endpoint in asked.endpoints:
        for value in endpoint.headers.values():
            message = message.replace(value, "[redacted]") if len(value) > 3 else message
    return replace(finding, message=printable(message, _LONGEST_MESSAGE), fix=printable(finding.fix, _LONGEST_MESSAGE))
