"""An API on loopback that answers as GitHub does, with rate-limit headers; the same answer each time.

``python -m benchmarks.http_server`` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from itertools import count
from typing import Final

from benchmarks.placement import pin_to_sink_core

_BODY: Final = b"[" + b",".join(b'{"id":%d,"state":"APPROVED","user":{"login":"ada"}}' % n for n in range(20)) + b"]"
_HEADERS: Final = (
    "HTTP/1.1 200 OK\r\nServer: github.com\r\nContent-Type: application/json; charset=utf-8\r\n"
    'Cache-Control: private, max-age=60, s-maxage=60\r\nETag: "644b5b0155e6404a9cc4bd9d8b1ae730"\r\n'
    "X-GitHub-Media-Type: github.v3; format=json\r\nx-github-api-version-selected: 2022-11-28\r\n"
    "X-RateLimit-Limit: 1000000\r\nX-RateLimit-Remaining: {left}\r\nX-RateLimit-Reset: {reset}\r\n"
    "X-RateLimit-Used: {used}\r\nX-RateLimit-Resource: core\r\nX-Frame-Options: deny\r\n"
    "Strict-Transport-Security: max-age=31536000; includeSubdomains; preload\r\n"
    "X-GitHub-Request-Id: E2A6:2E8B4:1\r\nContent-Length: {length}\r\n\r\n"
)


def main() -> None:
    """Serve until standard input closes."""
    pin_to_sink_core()
    listener = socket.create_server(("127.0.0.1", 0))
    used, reset = count(), int(time.time()) + 3_000
    threading.Thread(target=_accept, args=(listener, used, reset), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket, used: count[int], reset: int) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, used, reset), daemon=True).start()


def _serve(connection: socket.socket, used: count[int], reset: int) -> None:
    """Answer requests without a body, one after the other."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    with connection:
        while received := connection.recv(65_536):
            waiting += received
            while (end := waiting.find(b"\r\n\r\n")) >= 0:
                waiting = waiting[end + 4 :]
                number = next(used)
                head = _HEADERS.format(left=1_000_000 - number, used=number, reset=reset, length=len(_BODY))
                connection.sendall(head.encode() + _BODY)


if __name__ == "__main__":
    main()
