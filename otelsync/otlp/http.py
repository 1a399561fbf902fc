"""OTLP over http/protobuf: one persistent connection, with a total bound on the time of an attempt.

Redirects are not followed, and proxies in the environment are not used: telemetry goes where the option says, or
nowhere. Source of the rules: https://opentelemetry.io/docs/specs/otlp/#otlphttp .
"""

from __future__ import annotations

import gzip
import http.client
import io
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.reply import Reply, throttle

if TYPE_CHECKING:
    from typing_extensions import Buffer

_RETRYABLE = frozenset({429, 502, 503, 504})
_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})
"""Headers that say how this connection frames its messages; nobody else's to set."""
_LONGEST_RESPONSE = 64 * 1024
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)
"""Errors of a kept connection that the server has closed meanwhile."""


class HttpTransport:
    """Posts requests to an http or https endpoint. Used by one thread; `abort` may come from another.

    Raises OSError (ssl.SSLError among them) when the endpoint's certificate files cannot be used.
    """

    def __init__(self, endpoint: OtlpEndpoint, *, user_agent: str) -> None:
        parts = urlsplit(endpoint.url)
        self._target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        self._gzip = endpoint.compression == "gzip"
        own = {name: value for name, value in endpoint.headers.items() if name not in _FRAMING}
        self._headers = {"user-agent": user_agent, **own, "content-type": "application/x-protobuf"}
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=endpoint.certificate)
            if endpoint.client_certificate:
                context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
        self._connection = _Connection(parts.hostname or "", parts.port, context)

    def post(self, request: bytes, timeout: float) -> Reply:
        """Send one request; at most `timeout` seconds, except that resolving the host name may take longer.

        Network errors are replies, not exceptions.
        """
        # Level 1: on spans within 1 % of the default level's size (measured), at 60 % of its CPU time.
        body = gzip.compress(request, compresslevel=1, mtime=0) if self._gzip else request
        self._connection.deadline = time.monotonic() + timeout
        try:
            return self._exchange(body)
        except TimeoutError:
            self.close()
            return Reply("retry", reason=f"no answer within {timeout:.3g} s")
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            return Reply("retry", reason=_cause(error))

    def abort(self) -> None:
        """Make a `post` in another thread return soon."""
        self._connection.abort()

    def close(self) -> None:
        """Close the connection. A later `post` opens another."""
        self._connection.close()

    def _exchange(self, body: bytes) -> Reply:
        kept = self._connection.sock is not None
        try:
            response = self._send(body)
        except _STALE:
            if not kept:
                raise
            self.close()
            response = self._send(body)
        content = response.read(_LONGEST_RESPONSE)
        if not response.isclosed() or response.will_close:
            response.close()
            self.close()
        return _reply(response.status, content, response.getheader("retry-after"))

    def _send(self, body: bytes) -> http.client.HTTPResponse:
        self._connection.request("POST", self._target, body=body, headers=self._headers)
        return self._connection.getresponse()


class _Connection(http.client.HTTPConnection):
    """A connection all of whose operations end at one deadline."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext | None) -> None:
        self.default_port = 443 if context else 80
        super().__init__(host, port)
        self.deadline = 0.0
        self._context = context

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), timeout=_left(self.deadline))
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                raw.settimeout(_left(self.deadline))
                raw = self._context.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise
        # http.client needs no more of a socket than what _DeadlineSocket has.
        self.sock = _DeadlineSocket(raw, self)

    def abort(self) -> None:
        if isinstance(self.sock, _DeadlineSocket):
            self.sock.shutdown()


class _DeadlineSocket:
    """A socket whose every wait is shortened to what is left until the connection's deadline.

    A socket's own timeout starts anew with each operation, so a server that sends a byte a second would never run
    into it.
    """

    def __init__(self, raw: socket.socket, connection: _Connection) -> None:
        self._raw = raw
        self._connection = connection

    def sendall(self, data: Buffer) -> None:
        # One call has one deadline, for TCP (since Python 3.5) but not for TLS, so it is given in pieces.
        view = memoryview(data).cast("B")
        for start in range(0, len(view), 65536):
            self._raw.settimeout(_left(self._connection.deadline))
            self._raw.sendall(view[start : start + 65536])

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_DeadlineStream(self._raw, self._connection))

    def shutdown(self) -> None:
        with suppress(OSError):
            # Not SSLSocket.shutdown, which would first take the TLS state away from under the other thread.
            socket.socket.shutdown(self._raw, socket.SHUT_RDWR)

    def close(self) -> None:
        self._raw.close()


class _DeadlineStream(io.RawIOBase):
    def __init__(self, raw: socket.socket, connection: _Connection) -> None:
        self._raw = raw
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._raw.settimeout(_left(self._connection.deadline))
        return self._raw.recv_into(memoryview(buffer))


def _left(deadline: float) -> float:
    """Seconds until `deadline`. Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _reply(status: int, content: bytes, retry_after: str | None) -> Reply:
    reason = f"HTTP {status}"
    if 200 <= status < 300:
        return Reply("ok", content=content)
    if status in _RETRYABLE:
        return Reply("retry", after=_parse_retry_after(retry_after), reason=reason)
    if status == 413:
        return Reply("too_large", reason=reason)
    return Reply("refused", reason=reason)


def _parse_retry_after(value: str | None) -> float | None:
    """Seconds, from a number or an HTTP date (RFC 9110, section 10.2.3)."""
    value = (value or "").strip()[:64]
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return throttle(float(value))
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return throttle((when - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _cause(error: Exception) -> str:
    """Describe an error without a server's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
