"""Endpoints on loopback that answer with exactly these bytes, by HTTP/1.1 or HTTP/2, and ways to an endpoint that fail.

A scripted endpoint notes the spans of every request that it takes, so that a test can compare with the ledger.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no stubs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE = 120


class Peer:
    """A server that hands each connection to `serve`, in a thread of its own."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listening = socket.create_server((host, port))
        self.port: int = self._listening.getsockname()[1]
        self.ended = threading.Event()
        self.connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def serve(self, connection: socket.socket) -> None:
        """Say what is to be said. OSError ends it."""
        raise NotImplementedError

    def end(self) -> None:
        self.ended.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(PATIENCE)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.settimeout(PATIENCE)
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            self.serve(connection)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes. Raises EOFError."""
    content = b""
    while len(content) < count:
        piece = connection.recv(count - len(content))
        if not piece:
            raise EOFError
        content += piece
    return content


def numbers_of(message: bytes) -> list[int]:
    """The numbers of the spans of `journal_files.span` in a request."""
    request = ExportTraceServiceRequest.FromString(message)
    return [
        int.from_bytes(span.span_id, "big")
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


Say = Callable[[socket.socket, threading.Event], None]
"""Sends an answer to an HTTP request; it may take until the event."""


class HttpPeer(Peer):
    """An HTTP endpoint that answers the first requests as it is told, and then takes everything.

    Args:
        answers: How; one a request.
        most: Requests with more spans are answered in the same way, however often they come; None: none is.
        unread: Answer when the head has come, and read no body.
    """

    def __init__(self, answers: Sequence[Say], *, most: int | None = None, unread: bool = False) -> None:
        self._answers = list(answers)
        self._most = most
        self._unread = unread
        self.requests: list[list[int]] = []
        self.heads: list[bytes] = []
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += exactly(connection, 1)
            self.heads.append(head)
            if self._unread and self._answers:
                self.requests.append([])
                self._answers.pop(0)(connection, self.ended)
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            numbers = numbers_of(exactly(connection, length))
            self.requests.append(numbers)
            if self._most is not None and len(numbers) > self._most:
                self._answers[0](connection, self.ended)
                return
            if self._most is None and self._answers:
                self._answers.pop(0)(connection, self.ended)
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def saying(*pieces: bytes, pause: float = 0.02) -> Say:
    """An answer in pieces that come one after the other, and then the end of the connection."""

    def say(connection: socket.socket, ended: threading.Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, piece in enumerate(pieces):
            if number:
                ended.wait(pause)
            connection.sendall(piece)

    return say


def for_ever(beginning: bytes, piece: bytes, pause: float = 0.0) -> Say:
    """An answer without an end."""

    def say(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(beginning)
        while not ended.wait(pause):
            connection.sendall(piece)

    return say


def resetting(beginning: bytes = b"") -> Say:
    """A beginning, and then a reset of the connection."""

    def say(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(beginning)
        ended.wait(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return say


# HTTP/2, as far as a unary call needs it: https://www.rfc-editor.org/rfc/rfc9113#section-4.1

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 7, 9
_END_STREAM, _END_HEADERS = 1, 4
_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

Frames = Callable[[int], bytes]
"""The frames of an answer, by the number of its stream."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(fields: dict[str, str], *, last: bool) -> Frames:
    """A block of header fields, all of them literal and unindexed (RFC 7541), in as many frames as it needs."""
    block = b"".join(b"\0" + _literal(name.encode()) + _literal(value.encode()) for name, value in fields.items())
    parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]

    def frames(stream: int) -> bytes:
        out = b""
        for number, part in enumerate(parts):
            flags = _END_STREAM if last and not number else 0
            flags |= _END_HEADERS if part is parts[-1] else 0
            out += frame(_CONTINUATION if number else _HEADERS, flags, stream, part)
        return out

    return frames


