"""Every OpenTelemetry instrumentation that is installed is switched on, ours in the place of what we fix.

As OpenTelemetry's own loader does it (``opentelemetry.instrumentation.auto_instrumentation._load``), but for two
things: an instrumentation is loaded when the program first imports its library, and one that fails stops nobody else.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Final

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.integrations import instrumentation

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from packaging.requirements import Requirement

LEFT_OUT: Final = frozenset(("logging", "structlog"))
"""otelsync has a log path of its own, and a second one would double every record."""

_NEEDS: Final = ("instruments", "instruments-any")

_log = own_logger("otelsync")


def instrument_everything() -> None:
    """Switch on what is installed and not named in ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS``."""
    disabled = instrumentation.disabled()
    if "*" in disabled:
        return
    _run("opentelemetry_pre_instrument")
    instrument_ours()
    for entry_point in metadata.entry_points(group=instrumentation.ENTRY_POINTS):
        if entry_point.name not in disabled:
            instrument_theirs(entry_point)
    _run("opentelemetry_post_instrument")


def instrument_ours() -> None:
    """Switch our own integrations on, each when its library is imported."""
    disabled = instrumentation.disabled()
    if "*" not in disabled:
        instrumentation.instrument_when_imported(name for name in instrumentation.known() if name not in disabled)


def instrument_theirs(entry_point: EntryPoint) -> None:
    """Switch on an instrumentation that is not ours, when its library is imported. What goes wrong is logged."""
    name = entry_point.name
    if name in LEFT_OUT or name in instrumentation.known():
        return
    with instrumentation.not_recorded_if_it_fails(name):
        libraries = _libraries(name, entry_point.dist)
        if libraries is not None:
            instrumentation.when_first_used(name, libraries, lambda: _load(entry_point))


def _libraries(name: str, distribution: Distribution | None) -> list[str] | None:
    """The installed distributions that an instrumentation is for; None if it cannot work with what is installed."""
    if distribution is None:
        return []
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    conflict = get_dist_dependency_conflicts(distribution)  # type: ignore[arg-type, unused-ignore]
    if conflict is None:
        return [each.name for each in _needs(distribution) if _is_there(each)]
    if conflict.found or conflict.found_any:
        _log.warning("%s is not recorded: %s", name, conflict)
    else:
        _log.debug("%s is not there to be recorded: %s", name, conflict)
    return None


def _needs(distribution: Distribution) -> list[Requirement]:
    """Return the requirement that an instrumentation names for what it instruments."""
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in distribution.requires or () if "instruments" in text]
    return [
        each
        for each in requirements
        if each.marker is not None and any(each.marker.evaluate({"extra": extra}) for extra in _NEEDS)
    ]


def _is_there(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _load(entry_point: EntryPoint) -> None:
    """As ``BaseDistro.load_instrumentor``; nothing if the program has switched it on itself."""
    with instrumentation.not_recorded_if_it_fails(entry_point.name):
        instrumentor = entry_point.load()()
        if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
            instrumentor.instrument(skip_dep_check=True)


def _run(group: str) -> None:
    for entry_point in metadata.entry_points(group=group):
        try:
            entry_point.load()()
        except Exception as error:
            hand_back(error)
            _log.warning("the entry point %s of %s has failed", entry_point.name, group, exc_info=True)
