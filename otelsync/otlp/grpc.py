"""OTLP over grpc: one channel, requests passed through as the bytes they are.

grpcio is imported when the first request is sent, so nobody pays for it who does not use it. Source of the rules:
https://opentelemetry.io/docs/specs/otlp/#otlpgrpc .
"""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from otelsync.otlp.certificates import CertificateFiles, read_files
from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.reply import Reply, throttle
from otelsync.otlp.words import shown

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
_DETAILS = "grpc-status-details-bin"

_LONGEST_ANSWER: Final = 4 * 1024 * 1024 + 77
"""Bytes; a figure that no server has, so that grpcio's complaint is known for one about an answer."""
_BOMB: Final = "Decompressed message larger than max"
"""Words of grpcio for a compressed message of either side; where requests are not compressed, it is an answer."""
_LONGEST_METADATA: Final = 1024 * 1024

_TOO_LARGE: Final = re.compile(
    r"message (?:after decompression )?larger than max"  # grpcio, grpc-go, grpc-node
    r"|message length too large"  # tonic, by OUT_OF_RANGE
    r"|message exceeds (?:the )?maximum"  # grpc-java, grpc-dotnet
    r"|(?:request|message|body|payload) (?:size |is |entity )?too large",
    re.IGNORECASE,
)
"""Words of servers for a request that is too large for them."""
_OF_THE_WAY: Final = re.compile(
    r"Stream removed|Received RST_STREAM|No status received|Received http2 header|Decompression failed|Socket closed"
    r"|Connection reset|Failed parsing HTTP/2|Frame size |(?:received )?(?:initial |trailing )?metadata size exceeds"
    r"|Trying to connect an http1|Missing :status|Error parsing 'grpc-"
)
"""Beginnings of the words that grpcio has for errors of the connection, by whatever code. No endpoint has said them."""
_HTTP_STATUS: Final = re.compile(r"Received http2 header with status: (\d{3})")
_REFUSALS: Final = frozenset({"401", "403", "404", "405"})
"""HTTP statuses of a gateway that mean over grpc what they mean over http."""
_OF_THE_RECORDS: Final = "INVALID_ARGUMENT"
_BROKEN: Final = frozenset({"INTERNAL", "UNKNOWN"})


class GrpcTransport:
    """Calls the Export method of a grpc endpoint. Used by one thread; `abort` may come from another.

    grpcio has no type stubs, hence the `Any`.
    """

    def __init__(self, endpoint: OtlpEndpoint, *, user_agent: str) -> None:
        self._endpoint = endpoint
        self._user_agent = user_agent
        self._metadata = tuple(
            (name, value.encode() if name.endswith("-bin") else value) for name, value in endpoint.headers.items()
        )
        self._channel: Any = None
        self._call: Any = None
        self._aborted = False
        self._paths = CertificateFiles(endpoint.certificate, endpoint.client_certificate, endpoint.client_key)
        self._stamp: tuple[object, ...] | None = None
        self._files: tuple[bytes | None, ...] | None = None
        """Authorities, key and certificate chain."""

    def post(self, request: bytes, timeout: float) -> Reply:
        """Send one request; at most `timeout` seconds. Errors of the network and of certificates are replies."""
        grpc: Any = importlib.import_module("grpc")
        try:
            self._renew()
        except OSError as error:
            return Reply("retry", reason=str(error))
        if self._channel is None:
            self._channel = self._open(grpc)
            self._export = self._channel.unary_unary(_METHODS[self._endpoint.signal])
        self._call = self._export.future(request, timeout=timeout, metadata=self._metadata)
        if self._aborted:  # it may have been before there was a call to cancel
            self._call.cancel()
        try:
            return Reply("ok", content=self._call.result() or b"")
        except grpc.RpcError as error:
            if error.code().name == "UNAVAILABLE":
                self._stamp = None  # the certificate files may be others by now
            return _reply(error, self._endpoint)
        except grpc.FutureCancelledError:
            return Reply("retry", reason="CANCELLED")
        finally:
            self._call = None

    def abort(self) -> None:
        """Make a `post` in another thread return soon, and every later one."""
        self._aborted = True
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Close the channel. A later `post` opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _renew(self) -> None:
        """Take replaced certificate files into use, in a new channel. Raises OSError where there are none to use."""
        if self._endpoint.insecure:
            return
        stamp = self._paths.stamp()
        if stamp == self._stamp:
            return
        try:
            files = read_files(self._paths)
        except OSError:
            if self._files is None:
                raise
            return  # half of them may be written; these will do until the rest is
        if files != self._files:
            self.close()
        self._files, self._stamp = files, stamp

    def _open(self, grpc: Any) -> Any:
        address = urlsplit(self._endpoint.url).netloc
        gzip = self._endpoint.compression == "gzip"
        kwargs = {
            "compression": grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression,
            "options": (
                ("grpc.primary_user_agent", self._user_agent),
                # The default bound of two minutes would outlast an outage; the shipper has a backoff of its own.
                ("grpc.min_reconnect_backoff_ms", 1000),
                ("grpc.max_reconnect_backoff_ms", 5000),
                ("grpc.max_receive_message_length", _LONGEST_ANSWER),
                ("grpc.max_metadata_size", _LONGEST_METADATA),
                ("grpc.absolute_max_metadata_size", _LONGEST_METADATA),
                # Retries would be invisible to the shipper, which counts and spaces them itself.
                ("grpc.enable_retries", 0),
                # As over http: telemetry goes where the option says.
                ("grpc.enable_http_proxy", 0),
                # Channels of one process share connections else, those with the certificates of yesterday too.
                ("grpc.use_local_subchannel_pool", 1),
            ),
        }
        if self._files is None:
            return grpc.insecure_channel(address, **kwargs)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(*self._files), **kwargs)


def _reply(error: Any, endpoint: OtlpEndpoint) -> Reply:
    code = error.code().name
    details = str(error.details() or "")
    reason = f"{code}: {shown(details, endpoint.headers)}" if details else code
    gzip = endpoint.compression == "gzip"
    if code == "RESOURCE_EXHAUSTED" and (f"vs. {_LONGEST_ANSWER})" in details or (not gzip and _BOMB in details)):
        return Reply("ok")  # the answer to a request that was taken, too large to be read
    if code == "DEADLINE_EXCEEDED":
        return Reply("timeout", after=_retry_info(error), reason=reason)
    if (match := _HTTP_STATUS.match(details)) is not None and match[1] == "413":
        return Reply("too_large", reason=reason)
    if _OF_THE_WAY.match(details):
        return Reply("denied" if match and match[1] in _REFUSALS else "retry", reason=reason)
    if code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE") and _TOO_LARGE.search(details):
        return Reply("too_large", reason=reason)
    # By the specification RESOURCE_EXHAUSTED without a pause is final. The Collector's memory_limiter says it so.
    if code in _RETRYABLE or code == "RESOURCE_EXHAUSTED":
        return Reply("retry", after=_retry_info(error), reason=reason)
    if code in _BROKEN:
        return Reply("broken", reason=reason)
    return Reply("refused" if code == _OF_THE_RECORDS else "denied", reason=reason)


def _retry_info(error: Any) -> float | None:
    """The pause, in seconds, of a google.rpc.RetryInfo among the status details."""
    details = next((value for key, value in error.trailing_metadata() or () if key == _DETAILS), None)
    if not isinstance(details, bytes) or len(details) > 64 * 1024:
        return None
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no stubs

    with suppress(DecodeError):
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                return throttle(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
