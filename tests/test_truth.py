"""What is said of a sync is true: random programs, run for real, and every view of each compared with the truth.

`RANDOM_SYNCS=1000` runs so many; `RANDOM_SYNCS_SEED=7000` begins with that number. `python -m random_syncs` shrinks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from any_order import completed, counts, plain
from random_syncs.comparing import compare, run_programs
from random_syncs.generator import program
from random_syncs.model import truth
from random_syncs.trees import Node

PROGRAMS: Final = int(os.environ.get("RANDOM_SYNCS", "120"))
FIRST: Final = int(os.environ.get("RANDOM_SYNCS_SEED", "0"))
TOGETHER: Final = 60
"""Programs that share a home and a shipper."""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + PROGRAMS, TOGETHER))
def test_every_view_of_a_random_sync_says_what_is_true(first: int, tmp_path: Path) -> None:
    """Of none does a view differ from the truth in outcome, items, errors, retries or waits."""
    programs = [program(seed) for seed in range(first, min(first + TOGETHER, FIRST + PROGRAMS))]
    level = "DEBUG" if first // TOGETHER % 2 else "WARNING"  # items are recorded in another way if nobody logs them
    wrong = compare(programs, tmp_path / "syncs", log_level=level)
    assert not wrong, f"{len(wrong)} of {len(programs)} differ:\n\n" + "\n\n".join(map(str, wrong[:5]))


@pytest.mark.slow
def test_the_end_of_a_random_sync_is_the_same_in_whatever_order_it_is_read(tmp_path: Path) -> None:
    """Also where a child outlives the stage that it works for."""
    programs = [each for each in map(program, range(FIRST, FIRST + PROGRAMS)) if is_read_in_any_order(each)]
    run_programs(programs, tmp_path)
    (journal,) = (tmp_path / "home" / "journals").iterdir()
    true = {f"sync.pipeline {each.name}": truth(each) for each in programs}
    for seed in range(20):
        ends = {span.name: plain(span) for span in completed(journal, seed) if span.name in true}
        assert ends
        said = {name: (told["sync.outcome"], counts(told)) for name, told in ends.items()}
        assert said == {name: (true[name].outcome, true[name].items) for name in said}, seed


def is_read_in_any_order(program: Node) -> bool:
    """Return whether nothing is killed in it."""
    return not any(node.fate == "kill" for node in program.all())


def test_random_syncs_are_of_all_kinds() -> None:
    """There are programs of every outcome, and with every way to run, to fail and to wait."""
    programs = [program(seed) for seed in range(300)]
    nodes = [node for each in programs for node in each.all()]
    assert {truth(each).outcome for each in programs} == {"success", "partial", "failure", "cancelled", "interrupted"}
    assert {node.how for node in nodes} == {"inline", "thread", "task", "fork"}
    assert {node.fate for node in nodes} == {"success", "fail", "raise", "cancel", "stop", "kill"}
    assert {node.kind for node in nodes if node.sort in ("wait", "pages")} >= {"retry", "with", "async decorated"}
    assert any(node.outlives for node in nodes)


def test_a_random_sync_is_the_same_each_time() -> None:
    """A number names one program."""
    assert str(program(7)) == str(program(7)) != str(program(8))
