"""A run of a million pull requests from end to end: what the program, the shipper and the report take.

    python -m benchmarks.large_run [--prs 1000000] [--kept]

The program runs under `otelsync run`, which exports folded traces and metrics to a sink in another process, keeps the
whole run in the local store, and makes the report. The resident memory of both is read while they run: anonymous memory
alone, as pages of the journal are the page cache's. It records as fast as it can, thousands of times faster than an API
would let it, so the journal is given room for all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.report import draw
from benchmarks.sink import sink_process

PER_CALL: Final = 100
CALLS: Final = 100
"""In a repo: 10,000 pull requests each."""
_EVERY: Final = 0.25
_POINTS: Final = (0.1, 0.25, 0.5, 0.75, 1.0)
_OTELSYNC: Final = (sys.executable, "-m", "otelsync.cli")


def record(prs: int) -> None:
    """Be the program."""
    import otelsync

    number = 0
    with otelsync.pipeline("nightly", sync_id="202611221200-SYNC-a1b2c3d4"):
        while number < prs:
            with otelsync.repo(f"acme/service-{number // (PER_CALL * CALLS)}"):
                for page in range(CALLS):
                    with otelsync.api_call("list_pull_requests", page=page + 1):
                        for _ in range(min(PER_CALL, prs - number)):
                            with otelsync.pull_request(number) as pr:
                                pr.set(action="unchanged" if number % 3 else "updated")
                            number += 1


@dataclass
class Memory:
    """Megabytes of anonymous memory of a process, by seconds since the begin."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def look(self, pid: int, at: float) -> None:
        """Add what the process has now, if it is still there."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            if line.startswith("RssAnon:"):
                self.samples.append((at, int(line.split()[1]) / 1024))

    def at(self, share: float) -> str:
        """What it was at that share of the process's life."""
        index = max(0, round(len(self.samples) * share) - 1)
        return f"{self.samples[index][1]:.0f}" if self.samples else ""

    @property
    def most(self) -> str:
        """The most it ever was."""
        return f"{max((amount for _, amount in self.samples), default=0):.0f}"


def main() -> None:
    """Let it run, look on, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prs", type=int, default=1_000_000)
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        record(arguments.prs)
        return
    with tempfile.TemporaryDirectory() as scratch, sink_process() as sink:
        environment = {
            **os.environ,
            "OTELSYNC_HOME": scratch,
            "OTELSYNC_STORE": "on",
            "OTELSYNC_STORE_MAX_BYTES": str(2**34),
            "OTELSYNC_JOURNAL_DIR_MAX_BYTES": str(2**34),
            "OTELSYNC_REPORTS_DIR": str(Path(scratch) / "reports"),
            "OTELSYNC_LOG_LEVEL": "WARNING",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        }
        program = [sys.executable, "-m", "benchmarks.large_run", "--record", f"--prs={arguments.prs}"]
        command = [*_OTELSYNC, "run", "--service-name=large", "--shutdown-timeout=900", *program]
        began = time.monotonic()
        memory: dict[str, Memory] = defaultdict(Memory)
        seconds: dict[str, float] = {}
        with subprocess.Popen(command, env=environment) as process:
            while process.poll() is None:
                now = time.monotonic() - began
                memory["otelsync run"].look(process.pid, now)
                for pid, what in _children(process.pid):
                    memory[what].look(pid, now)
                    seconds[what] = now
                time.sleep(_EVERY)
        whole = time.monotonic() - began
        _print(memory)
        exported = sink.counts().spans
        (folder,) = (Path(scratch) / "reports").iterdir()
        summary = json.loads((folder / "summary.json").read_text())
        print(f"the program    {seconds['the program']:.1f} s, until all was shipped and reported {whole:.1f} s")
        print(f"exported       {exported.total():,} spans, {exported['sync.pr']:,} of them pull requests")
        print(f"the report     {summary['outcome']}, items {json.dumps(summary['items'])}")
        print(f"               reconciles: {summary['reconciles']}")
        began = time.monotonic()
        subprocess.run([*_OTELSYNC, "report"], env=environment, check=True, stdout=subprocess.DEVNULL)
        print(f"made again in  {time.monotonic() - began:.1f} s, by `otelsync report`")


def _children(pid: int) -> list[tuple[int, str]]:
    """The processes that were started by any thread of a process, and what each is."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # one that has just ended
            for child in children.read_text().split():
                line = Path(f"/proc/{child}/cmdline").read_bytes()
                found.append((int(child), "the report" if b"--in-background" in line else "the program"))
    return found


def _print(memory: dict[str, Memory]) -> None:
    rows = [["MB of memory", *(f"at {share:.0%}" for share in _POINTS), "at most"]]
    for what, one in memory.items():
        rows.append([what, *(one.at(share) for share in _POINTS), one.most])
    print(draw(rows))


if __name__ == "__main__":
    main()
