"""The SDK's tracer and provider, as far as ours reach into them.

Its private names stand here alone. ``tests/test_private_names.py`` says which versions have which; where one is
missing, a public way that does less is taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Tracer as TracerApi
from opentelemetry.util import types

from otelsync.hooks.untouched import warning_filters_untouched


class SdkTracer(sdk.Tracer):
    """A tracer that has all that one of the SDK's has, of whichever version."""

    limits: SpanLimits
    instrumentation_scope: InstrumentationScope
    draws_at_random: Callable[[], bool]

    def become_like(self, like: sdk.Tracer, scope: InstrumentationScope, limits: SpanLimits) -> None:
        """Take over what `like` has. The SDK's own ``__init__`` has other arguments in each version."""
        for name, value in vars(like).items():  # an update of vars(self) would make all its attributes slower to read
            setattr(self, name, value)
        self.instrumentation_scope = scope
        self.limits = limits
        self.draws_at_random = draws_at_random(like.id_generator)

    is_enabled: ClassVar[Callable[[Any], bool]] = getattr(sdk.Tracer, "_is_enabled", lambda _: True)
    """Return whether its spans are recorded, as far as the provider's configurator goes."""


class SdkProvider(sdk.TracerProvider):
    """A provider that holds its tracers itself, and its resource.

    The SDK holds tracers since 1.41, and follows a changed resource since 1.44.
    """

    limits: SpanLimits

    def __init__(self, *, resource: Resource | None, span_limits: SpanLimits | None, **arguments: Any) -> None:
        self.limits = span_limits or SpanLimits()
        self._held_resource = Resource.create({}) if resource is None else resource
        super().__init__(resource=self._held_resource, span_limits=self.limits, **arguments)
        self.renew_locks()

    def renew_locks(self) -> None:
        """Make its locks, reentrant: a signal handler, which asks for a tracer as well, waits for none of them."""
        self.lock = threading.RLock()
        """Held while its tracers or its resource change."""
        vars(self)["_tracers_lock"] = threading.RLock()  # the SDK's, since 1.41

    @property
    def resource(self) -> Resource:
        """Attributes of the process that records."""
        return self._held_resource

    def tracer_like_the_sdk_s(self, scope: InstrumentationScope) -> TracerApi:
        """Make the tracer that the SDK would give out; one that records nothing where the SDK is disabled."""
        with warning_filters_untouched():
            tracer = super().get_tracer(scope.name, scope.version, scope.schema_url, _attributes(scope))
        held = getattr(self, "_tracers", None)
        if isinstance(held, dict):
            held.pop(scope, None)
        return tracer

    def update_resource(self, resource: Resource) -> None:
        """Let everything that is recorded from now on carry the attributes of `resource` as well."""
        with self.lock:
            self._held_resource = self._held_resource.merge(resource)
            self.take_resource(self._held_resource)

    def take_resource(self, resource: Resource) -> None:
        """Let the tracers have another resource; the lock is held."""

    def follow_configurator(self) -> None:
        """Let the tracers ask anew if they are enabled."""

    def _set_tracer_configurator(self, **arguments: Any) -> None:
        super()._set_tracer_configurator(**arguments)
        self.follow_configurator()

    def _handle_fork(self) -> None:
        """Do nothing: since 1.44 the SDK runs its resource detectors again, in threads, in every child."""


def announce_ending(processor: Any, span: Any) -> None:
    """Let a span processor change a span that is about to end. The specification calls this experimental."""
    on_ending = getattr(processor, "_on_ending", None)
    if on_ending is not None:
        on_ending(span)


def draws_at_random(generator: IdGenerator) -> Callable[[], bool]:
    """Return what says if trace ids are drawn at random; before 1.42 no generator has a word for it."""
    return getattr(generator, "is_trace_id_random", bool)


def _attributes(scope: InstrumentationScope) -> types.Attributes:
    return dict(scope.attributes) if scope.attributes else None
