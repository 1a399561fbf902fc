"""The way to an endpoint, step by step: name, address, connection, TLS. Each failure says which, and the fix."""

from __future__ import annotations

import os
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from otelsync.otlp.certificates import CertificateFiles, make_context
from otelsync.otlp.connecting import (
    ConnectTimeoutError,
    NameTimeoutError,
    NotConnectedError,
    UnknownNameError,
    race,
    resolve,
)
from otelsync.otlp.options import OtlpEndpoint

_NAME_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 2.0
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_OF_CONTAINERS: Final = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")

# OpenSSL's X509_V_ERR_*; source: openssl/x509_vfy.h
_NOT_IN_TIME: Final = frozenset((9, 10))
_OTHER_NAME: Final = frozenset((62, 64))


@dataclass(eq=False)
class EndpointError(Exception):
    """A fault of an endpoint. Raised if there is no way to it, for any signal."""

    code: str
    message: str
    fix: str
    severe: bool = True
    """False: it may yet take what is real."""


def left(deadline: float, most: float) -> float:
    """Seconds until `deadline` (``time.monotonic()``), at most `most`, and never none."""
    return max(min(deadline - time.monotonic(), most), 0.05)


def connect(endpoint: OtlpEndpoint, deadline: float) -> socket.socket:
    """A TCP connection to an endpoint. Raises EndpointError."""
    parts = urlsplit(endpoint.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = resolve(host, port, time.monotonic() + left(deadline, _NAME_SECONDS))
        return race(addresses, time.monotonic() + left(deadline, _CONNECT_SECONDS))[0]
    except NameTimeoutError as error:
        message = f"the name {host!r} was not resolved within {_NAME_SECONDS:.0f} s"
        raise EndpointError("name_timeout", message, "look at the DNS servers in /etc/resolv.conf") from error
    except UnknownNameError as error:
        fix = "check the spelling of the host, and whether this machine or container knows it (getent hosts NAME)"
        raise EndpointError("unknown_name", f"the name {host!r} is not known", fix) from error
    except NotConnectedError as error:
        cause = TimeoutError() if isinstance(error, ConnectTimeoutError) else error.cause or error
        raise _not_connected(cause, host, port) from error


def _not_connected(error: OSError, host: str, port: int) -> EndpointError:
    where = f"{host} port {port}"
    hint = ""
    in_container = "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(mark).exists() for mark in _OF_CONTAINERS)
    if host in _LOOPBACK and in_container:
        hint = "; this is a container, where localhost is the container itself: use the name of the Collector's service"
    elif any(os.environ.get(name) for name in _PROXIES):
        hint = "; the proxy in the environment is not used for telemetry"
    if isinstance(error, ConnectionRefusedError):
        fix = f"start the receiver, or correct host and port{hint}"
        return EndpointError("refused", f"nothing listens at {where}", fix)
    if isinstance(error, TimeoutError):
        message = f"no connection to {where} within {_CONNECT_SECONDS:.0f} s"
        return EndpointError("connect_timeout", message, f"look at firewalls and network policies on the way{hint}")
    fix = f"look at the network between this machine and {host}{hint}"
    return EndpointError("no_route", f"no connection to {where}: {error.strerror or error}", fix)


def secure(connection: socket.socket, endpoint: OtlpEndpoint, deadline: float) -> socket.socket:
    """TLS over a connection, with the endpoint's certificate checked. Raises EndpointError."""
    host = urlsplit(endpoint.url).hostname or ""
    try:
        context = make_context(CertificateFiles(endpoint.certificate, endpoint.client_certificate, endpoint.client_key))
    except OSError as error:
        fix = "set OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY to PEM files that fit together"
        raise EndpointError("certificate_files", str(error), fix) from error
    if endpoint.protocol == "grpc":
        context.set_alpn_protocols(["h2"])
    connection.settimeout(left(deadline, 2.0))
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise _not_trusted(error, host) from error
    except OSError as error:  # or no answer in time
        raise _no_tls(error, endpoint) from error


def _not_trusted(error: ssl.SSLCertVerificationError, host: str) -> EndpointError:
    number, why = error.verify_code, error.verify_message
    if number in _NOT_IN_TIME:
        fix = "renew the certificate of the endpoint; if it is valid now, look at this machine's clock"
        return EndpointError("certificate_expired", f"the endpoint's certificate is not accepted: {why}", fix)
    if number in _OTHER_NAME:
        fix = "use the host name that is in the certificate, or renew it for this one"
        return EndpointError("certificate_name", f"the endpoint's certificate is not for {host!r}", fix)
    fix = "set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file with the authority that has signed it"
    return EndpointError("certificate_unknown", f"the endpoint's certificate is not accepted: {why}", fix)


def _no_tls(error: OSError, endpoint: OtlpEndpoint) -> EndpointError:
    reason = getattr(error, "reason", "") or error.strerror or type(error).__name__
    if "ALERT" in str(reason) and "VERSION" not in str(reason):
        fix = "does it want a client certificate? Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY"
        return EndpointError("tls_refused", f"the endpoint ended the TLS handshake ({reason})", fix)
    plain = "write http:// if it has no TLS"
    if endpoint.protocol == "grpc":
        plain += ", or set OTEL_EXPORTER_OTLP_INSECURE=true for a host and port without a scheme"
    return EndpointError("no_tls", f"the endpoint does not speak TLS on this port ({reason})", plain)


def speaks_tls(endpoint: OtlpEndpoint, deadline: float) -> bool:
    """Return whether a TLS handshake with the endpoint's port comes to an end, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with connect(endpoint, deadline) as connection:
            connection.settimeout(left(deadline, 1.0))
            context.wrap_socket(connection, server_hostname=urlsplit(endpoint.url).hostname).close()
    except (EndpointError, OSError, ValueError):
        return False
    return True
