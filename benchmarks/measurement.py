"""Measure one variant once, in a fresh process that nothing else has warmed, heated or littered.

``python -m benchmarks.measurement VARIANT ...`` writes a `Measurement` as JSON into a file, because a variant may own
standard output. `measure` runs that process and checks at the sink that everything arrived.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import variants
from benchmarks.descendants import adopt_descendants, cpu_seconds, wait_for_descendants
from benchmarks.placement import pin_to_measured_core
from benchmarks.sink import Counts, Sink
from benchmarks.workload import PR_LOGGED, PR_SPAN, Setting, repositories, run, run_timed

WARM_UP_PRS: Final = 1_000
LATENCY_QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
FOREIGN_SETTINGS: Final = ("PYTHON", "OTEL_", "OTELSYNC_", "DD_", "SENTRY_", "LOGFIRE_", "LOG_", "SERVICE_NAME")
LOG_FILE: Final = "log.jsonl"
_RESULT: Final = "measurement.json"
_LONGEST_ROUND_S: Final = 600


@dataclass
class Measurement:
    """What one variant took in one round.

    Attributes:
        cpu_us: CPU time of all threads and of all processes that came of it, otelsync's shipper among them, user and
            system, in microseconds a pull request.
        latency_us: Quantiles of one pull request's latency in microseconds; empty unless asked for.
        missing: What did not arrive, or arrived more than once; empty if every record arrived exactly once.
    """

    cpu_us: float
    latency_us: dict[str, float] = field(default_factory=dict)
    missing: str = ""


def measure(name: str, prs: int, sink: Sink, *, timed: bool = False) -> Measurement:
    """Run one variant in a process of its own, and compare what it did with what arrived.

    Raises:
        RuntimeError: The process failed; the message carries its last words.
    """
    entry = variants.VARIANTS[name]
    prs = max(1, int(prs * entry.share))
    sink.reset()
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as directory:
        measurement = _in_another_process(name, prs, sink, Path(directory), timed)
        lines = _lines(Path(directory) / LOG_FILE)
        measurement.missing = missing(entry, prs + WARM_UP_PRS, sink.counts(), lines)
    return measurement


def _in_another_process(name: str, prs: int, sink: Sink, directory: Path, timed: bool) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.measurement", name, str(prs), sink.url, str(directory)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}
    environment |= {key: value for key, value in os.environ.items() if key == "OTELSYNC_PURE_PYTHON"}
    environment |= {"XDG_STATE_HOME": str(directory), "HOME": str(directory)}
    finished = subprocess.run(
        command + ["--timed"] * timed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LONGEST_ROUND_S,
        check=False,
    )
    result = directory / _RESULT
    if finished.returncode or not result.exists():
        raise RuntimeError(f"{name} failed with {finished.returncode}:\n{finished.stderr[-2000:]}")
    return Measurement(**json.loads(result.read_text()))


def missing(entry: variants.Entry, prs: int, counts: Counts, lines: int) -> str:
    """Name what did not arrive exactly once, with what arrived and what should have.

    Args:
        entry: The variant, which says what it sends.
        prs: How many pull requests it did, those of the warm-up included.
        counts: What the sink saw.
        lines: How many records its log file has.
    """
    arrived = {
        "spans": (entry.spans, counts.spans[PR_SPAN]),
        "OTLP log records": (entry.log_records, counts.logs[PR_LOGGED]),
        "log lines": (entry.log_file, lines),
    }
    wrong = [
        f"{count:,} of {prs * expected:,} {what}"
        for what, (expected, count) in arrived.items()
        if count != prs * expected
    ]
    return ", ".join(wrong)


def _lines(log_file: Path) -> int:
    if not log_file.exists():
        return 0
    with log_file.open("rb") as lines:
        return sum(PR_LOGGED.encode() in line for line in lines)


def measure_here(name: str, prs: int, setting: Setting, *, timed: bool) -> Measurement:
    """Set a variant up in this process, warm it up, and measure it to the end of its shutdown."""
    warm_up, repos = repositories(WARM_UP_PRS), repositories(prs)
    variant = variants.make(name, setting)
    run(variant, warm_up)
    variant.flush()
    gc.collect()
    cpu = cpu_seconds()
    latency_us: dict[str, float] = {}
    if timed:
        latency_us = quantiles(run_timed(variant, repos))
    else:
        run(variant, repos)
    variant.close()
    wait_for_descendants()
    return Measurement((cpu_seconds() - cpu) * 1e6 / prs, latency_us)


def quantiles(durations: array[int]) -> dict[str, float]:
    """Quantiles of durations: nanoseconds become microseconds."""
    ordered = sorted(durations)
    last = len(ordered) - 1
    return {name: ordered[round(share * last)] / 1000 for name, share in LATENCY_QUANTILES.items()}


def main() -> None:
    """Measure in this process, and write the result into the directory that was named."""
    parser = argparse.ArgumentParser(description="Measure one variant once.")
    parser.add_argument("variant", choices=variants.VARIANTS)
    parser.add_argument("prs", type=int)
    parser.add_argument("sink_url")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--timed", action="store_true")
    asked = parser.parse_args()
    pin_to_measured_core()
    adopt_descendants()
    setting = Setting(
        log_file=asked.directory / LOG_FILE,
        sink_url=asked.sink_url,
        directory=asked.directory,
        prs=asked.prs + WARM_UP_PRS,
    )
    measurement = measure_here(asked.variant, asked.prs, setting, timed=asked.timed)
    (asked.directory / _RESULT).write_text(json.dumps(asdict(measurement)))


if __name__ == "__main__":
    main()
