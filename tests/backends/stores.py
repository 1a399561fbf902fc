"""What tests do with the real servers: record into them, ask what they have, and compare it with the local store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from collector.stack import Server, Stack
from otelsync.testing.reading import Log, Span, logs_in, spans_in

PATIENCE: Final = 240.0


def asked(url: str, **form: str) -> str:
    """Return the answer to a GET, or to a POST of the form."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return str(answer.read().decode())


def eventually(look: Callable[[], object], wanted: object, *servers: Server) -> None:
    """Wait until a look shows what is wanted: servers show things a moment after they took them.

    Args:
        look: What is there now.
        wanted: What it is to be in the end.
        servers: None of these may end meanwhile.
    """
    deadline = time.monotonic() + PATIENCE
    while (seen := look()) != wanted:
        for server in servers:
            assert server.process is None or server.process.poll() is None, server.last_words()
        if time.monotonic() > deadline:
            raise AssertionError(f"{seen}, and not {wanted}")
        time.sleep(0.1)


def settings(home: Path, endpoint: str, protocol: str = "http/protobuf", compression: str = "gzip") -> dict[str, str]:
    """Return the environment of a program that sends there, and keeps everything in the local store too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    return environment | {
        "OTELSYNC_HOME": str(home),
        "OTELSYNC_STORE": "on",
        "OTELSYNC_FOLD": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
    }


def trace_in_jaeger(stack: Stack, trace_id: str) -> dict[str, Any]:
    """Return the trace as Jaeger's page gets it; nothing where Jaeger has none of it."""
    try:
        found = json.loads(asked(f"{stack.jaeger_url}/api/traces/{trace_id}"))["data"]
    except OSError:  # 404, or Jaeger is away
        return {"spans": [], "processes": {}}
    return dict(found[0])


def ids_in_jaeger(stack: Stack, trace_ids: Iterable[str]) -> Counter[str]:
    """Return how often Jaeger shows each span of these traces."""
    return Counter(span["spanID"] for trace in trace_ids for span in trace_in_jaeger(stack, trace)["spans"])


def logs_in_victorialogs(stack: Stack, query: str) -> list[dict[str, str]]:
    """Return the records that a query finds."""
    lines = asked(f"{stack.logs_url}/select/logsql/query", query=query, limit="1000000")
    return [json.loads(line) for line in lines.splitlines()]


def in_prometheus(stack: Stack, query: str) -> list[dict[str, Any]]:
    """Return the series that a query finds now."""
    return list(json.loads(asked(f"{stack.prometheus_url}/api/v1/query", query=query))["data"]["result"])


def own_metric(port: int, name: str) -> float:
    """Return the sum of one of a Collector's own metrics; 0 while it does not say it, or is away."""
    try:
        page = asked(f"http://127.0.0.1:{port}/metrics")
    except OSError:
        return 0.0
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith((f"{name}{{", f"{name}_total{{"))
    )


def handed_over(stack: Stack) -> bool:
    """Return whether Jaeger has all spans that the Collector has taken.

    Jaeger (v1.76.0) is asked for a trace only then: a warning made while its spans come stays with them.
    """
    port = stack.ports.own_metrics
    taken = own_metric(port, "otelcol_receiver_accepted_spans")
    return 0 < taken <= own_metric(port, "otelcol_exporter_sent_spans")


