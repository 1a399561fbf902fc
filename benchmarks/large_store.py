"""A local store of a million spans in one run: how fast it is filled, and how fast `otelsync list` and `show` answer.

    python -m benchmarks.large_store [--spans 1000000] [--shape prs|deep]

The bodies are real OTLP, in the order in which a sync ends its spans: 50 repos, each with 200 API calls, each with as
many pull requests as make up the number. With `--shape deep` each pull request has an API call of its own, and that an
HTTP request below it, so that two of three spans have children. The commands are timed from outside, with the start of
the interpreter.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from otelsync.journal.batch import Batch, Group
from otelsync.otlp.encoding import AttributeEncoder, field, scope, text
from otelsync.otlp.encoding import resource as encode_resource
from otelsync.store.writing import StoreSink

REPOS, CALLS = 50, 200
BATCH = 4096
SYNC_ID = "202508022027-SYNC-765151E9"
START = 1_754_166_420_000_000_000
_TIMES = struct.Struct("<BQBQ")


class Trace:
    """Encodes the spans of one trace as the recorder does."""

    def __init__(self) -> None:
        self._dice = random.Random(765151)
        self._trace = field(0x0A, bytes.fromhex("765151e9") + self._dice.randbytes(12))
        self._encoder = AttributeEncoder(0x4A)
        self.now = START

    def id(self) -> bytes:
        """A new span id."""
        return self._dice.randbytes(8)

    def span(self, name: str, own: bytes, parent: bytes, start: int, attributes: dict[str, object]) -> bytes:
        """A finished span that ends now."""
        return self._body(name, own, parent, start, self.now, attributes)

    def begun(self, name: str, own: bytes, parent: bytes, attributes: dict[str, object]) -> bytes:
        """A span that begins now."""
        return self._body(name, own, parent, self.now, 0, attributes)

    def _body(self, name: str, own: bytes, parent: bytes, start: int, end: int, attributes: dict[str, object]) -> bytes:
        common = {"sync.id": SYNC_ID, "sync.pipeline": "github.onboarding"}
        above = field(0x22, parent) if parent else b""
        head = self._trace + above + field(0x12, own) + text(0x2A, name) + b"\x30\x01"
        times = _TIMES.pack(0x39, start, 0x41, end) if end else _TIMES.pack(0x39, start, 0x41, 0)[:9]
        return field(0x12, head + times + self._encoder.encode(common | attributes))

    def pass_time(self, microseconds: float) -> None:
        """Let the clock go on, by chance up to twice as far."""
        self.now += int(self._dice.uniform(0, 2) * microseconds * 1000)


def groups(trace: Trace, spans: int, shape: str) -> Iterator[tuple[str, bytes]]:
    """Each span body with the list of a group that it goes to."""
    root, began = trace.id(), trace.now
    yield "started", trace.begun("sync.pipeline github.onboarding", root, b"", {})
    prs = spans // (REPOS * CALLS) // (3 if shape == "deep" else 1)
    for number in range(REPOS):
        yield from _repo(trace, f"acme/service-{number:02}", root, prs, shape)
    counted = {"sync.items.fetched": prs * CALLS * REPOS, "sync.items.created": prs * CALLS * REPOS}
    attributes: dict[str, object] = {"sync.outcome": "success", **counted}
    yield "spans", trace.span("sync.pipeline github.onboarding", root, b"", began, attributes)


def _repo(trace: Trace, name: str, root: bytes, prs: int, shape: str) -> Iterator[tuple[str, bytes]]:
    own, began = trace.id(), trace.now
    common: dict[str, object] = {"sync.repo": name}
    yield "started", trace.begun(f"sync.repo {name}", own, root, common)
    for page in range(CALLS):
        call, called = trace.id(), trace.now
        about = common | {"sync.api.kind": "rest", "sync.api.page": page}
        yield "started", trace.begun("sync.api list_pull_requests", call, own, about)
        for number in range(prs):
            pr, start = trace.id(), trace.now
            trace.pass_time(300)
            if shape == "deep":
                yield from _below_pr(trace, pr, common)
            change = {"vcs.change.id": str(page * prs + number), "vcs.change.state": "open", "sync.action": "created"}
            yield "spans", trace.span("sync.pr", pr, call, start, common | change)
        yield "spans", trace.span("sync.api list_pull_requests", call, own, called, about)
    yield "spans", trace.span(f"sync.repo {name}", own, root, began, common | {"sync.outcome": "success"})


def _below_pr(trace: Trace, pr: bytes, common: dict[str, object]) -> Iterator[tuple[str, bytes]]:
    call, start = trace.id(), trace.now
    trace.pass_time(100)
    yield "spans", trace.span("GET", trace.id(), call, start, {"http.response.status_code": 200})
    yield "spans", trace.span("sync.api list_reviews", call, pr, start, common)


def fill(path: Path, spans: int, shape: str) -> float:
    """Fill a store; returns the CPU seconds that the store took."""
    described = encode_resource({"service.name": "github-sync"}), scope("otelsync", "0.1.0")
    sink = StoreSink(path)
    taken, position = 0.0, 0
    group = Group(*described)

    def deliver() -> None:
        nonlocal taken, position, group
        batch = Batch("benchmark-000000.journal", position, position + 1, [group])
        position, group = position + 1, Group(*described)
        began = time.process_time()
        sink.deliver(batch)
        taken += time.process_time() - began

    for kind, body in groups(Trace(), spans, shape):
        getattr(group, kind).append(body)
        if len(group.spans) + len(group.started) >= BATCH:
            deliver()
    deliver()
    sink.close()
    return taken


def main() -> None:
    """Fill the store, time the commands, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--shape", choices=("prs", "deep"), default="prs")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "store.db"
        seconds = fill(path, arguments.spans, arguments.shape)
        print(f"fill      {seconds:7.2f} s of CPU, {arguments.spans / seconds:,.0f} spans/s")
        print(f"file      {path.stat().st_size / 1e6:7.0f} MB; the filler's memory at most {_peak():.0f} MB")
        for command in (["list"], ["show"], ["show", "--json"], ["show", "--json", "--all"], ["show", "--all"]):
            rounds = arguments.rounds if "--all" not in command else 1
            times = sorted(_time(command, home) for _ in range(rounds))
            print(f"{' '.join(command):<18}{times[len(times) // 2]:7.2f} s (worst {times[-1]:.2f})")
        print(f"memory of the largest command {_peak(resource.RUSAGE_CHILDREN):.0f} MB")


def _time(command: list[str], home: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "otelsync.cli", *command, "--home", home], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def _peak(who: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


if __name__ == "__main__":
    main()
