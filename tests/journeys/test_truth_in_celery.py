"""What is said of a sync in Celery workers is true: random canvases, and every view of each compared with the truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from brokers import RedisServer
from random_syncs.canvases import compare_canvases, run_canvases
from random_syncs.comparing import Views, judge
from random_syncs.generator import canvas
from random_syncs.model import Figures
from random_syncs.trees import Node

CANVASES: Final = int(os.environ.get("RANDOM_SYNCS", "120")) // 3
FIRST: Final = int(os.environ.get("RANDOM_SYNCS_SEED", "0"))
TOGETHER: Final = 40
"""Programs that share a worker and a home."""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + CANVASES, TOGETHER))
def test_every_view_of_a_random_canvas_says_what_is_true(first: int, tmp_path: Path, redis: RedisServer) -> None:
    """Of none does a view differ from the truth in outcome, items, errors, retries or waits."""
    programs = [canvas(seed) for seed in range(first, min(first + TOGETHER, FIRST + CANVASES))]
    wrong = compare_canvases(programs, tmp_path / "syncs", redis.broker())
    assert not wrong, f"{len(wrong)} of {len(programs)} differ:\n\n" + "\n\n".join(map(str, wrong[:5]))


def _items(action: str | None, *numbers: int, fate: str = "success") -> list[Node]:
    return [Node("item", "pr", str(number), action=action, fate=fate) for number in numbers]


PROGRAMS: Final = {
    "put_back": Node(
        "pipeline",
        "group",
        "put_back",
        children=[Node("group", "repo", "acme/api", retries=1, children=_items("created", 1, 2, 4))],
    ),
    "raises": Node(
        "pipeline",
        "group",
        "raises",
        children=[
            Node("group", "repo", "acme/api", children=_items("created", 1)),
            Node("group", "repo", "acme/web", fate="raise", passes=1, children=_items("created", 2)),
        ],
    ),
    "dies": Node(
        "pipeline",
        "group",
        "dies",
        children=[
            Node("group", "repo", "acme/api", children=_items("created", 1, 2)),
            Node("group", "repo", "acme/web", fate="kill", children=_items("updated", 4, 5, 7)),
        ],
    ),
}


@pytest.fixture(scope="module")
def views(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Views:
    """The views of all the programs, each under its name."""
    return run_canvases(list(PROGRAMS.values()), tmp_path_factory.mktemp("canvases") / "syncs", redis.broker())


@pytest.fixture
def hold(views: Views) -> Callable[..., None]:
    """Hold that every view says this of a program."""

    def judged(name: str, outcome: str, items: dict[str, int], **others: int) -> None:
        found = judge(PROGRAMS[name], views, Figures(outcome, items, **others))
        assert not found.said, found

    return judged


def test_a_task_that_was_put_back(hold: Callable[..., None]) -> None:
    """The items of both attempts count; the first attempt is a retry."""
    hold("put_back", "success", {"created": 6, "fetched": 6}, errors=0, retries=1, waits=0)


def test_a_task_that_raises(hold: Callable[..., None]) -> None:
    """Its exception is one error, whatever it passes on its way out."""
    hold("raises", "partial", {"created": 2, "fetched": 2}, errors=1, retries=0, waits=0)


def test_a_task_that_dies(hold: Callable[..., None]) -> None:
    """Its items count, and its end is an error, once."""
    hold("dies", "partial", {"created": 2, "fetched": 5, "updated": 3}, errors=1, retries=0, waits=0)
