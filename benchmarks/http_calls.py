"""CPU that tracing adds to an HTTP call by requests or httpx, delivered over OTLP/HTTP.

    python -m benchmarks.http_calls --rounds 5 --calls 4000

Each measurement is a fresh process on one core: GETs of a GitHub-like API on loopback by one session, after a warm-up,
to the end of flush and shutdown, with all that came of it. Everything is set up as a user gets it. Variants run in
interleaved rounds; "added" is the difference of medians to the bare calls of the same client.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median
from typing import IO, Any, Final, cast

from benchmarks import report
from benchmarks.descendants import adopt_descendants, cpu_seconds, wait_for_descendants
from benchmarks.placement import pin_to_measured_core
from benchmarks.sink import Sink, sink_process

_WARM_UP: Final = 300
_FOREIGN: Final = ("OTEL_", "OTELSYNC_", "LOG_", "SERVICE_NAME")
Get = Callable[[str], object]
Ways = tuple[Callable[[], AbstractContextManager[object]], Callable[[], None]]
"""What stands around each call, and what delivers everything and stops."""


def main() -> int:
    """Print a table; the exit code is 1 if not every call had its span."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_calls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        name, api = asked.run
        print(json.dumps(_measure_here(name, api, asked.calls)))
        return 0
    results: dict[str, list[float]] = {name: [] for name in asked.only}
    missing: list[str] = []
    with sink_process() as sink, _api() as api:
        for number in range(1, asked.rounds + 1):
            for name in asked.only:
                cpu_us, arrived = _measure(name, asked.calls, api, sink)
                results[name].append(cpu_us)
                if (lost := (asked.calls + _WARM_UP) * (not name.endswith("bare")) - arrived) > 0:
                    missing.append(f"round {number}: {lost} spans of {name} did not arrive")
                print(f"round {number}/{asked.rounds}  {name:<22} {cpu_us:8.1f} us", file=sys.stderr, flush=True)
    print(_table(results))
    print("\n".join(missing))
    return 1 if missing else 0


def _table(results: dict[str, list[float]]) -> str:
    rows = [["CPU a call, us", "median", "(min - max)", "added", "against OpenTelemetry's"]]
    for name, figures in results.items():
        client = name.partition(" ")[0]
        bare, peer = (results.get(f"{client} {way}") for way in ("bare", "OpenTelemetry"))
        added = median(figures) - median(bare) if bare else 0.0
        ratio = added / (median(peer) - median(bare)) if bare and peer else 0.0
        rows.append([name, f"{median(figures):.1f}", f"({min(figures):.1f} - {max(figures):.1f})"])
        rows[-1] += [f"{added:.1f}", f"{ratio:.2f}"] if bare and figures is not bare else ["", ""]
    return report.draw(rows)


@contextmanager
def _api() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.http_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{cast(IO[str], process.stdout).readline().strip()}"


def _measure(name: str, calls: int, api: str, sink: Sink) -> tuple[float, int]:
    """Return microseconds a call, and how many spans of calls have arrived."""
    sink.reset()
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as home:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        environment |= {"HOME": home, "XDG_STATE_HOME": home, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        command = [sys.executable, "-m", "benchmarks.http_calls", "--calls", str(calls), "--run", name, api]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        arrived = sum(number for span, number in sink.counts().spans.items() if span.startswith("GET"))
    return float(json.loads(done.stdout.splitlines()[-1])), arrived


def _measure_here(name: str, api: str, calls: int) -> float:
    pin_to_measured_core()
    adopt_descendants()
    client, way = name.split(" ", 1)
    around, close = VARIANTS[name](client)
    get = _CLIENTS[client]()
    with _root(way):
        for number in range(_WARM_UP):
            with around():
                get(f"{api}/repos/acme/api/pulls/{number}/reviews?per_page=100")
        _flush(way)
        gc.collect()
        began = cpu_seconds()
        for number in range(calls):
            with around():
                get(f"{api}/repos/acme/api/pulls/{number}/reviews?per_page=100")
    close()
    wait_for_descendants()
    return (cpu_seconds() - began) * 1e6 / calls


def _flush(way: str) -> None:
    """Deliver what the warm-up has recorded."""
    if way == "OpenTelemetry":
        from opentelemetry import trace

        cast(Any, trace.get_tracer_provider()).force_flush()
    elif way != "bare":
        import otelsync

        otelsync.flush(60)


def _root(way: str) -> AbstractContextManager[object]:
    """Open what the calls stand in: a repository's span."""
    if way == "bare":
        return nullcontext()
    if way == "OpenTelemetry":
        from opentelemetry import trace

        return trace.get_tracer("benchmark").start_as_current_span("sync.repo")
    import otelsync

    return otelsync.repo("acme/api")


def _requests() -> Get:
    import requests

    session = requests.Session()
    session.headers["Authorization"] = "Bearer ghp_0123456789012345678901234567890123456789"
    return lambda url: session.get(url).json()


def _httpx() -> Get:
    import httpx

    client = httpx.Client(headers={"Authorization": "Bearer ghp_0123456789012345678901234567890123456789"})
    return lambda url: client.get(url).json()


def _bare(_client: str) -> Ways:
    return nullcontext, lambda: None


def _opentelemetry(client: str) -> Ways:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "benchmark"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), max_queue_size=1 << 20))
    trace.set_tracer_provider(provider)
    instrumentor: Any
    if client == "requests":
        from opentelemetry.instrumentation.requests import RequestsInstrumentor as instrumentor  # noqa: N813
    else:
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor as instrumentor  # noqa: N813
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
    instrumentor().instrument()
    return nullcontext, provider.shutdown


def _otelsync(client: str) -> Ways:
    import otelsync

    otelsync.configure(service_name="benchmark", fold=False, log_level="WARNING")
    otelsync.instrument(client)
    return nullcontext, lambda: cast(None, otelsync.shutdown(120))


def _in_api_call(client: str) -> Ways:
    import otelsync

    _, close = _otelsync(client)
    return lambda: otelsync.api_call("pulls.reviews", kind="rest"), close


_CLIENTS: Final = {"requests": _requests, "httpx": _httpx}
_WAYS: Final = {
    "bare": _bare,
    "OpenTelemetry": _opentelemetry,
    "otelsync": _otelsync,
    "otelsync in an api_call": _in_api_call,
}
VARIANTS: Final = {f"{client} {way}": make for client in _CLIENTS for way, make in _WAYS.items()}


if __name__ == "__main__":
    sys.exit(main())
