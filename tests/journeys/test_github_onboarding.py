"""The whole trace of a small onboarding: from its dispatch, across real worker processes, to its last figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from github_app import app
from onboarding_trace import TREE
from otlp_server import eventually

from otelsync.testing import Span, assert_span_tree
from otelsync.testing.reading import spans_in

REPOS = ("acme/billing-api", "acme/checkout-api", "acme/unknown")
# Twelve pull requests each. Those of one repository are of the last two weeks; of the other three are at most 26 days
# old, and the fourth is 38.
DOUBLE = ("--no-recordings", "--asked-schema", "--repos", "2", "--pulls", "12", "--hours", "24,200")
HEADERS = " ".join(["-> apply_async/github_sync.sync_history"] * 3)
"""The body of a chord is linked with the publishing of all its headers."""
SHOWN = {"sync.api.page": "page", "http.response.status_code": ""}


def recorded(home: Path) -> list[Span]:
    """Return the spans of an installation; a wait for the only token depends on which process was faster."""
    return [span for span in spans_in(home / "otelsync") if span.name != "sync.token.wait"]


def has_ended(spans: list[Span]) -> bool:
    """Return True when both pipelines have ended, and all that they hold."""
    return sum(span.name.startswith("sync.pipeline") for span in spans) == 2 and all(span.ended for span in spans)


@pytest.mark.slow
def test_an_onboarding_is_one_trace(tmp_path: Path) -> None:
    """Two phases, of which each is a chord of repositories, the model and the figures; one repository is not there."""
    with app(tmp_path / "home", *DOUBLE) as installed, installed.worker(processes=2):
        installed.run("add", "red", *REPOS)
        said = installed.run("sync", "red", expected=2)
        eventually(lambda: installed.status("red")["phase"] == "completed", timeout=300)
        eventually(lambda: has_ended(recorded(installed.home)), timeout=300)
        spans = recorded(installed.home)
    assert_span_tree(spans, TREE.replace("HEADERS", HEADERS), attributes=SHOWN, in_order=False)
    assert len({span.trace_id for span in spans}) == 1
    assert {span.attributes["sync.id"] for span in spans} == {said.split(":")[0]}
    assert {span.resource["service.name"] for span in spans} == {"github-sync", "github-sync-worker"}
