"""Configure a process, once, and undo it: `configure`, `setup_logging`, `flush` and `shutdown`."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from otelsync import in_force
from otelsync.configuration import destinations, logging_setup, mistakes, way
from otelsync.configuration.end_of_program import ends_with_program
from otelsync.configuration.recorder import JournalRecorder, Recorder, make_recorder
from otelsync.hooks import own_messages
from otelsync.hooks.harmless import harmless
from otelsync.hooks.opentelemetry_api import set_provider_aside
from otelsync.integrations.http import trace_headers
from otelsync.journal import forks
from otelsync.logs.installed import active
from otelsync.recording import runtime_context
from otelsync.settings import Settings
from otelsync.stages import misuse

if TYPE_CHECKING:
    from otelsync.configuration.shipper_in_program import ShipperInProgram
    from otelsync.configuration.shipper_process import ShipperProcess

_log = own_messages.own_logger("otelsync")


@dataclass
class _Running:
    """A configured process."""

    settings: Settings
    recorder: Recorder | None = None
    shipper: ShipperProcess | ShipperInProgram | None = None
    is_provisional: bool = False
    """True if `otelsync run` or a test made it, so that the program's own configure() still has its say."""
    is_for_test: bool = False
    why_standard: str = ""
    """Reason for the standard way, in which there is no journal; empty if there is one."""


_lock = threading.RLock()
_running: _Running | None = None
_has_arrived = True
"""The answer of the last shutdown(), which a further one and flush() repeat; True since there is something to stop."""


def _use(running: _Running | None) -> None:
    global _running, _has_arrived
    _running = running
    _has_arrived = True
    in_force.put(running.settings if running is not None else None)


def configure(*, log_stream: IO[Any] | None = None, **options: Any) -> None:
    """Record spans and logs from now on, and ship them.

    Args:
        log_stream: Where rendered log records go, a text or binary stream; standard output by default.
        options: Any option of :class:`~otelsync.settings.Settings`, such as ``service_name``, ``log_level``,
            ``log_format``, ``endpoint`` or ``home``. What is not given is read from the environment.

    A second call changes nothing, and one with other options is warned of. Where another tracer provider is already
    set it stays: stages and log records work with it, but its spans are not journalled. Under `otelsync run`, which has
    configured the process before the program began, the first call counts in all but where records are kept, and who
    ships them.

    Where there can be no journal, or with ``journalling="off"``, the SDK's own providers and exporters send what is
    recorded. A warning says so, and what is lost by it.

    Raises:
        ConfigurationError: An option has a value that cannot work; nothing has changed.
    """
    with _lock:
        if _running is None:
            _begin(Settings.from_environment(**options), log_stream)
            say_which_way()
            misuse.warn_of_unrecorded()
            mistakes.warn_of_environment()
        elif _running.is_provisional:
            _settle(_running, options, log_stream)
        elif not mistakes.warn_of_other_options(_running.settings, options):
            _log.debug("otelsync is already configured; this call of configure() changes nothing")


@harmless
def say_which_way() -> None:
    """Log that there is no journal, and what is lost by that; at INFO where it is as somebody wished."""
    running = _running
    if running is not None and running.why_standard:
        endpoints = destinations.endpoints_of(running.settings)
        is_as_wished = running.why_standard == way.OFF and bool(endpoints)
        _log.log(
            logging.INFO if is_as_wished else logging.WARNING, "%s", way.explained(running.why_standard, endpoints)
        )


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
    with _lock:
        running = _running
        _use(None)
        misuse.forget()
        had_context = runtime_context.installed()
        path = active()
        logging_setup.uninstall()
        trace_headers.uninstall()
        put_provider_back = set_provider_aside()
        if running is not None and running.recorder is not None:
            running.recorder.retire()

    def put_back() -> None:
        with _lock:
            shutdown(0)
            put_provider_back()
            if had_context:
                runtime_context.install()
            if path is not None:
                logging_setup.connect(path)
            if running is not None:
                _use(running)
                if running.recorder is not None:
                    trace_headers.install(running.settings.trace_hosts)
                    running.recorder.adopt_tracers()
                atexit.register(_shutdown_at_exit)

    return put_back


def _begin(settings: Settings, log_stream: IO[Any] | None, *, is_provisional: bool = False) -> None:
    destinations.endpoints_of(settings)  # raises for what cannot work, before anything is changed
    trace_headers.load()
    recorder: Recorder | None = None
    why = ""
    if not settings.disabled:
        why = way.why_not_by_journal(settings)
        recorder = _standard_recorder(settings) if why else make_recorder(settings)
    running = _Running(settings, recorder, is_provisional=is_provisional, why_standard=why)
    logging_setup.install(settings, log_stream, recorder)
    _use(running)
    if recorder is not None:
        recorder.install()
        trace_headers.install(settings.trace_hosts)
        if settings.ship != "off" and not why and destinations.has_destination(settings):
            running.shipper = _begin_shipping(settings, recorder)
    atexit.register(_shutdown_at_exit)


def _begin_shipping(settings: Settings, recorder: Recorder) -> ShipperProcess | ShipperInProgram:
    if settings.ship == "thread":
        shipper = _shipper_in_program(settings)
        shipper.start()
        return shipper
    from otelsync.configuration.shipper_process import ShipperProcess

    beside = ShipperProcess(settings, partial(_shipper_in_program, settings))
    recorder.look_too(beside.look)
    beside.begin()
    return beside


