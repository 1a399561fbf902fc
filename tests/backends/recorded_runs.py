"""Two runs of a sync, as otelsync's own page of metrics tells them: one that is good and one that is bad.

What a short run cannot have (Celery tasks, a full disk) is counted by the same code, and stands on a page of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otlp_server import Answer, otlp_server
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.prometheus_text import OPENMETRICS, text
from otelsync.shipping.metrics.series import MetricSeries

PATIENCE: Final = 120.0
SERVICE: Final = "recorded"
PROGRAM: Final = """
import sys, threading, time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
import requests, otelsync

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        limits = {"limit": 5000, "remaining": 4000, "reset": int(time.time()) + 3000, "resource": "core"}
        for name, value in limits.items():
            self.send_header(f"x-ratelimit-{name}", str(value))
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass

server = HTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/"
bad = sys.argv[1] == "bad"
otelsync.configure(service_name="recorded", log_format="json")
otelsync.instrument("requests")

def sync(number, fails):
    with suppress(RuntimeError), otelsync.repo(f"acme/{number}"):
        with suppress(RuntimeError), otelsync.api_call("list_pull_requests", page=1):
            requests.get(url)
            if fails:
                raise RuntimeError("502")
        for key in range(20):
            with otelsync.pull_request(key) as pr:
                pr.fail("no author") if fails and key < 15 else pr.set(action="created")
        if fails:
            raise RuntimeError("502")

for pipeline in ("onboarding", "nightly"):
    with suppress(RuntimeError), otelsync.pipeline(pipeline) as run:
        with otelsync.rate_limit_wait(0.01):
            pass
        for number in run.track(range(12)):
            sync(number, bad and (number < 8 or pipeline == "nightly"))
        if bad and pipeline == "nightly":
            raise RuntimeError("nothing could be had")
print("ended", flush=True)
if bad:
    with otelsync.pipeline("stuck") as run:
        tracker = run.track(total=10)
        tracker.advance(5)
        otelsync.get_logger("app").info("here it stands")
        print("stands", flush=True)
        time.sleep(600)
otelsync.shutdown(0)
"""

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A name and labels."""


def page_of(kind: str, home: Path) -> dict[Sample, float]:
    """Run the program, ``good`` or ``bad``, and return what the page then says. The endpoint refuses the bad one's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    with otlp_server() as endpoint:
        endpoint.always = Answer(400) if kind == "bad" else Answer()
        environment |= {"OTELSYNC_HOME": str(home), "OTELSYNC_STORE": "off", "OTELSYNC_REPORTS": "off"}
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with _shipped(environment) as url, _program(kind, environment) as said:
            for line in said:
                if line == ("stands\n" if kind == "bad" else "ended\n"):
                    break
            return _settled(url, kind) | parsed(_counted(kind))


@contextmanager
def _shipped(environment: Mapping[str, str]) -> Iterator[str]:
    """Run ``otelsync ship``; yields the address of its page."""
    command = [str(Path(sys.executable).parent / "otelsync"), "ship", "--service", SERVICE, "--metrics-port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as shipper:
        assert shipper.stderr is not None
        try:
            yield next(found[0] for line in shipper.stderr if (found := re.search(r"http://\S+/metrics", line)))
        finally:
            shipper.kill()


@contextmanager
def _program(kind: str, environment: Mapping[str, str]) -> Iterator[Iterator[str]]:
    command = [sys.executable, "-c", PROGRAM, kind]
    environment = {**environment, "OTELSYNC_SHIP": "off"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            yield iter(program.stdout)
        finally:
            program.kill()


def _settled(url: str, kind: str) -> dict[Sample, float]:
    """Return the page when everything is on it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        request = urllib.request.Request(url, headers={"Accept": OPENMETRICS})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            page = parsed(answer.read().decode())
        names = {name for name, _ in page}
        pipelines = {dict(labels).get("sync_pipeline") for name, labels in page if name == "sync_progress_done"}
        shipped = [value for (name, _), value in page.items() if name == "otelsync_ledger_shipped_total"]
        if kind == "good" and {"onboarding", "nightly"} <= pipelines and shipped and all(shipped):
            return page
        if kind == "bad" and "stuck" in pipelines and "otelsync_ledger_dropped_total" in names:
            return page
        assert time.monotonic() < deadline, page
        time.sleep(0.1)


def _counted(kind: str) -> str:
    """Return a page of what the run has not had."""
    series = MetricSeries()
    waited = 900.0 if kind == "bad" else 0.5
    series.add(catalogue.TASKS, SERVICE, ("tasks.sync", "success"), 75)
    series.observe(catalogue.QUEUE_WAIT, SERVICE, ("tasks.sync",), [int(waited * 1e9)] * 100)
    if kind == "bad":
        series.add(catalogue.TASKS, SERVICE, ("tasks.sync", "failure"), 25)
        series.add(catalogue.DROPPED, SERVICE, ("span", "", "disk"), 3)
        series.add(catalogue.UNREADABLE, SERVICE, ("log",), 2)
    return text(series.families(), series.resource, openmetrics=True)


def parsed(page: str) -> dict[Sample, float]:
    """Return the samples of a page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
