"""The report of a run of a million pull requests: how long `otelsync report` takes, and its memory.

    python -m benchmarks.large_report [--spans 1000000] [--shape prs|deep] [--twice]

The store is that of `benchmarks.large_store`. The command is timed from outside, with the start of the interpreter.
With `--twice` there is an earlier run of the same size, which the report compares with.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.large_store import SYNC_ID, fill

_EARLIER = "0" * 8
_DAY = 86_400_000_000_000


def copy_a_day_earlier(path: Path) -> None:
    """Put a second run into the store: the same spans with other ids, a day before."""
    with sqlite3.connect(path) as store:
        store.create_function("otelsync_merge", 2, lambda first, _: first)
        for table in ("spans", "siblings", "runs"):
            columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join(_changed(column) for column in columns)
            store.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table}")
    store.close()


def _changed(column: str) -> str:
    if column == "trace_id":
        return f"'{_EARLIER}' || substr(trace_id, 9)"
    if column == "sync_id":
        return "'202508012027-SYNC-00000000'"
    if column in ("start_ns", "end_ns", "first_ns", "last_ns", "slowest_start_ns"):
        return f"{column} - {_DAY}"
    return column


def main() -> None:
    """Fill the store, make the report, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--shape", choices=("prs", "deep"), default="prs")
    parser.add_argument("--twice", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "store.db"
        fill(path, arguments.spans, arguments.shape)
        if arguments.twice:
            copy_a_day_earlier(path)
        began = time.perf_counter()
        command = [sys.executable, "-m", "otelsync.cli", "report", SYNC_ID, "--home", home, "--output", home]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        folder = Path(home) / SYNC_ID
        sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
        print(f"report    {seconds:7.2f} s, {usage.ru_utime + usage.ru_stime:.2f} s of CPU")
        print(f"memory    {usage.ru_maxrss / 1024:7.0f} MB at most")
        print(f"folder    {len(sizes):7} files, {sum(sizes.values()) / 1e6:.1f} MB", end="")
        print(f", of these waterfall.html {sizes['waterfall.html'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
