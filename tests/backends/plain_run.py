"""A sync in a program of its own, without workers, whose telemetry is known: ``python plain_run.py HOME``.

Six repositories with 111 pull requests. One of these fails in its reviews, whose call was tried four times; a primary
rate limit is waited for, and one call is slow.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from github import GithubException

import otelsync

SERVICE: Final = "github-sync"
SIZES: Final = {
    "acme/billing-api": 40,
    "sigmavirus24/github3.py": 50,
    "github3py/fork_this": 9,
    "psf/requests": 6,
    "acme/checkout-api": 3,
    "acme/search-api": 3,
}
FAILS: Final = ("acme/billing-api", 23)
SLOW: Final = ("acme/billing-api", 31)
WAITS: Final = ("sigmavirus24/github3.py", 11)


def run(home: Path) -> None:
    """Record the sync in `home`, in the log too."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "plain-run.log").open("w", encoding="utf-8") as log:
        otelsync.configure(
            service_name=SERVICE,
            home=home,
            journal_dir=home / "journals" / SERVICE,
            store="on",
            store_path=home / "store.db",
            reports_dir=home / "reports",
            log_format="json",
            log_stream=log,
        )
        try:
            with otelsync.pipeline("github.onboarding", repositories=len(SIZES)) as pipeline:
                pipeline.phase("syncing")
                for name in pipeline.track(SIZES):
                    _repository(name)
        finally:
            otelsync.shutdown(timeout=60)


def _repository(name: str) -> None:
    with otelsync.repo(name) as repository:
        with otelsync.api_call("get_repository", kind="rest"):
            pass
        with otelsync.api_call("list_pull_requests", kind="rest", page=1):
            for number in repository.track(range(1, SIZES[name] + 1)):
                with suppress(GithubException):
                    _pull_request(name, number)


def _pull_request(name: str, number: int) -> None:
    with otelsync.pull_request(number, state="closed") as item:
        for operation in ("list_reviews", "list_files", "list_commits"):
            with otelsync.api_call(operation, kind="rest", page=1) as call:
                if operation == "list_files" and (name, number) == WAITS:
                    with otelsync.rate_limit_wait(2.0, kind="primary"):
                        time.sleep(2.0)
                if operation == "list_commits" and (name, number) == SLOW:
                    time.sleep(1.2)
                if operation == "list_reviews" and (name, number) == FAILS:
                    for attempt in (1, 2, 3):
                        call.event("sync.api.retry", reason="server", attempt=attempt, status=502)
                    raise GithubException(502, {"message": "Server Error"}, {})
        item.set(action="created")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
