"""Count the instructions of the hot paths by valgrind: unlike times they are the same on a noisy machine.

Each path runs twice in a fresh process, a few hundred times and then more of them. The difference is what one takes;
the start of the interpreter falls out. What the shipper takes is not in it: that is another process.

    python -m benchmarks.instructions                     # all paths
    python -m benchmarks.instructions get --against bare  # some of them, without what is subtracted
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import count
from pathlib import Path
from time import time
from typing import Any, Final

from benchmarks import report

Path_ = Callable[[], object]
_FEW, _MANY = 100, 300
_COUNTED: Final = re.compile(r"Collected : (\d+)")
_HEADERS: Final = {
    "Server": "github.com",
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "private, max-age=60, s-maxage=60",
    "ETag": '"644b5b0155e6404a9cc4bd9d8b1ae730"',
    "X-GitHub-Media-Type": "github.v3; format=json",
    "X-GitHub-Api-Version-Selected": "2022-11-28",
    "X-RateLimit-Limit": "5000",
    "X-RateLimit-Reset": str(int(time()) + 3000),
    "X-RateLimit-Resource": "core",
    "Strict-Transport-Security": "max-age=31536000; includeSubdomains; preload",
    "X-Frame-Options": "deny",
    "Content-Length": "2",
    "X-GitHub-Request-Id": "E2A6:2E8B4:1",
}


def main() -> None:
    """Print a table of the paths that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("paths", nargs="*", choices=[*PATHS, []], help=f"of {', '.join(PATHS)}")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.paths or list(PATHS)
    if asked.run:
        run(names[0], asked.run)
        return
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(instructions, names))
    rows = [["path", "instructions", "added"]]
    for name, number in zip(names, counts, strict=True):
        without = dict(zip(names, counts, strict=True)).get(_WITHOUT.get(name, ""))
        rows.append([name, f"{number:,.0f}", f"{number - without:,.0f}" if without is not None else ""])
    print(report.draw(rows))


def instructions(name: str) -> float:
    """Return the instructions that one time along a path takes."""
    few, many = _counted(name, _FEW), _counted(name, _MANY)
    return (many - few) / (_MANY - _FEW)


