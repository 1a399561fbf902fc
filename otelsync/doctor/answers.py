"""Meaning of an endpoint's answer: an OTLP receiver, a web page, another protocol, a wrong path, no permission.

Everything here is hostile: it is cut, and shown as what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from otelsync.doctor.reach import EndpointError
from otelsync.otlp.http_connection import is_page
from otelsync.otlp.options import OtlpEndpoint
from otelsync.text.printable import printable

Language = Literal["http", "http2", "tls", "other", "silence"]

_LONGEST_TITLE: Final = 60
_NOT_ALLOWED: Final = (
    "not_allowed",
    "it refuses the credentials",
    "set OTEL_EXPORTER_OTLP_HEADERS to the header that it wants, such as authorization=Bearer%20TOKEN",
)
_THROTTLED: Final = (
    "throttled",
    "it takes no more requests for now",
    "raise its limit; records wait in the journal, and are sent as it allows",
)
_UNAVAILABLE: Final = (
    "unavailable",
    "the receiver behind it does not work",
    "start it; records wait in the journal until then",
)
_REFUSALS: Final[dict[int | str, tuple[str, str, str]]] = {
    **dict.fromkeys((401, 403, 407, "UNAUTHENTICATED", "PERMISSION_DENIED"), _NOT_ALLOWED),
    **dict.fromkeys((429, "RESOURCE_EXHAUSTED"), _THROTTLED),
    **dict.fromkeys((502, 503, 504), _UNAVAILABLE),
}
"""By HTTP status or grpc code: code, message and fix."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case; of several the first."""
    body: bytes

    def is_page(self) -> bool:
        """Return whether it is made for a browser."""
        return is_page(self.headers.get("content-type", ""), self.body)


def language(raw: bytes) -> Language:
    """Name the language of an answer by its first bytes."""
    if not raw:
        return "silence"
    if raw.startswith(b"HTTP/1."):
        return "http"
    # A frame of HTTP/2: length, type SETTINGS (4) or GOAWAY (7), on stream 0; RFC 9113, section 4.1.
    if len(raw) >= 9 and raw[0] == 0 and raw[3] in (4, 7) and raw[5:9] == bytes(4):
        return "http2"
    # A TLS alert; RFC 8446, section 5.1.
    return "tls" if raw[:2] == b"\x15\x03" else "other"


def parse(raw: bytes) -> Answer | None:
    """An answer in its parts; None if it cannot be read as HTTP."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    found = re.match(r"HTTP/1\.\d (\d{3})(?: |$)", first)
    if found is None:
        return None
    fields = (line.partition(":") for line in reversed(lines))
    return Answer(int(found[1]), {name.strip().lower(): value.strip() for name, _, value in fields}, body)


def diagnose(answer: Answer, endpoint: OtlpEndpoint, *, others_work: bool = False) -> EndpointError | None:
    """Diagnose an HTTP answer to an empty request; None: nothing is wrong.

    `others_work`: whether the same endpoint takes another signal.
    """
    status = answer.status
    said = f"HTTP {status}"
    if 200 <= status < 300:
        if not answer.is_page():
            return None
        fix = "correct host and port: the Collector receives OTLP http/protobuf on port 4318"
        return EndpointError("web_page", f"a web page{_title(answer)} answers and not a receiver", fix)
    if 300 <= status < 400:
        where = printable(answer.headers.get("location", ""), 200).rpartition("@")[2].partition("?")[0]
        message = f"it redirects to {where or 'nowhere'} ({said}), which is not followed"
        return EndpointError("redirect", message, "set the endpoint to where it leads, if that is yours")
    if status == 400:
        if b"HTTPS" in answer.body[:1000] or b"SSL" in answer.body[:1000]:
            return EndpointError("https_port", f"it wants TLS ({said})", "write https:// in the endpoint")
        message = f"it does not take an empty request ({said})"
        return EndpointError("bad_request", message, "see whether the probe arrives", severe=False)
    if status in (404, 405, 501):
        return _wrong_path(answer, endpoint, others_work)
    if status in (401, 403, 407):
        said += f"; the headers {', '.join(endpoint.headers)} were sent" if endpoint.headers else "; no header was set"
    return _refusal(status, said)


def _refusal(reason: int | str, said: str) -> EndpointError:
    code, message, fix = _REFUSALS.get(reason, ("refused_request", "it refuses", "see the endpoint's own log"))
    return EndpointError(code, f"{message} ({said})", fix)


def _wrong_path(answer: Answer, endpoint: OtlpEndpoint, others_work: bool) -> EndpointError:
    signal = endpoint.signal
    if others_work:
        also = ", though it takes the other signal, as Jaeger does with logs"
        return _not_accepted(signal, f"(HTTP {answer.status}){also}")
    what = f"a web server{_title(answer)} answers, but" if answer.is_page() else "it answers, but"
    fix = f"correct the path: OTLP receivers take {signal} at /v1/{signal}, the Collector on port 4318"
    return EndpointError("wrong_path", f"{what} there is no receiver at this path (HTTP {answer.status})", fix)


def _not_accepted(signal: str, said: str) -> EndpointError:
    name = signal.upper()
    fix = f"set OTEL_{name}_EXPORTER=none, or OTEL_EXPORTER_OTLP_{name}_ENDPOINT to a receiver of {signal}"
    return EndpointError("signal_not_accepted", f"it takes no {signal} {said}", fix)


def _title(answer: Answer) -> str:
    found = re.search(rb"(?i)<title[^>]{0,200}>([^<]{1,300})", answer.body[:16384])
    if found is None:
        return ""
    title = printable(" ".join(found[1].decode("utf-8", "replace").split()), _LONGEST_TITLE)
    return f' (titled "{title}")' if title else ""


def other_language(spoken: Language, *, tls_works: bool) -> EndpointError:
    """Diagnose an answer that is not HTTP where HTTP was expected.

    `tls_works`: whether a TLS handshake on the same port does.
    """
    if spoken == "http2":
        fix = "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or use the receiver's HTTP port (4318)"
        return EndpointError("grpc_port", "it is a grpc port, and the protocol is http/protobuf", fix)
    if spoken == "tls" or tls_works:
        return EndpointError("https_port", "it is a port for TLS", "write https:// in the endpoint")
    if spoken == "silence":
        fix = "correct the port: the Collector receives OTLP http/protobuf on port 4318"
        return EndpointError("closed", "it closes the connection without an answer", fix)
    fix = "correct the port: the Collector receives it on port 4318"
    return EndpointError("not_http", "it does not speak HTTP", fix)


def grpc_refusal(reason: str, endpoint: OtlpEndpoint, *, others_work: bool = False) -> EndpointError:
    """Diagnose a failed grpc call. `reason`: the code, then the server's words."""
    code, signal = reason.partition(":")[0], endpoint.signal
    if code == "UNIMPLEMENTED" and others_work:
        return _not_accepted(signal, f"({code})")
    if code == "UNIMPLEMENTED":
        fix = "correct host and port: the Collector receives OTLP by grpc on port 4317"
        return EndpointError("not_otlp", f"it is a grpc server, and no OTLP receiver of {signal} ({code})", fix)
    return _refusal(code, code if code in _REFUSALS else printable(reason, 120))
