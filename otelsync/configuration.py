"""Settings become a recorder, logging and a shipper, once a process, and can be undone."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from opentelemetry import trace

from otelsync.errors import ConfigurationError
from otelsync.integrations.http import trace_headers
from otelsync.logs import path as logs
from otelsync.logs.verbosity import Levels, Watch
from otelsync.recording import scope as context
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.vocabulary import SERVICE_NAME

if TYPE_CHECKING:
    from otelsync.journal.writer import Journal
    from otelsync.otlp.options import OtlpEndpoint
    from otelsync.recording.provider import TracerProvider
    from otelsync.reports.automatic import RunReports
    from otelsync.shipping.metrics.service import MetricsService
    from otelsync.shipping.shipper import Shipper
    from otelsync.shipping.shipper_thread import ShipperThread

_log = logging.getLogger("otelsync")


@dataclass
class _Running:
    """What a configured process consists of."""

    settings: Settings
    journal: Journal | None = None
    provider: TracerProvider | None = None
    thread: ShipperThread | None = None
    reports: RunReports | None = None
    is_provisional: bool = False
    """Whether `otelsync run` or a test made it, so that the program's own configure() still has its say."""
    is_for_test: bool = False


DESTINATIONS: Final = "destinations"
"""A file in a journal directory that names the endpoints its records are for, so that nobody else takes them away."""

_lock = threading.RLock()
_running: _Running | None = None
_retired: TracerProvider | None = None
"""The last provider that was in force. Modules and libraries hold its tracers, which the next one adopts."""


def configure(*, log_stream: IO[Any] | None = None, **options: Any) -> None:
    """Record spans and logs from now on, and ship them.

    Args:
        log_stream: Where rendered log records go, a text or binary stream; standard output by default.
        options: Any option of :class:`~otelsync.settings.Settings`, such as ``service_name``, ``log_level``,
            ``log_format``, ``endpoint`` or ``home``. What is not given is read from the environment.

    A second call changes nothing. Where another tracer provider is already set it stays: stages and log records work
    with it, but its spans are not journalled. Under `otelsync run`, which has configured the process before the
    program began, the first call counts in all but where records are kept, and who ships them.

    Raises:
        ConfigurationError: An option has a value that cannot work; nothing has changed.
    """
    with _lock:
        if _running is None:
            _begin(Settings.from_environment(**options), log_stream)
        elif _running.is_provisional:
            _settle(_running, options, log_stream)
        else:
            _log.debug("otelsync is already configured; this call of configure() changes nothing")


def begin_under_run() -> None:
    """Record this process for `otelsync run`, before the program begins: the environment says how.

    The program's logging is left as it is, unless ``OTELSYNC_LOGGING`` says otherwise (`otelsync run` itself must not
    set that). The first configure() or setup_logging() that the program calls still has its say. Does nothing where
    otelsync is configured.

    Raises:
        ConfigurationError: A variable has a value that cannot work; nothing has changed.
    """
    with _lock:
        if _running is None:
            logging_kept = None if os.environ.get("OTELSYNC_LOGGING") else "keep"
            _begin(Settings.from_environment(logging=logging_kept), None, is_provisional=True)


def begin_for_test(log_stream: IO[Any], **options: Any) -> None:
    """Record for a test, where nothing is configured (see :func:`set_aside`).

    The program's own configure() then has its say in all but where records are kept and whether they are shipped.

    Raises:
        ConfigurationError: An option has a value that cannot work; nothing has changed.
    """
    with _lock:
        _begin(Settings.from_environment(**options), log_stream, is_provisional=True)
        assert _running is not None
        _running.is_for_test = True


def set_aside() -> Callable[[], None]:
    """Go on as though nothing had been configured, by us or by others; what is returned puts everything back.

    For tests. What was configured keeps its journal and its shipper, and gets the tracers back that it has given out.
    """
    from otelsync.recording import runtime_context

    global _running, _retired
    with _lock:
        running, _running = _running, None
        provider, once = trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE
        had_context = runtime_context.installed()
        path = logs.active()
        _uninstall_logging()
        trace_headers.uninstall()
        _forget_provider()
        if running is not None and running.provider is not None:
            _retired = running.provider

    def put_back() -> None:
        global _running
        with _lock:
            shutdown(0)
            trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = provider, once
            if had_context:
                runtime_context.install()
            if path is not None:
                _connect(path)
            if running is not None:
                _resume(running)

    return put_back


def _resume(running: _Running) -> None:
    global _running
    _running = running
    if running.provider is not None:
        trace_headers.install(running.settings.trace_hosts)
        if _retired is not None:
            running.provider.adopt_tracers(_retired)
    atexit.register(_shutdown_at_exit)


