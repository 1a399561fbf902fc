"""The double on the wire: HTTP/1.1 with kept connections on loopback, one thread a connection."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO
from urllib.parse import urlsplit

from .api import Answer, Api, Request
from .shapes import API
from .witness import Violation

_MAX_REQUEST_BODY = 1024 * 1024
_MAX_UPLOAD = 101 * 1024 * 1024
_WORTH_COMPRESSING = 1000


class GithubServer(http.server.ThreadingHTTPServer):
    """Serves an Api on 127.0.0.1. Port 0 takes any free port; `log` gets a JSON line a request."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, api: Api, *, port: int = 0, log: TextIO | None = None) -> None:
        self.api = api
        self.log = log
        self.requests: list[str] = []
        self.witness = api.witness
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection)

    @property
    def url(self) -> str:
        """The base URL, to be used instead of https://api.github.com."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def violations(self) -> list[Violation]:
        """Promises that clients have broken: no request too early, no two at once on one token."""
        return self.witness.violations

    def opened(self, connection: socket.socket) -> None:
        """Remember a connection, so that it can be closed with the server."""
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)

    def note(self, request: Request, answer: Answer, seconds: float) -> None:
        """Write one line of the access log."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "status": answer.status or "dropped",
            "ms": round(seconds * 1000, 2),
            "remaining": answer.header("X-RateLimit-Remaining"),
            "limited": answer.limited,
            **answer.facts,
        }
        if request.token:
            line["token"] = hashlib.sha256(request.token.encode()).hexdigest()[:8]
        line = {name: value for name, value in line.items() if value is not None}
        with self._lock:
            self.requests.append(f"{request.method} {request.path}")
            if self.log is not None:
                self.log.write(json.dumps(line) + "\n")
                self.log.flush()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a client has gone; anything else is a defect and is printed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def server_close(self) -> None:
        """Stop listening and hang up on all clients."""
        super().server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _hang_up(connection)


class _Connection(http.server.BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    server_version = "GitHub.com"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 120
    server: GithubServer

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        super().finish()

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Nothing: the server writes its own access log."""

    def do_GET(self) -> None:
        started = time.perf_counter()
        target = urlsplit(self.path)
        body = self._read_body(_MAX_UPLOAD if target.path.startswith("/openai/") else _MAX_REQUEST_BODY)
        if body is None:
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, target.path or "/", target.query, headers, body)
        # It is watched until its answer goes out: with the last byte, the client may send the next request.
        with self.server.witness.watching(self.server.api.account(request), request, self._has_left):
            answer = self.server.api.answer(request)
            if answer.delay:
                time.sleep(answer.delay)
        # Noted before the client can know that it was answered, and look at the notes.
        self.server.note(request, answer, time.perf_counter() - started)
        if answer.dropped:
            self.close_connection = True
            _hang_up(self.connection)
        else:
            self._send(answer)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 (the names are http.server's)

    def _has_left(self) -> bool:
        """Whether the client has hung up; asked from other threads, and never waits."""
        try:
            poll = select.poll()
            poll.register(self.connection, select.POLLIN)
            return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _read_body(self, most: int) -> bytes | None:
        """Read a request's body; None, and the end of the connection, where it has none of a sane length."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > most or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(413)
            return None
        return self.rfile.read(int(length))

    def _send(self, answer: Answer) -> None:
        ours = self.server.url
        body = answer.body
        if (answer.header("Content-Type") or "").startswith("application/json"):
            body = body.replace(API.encode(), ours.encode())
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value.replace(API, ours) if name.lower() in ("link", "location") else value)
        if not answer.header("X-GitHub-Request-Id"):
            self.send_header("X-GitHub-Request-Id", secrets.token_hex(12).upper())
        if len(body) > _WORTH_COMPRESSING and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if answer.cut:
            body = body[: len(body) // 2]
        if self.command != "HEAD" and answer.status not in (204, 304):
            self.wfile.write(body)
        self.wfile.flush()
        if answer.cut:
            self.close_connection = True
            _hang_up(self.connection)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@contextmanager
def serving(api: Api, *, port: int = 0, log: TextIO | None = None) -> Iterator[GithubServer]:
    """Serve in a thread of this process for the length of the block."""
    server = GithubServer(api, port=port, log=log)
    # shutdown() waits for the poll to come round, so it comes round often.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="github-double", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
