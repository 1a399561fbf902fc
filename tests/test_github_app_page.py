"""The page of the progress, in a real browser: live without a reload, and hostile text is text."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import uvicorn
from browser import Browser, Page, browser
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from examples.github_sync import migrating
from examples.github_sync.database import engine_for
from examples.github_sync.settings import Settings
from examples.github_sync.status import duration
from examples.github_sync.tables import LlmBatch, TrackedRepository
from examples.github_sync.web import application
from examples.github_sync.wiring import pool_for

__all__ = ["browser"]
HOSTILE = "<script>document.title='PWNED'</script>\x1b[31m"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A database with a team of two repositories."""
    made = Settings.from_environment({"GITHUB_SYNC_HOME": str(tmp_path), "GITHUB_TOKEN": "t"})
    migrating.upgrade(made.database_url)
    with Session(engine_for(made.database_url)) as session, session.begin():
        session.add(TrackedRepository(team="red", full_name="acme/api", sync_status="syncing", sync_progress=12))
        session.add(TrackedRepository(team="red", full_name="acme/web", sync_status="failed", sync_error=HOSTILE))
    return made


@contextmanager
def served(settings: Settings, port: int = 0) -> Iterator[str]:
    """Serve the page; yields its address."""
    server = uvicorn.Server(uvicorn.Config(application(settings), port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(60)


def complete(engine: Engine) -> None:
    """Let the sync of a repository be over."""
    with Session(engine) as session, session.begin():
        row = session.scalars(select(TrackedRepository).where(TrackedRepository.full_name == "acme/api")).one()
        row.sync_status, row.sync_progress, row.sync_prs_completed = "completed", 100, 4711


def test_the_page_shows_what_the_database_says(settings: Settings, browser: Browser) -> None:
    """In a browser that has just been opened, with scripts and without; no text becomes markup."""
    with served(settings) as url:
        answer = requests.get(f"{url}/", timeout=60)
        with browser.page(f"{url}/teams/red") as page:
            page.until("document.querySelectorAll('tr.syncing').length == 1")
            assert page.evaluate("document.title") == "red: sync"
            seen = page.evaluate("document.documentElement.outerHTML")
    assert answer.url == f"{url}/teams/red"
    for shown in (answer.text, seen):
        assert "acme/api" in shown
        assert "Syncing" in shown
        assert "Error" in shown
        assert "<script>document" not in shown
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_page_is_live(settings: Settings, browser: Browser) -> None:
    """What happens while a browser shows the page appears in it without a reload."""
    with served(settings) as url, browser.page(f"{url}/teams/red") as page:
        page.evaluate("window.stayed = true")
        complete(engine_for(settings.database_url))
        page.until("document.body.innerText.includes('4711')")
        assert "Synced" in page.text()
        assert page.evaluate("window.stayed")


def test_a_browser_that_was_closed(settings: Settings, browser: Browser) -> None:
    """Opened again, it shows what has happened meanwhile, and is live as before."""
    engine = engine_for(settings.database_url)
    with served(settings) as url:
        with browser.page(f"{url}/teams/red") as page:
            page.until("document.querySelectorAll('tr.syncing').length == 1")
        with Session(engine) as session, session.begin():
            session.scalars(select(TrackedRepository)).first().sync_prs_completed = 4096  # type: ignore[union-attr]
        with browser.page(f"{url}/teams/red") as page:
            page.until("document.body.innerText.includes('4096')")
            assert badges(page) == ["running", "Syncing", "Error"]
            complete(engine)
            page.until("document.body.innerText.includes('4711')")
            assert badges(page) == ["partial", "Synced", "Error"]


def badges(page: Page) -> list[str]:
    """Return the badges of the team and its repositories, as they are read."""
    found: list[str] = page.evaluate("[...document.querySelectorAll('.badge')].map(each => each.innerText)")
    return found


def test_a_server_that_was_away(settings: Settings, browser: Browser) -> None:
    """The page says so, and goes on by itself when it is there again."""
    with ExitStack() as servers:
        first = servers.enter_context(ExitStack())
        url = first.enter_context(served(settings))
        page = servers.enter_context(browser.page(f"{url}/teams/red"))
        page.until("document.getElementById('connection').hidden")
        first.close()
        page.until("!document.getElementById('connection').hidden")
        complete(engine_for(settings.database_url))
        servers.enter_context(served(settings, int(url.rpartition(":")[2])))
        page.until("document.body.innerText.includes('4711') && document.getElementById('connection').hidden")


def test_the_time_that_is_left_counts_the_wait(settings: Settings, browser: Browser) -> None:
    """With what a limit is waited for, until when in the reader's zone, and how far each step is."""
    engine = engine_for(settings.database_url)
    with Session(engine) as session, session.begin():
        row = session.scalars(select(TrackedRepository).where(TrackedRepository.full_name == "acme/api")).one()
        row.sync_prs_completed, row.sync_prs_total = 500, 1000
        row.sync_started_at = datetime.now(UTC) - timedelta(seconds=60)
        session.add(LlmBatch(team="red", number=1, size=100, status="completed", created_at=datetime.now(UTC)))
        session.add(LlmBatch(team="red", number=2, size=100, status="queued", created_at=datetime.now(UTC)))
    reset = int(time.time()) + 7200
    with pool_for(settings).turn("graphql") as turn:
        turn.standing.note("graphql", 0, reset)
    with served(settings) as url, browser.page(f"{url}/teams/red") as page:
        page.until("document.querySelectorAll('.limit time, .eta').length == 2")
        assert page.evaluate("document.querySelector('.eta').innerText").startswith(("2h", "1h5"))
        assert "the wait for the rate limit included" in page.text()
        shown = page.evaluate(f"new Date({reset + 1}000).toLocaleTimeString()")
        assert page.evaluate("document.querySelector('.limit time').innerText") == shown
        steps = page.evaluate("[...document.querySelectorAll('.steps b')].map(each => each.innerText)")
    assert steps == ["1 of 2", "500 of 1,000", "1 of 2"]


def test_the_events_are_sent_when_something_changes(settings: Settings) -> None:
    """The first at once; then nothing, until there is something to say."""
    with served(settings) as url, requests.get(f"{url}/teams/red/events", stream=True, timeout=60) as stream:
        lines = (line for line in stream.iter_lines(decode_unicode=True) if line)
        assert "Syncing" in json.loads(next(lines).removeprefix("data: "))
        complete(engine_for(settings.database_url))
        assert "4711" in json.loads(next(lines).removeprefix("data: "))


def test_what_is_not_there(settings: Settings) -> None:
    """An unknown team and an unknown file are 404; the JSON has the outcome."""
    with served(settings) as url:
        assert requests.get(f"{url}/teams/blue", timeout=60).status_code == 404
        assert requests.get(f"{url}/static/..%2F__init__.py", timeout=60).status_code == 404
        said = requests.get(f"{url}/teams/red/status.json", timeout=60).json()
    assert said["outcome"] == "running"
    assert said["repositories"][1]["error"] == HOSTILE


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (200, "3m20s"), (3900, "1h05m"), (-1, "0s")])
def test_durations(seconds: float, text: str) -> None:
    """They are said as people say them."""
    assert duration(seconds) == text
