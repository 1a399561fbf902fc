"""A real HTTP server on loopback that notes what it hears, and answers as it is told."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What to answer once; a path without one gets 200 and ``ok``."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    dropped: bool = False


class Listener(http.server.ThreadingHTTPServer):
    """Notes the headers of each request, with lower-case names; `answers` are given once each, in order, by path."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.redirects: dict[str, str] = {}
        self.answers: dict[str, list[Answer]] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = self.path.partition("?")[0]
        self.server.heard.append({name.lower(): value for name, value in self.headers.items()})
        self.server.paths.append(self.path)
        planned = self.server.answers.get(path)
        if planned:
            answer = planned.pop(0)
        elif path in self.server.redirects:
            answer = Answer(302, {"Location": self.server.redirects[path]}, b"")
        else:
            answer = Answer()
        if answer.dropped:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.status not in (204, 304):
            self.wfile.write(answer.body)

    do_POST = do_PUT = do_GET  # noqa: N815  # the names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
        """Nothing: what was heard is noted above."""


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener in a thread, for the length of the block."""
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
