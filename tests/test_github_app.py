"""The application as a whole: the double, a broker of directories, prefork workers, and what database and trace say."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from brokers import RabbitServer
from github_app import App, app
from otlp_server import eventually
from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.github_sync import recordings
from examples.github_sync.tables import Analysis, DeadLetter, LlmBatch, PullRequest, WeeklyMetrics

pytestmark = pytest.mark.slow
REPOS = ["acme/billing-api", "acme/checkout-api", "acme/search-api"]
SMALL = ("--no-recordings", "--repos", "3", "--pulls", "60", "--least-wait", "2")


def spans_of(installed: App, sync_id: str) -> list[dict[str, Any]]:
    """Return the spans of a run."""
    shown: list[dict[str, Any]] = json.loads(installed.otelsync("show", sync_id, "--json"))
    return shown


def phases_of(installed: App, sync_id: str) -> list[dict[str, Any]]:
    """Return the attributes of both phases, the first one first, once their pipelines have ended."""
    found: list[dict[str, Any]] = []

    def have_ended() -> bool:
        own = [span for span in spans_of(installed, sync_id) if span["name"].startswith("sync.pipeline")]
        found[:] = [span["attributes"] for span in sorted(own, key=lambda span: str(span["startTimeUnixNano"]))]
        return len(found) == 2 and all("sync.outcome" in phase for phase in found)

    eventually(have_ended)
    return found


def double_says(installed: App, what: str) -> Any:
    """Return what the double tells under this name."""
    return requests.get(f"{installed.environment['GITHUB_API_URL']}/_double/{what}", timeout=60).json()


def onboard(installed: App, *names: str, expected: int = 0) -> str:
    """Onboard a team to the end of both phases; returns the sync id of the first."""
    said = installed.run("sync", "red", *names, expected=expected)
    eventually(lambda: installed.status("red")["phase"] == "completed", timeout=300)
    return said.split(":")[0]


def test_an_onboarding(tmp_path: Path) -> None:
    """Both phases, one repository that is not there, figures of the weeks; the run is partial and the rest is there."""
    with app(tmp_path / "home", *SMALL, "--hours", "90") as installed, installed.worker():
        installed.run("add", "red", *REPOS, "acme/unknown")
        sync_id = onboard(installed, expected=2)
        assert installed.pulls() == dict.fromkeys(REPOS, 60)
        status = installed.status("red")
        assert [(each["badge"], each["error"] is None) for each in status["repositories"]] == [
            *[("Synced", True)] * 3,
            ("Error", False),
        ]
        assert installed.rows(Analysis) == 180
        assert installed.rows(WeeklyMetrics) > 10
        assert installed.rows(LlmBatch) > 0
        assert installed.rows(DeadLetter) == 0
        assert double_says(installed, "violations") == {"violations": []}
        phases = phases_of(installed, sync_id)
    assert [phase["sync.outcome"] for phase in phases] == ["partial", "partial"]
    assert sum(phase["sync.items.created"] for phase in phases) == 180


FAULTS = {
    "limits": [
        "primary=3@/graphql/acme/billing-api",
        "primary-code=2@/graphql/acme/search-api",
        "secondary=2@/graphql%4#2",
        "secondary-429=2@/graphql%5#2",
    ],
    "limits that say less": [
        "primary-remaining=2@/graphql/acme/search-api",
        "secondary@/graphql%4#2",
        "secondary-429@/graphql%5",
        "secondary-200@/graphql%6",
    ],
    "errors of the server": [
        "502@/graphql%3#4",
        "504@/graphql%4#2",
        "500@/graphql%5",
        "too-large=25@/graphql#*",
        "resource-limits@/graphql/acme/billing-api",
        "malformed@/graphql%6#2",
        "cut@/graphql%7#2",
        "drop@/graphql%8#2",
    ],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_what_goes_wrong_at_github(tmp_path: Path, faults: list[str]) -> None:
    """The run completes; nothing is sent before a limit allows it, and no two requests at a time with one token."""
    planned = [word for fault in faults for word in ("--fault", fault)]
    variables = {"SYNC_SECONDARY_BACKOFF": "2", "SYNC_LONGEST_WAIT": "1.5"}
    with app(tmp_path / "home", *SMALL, *planned, **variables) as installed, installed.worker(processes=3):
        installed.run("add", "red", *REPOS)
        sync_id = onboard(installed)
        assert installed.pulls() == dict.fromkeys(REPOS, 60)
        assert installed.rows(DeadLetter) == 0
        assert double_says(installed, "violations") == {"violations": []}
        phases = phases_of(installed, sync_id)
    assert [phase["sync.outcome"] for phase in phases] == ["success", "success"]
    assert sum(phase.get("sync.items.created", 0) for phase in phases) == 180


def test_a_worker_that_is_killed(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    """SIGKILL to its processes at random moments: the same database in the end, and the run names interruptions.

    Directories will not do: there all processes of a pool share one queue, and one that is killed while it writes into
    it keeps its lock for ever (billiard's `SimpleQueue`).
    """
    dice = random.Random(14)
    variables = {"SYNC_PAGE_SIZE": "10", "CELERY_BROKER_URL": rabbitmq.broker().url}
    with app(tmp_path / "home", *SMALL, "--fault", "slow=0.05@/graphql#*", **variables) as installed:
        with installed.worker(processes=2) as worker:
            installed.run("add", "red", *REPOS)
            installed.run("sync", "red", "--no-wait")
            killed = 0
            while installed.status("red")["phase"] != "completed":
                time.sleep(dice.uniform(0.2, 0.6))
                alive = sorted(children_of(worker.pid))
                if alive and killed < 8:
                    os.kill(dice.choice(alive), signal.SIGKILL)
                    killed += 1
        assert installed.pulls() == dict.fromkeys(REPOS, 60)
        assert double_says(installed, "violations") == {"violations": []}
    assert killed


def children_of(pid: int) -> set[int]:
    """Return the processes of the pool below a supervised worker."""
    return {child for each in _children(pid) for child in _children(each) if b"celery" in _command(child)}


def _children(pid: int) -> set[int]:
    try:
        return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_has_changed(tmp_path: Path) -> None:
    """One pull request of a hundred changes, and so little is asked for; then nothing at all."""
    with app(tmp_path / "home", "--no-recordings", "--repos", "3", "--pulls", "100") as installed, installed.worker():
        installed.run("add", "red", *REPOS)
        onboard(installed)
        before = installed.pulls()
        installed.run("incremental", "red")
        installed.run("incremental", "red")
        url = installed.environment["GITHUB_API_URL"]
        touched = requests.post(f"{url}/_double/touch", json={"share": 0.01}, timeout=60).json()["touched"]
        first = double_says(installed, "counts")
        installed.run("incremental", "red")
        second = double_says(installed, "counts")
        installed.run("incremental", "red")
        third = double_says(installed, "counts")
        assert touched
        assert installed.pulls() == before
        changed = {name for name in touched if touched[name]}
    # A list for each repository, and one query for each in which something has changed.
    assert second["core"] - first["core"] == third["core"] - second["core"] == len(REPOS)
    assert (second["graphql"] - first["graphql"], third["graphql"]) == (len(changed), second["graphql"])


def test_batches_of_the_model(tmp_path: Path) -> None:
    """A model says more than the patterns; without it, or while it is down, these hold and the batches wait."""
    variables = {"GROQ_API_KEY": "key", "SYNC_LLM_BATCH_SIZE": "50", "SYNC_LLM_DEADLINE": "60"}
    with app(tmp_path / "home", *SMALL, **variables) as installed:
        installed.environment["GROQ_BASE_URL"] = installed.environment["GITHUB_API_URL"]
        with installed.worker():
            installed.run("add", "red", *REPOS)
            sync_id = onboard(installed)
        with Session(installed.engine) as session:
            sources = session.scalars(select(Analysis.source)).all()
            stored = session.execute(select(LlmBatch.size, LlmBatch.status)).all()
        assert sources == ["model"] * 180
        assert [tuple(batch) for batch in stored] == [(50, "completed")] * 3 + [(30, "completed")]
        batches = [span["attributes"] for span in spans_of(installed, sync_id) if "sync.batch" in span["name"]]
    assert [batch["llm.batch.answered"] for batch in batches] == [50, 50, 50, 30]
    assert all(batch["gen_ai.usage.input_tokens"] > 0 for batch in batches)


def test_real_recordings(tmp_path: Path) -> None:
    """What api.github.com has said to others is synced as all else is: every pull request once, by the same code."""
    try:
        recordings.fetch()
    except recordings.RecordingsUnavailableError as error:
        pytest.skip(str(error))
    with app(tmp_path / "home", SYNC_HISTORY_MONTHS="300") as installed, installed.worker(processes=3):
        installed.run("add", "red", *installed.repositories)
        sync_id = onboard(installed)
        assert installed.pulls() == {name: count for name, count in installed.repositories.items() if count}
        assert installed.rows(DeadLetter) == 0
        assert double_says(installed, "violations") == {"violations": []}
        phases = phases_of(installed, sync_id)
    assert [phase["sync.outcome"] for phase in phases] == ["success", "success"]
    assert sum(phase.get("sync.items.created", 0) for phase in phases) == sum(installed.repositories.values())


def test_a_pull_request_that_cannot_be_stored(tmp_path: Path) -> None:
    """It goes to the dead letters with the reason, its repository is partial, and it is taken up again."""
    with app(tmp_path / "home", *SMALL) as installed, installed.worker():
        installed.run("add", "red", REPOS[0])
        with Session(installed.engine) as session, session.begin():
            connection = session.connection()
            connection.exec_driver_sql(
                "CREATE TRIGGER no_seven BEFORE INSERT ON pull_requests WHEN NEW.number = 7 "
                "BEGIN SELECT RAISE(ABORT, 'the disk is allergic to seven'); END"
            )
        onboard(installed, expected=2)
        with Session(installed.engine) as session, session.begin():
            (letter,) = session.scalars(select(DeadLetter)).all()
            assert letter.number == 7
            assert "allergic" in letter.reason
            session.connection().exec_driver_sql("DROP TRIGGER no_seven")
        installed.run("retry-failed", "red")
        assert installed.rows(DeadLetter) == 0
        assert installed.rows(PullRequest) == 60
