"""The tracer provider: the SDK's, with spans that go to the journal."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections.abc import Iterator

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator as SdkIdGenerator
from opentelemetry.trace import Tracer as TracerApi
from opentelemetry.util import types

from otelsync.hooks.untouched import warning_filters_untouched
from otelsync.journal import forks
from otelsync.journal.writer import Journal
from otelsync.recording.ids import IdGenerator
from otelsync.recording.span_state import Encoders
from otelsync.recording.tracer import Owner, Tracer
from otelsync.redaction import Redactor
from otelsync.vocabulary import SERVICE_INSTANCE_ID, SERVICE_NAME


class TracerProvider(Owner):
    """The SDK's tracer provider, with spans that are journalled when they end.

    Args:
        journal: Where finished spans go.
        redactor: Takes secrets out of names, attributes and messages on the way; None leaves everything as it is.

    All other arguments are the SDK's. Span processors that are added see every span, at the price of building what they
    read.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        redactor: Redactor | None = None,
        sampler: sampling.Sampler | None = None,
        resource: Resource | None = None,
        shutdown_on_exit: bool = True,
        active_span_processor: sdk.SynchronousMultiSpanProcessor | sdk.ConcurrentMultiSpanProcessor | None = None,
        id_generator: SdkIdGenerator | None = None,
        span_limits: sdk.SpanLimits | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.journal = journal
        self._generation = forks.generation()
        self.has_processors = active_span_processor is not None
        self.encoders = Encoders(journal, redactor)
        self._resource_numbers: list[tuple[Resource, int]] = []
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=shutdown_on_exit,
            active_span_processor=active_span_processor,
            id_generator=id_generator or IdGenerator(),
            span_limits=span_limits,
            meter_provider=meter_provider,
        )
        _providers.add(self)

    def redact_with(self, redactor: Redactor) -> None:
        """Let `redactor` take secrets out of everything that is recorded from now on."""
        with self._tracers_lock:
            self.encoders = Encoders(self.journal, redactor)
            for tracer in self._own_tracers():
                tracer.take_encoders(self.encoders)

    def rename_service(self, name: str) -> None:
        """Let everything that is recorded from now on have another ``service.name``."""
        if self.resource.attributes.get(SERVICE_NAME) != name:
            self._update_resource(Resource({SERVICE_NAME: name}))

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> TracerApi:
        """The tracer of a library; the same one for the same arguments."""
        with warning_filters_untouched():
            tracer = super().get_tracer(
                instrumenting_module_name, instrumenting_library_version, schema_url, attributes
            )
        if isinstance(tracer, sdk.Tracer) and not isinstance(tracer, Tracer):
            with self._tracers_lock:
                scope = tracer._instrumentation_scope
                ours = self._tracers.get(scope)
                if not isinstance(ours, Tracer):
                    ours = self._tracers[scope] = Tracer(tracer, self)
                return ours
        return tracer

    def adopt_tracers(self, other: TracerProvider) -> None:
        """Let the tracers that `other` has given out record here from now on: modules and libraries hold on to them."""
        with other._tracers_lock:
            theirs = list(other._own_tracers())
        for tracer in theirs:
            scope = tracer.instrumentation_scope
            with self._tracers_lock:
                self._tracers.pop(scope, None)
            with warning_filters_untouched():
                like = super().get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)
            if isinstance(like, sdk.Tracer):
                with self._tracers_lock:
                    tracer.belong_to(self, like)
                    self._tracers[scope] = tracer

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Let `span_processor` see the start and the end of every span."""
        super().add_span_processor(span_processor)
        self.has_processors = True
        with self._tracers_lock:
            for tracer in self._own_tracers():
                tracer.reconsider()

    def _own_tracers(self) -> Iterator[Tracer]:
        return (tracer for tracer in self._tracers.values() if isinstance(tracer, Tracer))

    def _handle_fork(self) -> None:
        """A forked child is an instance of its own.

        The SDK runs its resource detectors again, in a pool of threads, in every child; what they would find is known.
        """
        number = forks.mark[0]
        if number == self._generation:  # the SDK's hook and ours both come here
            return
        self._generation = number
        self._tracers_lock = threading.Lock()
        changed: dict[str, types.AttributeValue] = {}
        if SERVICE_INSTANCE_ID in self._resource.attributes:
            changed[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
        if "process.pid" in self._resource.attributes:
            changed["process.pid"] = os.getpid()
        if changed:
            self._update_resource(Resource(changed))


_providers: weakref.WeakSet[TracerProvider] = weakref.WeakSet()


def _begin_in_child() -> None:
    for provider in list(_providers):
        provider._handle_fork()


forks.in_child(_begin_in_child)
