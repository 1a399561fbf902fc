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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from opentelemetry import trace

from otelsync import context, logs
from otelsync.errors import ConfigurationError
from otelsync.redaction import Redactor
from otelsync.settings import Settings

if TYPE_CHECKING:
    from otelsync.recording.journal import Journal
    from otelsync.recording.provider import TracerProvider
    from otelsync.shipping.otlp_options import OtlpEndpoint
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


DESTINATIONS: Final = "destinations"
"""A file in a journal directory that names the endpoints its records are for, so that nobody else takes them away."""

_lock = threading.RLock()
_running: _Running | None = None


def configure(*, log_stream: IO[Any] | None = None, **options: Any) -> None:
    """Record spans and logs from now on, and ship them.

    Args:
        log_stream: Where rendered log records go, a text or binary stream; standard output by default.
        options: Any option of :class:`~otelsync.settings.Settings`, such as ``service_name``, ``log_level``,
            ``log_format``, ``endpoint`` or ``home``. What is not given is read from the environment.

    A second call changes nothing. Where another tracer provider is already set it stays: stages and log records work
    with it, but its spans are not journalled.

    Raises:
        ConfigurationError: An option has a value that cannot work; nothing has changed.
    """
    global _running
    with _lock:
        if _running is not None:
            _log.debug("otelsync is already configured; this call of configure() changes nothing")
            return
        settings = Settings.from_environment(**options)
        endpoints = _endpoints(settings)
        running = _Running(settings) if settings.disabled else _recorder(settings)
        _install_logging(settings, log_stream, running)
        _running = running
        if running.provider is not None:
            _start(running, endpoints)
        atexit.register(_shutdown_at_exit)


def setup_logging(
    service_name: str | None = None, log_format: str | None = None, *, log_level: str | int | None = None
) -> None:
    """Set up structlog and the standard library's logging alone: nothing is recorded, unless configure() was called.

    Records inside a span of any provider carry its ids all the same. :func:`shutdown` undoes it.

    Raises:
        ConfigurationError: An option has a value that cannot work.
    """
    settings = Settings.from_environment(service_name=service_name, log_format=log_format, log_level=log_level)
    with _lock:
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

    What setup_logging() has set up is undone too.

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


def make_shipper(settings: Settings, *, store: bool | None = None) -> Callable[[], Shipper]:
    """What makes the shipper of the journal that `settings` name, in the thread or process that will use it.

    Args:
        settings: Which journal, and where its records go.
        store: Whether they go to the local store; by default as the settings say.
    """
    # Here and not in the thread, where they would hold up the host's first records.
    from otelsync.shipping.exporter import OtlpSink
    from otelsync.shipping.shipper import Shipper
    from otelsync.shipping.store import StoreSink

    endpoints = _endpoints(settings)
    to_store = wants_store(settings) if store is None else store

    def make() -> Shipper:
        sink = None
        if to_store:
            sink = StoreSink(
                settings.store_file, max_bytes=settings.store_max_bytes, max_age=settings.store_max_days * 86_400
            )
        return Shipper(settings.journal, otlp=[OtlpSink(endpoint) for endpoint in endpoints], store=sink)

    return make


def wants_store(settings: Settings) -> bool:
    """Whether runs go to the local store: by default, if they go nowhere else."""
    return settings.store == "on" or (settings.store == "auto" and not _endpoints(settings))


def _endpoints(settings: Settings) -> tuple[OtlpEndpoint, ...]:
    from otelsync.shipping.otlp_options import endpoints_from_environment

    environment = dict(os.environ)
    if not settings.journal_logs:
        environment["OTEL_LOGS_EXPORTER"] = "none"
    return endpoints_from_environment(environment, endpoint=settings.endpoint)


def _log_path(settings: Settings, stream: IO[Any] | None, redactor: Redactor) -> logs.LogPath:
    shown_on = stream or sys.stdout
    is_terminal = _is_terminal(shown_on)
    is_text = settings.log_format == "console" or (settings.log_format == "auto" and is_terminal)
    return logs.LogPath(
        service=settings.service_name,
        level=settings.log_level,
        output=logs.Output(stream, text=is_text, colors=is_terminal and "NO_COLOR" not in os.environ),
        redactor=redactor,
    )


def _is_terminal(stream: IO[Any] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # no such method; closed
        return False


def _install_logging(settings: Settings, stream: IO[Any] | None, running: _Running | None) -> None:
    redactor = Redactor(settings.redact_keys, settings.redact_patterns)
    path = _log_path(settings, stream, redactor)
    logs.install(path)
    context.redact_with(redactor)
    if running is not None and running.provider is not None and running.settings.journal_logs:
        path.journal_to(running.provider)


def _uninstall_logging() -> None:
    logs.uninstall()
    context.redact_with(None)


def _recorder(settings: Settings) -> _Running:
    from opentelemetry.sdk.resources import Resource

    from otelsync.recording.journal import Journal
    from otelsync.recording.provider import TracerProvider

    journal = Journal(
        settings.journal, max_bytes=settings.journal_max_bytes, max_directory_bytes=settings.journal_dir_max_bytes
    )
    try:
        provider = TracerProvider(
            journal,
            redactor=Redactor(settings.redact_keys, settings.redact_patterns),
            resource=Resource.create({"service.name": settings.service_name}),
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
    from otelsync.recording.journal import make_private

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
        trace.set_tracer_provider(provider)
    else:
        _log.warning(
            "a %s is already set as OpenTelemetry's tracer provider and stays: spans go where it sends them and are "
            "not journalled; log records are, with its ids. Call otelsync.configure() first to have both.",
            type(existing).__name__,
        )
    if settings.ship == "thread" and (endpoints or wants_store(settings)):
        from otelsync.shipping.shipper_thread import ShipperThread

        running.thread = ShipperThread(settings.journal, make_shipper(settings), interval=settings.ship_interval)
        running.thread.start()


def _stop(running: _Running, deadline: float) -> bool:
    from otelsync.recording import runtime_context

    shipped = True
    if running.journal is not None:
        _say_what_no_ledger_knows(running.journal)
    if running.provider is not None:
        running.provider.shutdown()
        if trace._TRACER_PROVIDER is running.provider:
            _forget_provider()
            runtime_context.uninstall()
    path = logs.active()
    if path is not None:
        path.journal_to(None)  # what the shipper says of its own end is rendered, and does not begin another file
    if running.journal is not None:
        running.journal.close()
    if running.thread is not None:
        shipped = running.thread.stop(max(0.0, deadline - time.monotonic()))
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
