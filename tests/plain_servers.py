"""Servers on loopback that are no OTLP receivers: each says one thing to whoever connects, or nothing."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def speaking(answer: bytes, *, context: ssl.SSLContext | None = None, waits: bool = True) -> Iterator[int]:
    """A server that sends `answer` and closes; yields its port.

    `waits`: whether it lets the client speak first.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listening, answer, context, waits))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()


def _serve(listening: socket.socket, answer: bytes, context: ssl.SSLContext | None, waits: bool) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with suppress(OSError):
            connection.settimeout(10)
            with context.wrap_socket(connection, server_side=True) if context else connection as peer:
                if waits:
                    peer.recv(65536)
                peer.sendall(answer)
        connection.close()


@contextmanager
def silent() -> Iterator[int]:
    """A port where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer; an underscore in a header's name stands for a hyphen."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def certificate(folder: Path, *, host: str = "localhost", days: int = 1) -> Path:
    """A PEM file with a self-signed certificate, valid for so many days (negative: it has expired), and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}{days}.pem"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return path


def server_context(pem: Path) -> ssl.SSLContext:
    """For a server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
