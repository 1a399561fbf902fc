"""Sending by the OTLP exporters of OpenTelemetry: made in the process that uses them, and what arrives is counted."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, Generic, Literal, TypeVar

import opentelemetry.context as context_api

from otelsync.hooks.opentelemetry_api import SUPPRESS_KEY
from otelsync.hooks.own_messages import own_logger
from otelsync.otlp.options import OtlpEndpoint

Record = TypeVar("Record")

QUEUE: Final = 16_384
"""Records that may wait, unless a variable of the SDK says otherwise: its own bound, 2,048, is a moment of a sync."""

_log = own_logger("otelsync")
_TALKATIVE: Final = "urllib3.connectionpool"
_MODULES: Final = {"traces": "trace_exporter", "logs": "_log_exporter"}
_CLASSES: Final = {"traces": "OTLPSpanExporter", "logs": "OTLPLogExporter"}


class Tally:
    """Numbers of the records of one signal that this process has made and that have arrived."""

    def __init__(self) -> None:
        self.counts = False
        """True as soon as the records go anywhere."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may record as well
        self._made = self._arrived = self._told = 0

    def _forget_parent(self) -> None:
        """Begin anew in a forked child: what it makes, and what is lost of that, is its own."""
        if self._pid != os.getpid():
            self._begin()

    def note_made(self) -> None:
        """Count a record that is to be sent."""
        self._forget_parent()
        if self.counts:
            with self._lock:
                self._made += 1

    def note_arrived(self, number: int) -> None:
        """Count records that an endpoint has taken."""
        self._forget_parent()
        with self._lock:
            self._arrived += number

    @property
    def made(self) -> int:
        """Number of records that this process has made."""
        self._forget_parent()
        return self._made

    @property
    def missing(self) -> int:
        """Number of records that have not arrived: they wait, or are lost."""
        return max(0, self.made - self._arrived)

    def has_arrived(self, made: int, *, is_over: bool) -> bool:
        """Return whether the first `made` records have arrived, but for those whose loss was told before.

        `is_over`: what is missing waits no more, and is told now.
        """
        missing = made - self._arrived
        has_arrived = missing <= self._told
        if is_over:
            self._told = max(missing, self._told)
        return has_arrived


class Sender(Generic[Record]):
    """An exporter of the SDK's for one endpoint.

    The exporter itself is made where it first sends, and anew in a forked child: a connection of the parent's is none
    of the child's.

    Args:
        endpoint: Where records go.
        tally: Counts those that arrive.
        prepare: Makes of a record what may be sent: without secrets, under the service's name.
    """

    def __init__(self, endpoint: OtlpEndpoint, tally: Tally, prepare: Callable[[Record], Record]) -> None:
        self._endpoint = endpoint
        self._tally = tally
        self._prepare = prepare
        self._exporter: Any = None
        self._pid = 0
        load(endpoint)

    def send(self, records: Sequence[Record]) -> bool:
        """Send records, with the exporter's own retries; False if they have not arrived. Never raises."""
        try:
            ready = [self._prepare(record) for record in records]
            has_arrived: bool = self._own().export(ready).name == "SUCCESS"
        except Exception as error:
            _log.debug("%d records could not be sent: %s", len(records), error)
            return False
        if has_arrived:
            self._tally.note_arrived(len(records))
        return has_arrived

    def send_to(self, endpoint: OtlpEndpoint) -> None:
        """Send elsewhere from now on."""
        load(endpoint)
        self._endpoint, self._pid = endpoint, 0

    def close(self) -> None:
        """End the exporter, and what it is trying."""
        if self._exporter is not None and self._pid == os.getpid():
            self._exporter.shutdown()

    def _own(self) -> Any:
        if self._pid != os.getpid():
            self._exporter = exporter_to(self._endpoint)
            self._pid = os.getpid()
        return self._exporter


def load(endpoint: OtlpEndpoint) -> Any:
    """Import the exporter for an endpoint, which takes 0.1 s: at the end of a process it may be too late for that."""
    protocol: Literal["grpc", "http"] = "grpc" if endpoint.protocol == "grpc" else "http"
    package = f"opentelemetry.exporter.otlp.proto.{protocol}"
    module = import_module(f"{package}.{_MODULES[endpoint.signal]}")
    return getattr(module, _CLASSES[endpoint.signal])


def exporter_to(endpoint: OtlpEndpoint) -> Any:
    """Return an exporter of the SDK's, with the options that the journal's way has too."""
    make = load(endpoint)
    common = {"endpoint": endpoint.url, "headers": dict(endpoint.headers), "timeout": endpoint.timeout}
    if endpoint.protocol == "grpc":
        import grpc  # type: ignore[import-untyped]  # it has no stubs

        compression = grpc.Compression.Gzip if endpoint.compression == "gzip" else grpc.Compression.NoCompression
        credentials = None if endpoint.insecure else _credentials(endpoint)
        return make(**common, insecure=endpoint.insecure, credentials=credentials, compression=compression)
    from opentelemetry.exporter.otlp.proto.http import Compression

    return make(
        **common,
        certificate_file=endpoint.certificate,
        client_key_file=endpoint.client_key,
        client_certificate_file=endpoint.client_certificate,
        compression=Compression.Gzip if endpoint.compression == "gzip" else Compression.NoCompression,
        session=_session() if endpoint.certificate else None,
    )


def _session() -> Any:
    """A session that takes no other authorities from the environment than those that were named for the endpoint."""
    import requests

    session = requests.Session()
    session.trust_env = False
    return session


def _credentials(endpoint: OtlpEndpoint) -> Any:
    import grpc

    names = (endpoint.certificate, endpoint.client_key, endpoint.client_certificate)
    authorities, key, certificate = (_content(name) for name in names)
    return grpc.ssl_channel_credentials(authorities, key, certificate)


def _content(name: str | None) -> bytes | None:
    if name is None:
        return None
    with open(name, "rb") as file:  # noqa: PTH123  (no Path for a name that was checked)
        return file.read()


class Quiet(logging.Filter):
    """Leaves out what HTTP libraries say at DEBUG of our own requests; what they say of the program's stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        return record.levelno > logging.DEBUG or not is_sending()

    def begin(self) -> None:
        """Leave it out from now on."""
        logging.getLogger(_TALKATIVE).addFilter(self)

    def end(self) -> None:
        """Leave out nothing any more."""
        logging.getLogger(_TALKATIVE).removeFilter(self)


def is_sending() -> bool:
    """Return whether an exporter is at work here, and not the program."""
    return bool(context_api.get_value(SUPPRESS_KEY))


def close_processor(processor: Any, seconds: float) -> None:
    """End a batch processor of the SDK's within some seconds, after which it is left to itself.

    Its public ``shutdown()`` waits for 30 seconds, whatever is wanted; there is no thread for it, as at the end of a
    process none may be started any more (CPython 3.12).
    """
    inner = getattr(processor, "_batch_processor", None)
    shutdown = getattr(inner, "shutdown", None)
    if shutdown is None:
        processor.shutdown()
    else:
        shutdown(timeout_millis=int(max(0.0, seconds) * 1000))


def queue_of(variable: str) -> int | None:
    """Return how many records may wait; None if `variable` of the SDK says so."""
    return None if os.environ.get(variable) else QUEUE
