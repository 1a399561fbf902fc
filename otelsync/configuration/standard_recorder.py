"""The recorder of the standard way: the SDK's own providers, set as OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelsync.configuration.destinations import endpoints_of
from otelsync.configuration.recorder import naming_variable, set_provider
from otelsync.hooks.opentelemetry_api import provider_that_is_set, set_provider_aside
from otelsync.hooks.own_messages import own_logger
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.standard.children import Children
from otelsync.standard.providers import Standard

if TYPE_CHECKING:
    from otelsync.logs.destination import Destination
    from otelsync.logs.path import LogPath

_log = own_logger("otelsync")


@dataclass
class StandardRecorder:
    """The SDK's providers of this process."""

    standard: Standard
    settings: Settings

    def __post_init__(self) -> None:
        self._children = Children(self._end_child)

    @property
    def log_records(self) -> Destination | None:
        """The SDK's logger provider; None where no endpoint takes log records."""
        return self.standard.destination

    def install(self) -> None:
        """Set the SDK's provider as OpenTelemetry's, unless another is set already."""
        if not set_provider(self.standard.tracers):
            _log.warning(
                "a %s is already set as OpenTelemetry's tracer provider and stays: spans go where it sends them. Log "
                "records go by the SDK's exporters, with its ids",
                type(provider_that_is_set()).__name__,
            )

    def adopt_tracers(self) -> None:
        """Do nothing: the SDK's tracers belong to their provider."""

    def retire(self) -> None:
        """Do nothing: tracers of the SDK stay with their provider."""

    def uninstall(self) -> None:
        """Leave OpenTelemetry as it was before."""
        if provider_that_is_set() is self.standard.tracers:
            set_provider_aside()

    def close(self, deadline: float) -> bool:
        """Send what is left, and warn of what has not arrived."""
        self._children.call_off()
        has_arrived = self.standard.close(deadline)
        self._warn_of_lost()
        return has_arrived

    def _end_child(self) -> None:
        """Send what a child process has left, and warn of what has not arrived."""
        self.flush(self.settings.patience)
        self._warn_of_lost()

    def _warn_of_lost(self) -> None:
        spans, records = self.standard.spans.missing, self.standard.log_records.missing
        if spans or records:
            _log.warning("%d spans and %d log records were lost, as they could not be sent in time", spans, records)

    def watch(self, path: LogPath) -> None:
        """Watch nothing, as a journal directory is the place where somebody would say so."""

    def look_too(self, look: Callable[[], object]) -> None:
        """Do nothing: there is no journal that somebody has to ship."""

    def flush(self, timeout: float) -> bool:
        """Send what was recorded so far."""
        return self.standard.flush(timeout)

    def settle(self, settings: Settings) -> None:
        """Redact as the settings say, call the service by their name, and send where they say."""
        self.standard.redact_with(Redactor(settings.redact_keys, settings.redact_patterns))
        self.standard.rename_service(settings.service_name)
        self.standard.send_to(endpoints_of(settings))
        self.settings = settings


def make_standard_recorder(settings: Settings) -> StandardRecorder:
    """Make the SDK's providers; nothing is installed yet.

    Raises:
        ConfigurationError: A variable of the SDK has a value that it refuses.
    """
    with naming_variable():
        standard = Standard(
            endpoints_of(settings),
            Redactor(settings.redact_keys, settings.redact_patterns),
            settings.service_name,
            settings.place,
        )
    return StandardRecorder(standard, settings)