def _literal(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, out = len(text) - 127, b"\x7f"
    while rest >= 128:
        out += bytes([rest % 128 + 128])
        rest //= 128
    return out + bytes([rest]) + text


def joined(*parts: Frames) -> Frames:
    """Frames one after the other."""
    return lambda stream: b"".join(part(stream) for part in parts)


def message(content: bytes = b"", *, last: bool = False) -> Frames:
    """An answer's message."""
    content = b"\0" + struct.pack(">I", len(content)) + content
    parts = [content[start : start + 16_000] for start in range(0, len(content), 16_000)]
    return lambda stream: b"".join(
        frame(_DATA, _END_STREAM if last and part is parts[-1] else 0, stream, part) for part in parts
    )


def reset(code: int) -> Frames:
    """The stream is ended by its server."""
    return lambda stream: frame(_RST_STREAM, 0, stream, struct.pack(">I", code))


def going_away(code: int = 0) -> Frames:
    """The server takes no more calls on this connection."""
    return lambda _: frame(_GOAWAY, 0, 0, struct.pack(">II", 0, code))


BEGIN = headers({":status": "200", "content-type": "application/grpc"}, last=False)
OK = joined(BEGIN, message(), headers({"grpc-status": "0"}, last=True))


def status(code: int, words: str = "") -> Frames:
    """A call that failed, as servers say it."""
    fields = {":status": "200", "content-type": "application/grpc", "grpc-status": str(code), "grpc-message": words}
    return headers(fields, last=True)


class GrpcPeer(Peer):
    """A grpc endpoint that answers the first calls as it is told, and then takes everything.

    `most`: calls with more spans are answered in the same way, however often they come; None: none is.
    """

    def __init__(self, answers: Sequence[Frames], *, most: int | None = None) -> None:
        self._answers = list(answers)
        self._most = most
        self.requests: list[list[int]] = []
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        exactly(connection, _PREFACE)
        connection.sendall(frame(_SETTINGS, 0, 0) + frame(_SETTINGS, 1, 0))
        bodies: dict[int, bytes] = {}
        while True:
            head = exactly(connection, 9)
            payload = exactly(connection, int.from_bytes(head[:3], "big"))
            stream = int.from_bytes(head[5:], "big") & 0x7FFF_FFFF
            if head[3] != _DATA:
                continue
            bodies[stream] = bodies.get(stream, b"") + payload
            if head[4] & _END_STREAM:
                connection.sendall(self._answer(bodies.pop(stream)[5:])(stream))

    def _answer(self, request: bytes) -> Frames:
        numbers = numbers_of(request)
        self.requests.append(numbers)
        if self._most is not None:
            return self._answers[0] if len(numbers) > self._most else OK
        return self._answers.pop(0) if self._answers else OK


class GrpcService(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no stubs
    """A real grpc service of grpcio's that takes everything. `answer`: its answer to every call."""

    def __init__(self, answer: bytes = b"") -> None:
        self._said = answer
        self.numbers: list[int] = []

    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002  (any method will do)
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: Any) -> bytes:  # noqa: ARG002
        self.numbers += numbers_of(request)
        return self._said

    @contextmanager
    def running(self, credentials: Any = None, *, port: int = 0) -> Iterator[int]:
        """A server with it, at a port of loopback."""
        server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        place = f"localhost:{port}"
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


class Way(Peer):
    """The way to an endpoint: what comes is handed on, but for the first connections, which fare as `faults` say.

    `rate`: bytes a second that it carries to the endpoint; None: all at once.
    """

    def __init__(self, to: int, faults: Sequence[Say] = (), *, rate: int | None = None) -> None:
        self._to = to
        self._rate = rate
        self.faults = list(faults)
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        if self.faults:
            fault = self.faults.pop(0)
            connection.recv(65536)
            fault(connection, self.ended)
            return
        with ExitStack() as stack:
            behind = stack.enter_context(socket.create_connection(("127.0.0.1", self._to), PATIENCE))
            self.connections.append(behind)
            back = threading.Thread(target=_hand_on, args=(behind, connection, None))
            stack.callback(back.join)
            back.start()
            _hand_on(connection, behind, self._rate)


def _hand_on(taken: socket.socket, to: socket.socket, rate: int | None) -> None:
    with suppress(OSError):
        while piece := taken.recv(65536 if rate is None else 4096):
            if rate is not None:
                time.sleep(len(piece) / rate)
            to.sendall(piece)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@contextmanager
def dead_address(port: int, host: str = "127.0.0.2") -> Iterator[None]:
    """An address where nobody answers a connection: a queue of connections that is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield
