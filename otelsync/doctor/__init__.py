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

from otelsync.doctor import backlog, directory, local_store, neighbours, probe, variables, versions
from otelsync.doctor.endpoint import visit
from otelsync.doctor.findings import STEPS, Finding, Status, problem, worst
from otelsync.doctor.places import temporary
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
    findings: Sequence[Finding]
    """By step, in the order of `STEPS`."""
    seconds: float
    """Duration of the examination."""

    @property
    def status(self) -> Status:
        """The worst of them."""
        return worst(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "otelsync": __version__,
            "service": self.service,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(environment: Mapping[str, str] | None = None, **overrides: Any) -> Report:
    """Examine everything. It takes about 15 seconds at the most, unless a disk hangs.

    Args:
        environment: The variables to go by; those of this process by default.
        overrides: Options of :class:`~otelsync.settings.Settings` that go before them.
    """
    start = time.monotonic()
    asked = variables.read(os.environ if environment is None else environment, **overrides)
    findings = [*asked.findings, *neighbours.examine(neighbours.observe(asked.variables))]
    findings += versions.examine(versions.installed())
    if asked.settings is not None:
        findings += directory.examine(asked.settings)
        findings += backlog.examine(asked.settings)
        findings += local_store.examine(asked.settings) if asked.wants_store else []
        findings += _go_the_way(asked, asked.settings)
    order = list(STEPS)
    ordered = sorted(findings, key=lambda finding: order.index(finding.step))
    service = printable(asked.settings.service_name, 100) if asked.settings else None
    return Report(service, [_clean(finding, asked) for finding in ordered], time.monotonic() - start)


def _go_the_way(asked: Asked, settings: Settings) -> list[Finding]:
    """Record, go to the endpoints, ship; in this order, as a fork should come before any thread."""
    with ExitStack() as places:
        recorded = None
        try:
            place = places.enter_context(temporary(settings.journal, but_not=settings.journals))
            store = places.enter_context(temporary(settings.store_file.parent)) if asked.wants_store else None
            recorded, findings = (None, []) if settings.disabled else probe.record(settings, place)
        except OSError as error:
            message = f"the probe cannot be recorded: {error.strerror}"
            findings = [problem("probe", "not_recorded", message, "fix the directory above first")]
        visited = visit(asked.endpoints)
        findings += visited.findings
        if recorded is None:
            return findings
        if asked.endpoints and not visited.usable:
            return [*findings, probe.not_sent()]
        return findings + probe.ship(place, visited.usable, store / "store.db" if store else None, _SHIPPING_SECONDS)


def _clean(finding: Finding, asked: Asked) -> Finding:
    """A finding without secrets, and printable. What an endpoint sends back may hold what it was sent."""
    message = Redactor().redact(finding.message)
    for endpoint in asked.endpoints:
        for value in endpoint.headers.values():
            message = message.replace(value, "[redacted]") if len(value) > 3 else message
    return replace(finding, message=printable(message, _LONGEST_MESSAGE), fix=printable(finding.fix, _LONGEST_MESSAGE))
