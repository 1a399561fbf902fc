"""Meaning of an endpoint's answer: an OTLP receiver, a web page, another protocol, a wrong path, no permission.

Everything here is hostile: it is cut, and shown as what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from otelsync.otlp.options import OtlpEndpoint
from otelsync.text.printable import printable

Language = Literal["http", "http2", "tls", "other", "silence"]

_CREDENTIALS: Final = "set OTEL_EXPORTER_OTLP_HEADERS to the header that it wants, such as authorization=Bearer%20TOKEN"
_LONGEST_TITLE: Final = 60


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case; of several the first."""
    body: bytes

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis of an answer."""

    code: str
    message: str
    fix: str
    severe: bool = True
    """False: it may yet take what is real."""


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
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return Answer(int(found[1]), headers, body)


def diagnose(answer: Answer, endpoint: OtlpEndpoint, *, others_work: bool = False) -> Diagnosis | None:
    """Diagnose an HTTP answer to an empty request; None: nothing is wrong.

    `others_work`: whether the same endpoint takes another signal.
    """
    if 200 <= answer.status < 300:
        return _web_page(answer) if _is_page(answer) else None
    if 300 <= answer.status < 400:
        where = printable(answer.headers.get("location", ""), 200).rpartition("@")[2].partition("?")[0]
        message = f"it redirects to {where or 'nowhere'} (HTTP {answer.status}), which is not followed"
        return Diagnosis("redirect", message, "set the endpoint to where it leads, if that is yours")
    return _refusal(answer, endpoint, others_work)


def _refusal(answer: Answer, endpoint: OtlpEndpoint, others_work: bool) -> Diagnosis:
    status = answer.status
    said = f"HTTP {status}"
    if status == 400:
        if b"HTTPS" in answer.body[:1000] or b"SSL" in answer.body[:1000]:
            return Diagnosis("https_port", f"it wants TLS ({said})", "write https:// in the endpoint")
        return Diagnosis(
            "bad_request", f"it does not take an empty request ({said})", "see whether the probe arrives", False
        )
    if status in (401, 403, 407):
        sent = f"the headers {', '.join(endpoint.headers)} were sent" if endpoint.headers else "no header was set"
        return Diagnosis("not_allowed", f"it refuses the credentials ({said}; {sent})", _CREDENTIALS)
    if status in (404, 405, 501):
        return _wrong_path(answer, endpoint, others_work)
    if status == 429:
        fix = "raise its limit; records wait in the journal, and are sent as it allows"
        return Diagnosis("throttled", f"it takes no more requests for now ({said})", fix)
    if status in (502, 503, 504):
        message = f"the receiver behind it does not work ({said})"
        return Diagnosis("unavailable", message, "start it; records wait in the journal until then")
    return Diagnosis("refused_request", f"it refuses ({said})", "see the endpoint's own log")


def _wrong_path(answer: Answer, endpoint: OtlpEndpoint, others_work: bool) -> Diagnosis:
    signal = endpoint.signal
    if others_work:
        return Diagnosis(
            "signal_not_accepted",
            f"it takes no {signal} (HTTP {answer.status}), though it takes the other signal, as Jaeger does with logs",
            _elsewhere(signal),
        )
    what = f"a web server{_title(answer)} answers, but" if _is_page(answer) else "it answers, but"
    fix = f"correct the path: OTLP receivers take {signal} at /v1/{signal}, the Collector on port 4318"
    return Diagnosis("wrong_path", f"{what} there is no receiver at this path (HTTP {answer.status})", fix)


def _elsewhere(signal: str) -> str:
    name = signal.upper()
    return f"set OTEL_{name}_EXPORTER=none, or OTEL_EXPORTER_OTLP_{name}_ENDPOINT to a receiver of {signal}"


def _is_page(answer: Answer) -> bool:
    return answer.content_type in ("text/html", "application/xhtml+xml") or answer.body.lstrip()[:9].lower() in (
        b"<!doctype",
        b"<html",
    )


def _web_page(answer: Answer) -> Diagnosis:
    message = f"a web page{_title(answer)} answers and not a receiver"
    return Diagnosis(
        "web_page", message, "correct host and port: the Collector receives OTLP http/protobuf on port 4318"
    )


def _title(answer: Answer) -> str:
    found = re.search(rb"(?i)<title[^>]{0,200}>([^<]{1,300})", answer.body[:16384])
    if found is None:
        return ""
    title = printable(" ".join(found[1].decode("utf-8", "replace").split()), _LONGEST_TITLE)
    return f' (titled "{title}")' if title else ""


def other_language(spoken: Language, endpoint: OtlpEndpoint, *, tls_works: bool) -> Diagnosis:
    """Diagnose an answer that is not HTTP where HTTP was expected.

    `tls_works`: whether a TLS handshake on the same port does.
    """
    if spoken == "http2":
        fix = "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or use the receiver's HTTP port (4318)"
        return Diagnosis("grpc_port", "it is a grpc port, and the protocol is http/protobuf", fix)
    if spoken == "tls" or (tls_works and not endpoint.url.startswith("https")):
        return Diagnosis("https_port", "it is a port for TLS", "write https:// in the endpoint")
    if spoken == "silence":
        fix = "correct the port: the Collector receives OTLP http/protobuf on port 4318"
        return Diagnosis("closed", "it closes the connection without an answer", fix)
    return Diagnosis("not_http", "it does not speak HTTP", "correct the port: the Collector receives it on port 4318")


def grpc_refusal(reason: str, endpoint: OtlpEndpoint, *, others_work: bool = False) -> Diagnosis:
    """Diagnose a failed grpc call. `reason`: the code, then the server's words."""
    code = reason.partition(":")[0]
    signal = endpoint.signal
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return Diagnosis("not_allowed", f"it refuses the credentials ({code})", _CREDENTIALS)
    if code == "UNIMPLEMENTED":
        if others_work:
            return Diagnosis("signal_not_accepted", f"it takes no {signal} ({code})", _elsewhere(signal))
        fix = "correct host and port: the Collector receives OTLP by grpc on port 4317"
        return Diagnosis("not_otlp", f"it is a grpc server, and no OTLP receiver of {signal} ({code})", fix)
    if code == "RESOURCE_EXHAUSTED":
        fix = "raise its limit; records wait in the journal, and are sent as it allows"
        return Diagnosis("throttled", f"it takes no more requests for now ({code})", fix)
    return Diagnosis("refused_request", f"it refuses ({printable(reason, 120)})", "see the endpoint's own log")
