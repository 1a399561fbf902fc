"""The tracer provider: the SDK's, with spans that go to the journal."""

from __future__ import annotations

import os
from weakref import WeakSet, WeakValueDictionary

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator as SdkIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Tracer as TracerApi
from opentelemetry.util import types

from otelsync.journal import forks
from otelsync.journal.writer import Journal
from otelsync.recording.ids import IdGenerator
from otelsync.recording.resource import renamed, resource_of
from otelsync.recording.span_state import Encoders
from otelsync.recording.tracer import Owner, Tracer
from otelsync.redaction import Redactor
from otelsync.vocabulary import SERVICE_NAME


class TracerProvider(Owner):
    """The SDK's tracer provider, with spans that are journalled when they end.

    Args:
        journal: Where finished spans go.
        redactor: Takes secrets out of names, attributes and messages on the way; None leaves everything as it is.
        place: What tells this place of recording from others on the host; by default the journal's directory.

    All other arguments are the SDK's. Span processors that are added see every span, at the price of building what they
    read.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        redactor: Redactor | None = None,
        place: str = "",
        sampler: sampling.Sampler | None = None,
        resource: Resource | None = None,
        shutdown_on_exit: bool = True,
        active_span_processor: sdk.SynchronousMultiSpanProcessor | sdk.ConcurrentMultiSpanProcessor | None = None,
        id_generator: SdkIdGenerator | None = None,
        span_limits: sdk.SpanLimits | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.journal = journal
        self._place = place or str(journal.directory)
        self.has_processors = active_span_processor is not None
        self.encoders = Encoders(journal, redactor)
        self._resource_numbers: list[tuple[Resource, int]] = []
        self._scope_numbers: dict[tuple[int, bytes], int] = {}
        # By who holds them: a program may ask for tracers of ever new names.
        self._tracers_by_scope: WeakValueDictionary[InstrumentationScope, Tracer] = WeakValueDictionary()
        super().__init__(
            sampler=sampler,
            resource=resource_of(self._place) if resource is None else resource,
            shutdown_on_exit=shutdown_on_exit,
            active_span_processor=active_span_processor,
            id_generator=id_generator or IdGenerator(),
            span_limits=span_limits,
            meter_provider=meter_provider,
        )
        _providers.add(self)

    def redact_with(self, redactor: Redactor) -> None:
        """Let `redactor` take secrets out of everything that is recorded from now on."""
        with self.lock:
            self.encoders = Encoders(self.journal, redactor)
            for tracer in self._tracers_by_scope.values():
                tracer.take_encoders(self.encoders)

    def rename_service(self, name: str) -> None:
        """Let everything that is recorded from now on have another ``service.name``."""
        if self.resource.attributes.get(SERVICE_NAME) != name:
            self.update_resource(Resource(renamed(self.resource.attributes, name, self._place)))

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> TracerApi:
        """The tracer of a library; the same one for the same arguments."""
        scope = InstrumentationScope(
            instrumenting_module_name or "", instrumenting_library_version or "", schema_url, attributes
        )
        tracer = self._tracers_by_scope.get(scope)
        if tracer is not None:
            return tracer
        like = self.tracer_like_the_sdk_s(scope)
        if not isinstance(like, sdk.Tracer):
            return like
        with self.lock:
            tracer = self._tracers_by_scope.get(scope)
            if tracer is None:
                tracer = self._tracers_by_scope[scope] = Tracer(like, self, scope)
            return tracer

    def adopt_tracers(self, other: TracerProvider) -> None:
        """Let the tracers that `other` has given out record here from now on: modules and libraries hold on to them."""
        with other.lock:
            theirs = dict(other._tracers_by_scope.items())  # dict() of it asks again for each key: one may be gone
        for scope, tracer in theirs.items():
            like = self.tracer_like_the_sdk_s(scope)
            if isinstance(like, sdk.Tracer):
                with self.lock:
                    tracer.belong_to(self, like, scope)
                    self._tracers_by_scope[scope] = tracer

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Let `span_processor` see the start and the end of every span."""
        super().add_span_processor(span_processor)
        self.has_processors = True
        with self.lock:
            for tracer in self._tracers_by_scope.values():
                tracer.reconsider()

    def take_resource(self, resource: Resource) -> None:
        """Let the tracers have another resource; the lock is held."""
        for tracer in self._tracers_by_scope.values():
            tracer.take_resource(resource)

    def follow_configurator(self) -> None:
        """Let the tracers ask anew if they are enabled."""
        self.adopt_tracers(self)

    def begin_in_child(self) -> None:
        """After a fork: the child is another process of the same instance.

        What the SDK's resource detectors would find is known.
        """
        self.renew_locks()
        if "process.pid" in self.resource.attributes:
            self.update_resource(Resource({"process.pid": os.getpid()}))


_providers: WeakSet[TracerProvider] = WeakSet()


def _begin_in_child() -> None:
    for provider in list(_providers):
        provider.begin_in_child()


forks.in_child(_begin_in_child)
