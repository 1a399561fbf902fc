"""Versions of OpenTelemetry's packages and of the libraries they instrument: do they fit together?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from otelsync.doctor.findings import Finding, ok, problem
from otelsync.journal.native import native
from otelsync.version import __version__

_STEP: Final = "versions"


@dataclass(frozen=True)
class Installed:
    """An installed package."""

    name: str
    version: str
    requires: Sequence[str] = ()
    """As its metadata says."""


def installed() -> list[Installed]:
    """Every installed package; the first of a name, as Python finds it."""
    found: dict[str, Installed] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name:
            found.setdefault(canonicalize_name(name), Installed(name, each.version, tuple(each.requires or ())))
    return list(found.values())


def examine(packages: Iterable[Installed]) -> list[Finding]:
    """Find versions that do not fit together."""
    versions: dict[str, Installed] = {canonicalize_name(package.name): package for package in packages}
    ours = [package for name, package in versions.items() if name == "otelsync" or name.startswith("opentelemetry-")]
    found = [finding for package in ours for finding in _misfits(package, versions)]
    if not found:
        sdk = versions.get(canonicalize_name("opentelemetry-sdk"))
        found.append(
            ok(
                _STEP,
                "fit",
                f"otelsync {__version__}, opentelemetry-sdk {sdk.version if sdk else 'unknown'}, "
                f"Python {'.'.join(map(str, sys.version_info[:3]))}: they fit",
            )
        )
    return [*found, *_extension()]


def _misfits(package: Installed, versions: Mapping[str, Installed]) -> Iterator[Finding]:
    """Find requirements of a package, and of what it instruments, that are not met."""
    for line in package.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if _applies(requirement, "") or (_applies(requirement, "instruments") and _version(requirement, versions)):
            yield from _unmet(package, requirement, versions)


def _applies(requirement: Requirement, extra: str) -> bool:
    """Return whether it holds with this extra and not without."""
    marker = requirement.marker
    environment: dict[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]  # all are texts
    plainly = marker is None or marker.evaluate(environment)
    if not extra:
        return plainly
    return not plainly and marker is not None and marker.evaluate({**environment, "extra": extra})


def _version(requirement: Requirement, versions: Mapping[str, Installed]) -> str:
    package = versions.get(canonicalize_name(requirement.name))
    return package.version if package else ""


def _fits(requirement: Requirement, versions: Mapping[str, Installed]) -> bool:
    return requirement.specifier.contains(_version(requirement, versions), prereleases=True)


def _unmet(package: Installed, requirement: Requirement, versions: Mapping[str, Installed]) -> Iterator[Finding]:
    version = _version(requirement, versions)
    wanted = f"{requirement.name}{requirement.specifier}"
    fix = f"pip install --upgrade '{package.name}' '{wanted}'"
    if not version:
        yield problem(_STEP, "missing_package", f"{package.name} needs {wanted}, which is not installed", fix)
    elif not _fits(requirement, versions):
        message = f"{package.name} {package.version} needs {wanted}, and {version} is installed"
        yield problem(_STEP, "misfit", message, fix)


def _extension() -> Iterator[Finding]:
    if native is not None:
        return
    if os.environ.get("OTELSYNC_PURE_PYTHON", "") not in ("", "0"):
        fix = "unset OTELSYNC_PURE_PYTHON"
    else:
        fix = "install a C compiler, then install otelsync again"
    yield ok(_STEP, "no_extension", "the C extension is not used: recording works, at about twice the price", fix)
