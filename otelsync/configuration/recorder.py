"""The recorder: a journal, and the tracer provider whose spans go there, set as OpenTelemetry's."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import trace

from otelsync.configuration.journal_place import spool_for
from otelsync.errors import ConfigurationError
from otelsync.recording import runtime_context
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.vocabulary import SERVICE_NAME

if TYPE_CHECKING:
    from otelsync.journal.writer import Journal
    from otelsync.recording.provider import TracerProvider

_log = logging.getLogger("otelsync")

_retired: TracerProvider | None = None
"""The last provider that was in force. Modules and libraries hold its tracers, which the next one adopts."""


@dataclass(frozen=True)
class Recorder:
    """A journal, and the provider whose spans go there."""

    journal: Journal
    provider: TracerProvider

    def install(self) -> None:
        """Set the provider as OpenTelemetry's, unless another is set already."""
        existing = trace._TRACER_PROVIDER
        if existing is None:
            runtime_context.install()
            self.adopt_tracers()
            trace.set_tracer_provider(self.provider)
        else:
            _log.warning(
                "a %s is already set as OpenTelemetry's tracer provider and stays: spans go where it sends them and "
                "are not journalled; log records are, with its ids. Call otelsync.configure() first to have both.",
                type(existing).__name__,
            )

    @property
    def lost(self) -> bool:
        """True if something was lost that stands in no ledger."""
        return any(self.journal.uncounted)

    def adopt_tracers(self) -> None:
        """Take over the tracers that the last provider has given out."""
        if _retired is not None:
            self.provider.adopt_tracers(_retired)

    def retire(self) -> None:
        """Leave its tracers to whichever provider comes next."""
        global _retired
        _retired = self.provider

    def uninstall(self) -> None:
        """End the provider, and leave OpenTelemetry as it was before."""
        self.provider.shutdown()
        if trace._TRACER_PROVIDER is self.provider:
            self.retire()
            forget_provider()
            runtime_context.uninstall()

    def warn_of_uncounted(self) -> None:
        """Log what was lost and stands in no ledger, as the journal cannot be written."""
        spans, records = self.journal.uncounted
        if spans or records:
            _log.warning(
                "%d spans and %d log records were lost, as %s cannot be written", spans, records, self.journal.directory
            )


def make_recorder(settings: Settings) -> Recorder:
    """Make a journal and the provider whose spans go there; nothing is installed yet.

    Raises:
        ConfigurationError: A variable of the SDK has a value that it refuses.
    """
    from opentelemetry.sdk.resources import Resource

    from otelsync.journal.writer import Journal
    from otelsync.recording.provider import TracerProvider

    journal = Journal(
        settings.journal,
        max_bytes=settings.journal_max_bytes,
        max_directory_bytes=settings.journal_dir_max_bytes,
        spool=spool_for(settings),
    )
    try:
        provider = TracerProvider(
            journal,
            redactor=Redactor(settings.redact_keys, settings.redact_patterns),
            resource=Resource.create({SERVICE_NAME: settings.service_name}),
            shutdown_on_exit=False,
        )
    except ValueError as error:
        named = [name for name in os.environ if name.startswith("OTEL_") and name in str(error)]
        option = max(named, key=len, default="OTEL_*")
        fix = f"unset it, or set it as the SDK wants it: {error}"
        raise ConfigurationError(option, os.environ.get(option, ""), fix) from None
    return Recorder(journal, provider)


def forget_provider() -> None:
    """Let the next configure() set a provider: OpenTelemetry itself lets it be set once."""
    from opentelemetry.util._once import Once

    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()
