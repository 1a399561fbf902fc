"""The place that log records go to, besides where they are shown: a journal, or the SDK's own way."""

from __future__ import annotations

from typing import Any, Protocol

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope


class Destination(Protocol):
    """The part of :class:`~otelsync.recording.provider.TracerProvider` that log paths need."""

    @property
    def journal(self) -> Any:
        """Takes finished records, as a :class:`~otelsync.journal.writer.Journal` does."""

    @property
    def encoders(self) -> Any:
        """Says whether the C extension may append to it."""

    @property
    def resource(self) -> Resource:
        """The resource of records from now on."""

    def define_scope(self, resource: Resource, scope: InstrumentationScope) -> int:
        """Return the number of an instrumentation scope under a resource."""