def _begin(settings: Settings, log_stream: IO[Any] | None, *, is_provisional: bool = False) -> None:
    global _running
    endpoints = _endpoints(settings)
    running = _Running(settings) if settings.disabled else _recorder(settings)
    running.is_provisional = is_provisional
    _install_logging(settings, log_stream, running)
    _running = running
    if running.provider is not None:
        _start(running, endpoints)
    atexit.register(_shutdown_at_exit)


def _settle(running: _Running, options: dict[str, Any], log_stream: IO[Any] | None) -> None:
    """Let the program's own configure() decide what `otelsync run`, or a test, has left open."""
    before = running.settings
    asked = Settings.from_environment(**options)
    settings = replace(
        asked,
        service_name=asked.service_name if options.get("service_name") else before.service_name,
        journal_dir=before.journal,
        ship=before.ship,
    )
    if settings.endpoint != before.endpoint and not running.is_for_test:
        _log.warning(
            "otelsync run ships what this program records, and not to %s: set OTEL_EXPORTER_OTLP_ENDPOINT for it",
            settings.endpoint,
        )
    if settings.disabled != before.disabled:
        shutdown()
        _begin(settings, log_stream)
        return
    running.settings = settings
    running.is_provisional = False
    if running.provider is not None:
        trace_headers.install(settings.trace_hosts)
        running.provider.redact_with(Redactor(settings.redact_keys, settings.redact_patterns))
        running.provider.rename_service(settings.service_name)
    _install_logging(settings, log_stream, running)


def setup_logging(
    service_name: str | None = None, log_format: str | None = None, *, log_level: str | int | None = None
) -> None:
    """Set up structlog and the standard library's logging alone: nothing is recorded, unless configure() was called.

    Records inside a span of any provider carry its ids all the same. :func:`shutdown` undoes it. With
    ``OTELSYNC_LOGGING=keep`` the program's own logging stays as it is.

    Raises:
        ConfigurationError: An option has a value that cannot work.
    """
    with _lock:
        if service_name is None and _running is not None and _running.is_provisional:
            service_name = _running.settings.service_name
        settings = Settings.from_environment(service_name=service_name, log_format=log_format, log_level=log_level)
        _install_logging(settings, None, _running)


def flush(timeout: float = 5.0) -> bool:
    """Wait until what this process has recorded so far was shipped.

    Returns:
        Whether it was, within `timeout` seconds. What was not stays in the journal, and is shipped later. True at once
        where it is not this process that ships (``ship="off"``).
    """
    running = _running
    if running is None or running.thread is None:
        return True
    if running.journal is not None:
        running.journal.look()
    return running.thread.flush(timeout)


def shutdown(timeout: float | None = None) -> bool:
    """Ship what is left, within `timeout` seconds (default: the setting ``shutdown_timeout``), and undo configure().

    Within them, too, runs that have ended get their reports. What setup_logging() has set up is undone too.

    Returns:
        Whether everything was shipped. What was not stays in the journal, and is shipped later.
    """
    global _running
    with _lock:
        running, _running = _running, None
        if running is None:
            _uninstall_logging()
            return True
        atexit.unregister(_shutdown_at_exit)
        seconds = running.settings.shutdown_timeout if timeout is None else timeout
        return _stop(running, time.monotonic() + seconds)


def configured() -> Settings | None:
    """The settings in force; None before configure() and after shutdown()."""
    return _running.settings if _running else None


def make_shipper(
    settings: Settings,
    *,
    store: bool | None = None,
    metrics: MetricsService | None = None,
    reports: RunReports | None = None,
    within_program: bool = False,
) -> Callable[[], Shipper]:
    """What makes the shipper of the journal that `settings` name, in the thread or process that will use it.

    Args:
        settings: Which journal, and where its records go.
        store: Whether they go to the local store; by default as the settings say.
        metrics: Where records are counted, if not only for this shipper.
        reports: What makes the reports of runs. It is for its owner to close.
        within_program: Whether a thread of the program itself will use it, which counts nothing unasked.
    """
    # Here and not in the thread, where they would hold up the host's first records.
    from otelsync.otlp.exporter import OtlpSink
    from otelsync.shipping.folding.budget import Limits
    from otelsync.shipping.shipper import Shipper
    from otelsync.store.writing import StoreSink

    endpoints = _endpoints(settings)
    limits = Limits(
        max_spans=settings.trace_max_spans,
        max_bytes=settings.trace_max_bytes,
        keep_slowest=settings.fold_keep_slowest,
        slow_seconds=settings.fold_slow,
    )
    to_store = wants_store(settings) if store is None else store
    asked = not within_program or _asks_for_metrics(settings)
    counted = metrics is not None or (asked and wants_metrics(settings))
    if counted:
        from otelsync.shipping.metrics.outlet import MetricsOutlet

    def make() -> Shipper:
        sink = None
        if to_store:
            sink = StoreSink(
                settings.store_file,
                max_bytes=settings.store_max_bytes,
                max_age=settings.store_max_days * 86_400,
                watch=reports,
            )
        return Shipper(
            settings.journal,
            otlp=[OtlpSink(endpoint) for endpoint in endpoints],
            store=sink,
            limits=limits if settings.fold else None,
            debug_logs=settings.debug_logs != "failed",
            metrics=MetricsOutlet(
                metrics or make_metrics(settings, served=store is None),
                settings.journal.name,
                is_own=metrics is None,
            )
            if counted
            else None,
            reports=reports,
        )

    return make


