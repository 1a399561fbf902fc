"""Addresses of traces in a tracing backend, as ``OTELSYNC_TRACE_URL`` has them."""

from __future__ import annotations

from urllib.parse import quote


def trace_address(
    template: str | None, trace_id: str | None, span_id: str | None = "", sync_id: str | None = ""
) -> str:
    """Return where a trace can be looked at; empty where nobody has said so, or there is no trace.

    >>> trace_address("http://localhost:16686/trace/{trace_id}?uiFind={span_id}", "ab" * 16, "cd" * 8)
    'http://localhost:16686/trace/abababababababababababababababab?uiFind=cdcdcdcdcdcdcdcd'
    """
    if not template or not trace_id:
        return ""
    ids = {"trace_id": trace_id, "span_id": span_id, "sync_id": sync_id}
    return template.format_map({name: quote(value or "", safe="") for name, value in ids.items()})
