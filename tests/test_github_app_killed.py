"""The application whose worker is killed with all its processes: the same rows, and a report that says so.

``python -m benchmarks.github_sync --kills 20`` is the same at large.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from brokers import RabbitServer
from github_app import app

from benchmarks import github_remains
from benchmarks.github_kills import onboard_killed
from benchmarks.github_sync import TEAM, Size, pages, start, wait_for_end

SIZE = Size(3, 60)
PROCESSES = 2
KILLS = 3


@pytest.mark.slow
def test_all_processes_are_killed(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    """Each page is asked for once, but for those that were interrupted; the rows are those of an undisturbed run."""
    variables = {**github_remains.TOKENS, "SYNC_PAGE_SIZE": "10"}
    with app(tmp_path / "undisturbed", *SIZE.double, **variables) as installed:
        installed.run("add", TEAM, *SIZE.names)
        with installed.worker(PROCESSES) as worker:
            start(installed)
            wait_for_end(installed, worker)
        rows, least = github_remains.rows(installed.engine), pages(installed)
    broker = {"CELERY_BROKER_URL": rabbitmq.broker().url, **variables}
    with app(tmp_path / "killed", *SIZE.double, "--fault", "slow=0.1@/graphql#*", **broker) as installed:
        installed.run("add", TEAM, *SIZE.names)
        done = onboard_killed(installed, KILLS, least, random.Random(14), PROCESSES)
    assert done.kills == KILLS
    assert done.wrong(rows, least, PROCESSES) == []
