"""Findings: one line per fact, with its status and, where there is something to do, the fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Status = Literal["ok", "warning", "problem"]

PROBE: Final = "otelsync.probe"
"""The name of the span and the event of the record that are sent; with a value of true also the attribute of both."""
STEPS: Final = {
    "settings": "settings",
    "neighbours": "other tracers and log bridges",
    "versions": "versions",
    "way": "the way of what is recorded",
    "directory": "journal directory",
    "backlog": "what waits to be shipped",
    "store": "local store",
    "endpoint": "endpoint",
    "probe": "probe",
}
"""The steps in the order in which they are shown, and what they are called."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact."""

    code: str
    """One word for the finding that does not change between releases."""
    status: Status
    """ok; warning: worth knowing, and nothing is lost by it now; problem: telemetry is lost, late, doubled or wrong."""
    message: str
    """For people; free of secrets and printable once it is in a report."""
    fix: str = ""
    """The fix, for people. With status ok it is a hint."""


def ok(code: str, message: str, fix: str = "") -> Finding:
    """A finding that is as it should be."""
    return Finding(code, "ok", message, fix)


def warning(code: str, message: str, fix: str) -> Finding:
    """A finding that is worth knowing."""
    return Finding(code, "warning", message, fix)


def problem(code: str, message: str, fix: str) -> Finding:
    """A finding that has to be fixed."""
    return Finding(code, "problem", message, fix)


def worst(findings: Iterable[Finding]) -> Status:
    """The status of all of them together."""
    found = {finding.status for finding in findings}
    return "problem" if "problem" in found else "warning" if "warning" in found else "ok"
