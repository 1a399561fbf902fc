"""The board on the wire: HTTP on loopback, in a thread or as a process that ends with the one that started it."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .board import Answer, Board, Limits

_PATIENCE_SECONDS = 10
_LARGEST_BODY = 4 * 1024 * 1024


class BoardServer(http.server.ThreadingHTTPServer):
    """Serves a board at 127.0.0.1; each answer takes at least `latency` seconds."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, board: Board, *, port: int = 0, latency: float = 0.0) -> None:
        self.board = board
        self.latency = latency
        super().__init__(("127.0.0.1", port), _Connection)

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self.server_address[1]}/v2"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a client has gone; anything else is a defect and is printed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Connection(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: BoardServer

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length") or 0), _LARGEST_BODY)
        try:
            request = json.loads(self.rfile.read(length))
        except ValueError:
            request = None
        time.sleep(self.server.latency)
        answer = self.server.board.answer(self.headers.get("Authorization") or "", request)
        self._send(answer if self.path == "/v2" else Answer(404, {"errors": [{"message": "not found"}]}))

    def _send(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if answer.retry_after is not None:
            self.send_header("Retry-After", str(answer.retry_after))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
        """Nothing: the client's trace says what was asked."""


@contextmanager
def serving(board: Board, latency: float = 0.0) -> Iterator[BoardServer]:
    """Serve a board from a thread for the length of the block."""
    with BoardServer(board, latency=latency) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            board.close()


def serve(store: Path, limits: Limits) -> None:
    """Serve a board to whoever started this process: print its address, and end when standard input does."""
    with serving(Board(store, limits)) as server:
        print(server.url, flush=True)
        sys.stdin.buffer.read()


@contextmanager
def started(environment: str) -> Iterator[str]:
    """Run the board of an environment as a process for the length of the block; gives its address."""
    command = [sys.executable, "-m", "examples.order_sync", "--environment", environment, "board"]
    pipe = subprocess.PIPE  # a session of its own: Ctrl-C is for the sync
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # so it is, too, when this process dies of anything
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
