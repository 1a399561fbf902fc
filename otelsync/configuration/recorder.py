"""Recorders: a tracer provider that is set as OpenTelemetry's, and a journal where its spans go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from opentelemetry import trace
from opentelemetry.trace import TracerProvider as TracerProviderApi

from otelsync.configuration.journal_place import spool_for
from otelsync.errors import ConfigurationError
from otelsync.hooks.opentelemetry_api import provider_that_is_set, set_provider_aside
from otelsync.hooks.own_messages import own_logger
from otelsync.recording import runtime_context
from otelsync.redaction import Redactor
from otelsync.settings import Settings

if TYPE_CHECKING:
    from otelsync.journal.writer import Journal
    from otelsync.logs.destination import Destination
    from otelsync.logs.path import LogPath
    from otelsync.recording.provider import TracerProvider

_log = own_logger("otelsync")

_retired: TracerProvider | None = None
"""The last provider that was in force. Modules and libraries hold its tracers, which the next one adopts."""


class Recorder(Protocol):
    """Everything that configuration needs of what records, whichever way it goes."""

    @property
    def log_records(self) -> Destination | None:
        """Takes log records; None where they go nowhere but where they are shown."""

    def install(self) -> None:
        """Set the provider as OpenTelemetry's, unless another is set already."""

    def adopt_tracers(self) -> None:
        """Take over the tracers that the last provider has given out, where it is one of ours."""

    def retire(self) -> None:
        """Leave its tracers to whichever provider comes next."""

    def uninstall(self) -> None:
        """Leave OpenTelemetry as it was before, and warn of what was lost."""

    def close(self, deadline: float) -> bool:
        """End, by ``time.monotonic()``; returns whether what it sends itself has arrived."""

    def watch(self, path: LogPath) -> None:
        """Let `path` be told when somebody changes the verbosity."""

    def look_too(self, look: Callable[[], object]) -> None:
        """Call `look` with the first record, and some times a second while there are more. It must not raise."""

    def flush(self, timeout: float) -> bool:
        """Bring what was recorded so far on its way; returns whether what it sends itself has arrived."""

    def settle(self, settings: Settings) -> None:
        """Go by other settings from now on, as far as they can change."""


@dataclass
class JournalRecorder:
    """A journal, and the provider whose spans go there."""

    journal: Journal
    provider: TracerProvider
    _look_too: Callable[[], object] | None = None

    @property
    def log_records(self) -> Destination:
        """The provider: its journal takes log records too."""
        return self.provider

    def install(self) -> None:
        """Set the provider as OpenTelemetry's, unless another is set already."""
        if set_provider(self.provider, but_before=self._before_it_is_set):
            return
        _log.warning(
            "a %s is already set as OpenTelemetry's tracer provider and stays: spans go where it sends them and "
            "are not journalled; log records are, with its ids. Call otelsync.configure() first to have both.",
            type(provider_that_is_set()).__name__,
        )

    def _before_it_is_set(self) -> None:
        runtime_context.install()
        self.adopt_tracers()

    def adopt_tracers(self) -> None:
        """Take over the tracers that the last provider has given out."""
        if _retired is not None:
            self.provider.adopt_tracers(_retired)

    def retire(self) -> None:
        """Leave its tracers to whichever provider comes next."""
        global _retired
        _retired = self.provider

    def uninstall(self) -> None:
        """End the provider, leave OpenTelemetry as it was before, and warn of what stands in no ledger."""
        self.end()
        if provider_that_is_set() is self.provider:
            self.retire()
            set_provider_aside()
            runtime_context.uninstall()

    def end(self) -> None:
        """Warn of what stands in no ledger, and let span processors end; spans are journalled as before."""
        self._warn_of_uncounted()
        self.provider.shutdown()

    def close(self, deadline: float) -> bool:  # noqa: ARG002
        """End the journal, which waits for nothing. Whoever ships says whether its records have arrived.

        False: something was lost that stands in no ledger.
        """
        self.journal.on_look = None
        self.journal.close()
        return not any(self.journal.uncounted)

    def watch(self, path: LogPath) -> None:
        """Look for changes of the verbosity in the journal's directory."""
        from otelsync.logs.verbosity import Watch

        watch = Watch(self.journal.directory, path.ask_for)
        watch.look()
        self._verbosity = watch.look
        self.journal.on_look = self._look

    def look_too(self, look: Callable[[], object]) -> None:
        """Call `look` whenever the journal looks after its file."""
        self._look_too = look

    def _look(self) -> None:
        self._verbosity()
        if self._look_too is not None:
            self._look_too()

    def flush(self, timeout: float) -> bool:  # noqa: ARG002
        """Look whether the journal's file is still there. Whoever ships says whether its records have arrived.

        False: something was lost that stands in no ledger.
        """
        self.journal.look()
        return not any(self.journal.uncounted)

    def settle(self, settings: Settings) -> None:
        """Redact as the settings say, and call the service by their name."""
        self.provider.redact_with(Redactor(settings.redact_keys, settings.redact_patterns))
        self.provider.rename_service(settings.service_name)

    def _warn_of_uncounted(self) -> None:
        """Log what was lost and stands in no ledger, as the journal cannot be written."""
        spans, records = self.journal.uncounted
        if spans or records:
            _log.warning(
                "%d spans and %d log records were lost, as %s cannot be written", spans, records, self.journal.directory
            )


def make_recorder(settings: Settings) -> JournalRecorder:
    """Make a journal and the provider whose spans go there; nothing is installed yet.

    Raises:
        ConfigurationError: A variable of the SDK has a value that it refuses.
    """
    from otelsync.journal.segment import make_private
    from otelsync.journal.writer import Journal
    from otelsync.recording.provider import TracerProvider
    from otelsync.recording.resource import resource_of

    spool = spool_for(settings)
    journal = Journal(
        settings.journal,
        max_bytes=settings.journal_max_bytes,
        max_directory_bytes=settings.journal_dir_max_bytes,
        spool=spool,
    )
    with naming_variable():
        provider = TracerProvider(
            journal,
            redactor=Redactor(settings.redact_keys, settings.redact_patterns),
            place=settings.place,
            resource=resource_of(settings.place, settings.service_name),
            shutdown_on_exit=False,
        )
    if spool is not None:
        with suppress(OSError):  # else nobody finds it if all files are in the spool
            make_private(settings.journal)
    return JournalRecorder(journal, provider)


@contextmanager
def naming_variable() -> Iterator[None]:
    """Name the variable of the environment whose value the SDK refuses.

    Raises:
        ConfigurationError: It has refused one.
    """
    try:
        yield
    except ValueError as error:
        named = [name for name in os.environ if name.startswith("OTEL_") and name in str(error)]
        option = max(named, key=len, default="OTEL_*")
        fix = f"unset it, or set it as the SDK wants it: {error}"
        raise ConfigurationError(option, os.environ.get(option, ""), fix) from None


def set_provider(provider: TracerProviderApi, *, but_before: Callable[[], object] = lambda: None) -> bool:
    """Set OpenTelemetry's tracer provider, after a call of `but_before`; False if another one is set, which stays."""
    if provider_that_is_set() is not None:
        return False
    but_before()
    trace.set_tracer_provider(provider)
    return True
