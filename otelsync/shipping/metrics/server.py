"""Prometheus' view of the metrics: a small HTTP server, in a thread of its own and within bounds.

It answers GET and HEAD of ``/metrics``, a few at a time, each within seconds, and nothing else.
"""

from __future__ import annotations

import errno
import gzip
import re
import socket
import threading
import time
import weakref
from collections import OrderedDict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, NamedTuple

from otelsync.hooks.own_messages import own_logger
from otelsync.journal import forks
from otelsync.shipping.metrics import prometheus_text
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.shipping.metrics.starts import Starts, last_of
from otelsync.version import __version__

MOST_REQUESTS: Final = 8
"""Answered at a time; a further one is hung up on."""
SECONDS: Final = 10.0
"""Seconds that a request and its answer may take."""
_FRESH: Final = 0.5
"""Seconds for which an answer serves others too."""
_AGAIN: Final = 5.0
"""Seconds between two tries to get a port that somebody else has."""
_POLL: Final = 0.1
_TAKES_STARTS: Final = re.compile(r"Prometheus/\d")
"""Name of a reader that takes several samples of a series. A Collector would take nothing of such a page."""
_MOST_READERS: Final = 16

_log = own_logger("otelsync.shipping.metrics.server")


class MetricsServer:
    """Serves metrics on a host and port (0: any that is free). Nothing is opened before `open` or `start`."""

    def __init__(self, series: MetricSeries, *, host: str, port: int) -> None:
        self._series = series
        self._address = (host, port)
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        _servers.add(self)

    @property
    def url(self) -> str:
        """Address of the metrics; empty as long as there is none."""
        if self._server is None:
            return ""
        host = self._address[0]
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_address[1]}/metrics"

    def open(self) -> None:
        """Listen now, and answer from now on. Raises OSError where that cannot be."""
        if self._server is None:
            self._server = _Server(self._address, self._series)
        self.start()

    def start(self) -> None:
        """Answer from now on, or as soon as the port can be had; that it cannot is said once."""
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="otelsync-metrics-server", daemon=True)
            thread.start()
            self._thread = thread

    def close(self, timeout: float) -> None:
        """Answer no more."""
        self._closing.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout)

    def forget(self) -> None:
        """In a forked child: let go of the port, which is the parent's."""
        server, self._server, self._thread = self._server, None, None
        if server is not None:
            server.socket.close()

    def _serve(self) -> None:
        server = self._server = self._server or self._listen_patiently()
        if server is None:
            return
        _log.info("metrics on %s", self.url)
        while not self._closing.is_set():
            server.handle_request()
            server.hang_up_on_the_late()
        server.server_close()

    def _listen_patiently(self) -> _Server | None:
        """The server; None if it is closed before it can be had, or cannot be had at all."""
        said = False
        while not self._closing.is_set():
            try:
                return _Server(self._address, self._series)
            except OSError as error:
                is_taken = error.errno == errno.EADDRINUSE
                if not said:
                    said = True
                    place, fix = f"{self._address[0]}:{self._address[1]}", "; it is tried again" if is_taken else ""
                    _log.warning("no metrics on %s: %s%s", place, error.strerror or error, fix)
                if not is_taken:
                    return None
            self._closing.wait(_AGAIN)
        return None


Reader = tuple[str, str, str]
"""Address, name and path of whoever asks; several on one machine can be told apart by a query in the path."""


class Page(NamedTuple):
    """All metrics, as one answer."""

    text: bytes
    last: int
    """The number of the last series."""


class _Server(ThreadingHTTPServer):
    block_on_close = False
    timeout = _POLL

    def __init__(self, address: tuple[str, int], series: MetricSeries) -> None:
        self._series = series
        self._making = threading.Lock()
        self._made: dict[tuple[bool, int | None], tuple[float, Page]] = {}
        self._seen: OrderedDict[Reader, int] = OrderedDict()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._room = threading.Semaphore(MOST_REQUESTS)
        self._begun: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks the resolver for the host's name

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._begun[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._begun.pop(request, None)
            self._room.release()

    def page(self, *, openmetrics: bool, reader: Reader | None = None) -> Page:
        """The metrics as text, as they are or were a moment ago: it is made at most twice a second.

        `reader`: who is shown the starts of those series of OpenMetrics that it has not seen.
        """
        with self._making:
            seen = self._seen.get(reader, 0) if reader is not None and openmetrics else None
            made_at, page = self._made.get((openmetrics, seen), (0.0, None))
            if page is None or time.monotonic() - made_at > _FRESH:
                page = self._make_page(openmetrics, seen)
                made = [(key, made) for key, made in self._made.items() if time.monotonic() - made[0] <= _FRESH]
                self._made = {**dict(made), (openmetrics, seen): (time.monotonic(), page)}
            return page

    def _make_page(self, openmetrics: bool, seen: int | None) -> Page:
        families = self._series.families()
        starts = None if seen is None else Starts(seen, time.time_ns())
        made = prometheus_text.text(families, self._series.resource, openmetrics=openmetrics, starts=starts)
        return Page(made.encode(), last_of(families))

    def note_seen(self, reader: Reader, page: Page) -> None:
        """Take note that a page has been sent."""
        with self._making:
            self._seen[reader] = max(page.last, self._seen.pop(reader, 0))
            if len(self._seen) > _MOST_READERS:
                self._seen.popitem(last=False)

    def hang_up_on_the_late(self) -> None:
        """A client that sends a byte now and then must not keep a place for ever."""
        for request, begun in list(self._begun.items()):
            if time.monotonic() - begun > SECONDS:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  (the base class gives them)
        _log.debug("a request for metrics came to nothing", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SECONDS
    server_version = f"otelsync/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "Not here", "The metrics are at /metrics.")
            return
        openmetrics = "application/openmetrics-text" in self.headers.get("accept", "")
        name = self.headers.get("user-agent", "")
        takes_starts = openmetrics and _TAKES_STARTS.match(name) and self.command == "GET"
        reader = (str(self.client_address[0]), name, self.path) if takes_starts else None
        page = self.server.page(openmetrics=openmetrics, reader=reader)
        body = page.text
        self.send_response(200)
        self.send_header("content-type", prometheus_text.OPENMETRICS if openmetrics else prometheus_text.TEXT)
        if "gzip" in self.headers.get("accept-encoding", ""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if reader is not None:
            self.server.note_seen(reader, page)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name that the base class gave it)
        """Nothing: a scrape is not worth a line."""


_servers: weakref.WeakSet[MetricsServer] = weakref.WeakSet()


def _forget_in_child() -> None:
    for server in list(_servers):
        server.forget()


forks.in_child(_forget_in_child)