def make_reports(settings: Settings) -> RunReports | None:
    """What makes the reports of runs at their end, for one process that ships; None if there are to be none."""
    if settings.reports == "off":
        return None
    if not wants_store(settings):
        if settings.reports == "on":
            _log.warning("no reports are made, as runs are not kept in the local store: set OTELSYNC_STORE=on")
        return None
    from otelsync.reports.automatic import RunReports
    from otelsync.run.environment import environment_of_report

    return RunReports(settings.reports_dir, environment_of_report(settings, os.environ))


def make_metrics(settings: Settings, *, served: bool = True) -> MetricsService:
    """Where records are counted, and how that is read. `served`: on a port too, if the settings name one."""
    from otelsync.shipping.metrics.service import MetricsService

    port = settings.metrics_port if served else None
    return MetricsService(
        str(settings.journal_dir or settings.journals),
        otlp=_metrics_endpoint(settings),
        server=None if port is None else (settings.metrics_host, port),
        most_values=settings.metrics_max_values,
    )


def wants_metrics(settings: Settings) -> bool:
    """Whether anybody reads metrics: by default, if they can be sent."""
    return settings.metrics_port is not None or _metrics_endpoint(settings) is not None


def _asks_for_metrics(settings: Settings) -> bool:
    """Whether metrics are named, and do not merely follow from where spans go: counting costs more than recording."""
    named = ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    return settings.metrics_port is not None or any(os.environ.get(name) for name in named)


def wants_store(settings: Settings) -> bool:
    """Whether runs go to the local store: by default, if they go nowhere else."""
    return settings.store == "on" or (settings.store == "auto" and not _endpoints(settings))


def has_destination(settings: Settings) -> bool:
    """Whether records go anywhere from the journal."""
    return bool(_endpoints(settings)) or wants_store(settings) or settings.metrics_port is not None


def _endpoints(settings: Settings) -> tuple[OtlpEndpoint, ...]:
    from otelsync.otlp.options import endpoints_from_environment

    environment = dict(os.environ)
    if not settings.journal_logs:
        environment["OTEL_LOGS_EXPORTER"] = "none"
    return endpoints_from_environment(environment, endpoint=settings.endpoint)


def _metrics_endpoint(settings: Settings) -> tuple[OtlpEndpoint, float] | None:
    from otelsync.otlp.options import metrics_from_environment

    return metrics_from_environment(os.environ, endpoint=settings.endpoint)


def _log_path(
    settings: Settings, stream: IO[Any] | None, redactor: Redactor, journal_level: int | None
) -> logs.LogPath:
    shown_on = stream or sys.stdout
    is_terminal = _is_terminal(shown_on)
    is_text = settings.log_format == "console" or (settings.log_format == "auto" and is_terminal)
    return logs.LogPath(
        service=settings.service_name,
        level=Levels(settings.log_level, settings.log_levels),
        output=logs.Output(stream, text=is_text, colors=is_terminal and "NO_COLOR" not in os.environ),
        redactor=redactor,
        journal_level=journal_level,
    )


