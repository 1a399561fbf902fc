"""Versions of OpenTelemetry's packages and of the libraries they instrument: do they fit together?"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from otelsync.doctor.findings import Finding, ok, problem
from otelsync.journal.native import native
from otelsync.version import __version__


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
        sdk = versions["opentelemetry-sdk"].version if "opentelemetry-sdk" in versions else "unknown"
        message = f"otelsync {__version__}, opentelemetry-sdk {sdk}, Python {platform.python_version()}: they fit"
        found.append(ok("fit", message))
    return [*found, *_extension()]


def _misfits(package: Installed, versions: Mapping[str, Installed]) -> Iterator[Finding]:
    """Find requirements of a package, and of what it instruments, that are not met."""
    for line in package.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker, found = requirement.marker, versions.get(canonicalize_name(requirement.name))
        extras = ("", "instruments") if found else ("",)
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        fix = f"pip install --upgrade '{package.name}' '{wanted}'"
        if found is None:
            yield problem("missing_package", f"{package.name} needs {wanted}, which is not installed", fix)
        elif not requirement.specifier.contains(found.version, prereleases=True):
            message = f"{package.name} {package.version} needs {wanted}, and {found.version} is installed"
            yield problem("misfit", message, fix)


def _extension() -> Iterator[Finding]:
    if native is None:
        is_refused = os.environ.get("OTELSYNC_PURE_PYTHON", "") not in ("", "0")
        fix = "unset OTELSYNC_PURE_PYTHON" if is_refused else "install a C compiler, then install otelsync again"
        yield ok("no_extension", "the C extension is not used: recording works, at about twice the price", fix)
