"""Draw the tables: medians with their range, ratios against the peers, and what was found missing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks.measurement import LATENCY_QUANTILES
from benchmarks.rounds import Results
from benchmarks.variants import VARIANTS

PEERS: Final = {"otel": "OTel SDK", "ddtrace": "ddtrace"}


def cpu_table(results: Results) -> str:
    """CPU a pull request: one line a variant, with the ratio to each peer in the same run."""
    peers = {name: _median_cpu(results, name) for name in PEERS if name in results}
    header = ["CPU a PR", "us, median", "(min - max)", *(f"against {PEERS[peer]}" for peer in peers)]
    rows = [
        [
            VARIANTS[name].title,
            f"{_median_cpu(results, name):.2f}",
            f"({min(_cpu(results, name)):.2f} - {max(_cpu(results, name)):.2f})",
            *(_ratio(_median_cpu(results, name), peer) for peer in peers.values()),
        ]
        for name in results
    ]
    return draw([header, *rows])


def log_record_table(results: Results) -> str:
    """What an OTLP log record adds: the difference to the variant without, round by round, then the median."""
    rows = [["CPU of an OTLP log record", "us, median", "(min - max)"]]
    for name in results:
        plain = VARIANTS[name].without_logs
        if plain in results:
            added = [a - b for a, b in zip(_cpu(results, name), _cpu(results, plain), strict=True)]
            span = f"({min(added):.2f} - {max(added):.2f})"
            rows.append([VARIANTS[plain].title, f"{median(added):+.2f}", span])
    return draw(rows) if len(rows) > 1 else ""


def latency_table(results: Results) -> str:
    """Latency of one pull request at saturation: the median over the rounds of each quantile."""
    rows = [["latency of a PR, us", *LATENCY_QUANTILES, "worst p99.9"]]
    for name, measurements in results.items():
        latencies = [measurement.latency_us for measurement in measurements]
        middle = [f"{median(each[quantile] for each in latencies):,.1f}" for quantile in LATENCY_QUANTILES]
        worst = max(each["p99.9"] for each in latencies)
        rows.append([VARIANTS[name].title, *middle, f"{worst:,.1f}"])
    return draw(rows)


def invalid(results: Results) -> str:
    """The variants whose records did not all arrive, with what arrived and what should have."""
    lines = [
        f"INVALID {name}, round {number}: {measurement.missing}"
        for name, measurements in results.items()
        for number, measurement in enumerate(measurements, 1)
        if measurement.missing
    ]
    return "\n".join(lines)


def _cpu(results: Results, name: str) -> list[float]:
    return [measurement.cpu_us for measurement in results[name]]


def _median_cpu(results: Results, name: str) -> float:
    return median(_cpu(results, name))


def _ratio(own: float, peer: float) -> str:
    return f"1/{peer / own:.1f}" if own < peer else f"{own / peer:.1f}x"


def draw(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    first, *rest = widths
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], rest, strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
