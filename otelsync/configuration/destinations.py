"""Destinations of what the journal holds: shippers, metrics and reports, made as the settings say."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from otelsync.otlp.exporters import is_configured
from otelsync.settings import Settings

if TYPE_CHECKING:
    from otelsync.journal.batch import Batch
    from otelsync.otlp.exporter import OtlpSink
    from otelsync.otlp.options import OtlpEndpoint
    from otelsync.reports.automatic import RunReports
    from otelsync.shipping.folding.budget import Limits
    from otelsync.shipping.metrics.service import MetricsOutlet, MetricsService
    from otelsync.shipping.shipper import Shipper
    from otelsync.store.writing import StoreSink


def make_shipper(
    settings: Settings,
    *,
    store: bool | None = None,
    metrics: MetricsService | None = None,
    reports: RunReports | None = None,
    within_program: bool = False,
) -> Callable[[], Shipper]:
    """Return what makes the shipper of the journal that `settings` name, in the thread or process that will use it.

    Args:
        settings: Which journal, and where its records go.
        store: Whether they go to the local store; by default as the settings say.
        metrics: Where records are counted, if not only for this shipper.
        reports: The reports of runs, for their owner to close.
        within_program: Whether a thread of the program itself will use it, which counts nothing unasked.
    """
    # Here and not in the thread, where they would hold up the host's first records
    from otelsync.shipping.shipper import Shipper

    endpoints = endpoints_of(settings)
    limits = _limits(settings) if endpoints else None
    to_store = wants_store(settings) if store is None else store
    open_store = _store(settings, reports) if to_store else None
    open_sinks = _sinks(endpoints) if endpoints else None
    counted = metrics is not None or _counts(settings, within_program=within_program)

    def make() -> Shipper:
        return Shipper(
            settings.journal,
            otlp=() if open_sinks is None else open_sinks(),
            store=None if open_store is None else open_store(),
            limits=limits,
            debug_logs=settings.debug_logs != "failed",
            dress=_dress(settings),
            refused_keep=settings.refused_keep,
            metrics=_outlet(settings, metrics, served=store is None) if counted else None,
            look=None if reports is None else reports.look,
        )

    return make


def _store(settings: Settings, reports: RunReports | None) -> Callable[[], StoreSink]:
    from otelsync.store.writing import StoreSink

    max_age = settings.store_max_days * 86_400
    return lambda: StoreSink(settings.store_file, settings.store_max_bytes, max_age, watch=reports)


def _sinks(endpoints: Sequence[OtlpEndpoint]) -> Callable[[], list[OtlpSink]]:
    from otelsync.otlp.exporter import OtlpSink

    return lambda: [OtlpSink(endpoint) for endpoint in endpoints]


def _counts(settings: Settings, *, within_program: bool) -> bool:
    """Return whether a shipper counts; a thread of the program only where metrics are asked for by name.

    Counting costs more than recording.
    """
    names = ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    asked = not within_program or settings.metrics_port is not None or any(os.environ.get(name) for name in names)
    return asked and wants_metrics(settings)


def _limits(settings: Settings) -> Limits | None:
    """Return what a trace may be on its way to OTLP. All that sends it is loaded: no fork finds it half loaded."""
    import otelsync.otlp.grpc
    import otelsync.otlp.http
    import otelsync.shipping.folding.debug_logs
    import otelsync.shipping.folding.shaping
    import otelsync.shipping.otlp_outlet  # noqa: F401
    from otelsync.shipping.folding.budget import Limits

    return Limits(max_spans=settings.trace_max_spans) if settings.fold else None


def _dress(settings: Settings) -> Callable[[list[Batch]], list[Batch]]:
    """Return what makes of batches what goes out by OTLP."""
    if settings.span_names == "kinds":
        return list
    from otelsync.shipping.item_names import with_item_names

    return with_item_names


def _outlet(settings: Settings, metrics: MetricsService | None, *, served: bool) -> MetricsOutlet:
    from otelsync.shipping.metrics.service import MetricsOutlet

    service = metrics or make_metrics(settings, served=served)
    return MetricsOutlet(service, settings.journal.name, is_own=metrics is None)


def make_reports(settings: Settings) -> RunReports | None:
    """Return what makes the reports of runs, for one process that ships; None if there are to be none."""
    if settings.reports == "off" or not wants_store(settings):
        return None
    from otelsync.reports.automatic import RunReports
    from otelsync.reports.process import environment_of_report

    return RunReports(settings.reports_dir, environment_of_report(settings, os.environ))


def make_metrics(settings: Settings, *, served: bool = True) -> MetricsService:
    """Return what counts records, and serves or sends the counts. `served`: also on the port that the settings name."""
    from otelsync.shipping.metrics.service import MetricsService

    port = settings.metrics_port if served else None
    return MetricsService(
        settings.place,
        otlp=_metrics_endpoint(settings),
        server=None if port is None else (settings.metrics_host, port),
    )


def wants_metrics(settings: Settings) -> bool:
    """Return whether anybody reads metrics: by default, if they can be sent."""
    return settings.metrics_port is not None or _metrics_endpoint(settings) is not None


def wants_store(settings: Settings) -> bool:
    """Return whether runs go to the local store: by default, if they go nowhere else."""
    return settings.store == "on" or (settings.store == "auto" and not endpoints_of(settings))


def has_destination(settings: Settings) -> bool:
    """Return whether records go anywhere from the journal."""
    return bool(endpoints_of(settings)) or wants_store(settings) or settings.metrics_port is not None


def endpoints_of(settings: Settings) -> tuple[OtlpEndpoint, ...]:
    """Return where spans and records are sent by OTLP."""
    if _says_nothing_of_otlp(settings):
        return ()
    from otelsync.otlp.options import endpoints_from_environment

    environment = dict(os.environ)
    if not settings.journal_logs:
        environment["OTEL_LOGS_EXPORTER"] = "none"
    return endpoints_from_environment(environment, endpoint=settings.endpoint)


def _says_nothing_of_otlp(settings: Settings) -> bool:
    """Return whether nobody asks for OTLP, as in most scripts: then what reads its options need not be loaded."""
    return settings.endpoint is None and not is_configured(os.environ)


def _metrics_endpoint(settings: Settings) -> tuple[OtlpEndpoint, float] | None:
    if _says_nothing_of_otlp(settings):
        return None
    from otelsync.otlp.options import metrics_from_environment

    return metrics_from_environment(os.environ, endpoint=settings.endpoint)
