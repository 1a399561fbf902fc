"""Switches the integration on and off: which functions of Celery are wrapped, and that each is put back as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from celery import Celery, canvas, signals
from celery.app import trace as task_tracing
from celery.app.task import Task
from celery.backends.base import Backend
from celery.exceptions import Ignore, Reject, Retry
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.metrics import get_meter

from otelsync.integrations.celery import worker_logging
from otelsync.integrations.celery.activation import SCHEMA, SCOPE_NAME, Tracers
from otelsync.integrations.celery.canvas import in_one_trace, with_seed
from otelsync.integrations.celery.celery_names import built_tasks
from otelsync.integrations.celery.continuation import continuing, replacing
from otelsync.integrations.celery.dispatched import dispatch
from otelsync.integrations.celery.endings import Endings
from otelsync.integrations.celery.publishing import Publisher, on_before_publish
from otelsync.integrations.celery.running import Runner, unwrapped
from otelsync.stages import dispatchers
from otelsync.stages.harmless_exceptions import no_failure
from otelsync.stages.misuse import warn_once

_CONSUMER: Final = "celery.worker.consumer.consumer"
"""A module that has ``build_tracer`` by name."""
_NO_FAILURES: Final = {Retry: "retry", Ignore: "cancelled", Reject: "cancelled"}
"""Exceptions by which a task says what is to become of it, and the outcome of the stages that they leave."""
_RUNTIME: Final = "flower.task.runtime.seconds"


class Instrumentor(CeleryInstrumentor):
    """Traces every publish and every run of a Celery task: ``otelsync.instrument("celery")``, or ``otelsync run``.

    Names and attributes are those of ``opentelemetry-instrumentation-celery``. Unlike there, a publish span is open
    while the task is published, a run span while it is run; what Celery publishes as the continuation of a canvas (the
    next step of a chain, a callback, a chord's body, the next attempt) hangs where the canvas was first published; and
    Celery's own polling tasks have no spans. While it is switched on, upstream's ``CeleryInstrumentor`` does nothing.

    It can be switched on before or after apps and workers are made, in the process that forks a worker's children or in
    the children, and works over any tracer provider; set by ``otelsync.configure()`` it costs least.

    ``instrument()`` takes ``tracer_provider`` and ``meter_provider``; by default those that are set are used, whenever
    that happens. Of upstream's option ``use_span_links`` it says that it has no effect.
    """

    _instance = None
    _is_instrumented_by_opentelemetry = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def _instrument(self, **options: Any) -> None:
        if options.get("use_span_links"):
            warn_once(
                "use_span_links",
                "use_span_links has no effect: with otelsync a task's run is a child of its publish, in one trace. "
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=celery leaves Celery to OpenTelemetry's own instrumentation",
            )
        self._upstream = _silence_upstream()
        tracers = Tracers(options.get("tracer_provider"))
        meter = get_meter(SCOPE_NAME, "", options.get("meter_provider"), SCHEMA)
        self.create_celery_metrics(meter)
        runner = Runner(tracers, self.metrics[_RUNTIME].record)  # type: ignore[index]  # made on the line before
        signals.before_task_publish.connect(on_before_publish, weak=False)
        for exception_type, outcome in _NO_FAILURES.items():
            no_failure(exception_type, outcome)
        dispatchers.register("celery", dispatch)
        self._endings = Endings(tracers)
        self._endings.switch_on()
        worker_logging.connect()
        self._replaced = [
            _replace(Celery, "send_task", Publisher(tracers).wrap),
            _replace(canvas.group, "apply_async", in_one_trace),
            _replace(canvas.chord, "run", with_seed(tracers)),
            _replace(Task, "on_replace", replacing),
            *(_replace(Backend, f"mark_as_{state}", continuing) for state in ("done", "failure", "revoked")),
            *(_replace(module, "build_tracer", runner.wrap_builder) for module in _modules_with_builder()),
        ]
        for task in built_tasks():
            task.__trace__ = runner.wrap(task.__trace__, task)

    def _uninstrument(self, **_options: Any) -> None:
        wrapped = task_tracing.build_tracer
        for owner, name, original in reversed(self._replaced):
            setattr(owner, name, original)
        for module in _modules_with_builder():
            if module.build_tracer is wrapped:  # imported since
                module.build_tracer = task_tracing.build_tracer
        for task in built_tasks():
            task.__trace__ = unwrapped(task.__trace__)
        for exception_type in _NO_FAILURES:
            no_failure(exception_type, None)
        dispatchers.register("celery", None)
        self._endings.switch_off()
        worker_logging.disconnect()
        signals.before_task_publish.disconnect(on_before_publish)
        _restore_upstream(self._upstream)


def _replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Any]) -> tuple[Any, str, Any]:
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    return owner, name, original


def _modules_with_builder() -> Iterator[Any]:
    yield task_tracing
    consumer = sys.modules.get(_CONSUMER)
    if hasattr(consumer, "build_tracer"):  # else another thread is importing it, and gets ours
        yield consumer


def _silence_upstream() -> dict[str, Any] | None:
    """Let upstream's instrumentation do nothing, whoever switches it on; what it was, if it was on."""
    upstream = _upstream()
    before = None
    if upstream.is_instrumented_by_opentelemetry:
        before = dict(vars(upstream))
        upstream.uninstrument()
    upstream._is_instrumented_by_opentelemetry = True
    return before


def _restore_upstream(before: dict[str, Any] | None) -> None:
    upstream = _upstream()
    upstream._is_instrumented_by_opentelemetry = False
    if before is not None:
        upstream.instrument()
        upstream.__dict__.update(before)


def _upstream() -> Any:
    return CeleryInstrumentor()  # type: ignore[no-untyped-call]
