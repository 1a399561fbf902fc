"""Instrumented libraries: our integrations are found by being there, and switched on and off by name.

An integration is a module of :mod:`otelsync.integrations`, with a class `Instrumentor`. The extra of otelsync that has
its name says which library it is for.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import Final, Protocol

import otelsync.integrations
from otelsync.errors import ConfigurationError
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.hooks.untouched import random_untouched
from otelsync.hooks.when_imported import when_imported

ENTRY_POINTS: Final = "opentelemetry_instrumentor"

_LATER: Final = {"celery": "celery.app", "django": "django.core.handlers.base"}
"""Packages that are not whole when they have been imported, and the part that says that they are.

Celery's loads itself bit by bit; Django's instrumentation reads the settings, which may be what imports Django.
"""

_SHARED: Final = frozenset(("http", "instrumentation"))
"""Modules that stand beside the integrations and are none."""

_log = own_logger("otelsync")


class Instrumentor(Protocol):
    """The part of OpenTelemetry's ``BaseInstrumentor`` that is used here."""

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """True if it is on."""

    def instrument(self) -> None:
        """Switch it on."""

    def uninstrument(self) -> None:
        """Switch it off."""


_on: dict[str, Instrumentor] = {}
_cancel: dict[str, list[Callable[[], None]]] = {}


def instrument(*libraries: str) -> None:
    """Record what libraries do: what they send, ask for and run, as spans.

    Args:
        libraries: Their names, such as ``"celery"``. Without any: all that are installed and that otelsync knows, each
            when it is first imported.

    A second call changes nothing. Where OpenTelemetry's own instrumentation of a library is on, ours takes its place.

    Raises:
        ConfigurationError: Nothing is known of such a library, or it is not installed; nothing has changed.
    """
    if not libraries:
        instrument_when_imported(known())
        return
    for name in libraries:
        _check(name)
    for name in libraries:
        _forget_waiting(name)
        _switch_on(name)


def uninstrument(*libraries: str) -> None:
    """Leave libraries as they were before :func:`instrument`; without arguments, all of them.

    Raises:
        ConfigurationError: Nothing is known of such a library; nothing has changed.
    """
    for name in libraries:
        _check_known(name)
    for name in libraries or known():
        _forget_waiting(name)
        instrumentor = _on.pop(name, None)
        if instrumentor is not None:
            instrumentor.uninstrument()


def known() -> tuple[str, ...]:
    """The integrations that there are, by name."""
    found = {module.name for module in pkgutil.iter_modules(otelsync.integrations.__path__)}
    return tuple(sorted(found - _SHARED))


def disabled() -> frozenset[str]:
    """Return the names in ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS``; ``*`` stands for all."""
    return frozenset(name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(","))


def instrument_when_imported(libraries: Iterable[str]) -> None:
    """Switch integrations on when their libraries are first imported; those that are not installed are passed over."""
    for name in libraries:
        with not_recorded_if_it_fails(name):
            requirement = _requirement(name)
            if name not in _on and name not in _cancel and _installed(requirement):
                when_first_used(name, [requirement], partial(_switch_on, name))


def when_first_used(name: str, distributions: Iterable[str], action: Callable[[], None]) -> None:
    """Call `action` when one of the distributions' packages is first imported, once; now, where that cannot be seen.

    Args:
        name: What is spoken of.
        distributions: Their names. They are installed.
        action: What it raises is logged.
    """
    packages = [package for each in distributions for package in _packages(each)]
    if not packages or any(map(_is_namespace, packages)):
        _attempt(name, action)
        return
    done: list[bool] = []

    def once(module: ModuleType) -> None:  # noqa: ARG001
        if not done:
            done.append(True)
            _attempt(name, action)

    _cancel[name] = [when_imported(_LATER.get(package, package), once) for package in packages]


def _attempt(name: str, action: Callable[[], None]) -> None:
    with not_recorded_if_it_fails(name):
        action()


@contextmanager
def not_recorded_if_it_fails(name: str) -> Iterator[None]:
    """Let an instrumentation fail: the program goes on, and a line says what is not recorded.

    A library that is not there is nothing to record, and nothing is said of it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        _log.debug("%s is not there to be recorded: %s", name, error)
    except Exception as error:
        hand_back(error)
        _log.warning("%s is not recorded: its instrumentation has failed (%s: %s)", name, type(error).__name__, error)
        _log.debug("the instrumentation of %s has failed here", name, exc_info=True)


def _switch_on(name: str) -> None:
    if name in _on:
        return
    with random_untouched():
        instrumentor: Instrumentor = import_module(f"otelsync.integrations.{name}").Instrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()
    _on[name] = instrumentor


def _forget_waiting(name: str) -> None:
    for cancel in _cancel.pop(name, []):
        cancel()


def _check(name: str) -> None:
    _check_known(name)
    if not _installed(_requirement(name)):
        raise ConfigurationError(
            "instrument()", name, f"it is not installed: install otelsync with the extra {name}, otelsync[{name}]"
        )


def _check_known(name: str) -> None:
    if name not in known():
        raise ConfigurationError("instrument()", name, f"otelsync knows {', '.join(known())}")


@cache
def _requirement(name: str) -> str:
    """The distribution that an integration is for: the first requirement of the extra of its name."""
    from packaging.requirements import Requirement

    try:
        requires = metadata.requires("otelsync") or []
    except metadata.PackageNotFoundError:
        return name
    for text in requires:
        marker = Requirement(text).marker
        if marker is not None and marker.evaluate({"extra": name}) and not marker.evaluate({"extra": ""}):
            return Requirement(text).name
    return name


def _installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _packages(distribution: str) -> list[str]:
    """The top-level packages of a distribution that is installed."""
    found = metadata.distribution(distribution)
    listed = found.read_text("top_level.txt")
    if listed is not None:
        return listed.split()
    tops = {path.parts[0].removesuffix(".py") for path in found.files or () if path.suffix == ".py"}
    return sorted(top for top in tops if top.isidentifier())


def _is_namespace(package: str) -> bool:
    """Return whether a package has no code of its own, so that its import says little."""
    if package in sys.modules:
        return getattr(sys.modules[package], "__file__", None) is None
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return True
    return spec is None or spec.origin is None
