"""OTLP over http/protobuf: one persistent connection, with a total bound on the time of an attempt.

Redirects are not followed, and proxies in the environment are not used: telemetry goes where the option says, or
nowhere. Source of the rules: https://opentelemetry.io/docs/specs/otlp/#otlphttp .
"""

from __future__ import annotations

import gzip
import http.client
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from otelsync.otlp.certificates import CertificateFiles, make_context
from otelsync.otlp.connecting import Address, NotConnectedError, connect
from otelsync.otlp.http_connection import HttpAnswer, HttpConnection
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.reply import Reply, throttle

_RETRYABLE: Final = frozenset({429, 502, 503, 504})
_NOT_ITS_OWN: Final = frozenset({407, 511})
"""Statuses of a proxy or a portal on the way: the endpoint has not been asked."""
_OF_THE_RECORDS: Final = frozenset({400, 422})
"""Statuses that say that the request itself is bad. All others speak of the way, of credentials, or of a quota."""
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})
"""Headers that say how this connection frames its messages; nobody else's to set."""
_STALE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)
"""Errors of a kept connection that the server has closed meanwhile."""


class HttpTransport:
    """Posts requests to an http or https endpoint. Used by one thread; `abort` may come from another."""

    def __init__(self, endpoint: OtlpEndpoint, *, user_agent: str) -> None:
        parts = urlsplit(endpoint.url)
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_secure else 80)
        self._gzip = endpoint.compression == "gzip"
        self._headers = endpoint.headers
        own = {name: value for name, value in endpoint.headers.items() if name not in _FRAMING}
        headers = {"host": _host(parts), "accept-encoding": "identity", "user-agent": user_agent, **own}
        headers["content-type"] = "application/x-protobuf"
        if self._gzip:
            headers["content-encoding"] = "gzip"
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        target = "".join(letter if letter.isascii() else quote(letter) for letter in target)
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._head = "\r\n".join(lines).encode("ascii", "replace")
        self._context: ssl.SSLContext | None = None
        self._paths = CertificateFiles(endpoint.certificate, endpoint.client_certificate, endpoint.client_key)
        self._stamp: tuple[object, ...] | None = None
        self._connection: HttpConnection | None = None
        self._failed: Address | None = None
        self._aborted = False

    def post(self, request: bytes, timeout: float) -> Reply:
        """Send one request; at most `timeout` seconds. Errors of the network and of certificates are replies."""
        # Level 1: on spans within 1 % of the default level's size (measured), at 60 % of its CPU time.
        body = gzip.compress(request, compresslevel=1, mtime=0) if self._gzip else request
        head = self._head + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        try:
            answer = self._exchange(head + body, time.monotonic() + timeout)
        except NotConnectedError as error:
            return Reply("retry", reason=str(error))
        except TimeoutError:
            self._give_up()
            return Reply("timeout", reason=f"no answer within {timeout:.3g} s")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._give_up()
            if isinstance(error, ssl.SSLError):
                self._stamp = None  # the files may be others by now
            return Reply("retry", reason=_cause(error))
        if not answer.is_whole:
            self.close()
        return _reply(answer, self._headers)

    def abort(self) -> None:
        """Make a `post` in another thread return soon; no further one is sent."""
        self._aborted = True
        connection = self._connection
        if connection is not None:
            connection.shutdown()

    def close(self) -> None:
        """Close the connection. A later `post` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _give_up(self) -> None:
        """Close the connection, and try other addresses of the host first next time."""
        self._failed = self._connection.address if self._connection is not None else None
        self.close()

    def _exchange(self, message: bytes, deadline: float) -> HttpAnswer:
        if self._is_secure:
            self._renew()
        kept = self._connection
        if kept is not None and not kept.is_stale():
            with suppress(*_STALE):
                return kept.exchange(message, deadline)
        self.close()
        return self._connect(deadline).exchange(message, deadline)

    def _connect(self, deadline: float) -> HttpConnection:
        raw, address = connect(self._host, self._port, deadline, last=self._failed)
        connection = self._connection = HttpConnection(raw, address)
        if self._context is not None:
            connection.secure(self._context, self._host, deadline)
        if self._aborted:
            raise ConnectionAbortedError
        return connection

    def _renew(self) -> None:
        """Take replaced certificate files into use, in a new connection. Raises OSError where there are none to use."""
        stamp = self._paths.stamp()
        if stamp == self._stamp:
            return
        try:
            self._context = make_context(self._paths)
        except OSError:
            if self._context is None:
                raise
            return  # half of them may be written; these will do until the rest is
        self._stamp = stamp
        self.close()


def _host(parts: SplitResult) -> str:
    with suppress(UnicodeError):
        if not parts.netloc.isascii():
            name = (parts.hostname or "").encode("idna").decode()
            return name if parts.port is None else f"{name}:{parts.port}"
    return parts.netloc


def _reply(answer: HttpAnswer, headers: Mapping[str, str]) -> Reply:
    status = answer.status
    if 200 <= status < 300 and not answer.is_page():
        return Reply("ok", content=answer.content)
    reason = _reason(answer, headers)
    if status < 200:  # it goes on in another protocol, which nobody has asked for
        return Reply("retry", reason=reason)
    if status < 300:
        return Reply("retry", reason=f"no OTLP receiver answers ({reason})")
    if status in _RETRYABLE or status in _NOT_ITS_OWN:
        after = _parse_retry_after(answer.header("retry-after"), answer.header("date"))
        return Reply("retry", after=after, reason=reason)
    if status == 408:
        return Reply("timeout", reason=reason)
    if status == 413:
        return Reply("too_large", reason=reason)
    if status == 500:
        return Reply("broken", reason=reason)
    return Reply("refused" if status in _OF_THE_RECORDS else "denied", reason=reason)


def _reason(answer: HttpAnswer, headers: Mapping[str, str]) -> str:
    """The status, and the endpoint's own words."""
    from otelsync.otlp.words import shown, words_of  # of no use as long as all goes well

    words = words_of(answer.content, answer.header("content-type"))
    if 300 <= answer.status < 400:
        where = answer.header("location").rpartition("@")[2].partition("?")[0]
        words = f"it redirects to {where or 'nowhere'}, which is not followed"
    said = shown(words, headers)
    return f"HTTP {answer.status}: {said}" if said else f"HTTP {answer.status}"


def _parse_retry_after(value: str, date: str) -> float | None:
    """Seconds, from a number or an HTTP date (RFC 9110, section 10.2.3), by the clock of whoever has set it."""
    value = value.strip()[:64]
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return throttle(float(value))
    when = _parse_date(value)
    if when is None:
        return None
    return throttle((when - (_parse_date(date) or datetime.now(UTC))).total_seconds())


def _parse_date(value: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(value.strip()[:64])
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _cause(error: Exception) -> str:
    """Describe an error without a server's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or (str(error) if type(error) is OSError else type(error).__name__)
    return type(error).__name__
