"""The command line: ``python -m benchmarks [cpu | latency | pieces | celery]``."""

from __future__ import annotations

import argparse
import platform
import sys
from typing import Final

from benchmarks import pieces, report
from benchmarks.rounds import interleaved
from benchmarks.variants import VARIANTS

LATENCY_VARIANTS: Final = ["structlog", "otel", "ddtrace", "otelsync-api", "otelsync", "otelsync-logs"]
_NOTE: Final = (
    "One PR: a child span (4 attributes at the start, 2 later, an event in one of 50), a structlog JSON\n"
    "record with its ids and 5 fields in a file, the end, and the delivery to a sink in another process.\n"
    "CPU of all threads, user and system, flush and shutdown included. Each round in a fresh process on\n"
    "one core. The peers' queues are made long enough for the round, so that they drop nothing."
)


def main() -> int:
    """Run what was asked for; the exit code is 1 if anything did not arrive."""
    asked = _parser().parse_args()
    if asked.what == "pieces":
        print(pieces.table())
        return 0
    if asked.what == "celery":
        return _celery(asked)
    timed = asked.what == "latency"
    names = asked.only or (LATENCY_VARIANTS if timed else list(VARIANTS))
    results = interleaved(names, rounds=asked.rounds, prs=asked.prs, timed=timed, progress=_say)
    tables = [report.latency_table(results)] if timed else [report.cpu_table(results), report.log_record_table(results)]
    missing = report.invalid(results)
    versions = f"CPython {platform.python_version()}, {asked.rounds} rounds of {asked.prs:,} PRs"
    print("\n\n".join(part for part in (f"{_NOTE}\n{versions}", *tables, missing) if part))
    return 1 if missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("cpu", "latency", "pieces", "celery"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="how often each variant runs (default: 5)")
    parser.add_argument("--prs", type=int, default=30_000, help="pull requests a round (default: 30,000)")
    parser.add_argument("--tasks", type=int, default=10_000, help="with celery: tasks a round (default: 10,000)")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help=f"of {', '.join(VARIANTS)}")
    return parser


def _celery(asked: argparse.Namespace) -> int:
    from benchmarks import celery_worker

    results = celery_worker.interleaved(list(celery_worker.WAYS), rounds=asked.rounds, tasks=asked.tasks, progress=_say)
    missing = celery_worker.invalid(results)
    versions = f"CPython {platform.python_version()}, {asked.rounds} rounds of {asked.tasks:,} tasks"
    tables = [celery_worker.table(results, asked.tasks), celery_worker.start_table(results)]
    print("\n\n".join(part for part in (versions, *tables, missing) if part))
    return 1 if missing else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
