"""OTLP over grpc: one channel, requests passed through as the bytes they are.

grpcio is imported when the first request is sent, so nobody pays for it who does not use it. Source of the rules:
https://opentelemetry.io/docs/specs/otlp/#otlpgrpc .
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otelsync.otlp.options import OtlpEndpoint
from otelsync.otlp.reply import LONGEST_REASON, Reply, throttle
from otelsync.text.printable import printable

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
_DETAILS = "grpc-status-details-bin"


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
        self._credentials: list[bytes | None] | None = None
        """Authorities, key and certificate chain."""
        if not endpoint.insecure:
            chain = endpoint.client_certificate
            paths = (endpoint.certificate, endpoint.client_key or chain, chain)
            self._credentials = [Path(path).read_bytes() if path else None for path in paths]

    def post(self, request: bytes, timeout: float) -> Reply:
        """Send one request; at most `timeout` seconds. Network errors are replies, not exceptions."""
        grpc: Any = importlib.import_module("grpc")
        if self._channel is None:
            self._channel = self._open(grpc)
            self._export = self._channel.unary_unary(_METHODS[self._endpoint.signal])
        self._call = self._export.future(request, timeout=timeout, metadata=self._metadata)
        try:
            return Reply("ok", content=self._call.result())
        except grpc.RpcError as error:
            return _reply(error)
        except grpc.FutureCancelledError:
            return Reply("retry", reason="CANCELLED")
        finally:
            self._call = None

    def abort(self) -> None:
        """Make a `post` in another thread return soon."""
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Close the channel. A later `post` opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

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
                ("grpc.max_receive_message_length", 64 * 1024),
                # Retries would be invisible to the shipper, which counts and spaces them itself.
                ("grpc.enable_retries", 0),
            ),
        }
        if self._credentials is None:
            return grpc.insecure_channel(address, **kwargs)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(*self._credentials), **kwargs)


def _reply(error: Any) -> Reply:
    code = error.code().name
    details = str(error.details() or "")
    reason = f"{code}: {printable(details, LONGEST_REASON)}" if details else code
    if code in _RETRYABLE:
        return Reply("retry", after=_retry_info(error), reason=reason)
    if code == "RESOURCE_EXHAUSTED":
        after = _retry_info(error)
        if after is not None:
            return Reply("retry", after=after, reason=reason)
        if "larger than max" in details.lower():
            return Reply("too_large", reason=reason)
    return Reply("refused", reason=reason)


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
