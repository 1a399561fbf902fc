"""The probe: a span and a log record go the real way, from a forked child that is killed to the endpoint or a store.

They are recorded in a journal directory of their own beside the real one, which is removed afterwards, and carry the
attribute ``otelsync.probe``. What goes to an endpoint arrives there, as one trace of one span.
"""

from __future__ import annotations

import io
import logging
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otelsync.doctor.findings import PROBE, Finding, ok, problem
from otelsync.errors import OtelsyncError
from otelsync.journal.names import list_segments
from otelsync.journal.writer import Journal
from otelsync.levels import INFO
from otelsync.logs.output import Output
from otelsync.logs.path import LogPath
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.recording.provider import TracerProvider
from otelsync.recording.resource import resource_of
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.shipping.ledger import Account, read_ledger
from otelsync.shipping.outlet import NOTHING_ARRIVES
from otelsync.shipping.shipper import Shipper
from otelsync.store.writing import StoreSink
from otelsync.version import __version__

_RECORDING_SECONDS: Final = 3.0
_REPORT_IT: Final = "see the journal directory above; if that is well, please report it"


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what otelsync's own loggers say at WARNING and above, in place of their handlers."""
    said: list[str] = []
    logger = logging.getLogger("otelsync")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield said
    finally:
        logger.handlers, logger.propagate = handlers, propagate


def record(settings: Settings, directory: Path) -> Finding:
    """Let a forked child record into `directory`, and be killed. To be called before anything starts a thread."""
    try:
        work = _prepare(settings, directory)
    except ValueError as error:
        message = f"the SDK cannot work with what the environment says: {error}"
        return problem("sdk_refuses", message, "unset the OTEL_ variable that it names, or set it as it says")
    said = in_forked_child(work, _RECORDING_SECONDS)
    if said is None:
        message = f"a forked child has not recorded a span within {_RECORDING_SECONDS:.0f} s"
        return problem("child_failed", message, _REPORT_IT)
    if not list_segments(directory):
        return problem("not_recorded", f"a forked child could not record: {said}", _REPORT_IT)
    return ok("recorded", "a forked child, killed right after, has left a span and a log record in a journal")


def _prepare(settings: Settings, directory: Path) -> Callable[[], str]:
    """A provider as the program has it, made before the fork, and what the child does with it."""
    redactor = Redactor(settings.redact_keys, settings.redact_patterns)
    provider = TracerProvider(
        Journal(directory),
        redactor=redactor,
        sampler=ALWAYS_ON,
        resource=resource_of(settings.place, settings.service_name),
        shutdown_on_exit=False,
    )
    path = LogPath(service=settings.service_name, level=INFO, output=Output(io.BytesIO()), redactor=redactor)
    if settings.journal_logs:
        path.journal_to(provider)
    tracer = provider.get_tracer("otelsync.doctor", __version__)

    def work() -> str:
        """Record, and return what otelsync complained of."""
        with _overheard() as said:
            span = tracer.start_span(PROBE, attributes={PROBE: True})
            path.emit(INFO, "otelsync.doctor", PROBE, {PROBE: True}, span)
            span.end()
        return "; ".join(said)[:1000] or "it does not say why"

    return work


def in_forked_child(work: Callable[[], str], seconds: float) -> str | None:
    """Return the result of `work` in a forked child, which then kills itself; None if it fails or takes longer.

    `work`: returns at most `select.PIPE_BUF` bytes, as so many go through a pipe in one piece; pipe(7).
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):  # nothing may get out of here into the parent's program
            os.write(writing, work().encode(errors="replace"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    try:
        is_said = select.select([reading], [], [], seconds)[0]
        text = os.read(reading, select.PIPE_BUF).decode() if is_said else ""
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)  # it is ours until it is waited for
        os.waitpid(pid, 0)
    return text or None


def ship(directory: Path, endpoints: Sequence[OtlpEndpoint], store: Path | None, seconds: float) -> list[Finding]:
    """Take what was recorded to its destinations within `seconds`, and look what became of it.

    `endpoints`: those that may take records; `store`: a store of the probe's own, or None if runs are not stored.
    """
    with _overheard() as said:
        try:
            sink = StoreSink(store) if store is not None else None
            shipper = Shipper(directory, otlp=[OtlpSink(endpoint) for endpoint in endpoints], store=sink, patience=0)
            try:
                shipper.drain(seconds)
            finally:
                shipper.close(0.5)
        except (OtelsyncError, OSError) as error:
            return [problem("not_shipped", f"the probe cannot be shipped: {error}", _REPORT_IT)]
    accounts = read_ledger(directory).accounts
    return [_arrival(account, endpoints, "; ".join(dict.fromkeys(said))) for account in accounts if account.recorded]


def _arrival(account: Account, endpoints: Sequence[OtlpEndpoint], said: str) -> Finding:
    what = "the span" if account.signal == "span" else "the log record"
    where = next(
        (endpoint.place for endpoint in endpoints if endpoint.signal == account.sink), "a store beside the real one"
    )
    if account.shipped == account.recorded:
        return ok("delivered", f"{what} has arrived: {where}")
    because = f" ({said})" if said else ""
    if NOTHING_ARRIVES in said:
        message = f"{what} was not accepted: {where} ({said.partition('; ' + NOTHING_ARRIVES)[0]})"
        fix = "correct address and credentials; until then the program's records wait in its journal"
        return problem("turned_away", message, fix)
    if account.pending:
        message = f"{what} has not arrived in time: {where}{because}"
        return problem("not_delivered", message, "see the endpoint above, and its own log")
    reasons = ", ".join(account.dropped) or "lost"
    message = f"{what} was not accepted ({reasons}): {where}{because}"
    return problem("rejected", message, "see the endpoint's own log for why it refuses this record")
