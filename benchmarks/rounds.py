"""Run variants in interleaved rounds (A B C, A B C, ...), because machines drift by more than variants differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.measurement import Measurement, measure
from benchmarks.sink import sink_process

Results = dict[str, list[Measurement]]


def interleaved(
    names: Sequence[str],
    *,
    rounds: int,
    prs: int,
    timed: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> Results:
    """Measure each variant once a round, each time in a fresh process.

    Args:
        names: The variants.
        rounds: How often.
        prs: Pull requests a round; slow variants do a share of them.
        timed: Whether to take each pull request's latency too.
        progress: Told of each measurement as it is made.
    """
    results: Results = {name: [] for name in names}
    with sink_process() as sink:
        for number in range(1, rounds + 1):
            for name in names:
                measurement = measure(name, prs, sink, timed=timed)
                results[name].append(measurement)
                progress(f"round {number}/{rounds}  {name:<18} {measurement.cpu_us:8.2f} us  {measurement.missing}")
    return results
