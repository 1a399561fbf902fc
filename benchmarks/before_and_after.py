"""Two checkouts against each other, in turn: is a change of the code any slower?

    python -m benchmarks.before_and_after ../before [--rounds 9] [--prs 15000] [--tasks 0] [--pure]

Each checkout has its own `.venv`, as `make test` sets it up, and runs its own benchmarks. Rounds alternate, so that a
machine that slows down slows both. The ratio is taken round by round: above 1, this checkout takes more CPU.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parents[1]
VARIANTS: Final = ["otelsync-api", "otelsync-api-structlog", "otelsync-api-logs", "otelsync", "otelsync-logs"]
_ROUND: Final = re.compile(r"^round \S+ +(\S+) +(?:worker +)?([\d.]+) ", re.MULTILINE)

Figures = dict[str, float]


def measure(checkout: Path, arguments: list[str], *, pure: bool) -> Figures:
    """Run one round of a checkout's benchmarks; returns what each variant took, in us a PR or in s of a worker."""
    command = [str(checkout / ".venv" / "bin" / "python"), "-m", "benchmarks", *arguments, "--rounds", "1"]
    environment = os.environ | ({"OTELSYNC_PURE_PYTHON": "1"} if pure else {})
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return {name: float(figure) for name, figure in _ROUND.findall(done.stderr)}


def table(before: list[Figures], after: list[Figures]) -> str:
    """Return the medians of both, and the ratio with its least and greatest."""
    lines = [f"{'':26}{'before':>10}{'after':>10}{'ratio':>10}   (min - max)"]
    for name in after[0]:
        pairs = [(one[name], other[name]) for one, other in zip(before, after, strict=True)]
        ratios = sorted(new / old for old, new in pairs if old)
        if not ratios:
            continue
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        ratio = statistics.median(ratios)
        lines.append(
            f"{name:26}{medians[0]:10.2f}{medians[1]:10.2f}{ratio:10.3f}   ({ratios[0]:.3f} - {ratios[-1]:.3f})"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure both checkouts in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prs", type=int, default=15_000)
    parser.add_argument("--tasks", type=int, default=0, help="measure Celery workers with so many tasks instead")
    parser.add_argument("--pure", action="store_true", help="without the C extension")
    asked = parser.parse_args()
    cpu = ["cpu", "--prs", str(asked.prs), "--only", "empty", *VARIANTS]
    arguments = ["celery", "--tasks", str(asked.tasks)] if asked.tasks else cpu
    sides: dict[Path, list[Figures]] = {asked.before.resolve(): [], HERE: []}
    for number in range(asked.rounds):
        for checkout in sorted(sides, reverse=number % 2 == 1):
            sides[checkout].append(measure(checkout, arguments, pure=asked.pure))
    print(table(*sides.values()))


if __name__ == "__main__":
    main()