def _is_terminal(stream: IO[Any] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # no such method; closed
        return False


def _install_logging(settings: Settings, stream: IO[Any] | None, running: _Running | None) -> None:
    redactor = Redactor(settings.redact_keys, settings.redact_patterns)
    provider = running.provider if running is not None and running.settings.journal_logs else None
    journal_level = logs.DEBUG if provider is not None and settings.debug_logs != "off" else None
    path: logs.LogPath
    if settings.logging == "keep":
        from otelsync.logs.observation import JournalPath

        levels = Levels(settings.log_level, settings.log_levels)
        path = JournalPath(
            settings.service_name, levels, redactor, adds_ids=settings.log_ids, journal_level=journal_level
        )
    else:
        path = _log_path(settings, stream, redactor, journal_level)
    path.journal_to(provider)
    _connect(path)
    if running is not None and running.journal is not None:
        watch = Watch(running.journal.directory, path.ask_for)
        watch.look()
        running.journal.on_look = watch.look


def _connect(path: logs.LogPath) -> None:
    """Let records go through `path`: all of them if it renders, else what the program itself shows."""
    if path.renders:
        from otelsync.logs.takeover import take_over

        logs.install(path, take_over)
    else:
        from otelsync.logs.observation import observe

        logs.install(path, observe)
    context.redact_with(path.redactor)


def _uninstall_logging() -> None:
    logs.uninstall()
    context.redact_with(None)


def _recorder(settings: Settings) -> _Running:
    from opentelemetry.sdk.resources import Resource

    from otelsync.journal.writer import Journal
    from otelsync.recording.provider import TracerProvider

    journal = Journal(
        settings.journal, max_bytes=settings.journal_max_bytes, max_directory_bytes=settings.journal_dir_max_bytes
    )
    try:
        provider = TracerProvider(
            journal,
            redactor=Redactor(settings.redact_keys, settings.redact_patterns),
            resource=Resource.create({SERVICE_NAME: settings.service_name}),
            shutdown_on_exit=False,
        )
    except ValueError as error:
        raise _of_the_sdk(error) from None
    return _Running(settings, journal, provider)


def _of_the_sdk(error: ValueError) -> ConfigurationError:
    """What the SDK says of one of its variables, as an error of ours."""
    named = [name for name in os.environ if name.startswith("OTEL_") and name in str(error)]
    option = max(named, key=len, default="OTEL_*")
    return ConfigurationError(option, os.environ.get(option, ""), f"unset it, or set it as the SDK wants it: {error}")


def _name_destinations(directory: Path, endpoints: Sequence[OtlpEndpoint]) -> None:
    from otelsync.journal.writer import make_private

    with contextlib.suppress(OSError):  # the journal will say that it cannot be written
        make_private(directory)
        (directory / DESTINATIONS).write_text("".join(f"{each.signal} {each.place}\n" for each in endpoints))


def _start(running: _Running, endpoints: tuple[OtlpEndpoint, ...]) -> None:
    """Let spans go to the journal, and ship it."""
    from otelsync.recording import runtime_context

    settings, provider = running.settings, running.provider
    assert provider is not None
    if endpoints:
        _name_destinations(settings.journal, endpoints)
    existing = trace._TRACER_PROVIDER
    if existing is None:
        runtime_context.install()
        if _retired is not None:
            provider.adopt_tracers(_retired)
        trace.set_tracer_provider(provider)
    else:
        _log.warning(
            "a %s is already set as OpenTelemetry's tracer provider and stays: spans go where it sends them and are "
            "not journalled; log records are, with its ids. Call otelsync.configure() first to have both.",
            type(existing).__name__,
        )
    trace_headers.install(settings.trace_hosts)
    if settings.ship == "thread" and has_destination(settings):
        from otelsync.shipping.shipper_thread import ShipperThread

        running.reports = make_reports(settings)
        make = make_shipper(settings, reports=running.reports, within_program=True)
        running.thread = ShipperThread(settings.journal, make, interval=settings.ship_interval)
        running.thread.start()


def _stop(running: _Running, deadline: float) -> bool:
    global _retired
    from otelsync.recording import runtime_context

    shipped = True
    if running.journal is not None:
        _say_what_no_ledger_knows(running.journal)
    trace_headers.uninstall()
    if running.provider is not None:
        running.provider.shutdown()
        if trace._TRACER_PROVIDER is running.provider:
            _retired = running.provider
            _forget_provider()
            runtime_context.uninstall()
    path = logs.active()
    if path is not None:
        path.journal_to(None)  # what the shipper says of its own end is rendered, and does not begin another file
    if running.journal is not None:
        running.journal.on_look = None
        running.journal.close()
    if running.thread is not None:
        shipped = running.thread.stop(max(0.0, deadline - time.monotonic()))
    if running.reports is not None:
        running.reports.close(deadline)
    _uninstall_logging()
    if path is not None and running.settings.journal_logs:
        path.journal_to(running.provider)  # what cached loggers still say is shipped next time
    return shipped


def _say_what_no_ledger_knows(journal: Journal) -> None:
    spans, records = journal.uncounted
    if spans or records:
        _log.warning(
            "%d spans and %d log records were lost, as %s cannot be written", spans, records, journal.directory
        )


def _forget_provider() -> None:
    """Let the next configure() set a provider: OpenTelemetry itself lets it be set once."""
    from opentelemetry.util._once import Once

    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()


def _begin_in_child() -> None:
    """After a fork: no thread of the parent's is here to release the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_begin_in_child)


def _shutdown_at_exit() -> None:
    try:
        shutdown()
    except Exception:
        _log.debug("shutdown at exit failed", exc_info=True)