def _counted(name: str, times: int) -> int:
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as directory:
        out = Path(directory) / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}.%p", "--trace-children=no"]
        command += [sys.executable, "-m", "benchmarks.instructions", name, "--run", str(times)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "PYTHON"))}
        environment |= {"PYTHONHASHSEED": "0", "HOME": directory, "OTELSYNC_HOME": directory}
        environment |= {key: value for key, value in os.environ.items() if key == "OTELSYNC_PURE_PYTHON"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = _COUNTED.findall(done.stderr)
        if done.returncode or not found:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        return int(found[-1])


def run(name: str, times: int) -> None:
    """Go along a path so many times, after a few for what is made once."""
    step = PATHS[name]()
    for _ in range(times):
        step()
    os._exit(0)


# The paths; each is set up by the call that returns it


def _api() -> Path_:
    from opentelemetry import trace

    log = _configured()
    tracer, numbers = trace.get_tracer("benchmark"), count()
    _stay(tracer.start_as_current_span("sync.repo"))

    def step() -> None:
        number = next(numbers)
        attributes: dict[str, Any] = {
            "vcs.change.id": str(number),
            "vcs.change.state": "open",
            "vcs.change.author": "ada",
            "page": 3,
        }
        with tracer.start_as_current_span("sync.pr", attributes=attributes) as span:
            log.info("sync.pr.synced", number=number, state="open", action="created", files=3, title=f"Fix {number}")
            span.set_attribute("sync.action", "created")
            span.set_attribute("sync.pr.files", 3)

    return step


def _stages() -> Path_:
    import otelsync

    log = _configured()
    numbers = count()
    _stay(otelsync.pipeline("benchmark"))
    _stay(otelsync.repo("acme/api"))

    def step() -> None:
        number = next(numbers)
        more: dict[str, Any] = {"vcs.change.author": "ada", "page": 3}
        with otelsync.pull_request(number, state="open", **more) as stage:
            log.info("sync.pr.synced", number=number, state="open", action="created", files=3, title=f"Fix {number}")
            stage.set(action="created", files=3)

    return step


def _stage_alone() -> Path_:
    import otelsync

    _configured()
    numbers = count()
    _stay(otelsync.pipeline("benchmark"))
    _stay(otelsync.repo("acme/api"))

    def step() -> None:
        with otelsync.pull_request(next(numbers), state="open") as stage:
            stage.set(action="created")

    return step


def _span_alone() -> Path_:
    from opentelemetry import trace

    _configured()
    tracer, numbers = trace.get_tracer("benchmark"), count()
    _stay(tracer.start_as_current_span("sync.repo"))

    def step() -> None:
        with tracer.start_as_current_span("sync.pr", attributes={"vcs.change.id": str(next(numbers))}) as span:
            span.set_attribute("sync.action", "created")

    return step


def _record() -> Path_:
    from opentelemetry import trace

    log = _configured()
    numbers = count()
    _stay(trace.get_tracer("benchmark").start_as_current_span("sync.repo"))
    return lambda: log.info("sync.pr.synced", number=next(numbers), state="open", action="created", files=3)


def _get_bare() -> Path_:
    import requests
    from requests.adapters import BaseAdapter
    from urllib3 import HTTPResponse

    numbers = count()

    class Canned(BaseAdapter):
        def send(self, request: Any, *_: Any, **__: Any) -> Any:
            headers = {**_HEADERS, "X-RateLimit-Remaining": str(4_999 - next(numbers) % 1000)}
            raw = HTTPResponse(BytesIO(b"[]"), headers, 200, version=11, preload_content=False)
            answer = requests.Response()
            answer.status_code, answer.headers, answer.raw = 200, requests.structures.CaseInsensitiveDict(headers), raw
            answer.url, answer.request = request.url, request
            return answer

        def close(self) -> None:
            pass

    session = requests.Session()
    session.headers["Authorization"] = "Bearer ghp_0123456789012345678901234567890123456789"
    session.mount("https://", Canned())
    return lambda: session.get(f"https://api.github.com/repos/acme/api/pulls/{next(numbers)}/reviews?per_page=100")


def _get() -> Path_:
    import otelsync

    _configured()
    otelsync.instrument("requests")
    _stay(otelsync.pipeline("benchmark"))
    _stay(otelsync.repo("acme/api"))
    return _get_bare()


def _api_call() -> Path_:
    import otelsync

    _configured()
    _stay(otelsync.pipeline("benchmark"))
    _stay(otelsync.repo("acme/api"))

    def step() -> None:
        with otelsync.api_call("pulls.reviews", kind="rest"):
            pass

    return step


def _get_in_api_call() -> Path_:
    import otelsync

    step = _get()

    def within() -> None:
        with otelsync.api_call("pulls.reviews", kind="rest"):
            step()

    return within


def _get_by_opentelemetry() -> Path_:
    from opentelemetry import trace
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())  # what its exporter takes comes on top
    RequestsInstrumentor().instrument()
    _stay(trace.get_tracer("benchmark").start_as_current_span("sync.repo"))
    return _get_bare()


def _configured() -> Any:
    import structlog

    import otelsync

    home = Path(os.environ["OTELSYNC_HOME"])
    otelsync.configure(service_name="benchmark", ship="off", log_format="json", log_stream=(home / "log").open("ab"))
    return structlog.get_logger("benchmark")


_open: list[Any] = []


def _stay(context: Any) -> None:
    """Enter something that is open to the end of the process."""
    context.__enter__()
    _open.append(context)


PATHS: Final[dict[str, Callable[[], Path_]]] = {
    "span": _span_alone,
    "item": _stage_alone,
    "api-call": _api_call,
    "record": _record,
    "pr-api": _api,
    "pr-stages": _stages,
    "get-bare": _get_bare,
    "get-opentelemetry": _get_by_opentelemetry,
    "get": _get,
    "get-api-call": _get_in_api_call,
}
_WITHOUT: Final = {"get-opentelemetry": "get-bare", "get": "get-bare", "get-api-call": "get-bare"}


if __name__ == "__main__":
    main()
