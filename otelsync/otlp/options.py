"""Options of OTLP: the ``OTEL_EXPORTER_OTLP_*`` variables, read as the specification says.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ . Two rules of the Python SDK are kept where the
specification leaves room or differs: timeouts are in seconds, and http/protobuf is the default protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from otelsync.errors import ConfigurationError
from otelsync.otlp.exporters import PREFIX, is_sent

Signal = Literal["traces", "logs", "metrics"]
Protocol = Literal["http/protobuf", "grpc"]
Compression = Literal["none", "gzip"]
T = TypeVar("T")

DEFAULT_TIMEOUT = 10.0
DEFAULT_INTERVAL = 60.0
"""Seconds from one export of metrics to the next."""
_GRPC_PORT = 4317
_HTTP_PORT = 4318
_LONGEST_TIMEOUT = 3600.0
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""A token of RFC 9110, section 5.6.2."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class OtlpEndpoint:
    """The destination of one signal."""

    signal: Signal
    url: str
    """http/protobuf: the full URL that is posted to. grpc: scheme, host and port."""
    protocol: Protocol = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names in lower case. Values are secrets: they are never logged, nor in this object's repr."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds, for one attempt from connecting to the last byte of the answer."""
    compression: Compression = "none"
    certificate: str | None = None
    """Path of a PEM file with the authorities to trust; default: the system's."""
    client_certificate: str | None = None
    client_key: str | None = None
    insecure: bool = False
    """grpc without TLS. For http/protobuf the URL's scheme decides."""

    @property
    def place(self) -> str:
        """The endpoint as it may be shown: without user name, password and query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def endpoints_from_environment(
    environment: Mapping[str, str], *, endpoint: str | None = None
) -> tuple[OtlpEndpoint, ...]:
    """The endpoints of traces and logs that `environment` asks for; empty when it names none.

    A signal has an endpoint when its own variable or the one for all signals is set, or when `endpoint` is given,
    which then stands for ``OTEL_EXPORTER_OTLP_ENDPOINT``. It has none where ``OTEL_TRACES_EXPORTER`` or
    ``OTEL_LOGS_EXPORTER`` names other exporters alone, or ``none``. ``OTEL_SDK_DISABLED`` is the caller's business.

    Raises:
        ConfigurationError: A variable has a value that cannot work.
    """
    signals: tuple[Signal, Signal] = ("traces", "logs")
    wanted = [signal for signal in signals if is_sent(environment, signal)]
    return tuple(filter(None, (_endpoint(_Variables(environment, endpoint, signal)) for signal in wanted)))


def metrics_from_environment(
    environment: Mapping[str, str], *, endpoint: str | None = None
) -> tuple[OtlpEndpoint, float] | None:
    """Return where metrics go, and the seconds between two exports; None if they are not sent.

    They are where they have an endpoint, unless ``OTEL_METRICS_EXPORTER`` names other exporters alone, or ``none``.

    Raises:
        ConfigurationError: A variable has a value that cannot work.
    """
    if not is_sent(environment, "metrics"):
        return None
    found = _endpoint(_Variables(environment, endpoint, "metrics"))
    return None if found is None else (found, _interval(environment))


def _interval(variables: Mapping[str, str]) -> float:
    name = "OTEL_METRIC_EXPORT_INTERVAL"
    value = variables.get(name, "").strip()
    if not value:
        return DEFAULT_INTERVAL
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= _LONGEST_TIMEOUT * 1000:
        raise ConfigurationError(name, value, "set it to a number of milliseconds above 0 and up to 3600000")
    return int(value) / 1000


def ports_of_other_protocol(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield, for each endpoint with the usual port of the protocol that is not its own, a message and the fix."""
    for signal in ("", "TRACES_", "LOGS_", "METRICS_"):
        name, value = f"{PREFIX}{signal}ENDPOINT", variables.get(f"{PREFIX}{signal}ENDPOINT", "").strip()
        protocol = (variables.get(f"{PREFIX}{signal}PROTOCOL") or variables.get(f"{PREFIX}PROTOCOL") or "").strip()
        protocol = protocol or "http/protobuf"
        with suppress(ValueError):  # no URL, which is an error and no oddity
            port = urlsplit(value if "://" in value else f"//{value}").port
            for usual, its_port, other in (("grpc", _GRPC_PORT, _HTTP_PORT), ("http/protobuf", _HTTP_PORT, _GRPC_PORT)):
                if port == its_port and protocol != usual:
                    message = f"{name} has port {port}, which usually takes {usual}, and the protocol is {protocol}"
                    yield message, f"use port {other}, or set {PREFIX}{signal}PROTOCOL={usual}"


class _Variables:
    """The variables of one signal: its own name first, then the one for all signals. An empty value is no value."""

    def __init__(self, environment: Mapping[str, str], endpoint: str | None, signal: Signal) -> None:
        given = {} if endpoint is None else {f"{PREFIX}ENDPOINT": endpoint}
        self._variables = {**environment, **given}
        self.signal: Signal = signal

    def get(self, option: str) -> tuple[str, str]:
        """The name that is set, and its value; the general name and "" when neither is."""
        own, general = f"{PREFIX}{self.signal.upper()}_{option}", f"{PREFIX}{option}"
        name = own if self._variables.get(own, "").strip() else general
        return name, self._variables.get(name, "").strip()

    def choice(self, option: str, choices: Mapping[str, T], *, any_case: bool = True) -> T:
        """The choice that the value stands for; "" stands for one too."""
        name, value = self.get(option)
        key = value.lower() if any_case else value
        if key not in choices:
            raise ConfigurationError(name, value, f"set it to {' or '.join(filter(None, choices))}")
        return choices[key]


