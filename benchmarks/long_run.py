"""Measure the longest that recording holds up its thread in a long run: ``python -m benchmarks.long_run``.

Some million items by one thread in the default set-up, with a shipper beside the program: with a local store, with an
endpoint that takes requests and never answers, and on a full disk (a small tmpfs, as root). A loop of the same kind
without otelsync shows what the machine itself holds up.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Final

import otelsync
from benchmarks import report

FULL: Final = "size=32m"
_LONG: Final = 1_000_000
"""Nanoseconds of a call that is looked at."""


def longest(call: Callable[[int], object], number: int) -> tuple[float, float, int]:
    """Return the longest call by the clock and by the thread's own time, in milliseconds, and how many took over 20."""
    wall = own = over = 0
    cpu = thread_time_ns()
    for each in range(number):
        began = perf_counter_ns()
        call(each)
        took = perf_counter_ns() - began
        if took > _LONG:
            now = thread_time_ns()
            wall, own, over = max(wall, took), max(own, now - cpu), over + (took > 20 * _LONG)
        if not each % 100:
            cpu = thread_time_ns()
    return wall / 1e6, own / 1e6, over


def nothing(_: int) -> object:
    """Take about as long as an item does."""
    return sum(range(200))


def item(number: int) -> object:
    """Record an item that goes well."""
    with otelsync.pull_request(number, state="open") as pr:
        pr.set(action="created")
    return None


def recorded(home: Path, number: int, endpoint: str) -> tuple[float, float, int]:
    """Return the figures of a run of so many items."""
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    if not endpoint:
        del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    with Path(os.devnull).open("w") as nowhere:
        otelsync.configure(service_name="long-run", home=home, log_stream=nowhere, log_level="WARNING")
        try:
            with otelsync.pipeline("long run"), otelsync.repo("acme/api"):
                return longest(item, number)
        finally:
            otelsync.shutdown(0)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", FULL, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.long_run", description=__doc__)
    parser.add_argument("--millions", type=float, default=10.0)
    number = int(parser.parse_args().millions * 1e6)
    rows = [["run", "longest ms", "of it CPU ms", "calls over 20 ms"]]

    def add(name: str, figures: tuple[float, float, int]) -> None:
        wall, own, over = figures
        rows.append([name, f"{wall:.1f}", f"{own:.1f}", str(over)])
        print(report.draw(rows[-1:]), flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="otelsync-", ignore_cleanup_errors=True) as folder,
        socket.create_server(("127.0.0.1", 0)) as deaf,
    ):
        add("no otelsync", longest(nothing, number))
        add("a local store", recorded(Path(folder) / "store", number, ""))
        hanging = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        add("an endpoint that never answers", recorded(Path(folder) / "hanging", number, hanging))
        if os.geteuid() == 0:
            with small_disk(Path(folder) / "full") as place:
                add("a full disk", recorded(place / "home", number, ""))
    print(report.draw(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
