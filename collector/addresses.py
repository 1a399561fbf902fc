"""Addresses of what the stack shows of a run, for people and for programs, and how much is there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from collector.stack import Ports

ITEMS: Final = "sum by (sync_repo, sync_action) (sync_items_total)"
"""PromQL: what became of the items of each repository."""
_AT: Final = "http://127.0.0.1:"


class Shown(NamedTuple):
    """What one server shows of a run."""

    what: str
    page: str
    number: int
    """Spans, log records or series that are there."""


def variables(ports: Ports) -> dict[str, str]:
    """Return what a program is told by its environment, so that everything of it arrives."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{_AT}{ports.http}",
        "OTEL_METRICS_EXPORTER": "otlp",  # a program that ships by itself counts only when asked to
        "OTELSYNC_TRACE_URL": f"{_AT}{ports.jaeger}/trace/{{trace_id}}?uiFind={{span_id}}",
    }


def trace_page(ports: Ports, trace_id: str) -> str:
    """Return Jaeger's page of a trace."""
    return f"{_AT}{ports.jaeger}/trace/{trace_id}"


def logs_page(ports: Ports, field: str, value: str) -> str:
    """Return VictoriaLogs' page of all records with a field, such as ``trace_id``."""
    query = quote(f'"{field}":="{value}"', safe="")
    return f"{_AT}{ports.logs}/select/vmui/#/?query={query}&g0.range_input=30d&g0.relative_time=last_30_days"


def trace(ports: Ports, trace_id: str) -> list[dict[str, Any]]:
    """Return the spans of a trace as Jaeger's API has them; none while it does not know the trace."""
    with suppress(OSError):
        found = json.loads(asked(f"{_AT}{ports.jaeger}/api/traces/{trace_id}"))["data"]
        return list(found[0]["spans"]) if found else []
    return []


def log_records(ports: Ports, query: str) -> list[dict[str, Any]]:
    """Return the records that a query in LogsQL finds."""
    said = asked(f"{_AT}{ports.logs}/select/logsql/query", query=query, limit="100000")
    return [json.loads(line) for line in said.splitlines()]


def series(ports: Ports, query: str) -> list[dict[str, Any]]:
    """Return the series that a query in PromQL finds now."""
    return list(json.loads(asked(query_address(ports, query)))["data"]["result"])


def query_address(ports: Ports, query: str) -> str:
    """Return Prometheus' answer to a query: Debian's package has no page without further packages."""
    return f"{_AT}{ports.prometheus}/api/v1/query?{urlencode({'query': query})}"


def shown(ports: Ports, trace_id: str) -> Iterator[Shown]:
    """Yield what each server shows of a run, and where."""
    yield Shown("trace", trace_page(ports, trace_id), len(trace(ports, trace_id)))
    records = log_records(ports, f'trace_id:="{trace_id}"')
    yield Shown("logs", logs_page(ports, "trace_id", trace_id), len(records))
    yield Shown("metrics", query_address(ports, ITEMS), len(series(ports, ITEMS)))


def asked(url: str, **form: str) -> str:
    """Return an answer as text. Raises OSError where there is none, or another status than 2xx."""
    data = urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return str(answer.read().decode())