def _endpoint(variables: _Variables) -> OtlpEndpoint | None:
    protocols: dict[str, Protocol] = {"": "http/protobuf", "http/protobuf": "http/protobuf", "grpc": "grpc"}
    protocol = variables.choice("PROTOCOL", protocols, any_case=False)
    name, url = variables.get("ENDPOINT")
    if not url:
        return None
    insecure = variables.choice("INSECURE", {"true": True, "false": False, "": False})
    if protocol == "grpc":
        url, insecure = _grpc_url(name, url, insecure)
    else:
        is_base = name == f"{PREFIX}ENDPOINT"
        url = _http_url(name, url, f"/v1/{variables.signal}" if is_base else "")
    is_secure = not insecure if protocol == "grpc" else url.lower().startswith("https")
    certificate, client_certificate, client_key = _certificates(variables, is_secure=is_secure)
    compressions: dict[str, Compression] = {"gzip": "gzip", "none": "none", "": "none"}
    return OtlpEndpoint(
        signal=variables.signal,
        url=url,
        protocol=protocol,
        headers=_headers(variables),
        timeout=_timeout(variables),
        compression=variables.choice("COMPRESSION", compressions),
        certificate=certificate,
        client_certificate=client_certificate,
        client_key=client_key,
        insecure=insecure,
    )


def _split(name: str, value: str) -> SplitResult:
    """A URL in its parts, with a host and, if it has one, a port that is a number."""
    shape = "set it to a URL such as http://collector:4318"
    if _UNPRINTABLE.search(value) or " " in value:
        raise ConfigurationError(name, value, "take out the spaces and control characters")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(name, value, shape) from error
    if not parts.hostname or port == 0:
        raise ConfigurationError(name, value, shape)
    return parts


def _http_url(name: str, value: str, path: str) -> str:
    """The URL that is posted to; `path` goes behind that of a base endpoint, whether or not that ends in a slash."""
    if not value.lower().startswith(("http://", "https://")):
        raise ConfigurationError(name, value, "begin it with http:// or https://, or set the protocol to grpc")
    parts = _split(name, value)
    if parts.username is not None:
        fix = f"leave out user and password; set {PREFIX}HEADERS=authorization=Basic%20..."
        raise ConfigurationError(name, "(a URL with a password)", fix)
    path = parts.path.rstrip("/") + path if path else parts.path or "/"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _grpc_url(name: str, value: str, insecure: bool) -> tuple[str, bool]:
    """Scheme, host and port. A scheme overrides ``INSECURE``, which is for an endpoint without one."""
    scheme, mark, _ = value.partition("://")
    if mark and scheme.lower() not in ("http", "https"):
        raise ConfigurationError(name, value, "begin it with http:// or https://, or write host:port")
    parts = _split(name, value if mark else f"{'http' if insecure else 'https'}://{value}")
    if parts.username is not None or parts.path.strip("/"):
        fix = "give scheme, host and port alone; grpc has no path, and credentials belong into the headers"
        raise ConfigurationError(name, "(a URL with a path or a password)", fix)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _GRPC_PORT}", parts.scheme == "http"


def _headers(variables: _Variables) -> dict[str, str]:
    """``name=value,name=value``; both URL-decoded. The signal's own variable replaces the general one."""
    name, text = variables.get("HEADERS")
    headers: dict[str, str] = {}
    for number, pair in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        key, equals, value = pair.partition("=")
        key, value = unquote(key.strip()).strip().lower(), unquote(value.strip()).strip()
        if not equals or not _HEADER_NAME.fullmatch(key):
            fix = f"write name=value, separated by commas; pair {number} has no valid name"
            raise ConfigurationError(name, "(hidden)", fix)
        if _UNPRINTABLE.search(value) or not value.isascii():
            fix = f"the value of {key!r} has a control character or is not ASCII; encode it"
            raise ConfigurationError(name, "(hidden)", fix)
        headers[key] = value
    return headers


def _timeout(variables: _Variables) -> float:
    name, value = variables.get("TIMEOUT")
    if not value:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ConfigurationError(name, value, "set it to a number of seconds above 0 and up to 3600")
    return seconds


def _certificates(variables: _Variables, *, is_secure: bool) -> tuple[str | None, str | None, str | None]:
    """Authorities, client certificate and its key, as paths; looked into where they will be used.

    A certificate of the signal's own has a key of the signal's own, or holds it itself.
    """
    authorities, own = _file(variables, "CERTIFICATE"), _file(variables, "CLIENT_CERTIFICATE")
    key = _file(variables, "CLIENT_KEY")
    if key and not own:  # it proves nothing alone
        raise ConfigurationError(*variables.get("CLIENT_KEY"), f"set {PREFIX}CLIENT_CERTIFICATE too")
    if variables.get("CLIENT_CERTIFICATE")[0] != f"{PREFIX}CLIENT_CERTIFICATE":
        key = key if variables.get("CLIENT_KEY")[0] != f"{PREFIX}CLIENT_KEY" else None
    if is_secure and (authorities or own):
        from otelsync.otlp.certificates import CertificateFiles, find_fault  # not before there is TLS

        fault = find_fault(CertificateFiles(authorities, own, key))
        if fault is not None:
            raise ConfigurationError(*variables.get(fault.option), fault.fix)
    return authorities, own, key


def _file(variables: _Variables, option: str) -> str | None:
    name, value = variables.get(option)
    if not value:
        return None
    try:
        with Path(value).open("rb"):
            return value
    except (OSError, ValueError) as error:
        raise ConfigurationError(name, value, f"set it to a readable PEM file ({error})") from error