def ledger(home: Path) -> list[dict[str, Any]]:
    """Return the accounts of all journals of a home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    command = [sys.executable, "-m", "otelsync.cli", "ledger", "--json", "--home", str(home)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return [
        {"journal": journal, "signal": signal, "sink": sink} | account
        for journal, found in json.loads(done.stdout).items()
        for signal, accounts in found["signals"].items()
        for sink, account in accounts["sinks"].items()
    ]


def moment(text: str) -> int:
    """Return Unix nanoseconds of a time as VictoriaLogs shows it."""
    whole, _, part = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 10**9 + int((part or "0").ljust(9, "0"))


def differences(stack: Stack, home: Path) -> list[str]:
    """Return where Jaeger and VictoriaLogs show something else than the local store has."""
    spans, logs = spans_in(home), logs_in(home)
    found = []
    for trace_id in {span.trace_id for span in spans}:
        found += _of_spans([span for span in spans if span.trace_id == trace_id], trace_in_jaeger(stack, trace_id))
        there = logs_in_victorialogs(stack, f'trace_id:="{trace_id}"')
        found += _of_logs([log for log in logs if log.trace_id == trace_id], there)
    return found


def _of_spans(own: list[Span], trace: Mapping[str, Any]) -> list[str]:
    by_id = {span.span_id: span for span in own}
    there = trace["spans"]
    found = [f"warnings {span['warnings']}" for span in there if span.get("warnings")]
    if Counter(span["spanID"] for span in there) != Counter(by_id.keys()):
        found.append(f"{len(there)} spans, and not {len(own)}")
    for span in there:
        mine = by_id[span["spanID"]]
        for name, here, other in _pairs(mine, span, trace["processes"][span["processID"]]):
            if here != other:
                found.append(f"{mine.name}: {name} {other!r}, and not {here!r}")
    return found


def _pairs(own: Span, there: Mapping[str, Any], process: Mapping[str, Any]) -> Iterable[tuple[str, object, object]]:
    """What is to be equal of a span: its name, the store's, Jaeger's."""
    tags = {tag["key"]: (tag["type"], tag["value"]) for tag in there["tags"]}
    parents = [each["spanID"] for each in there["references"] if each["refType"] == "CHILD_OF"]
    links = [each["spanID"] for each in there["references"] if each["refType"] == "FOLLOWS_FROM"]
    assert own.end is not None
    yield "name", own.name, there["operationName"].partition(" #")[0]
    yield "parent", [own.parent_id] if own.parent_id else [], parents
    yield "links", sorted(own.links), sorted(links)
    yield "start", own.start // 1000, there["startTime"]
    yield "duration", (own.end - own.start) // 1000, there["duration"]
    yield "error", own.failed, tags.pop("error", ("bool", False))[1]
    yield "message", own.message, tags.pop("otel.status_description", ("string", ""))[1]
    yield "scope", own.scope, tags.pop("otel.scope.name", ("string", ""))[1]
    yield "kind", own.kind.name.lower(), tags.pop("span.kind", ("string", "internal"))[1]
    for name in ("otel.scope.version", "otel.status_code", "span_id"):
        tags.pop(name, None)
    yield "attributes", {key: _typed(value) for key, value in own.attributes.items()}, tags
    events = [{"event": name} | {key: _typed(value)[1] for key, value in each.items()} for name, each in own.events]
    logs = [{field["key"]: field["value"] for field in each["fields"]} for each in there["logs"]]
    yield "events", sorted(map(repr, map(sorted_items, events))), sorted(map(repr, map(sorted_items, logs)))
    resource = {tag["key"]: tag["value"] for tag in process["tags"]} | {"service.name": process["serviceName"]}
    yield "resource", {key: _typed(value)[1] for key, value in own.resource.items()}, resource


def sorted_items(mapping: Mapping[str, object]) -> list[tuple[str, object]]:
    """Return the items in the order of their keys."""
    return sorted(mapping.items())


def _typed(value: object) -> tuple[str, object]:
    """The type that Jaeger gives to a value, and the value as it shows it: text where JavaScript would round it."""
    if isinstance(value, int) and abs(value) > 2**53:
        return "int64", str(value)
    for kind, name in ((bool, "bool"), (int, "int64"), (float, "float64"), (str, "string")):
        if isinstance(value, kind):
            return name, value
    return "string", json.dumps(value, separators=(",", ":"))


def _of_logs(own: list[Log], there: list[dict[str, str]]) -> list[str]:
    mine = Counter((log.time, log.span_id, log.level, log.event) for log in own)
    others = Counter(
        (moment(line["_time"]), line.get("span_id", ""), line["severity_text"], line.get("event_name") or line["_msg"])
        for line in there
    )
    found = [f"log record missing: {each}" for each in mine - others]
    found += [f"log record too many: {each}" for each in others - mine]
    by_place = {(log.time, log.span_id): log for log in own}
    for line in there:
        log = by_place.get((moment(line["_time"]), line.get("span_id", "")))
        for key, value in (log.attributes if log else {}).items():
            if not isinstance(value, (list, dict, float)) and line.get(key, "") != _shown(value):
                found.append(f"{line['_msg']}: {key} {line.get(key)!r}, and not {value!r}")
    return found


def _shown(value: object) -> str:
    """A value of an attribute as VictoriaLogs has it: everything is text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