def _shipper_in_program(settings: Settings) -> ShipperInProgram:
    from otelsync.configuration.shipper_in_program import ShipperInProgram

    return ShipperInProgram(settings)


def _standard_recorder(settings: Settings) -> Recorder:
    from otelsync.configuration.standard_recorder import make_standard_recorder

    return make_standard_recorder(settings)


def _settle(running: _Running, options: dict[str, Any], log_stream: IO[Any] | None) -> None:
    """Let the program's own configure() decide what `otelsync run`, or a test, has left open."""
    before = running.settings
    asked = Settings.from_environment(**options)
    settings = replace(
        asked,
        service_name=asked.service_name if options.get("service_name") else before.service_name,
        journal_dir=before.journal,
        journalling=before.journalling,
        ship=before.ship,
    )
    if settings.endpoint != before.endpoint and not (running.is_for_test or running.why_standard):
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
    _use(running)
    recorder = running.recorder
    if recorder is not None:
        trace_headers.install(settings.trace_hosts)
        recorder.settle(settings)
    logging_setup.install(settings, log_stream, recorder)


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
        logging_setup.install(settings, None, _running.recorder if _running is not None else None)


def flush(timeout: float = 5.0) -> bool:
    """Wait until what this process has recorded so far was shipped.

    Returns:
        Whether it was, within `timeout` seconds. What was not stays in the journal, and is shipped later. True at once
        where it is not this process that ships (``ship="off"``). Without a journal, whether it has arrived. False where
        something was lost that stands in no ledger, as no file of a journal can be made. After shutdown(), what that
        has returned.
    """
    forks.generation()
    running = _running
    if running is None:
        return _has_arrived
    is_kept = running.recorder is None or running.recorder.flush(timeout)
    return (running.shipper is None or running.shipper.flush(timeout)) and is_kept


def shutdown(timeout: float | None = None) -> bool:
    """Ship what is left, within `timeout` seconds (by default ``shutdown_timeout``, else 5), and undo configure().

    Within them, too, runs that have ended get their reports. What setup_logging() has set up is undone too.

    Returns:
        Whether everything was shipped. What was not stays in the journal, and is shipped later. A second call returns
        the same as the first.
    """
    global _has_arrived
    forks.generation()  # a child that C code has forked gets its own locks before it waits for the parent's
    with _lock:
        running = _running
        if running is None:
            logging_setup.uninstall()
            return _has_arrived
        _use(None)
        _has_arrived = False  # for who asks meanwhile
        atexit.unregister(_shutdown_at_exit)
        _has_arrived = _stop(running, running.settings.patience if timeout is None else timeout)
        return _has_arrived


def _stop(running: _Running, timeout: float) -> bool:
    deadline, shipped = time.monotonic() + timeout, True
    _tell_of_rate_limits()
    path, recorder = active(), running.recorder
    trace_headers.uninstall()
    if recorder is not None:
        recorder.uninstall()
    if path is not None:
        path.journal_to(None)  # what the shipper says of its own end is rendered, and does not begin another file
    if recorder is not None:
        shipped = recorder.close(deadline)
    if running.shipper is not None:
        shipped = running.shipper.stop(max(0.0, deadline - time.monotonic())) and shipped
    own_messages.finish(deadline - time.monotonic())
    logging_setup.uninstall()
    if path is not None and recorder is not None and running.settings.journal_logs and not running.why_standard:
        path.journal_to(recorder.log_records)  # what cached loggers still say is shipped next time
    return shipped


@harmless
def _tell_of_rate_limits() -> None:
    """Log what is known of rate limits and was not logged: nothing, where no request has loaded what knows it."""
    if "otelsync.stages.rate_limits" in sys.modules:
        from otelsync.stages.rate_limits import observed

        observed.tell_rest()


def _begin_in_child() -> None:
    """After a fork: no thread of the parent's is here to release the lock, and what it has not shipped is its own."""
    global _lock, _has_arrived
    _lock = threading.RLock()
    _has_arrived = True


forks.in_child(_begin_in_child)


@harmless
def _shutdown_at_exit() -> None:
    """Ship what is left at the end of the program.

    Nothing is undone where there is a journal: threads go on until the interpreter stops them, and ``__del__`` methods
    run after that. What they record goes to a further file, for the next shipper.
    """
    forks.generation()
    running = _running
    if running is None:
        return
    timeout = _patience_at_exit(running)
    if isinstance(running.recorder, JournalRecorder):
        with _lock:
            deadline = time.monotonic() + timeout
            running.recorder.end()
            running.recorder.close(deadline)
            if running.shipper is not None:
                running.shipper.stop(max(0.0, deadline - time.monotonic()))
            own_messages.finish(deadline - time.monotonic())
    else:
        shutdown(timeout)


def _patience_at_exit(running: _Running) -> float:
    """Return for how long the program's end waits: not at all for a process that ships after it."""
    settings = running.settings
    is_left = settings.shutdown_timeout is None and settings.ship == "process" and not running.why_standard
    if is_left and not ends_with_program():
        return 0.0
    return settings.patience
