"""Compares random programs with their truth: ``PYTHONPATH=tests python -m random_syncs --programs 1000``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from random_syncs.comparing import compare
from random_syncs.generator import program
from random_syncs.shrinking import shrink


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="random_syncs", description=__doc__)
    parser.add_argument("--programs", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first")
    parser.add_argument("--shrink", type=int, default=0, metavar="N", help="make the first N that fail smaller")
    parser.add_argument("--show", type=int, default=3, metavar="N", help="print the first N that fail")
    parser.add_argument("--chunk", type=int, default=100, help="programs that share a home")
    said = parser.parse_args()
    began, findings = time.monotonic(), []
    folder = Path(tempfile.mkdtemp(prefix="random_syncs-"))
    for first in range(said.seed, said.seed + said.programs, said.chunk):
        seeds = range(first, min(first + said.chunk, said.seed + said.programs))
        level = "DEBUG" if first // said.chunk % 2 else "WARNING"
        findings += compare([program(seed) for seed in seeds], folder / str(first), log_level=level)
        print(f"{seeds.stop - said.seed} programs, {len(findings)} differ", flush=True)
    for number, found in enumerate(findings[: max(said.show, said.shrink)]):
        print(f"\n{shrink(found, folder / f'shrink{number}') if number < said.shrink else found}", flush=True)
    kinds = Counter(":".join(line.split(":")[:2]) for found in findings for line in found.said)
    print(*(f"{count:6} {kind}" for kind, count in kinds.most_common()), sep="\n")
    print(f"{len(findings)} of {said.programs} differ, after {time.monotonic() - began:.0f} s; homes in {folder}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
