"""One HTTP/1.1 connection, all of whose operations end at a deadline, and the answers that come through it.

The status line settles what became of a request: whatever is wrong with the rest of an answer, in its headers, its
body or its trailers, does not make it a request that was never answered.
"""

from __future__ import annotations

import http.client
import io
import selectors
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otelsync.otlp.connecting import Address

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LONGEST_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of a successful answer that are read; of any other, `_LONGEST_ERROR`."""
_LONGEST_ERROR: Final = 64 * 1024
_MOST_INTERIM: Final = 16
"""Answers of the kind 1xx before the one that counts."""
_PIECE: Final = 65536
_GRACE: Final = 0.1
"""Seconds for an answer to a request that could not be sent in time."""


class HttpAnswer:
    """An answer, as far as it has come."""

    def __init__(self, status: int, headers: http.client.HTTPMessage | None = None) -> None:
        self.status = status
        self.content = b""
        self.is_whole = False
        """True if it has ended, and the connection can be used again."""
        self._headers = headers

    def header(self, name: str) -> str:
        """Return the value of a header, or nothing."""
        return str(self._headers.get(name, "")) if self._headers is not None else ""

    def is_page(self) -> bool:
        """Return whether it is made for a browser."""
        return is_page(self.header("content-type"), self.content)

    def decode(self) -> None:
        """Undo the compression, which nobody has asked for, up to the bound."""
        if self.header("content-encoding").strip().lower() in ("gzip", "x-gzip", "deflate"):
            with suppress(zlib.error):
                self.content = zlib.decompressobj(wbits=47).decompress(self.content, _LONGEST_ANSWER)


def is_page(content_type: str, body: bytes) -> bool:
    """Return whether an answer is made for a browser."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml") or body.lstrip()[:9].lower().startswith(
        (b"<!doctype", b"<html")
    )


class HttpConnection:
    """A connection to a server. Used by one thread; `shutdown` may come from another."""

    def __init__(self, raw: socket.socket, address: Address) -> None:
        self.address = address
        self._raw = raw
        self._stream = _DeadlineStream(raw)
        self._reader = _SharedReader(self._stream)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        """Go on by TLS. Raises OSError."""
        self._raw.settimeout(_left(deadline))
        self._raw = context.wrap_socket(self._raw, server_hostname=host, do_handshake_on_connect=False)
        self._stream = _DeadlineStream(self._raw)
        self._reader = _SharedReader(self._stream)
        assert isinstance(self._raw, ssl.SSLSocket)
        self._raw.do_handshake()

    def is_stale(self) -> bool:
        """Return whether the server has closed it, or has said something unasked."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._raw, selectors.EVENT_READ)
            return bool(selector.select(0))

    def exchange(self, message: bytes, deadline: float) -> HttpAnswer:
        """Send a request, and return the answer. Raises OSError, TimeoutError among them, and HTTPException."""
        try:
            self._send(message, deadline)
        except OSError:
            # A server that will not have all of it may have said so, as with status 413.
            self._stream.deadline = max(deadline, time.monotonic() + _GRACE)
            with suppress(OSError, http.client.HTTPException):
                answer = self._receive()
                answer.is_whole = False
                return answer
            raise
        self._stream.deadline = deadline
        return self._receive()

    def shutdown(self) -> None:
        """Make whoever waits for the connection give up."""
        with suppress(OSError):
            # Not SSLSocket.shutdown, which would first take the TLS state away from under the other thread.
            socket.socket.shutdown(self._raw, socket.SHUT_RDWR)

    def close(self) -> None:
        self._raw.close()

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the reader that all answers share, as each may have read ahead into the next."""
        assert mode == "rb"
        return self._reader

    def _send(self, message: bytes, deadline: float) -> None:
        # One call has one deadline, for TCP (since Python 3.5) but not for TLS, so it is given in pieces.
        view = memoryview(message)
        for start in range(0, len(view), _PIECE):
            self._raw.settimeout(_left(deadline))
            self._raw.sendall(view[start : start + _PIECE])

    def _receive(self) -> HttpAnswer:
        for _ in range(_MOST_INTERIM):
            # All that it needs of a socket is `makefile`.
            response = http.client.HTTPResponse(self, method="POST")  # type: ignore[arg-type]
            try:
                response.begin()
            except http.client.HTTPException:
                if not isinstance(response.status, int) or response.status < 200:
                    raise
                return HttpAnswer(response.status)  # too many headers, or too long ones
            if self._stream.has_ended:  # within the head, of which http.client makes a whole one
                raise http.client.RemoteDisconnected("")
            if not 100 <= response.status < 200 or response.status == 101:
                return self._read(response)
        raise http.client.HTTPException("no end of interim answers")

    def _read(self, response: http.client.HTTPResponse) -> HttpAnswer:
        answer = HttpAnswer(response.status, response.msg)
        longest = _LONGEST_ANSWER if 200 <= response.status < 300 else _LONGEST_ERROR
        content = bytearray()
        try:
            for piece in self._pieces(response):
                content += piece
                if len(content) > longest:
                    break
            else:
                answer.is_whole = not response.will_close
        except (OSError, http.client.HTTPException, ValueError):
            pass  # what has come will have to do
        answer.content = bytes(content[:longest])
        answer.decode()
        return answer

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        if response.chunked:
            while piece := response.read1(_PIECE):
                yield piece
            return
        left = response.length
        while left is None or left > 0:
            piece = self._reader.read1(_PIECE if left is None else min(left, _PIECE))
            if not piece:
                if left:
                    raise http.client.IncompleteRead(b"", left)
                return
            left = None if left is None else left - len(piece)
            yield piece


class _SharedReader(io.BufferedReader):
    def close(self) -> None:
        """Stay open, whatever an answer does at its end: the connection is its owner's to close."""


class _DeadlineStream(io.RawIOBase):
    """A socket's input, each wait for which is shortened to what is left until the deadline.

    A socket's own timeout starts anew with each operation, so a server that sends a byte a second would never run
    into it.
    """

    def __init__(self, raw: socket.socket) -> None:
        self.deadline = 0.0
        self.has_ended = False
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._raw.settimeout(_left(self.deadline))
        count = self._raw.recv_into(memoryview(buffer))
        self.has_ended = count == 0
        return count


def _left(deadline: float) -> float:
    """Seconds until `deadline`. Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
