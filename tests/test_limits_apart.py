"""Limits of two APIs, two tokens and two resources in one run: every view tells them apart, and what is known stays."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import requests
import trace_tree
from foreign_hosts import Answer, Listener, listening
from recorded import Recorded
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

import otelsync
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.counting import Metrics
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limits import RateLimits, fingerprint, forecast, observed
from otelsync.text.limits import limits_of

NOW: Final = 1_800_000_000.0
Get = Callable[[str, dict[str, str]], object]


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("requests", "httpx"):
        otelsync.instrument(name)
    with listening() as listener:
        yield listener
    for name in ("requests", "httpx"):
        otelsync.uninstrument(name)


def by_requests(url: str, headers: dict[str, str]) -> object:
    return requests.get(url, headers=headers, timeout=60)


def by_httpx(url: str, headers: dict[str, str]) -> object:
    with httpx.Client(trust_env=False) as client:
        return client.get(url, headers=headers, timeout=60)


def github(resource: str, remaining: int, limit: int = 5000) -> Answer:
    reset = str(int(time.time()) + 3000)
    said = {"Limit": str(limit), "Remaining": str(remaining), "Reset": reset, "Resource": resource}
    return Answer(headers={f"X-RateLimit-{name}": value for name, value in said.items()})


def told_by(home: Path, *arguments: str) -> Any:
    """Run a command that prints JSON."""
    command = [sys.executable, "-m", "otelsync.cli", *arguments, "--json", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, cwd=home)
    return json.loads(done.stdout)


@pytest.mark.parametrize("get", [by_requests, by_httpx])
def test_every_view_tells_them_apart(recorded: Recorded, listener: Listener, get: Get) -> None:
    """Attributes, ``ps``, report, metrics and forecast."""
    listener.answers["/core"] = [github("core", 4000), github("core", 12)]
    listener.answers["/search"] = [github("search", 20, 30)]
    listener.answers["/other"] = [Answer(headers={"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "99"})]
    first, second = (f"{get.__name__}-{letter * 30}-{listener.port}" for letter in "ab")
    calls: tuple[tuple[str, dict[str, str]], ...] = (
        (f"{listener.url}/core", {"Authorization": f"Bearer {first}"}),
        (f"{listener.url}/core", {"PRIVATE-TOKEN": second}),
        (f"{listener.url}/search", {"X-Api-Key": first}),
        (f"http://localhost:{listener.port}/other", {}),
    )
    with otelsync.pipeline("both"), otelsync.repo("acme/api"):
        for address, headers in calls:
            with otelsync.api_call("get"):
                get(address, headers)
        in_flight = told_by(recorded.home, "ps")
    a, b = fingerprint(first), fingerprint(second)
    names = {
        f"core of 127.0.0.1, token {a}": 4000,
        f"core of 127.0.0.1, token {b}": 12,
        f"search of 127.0.0.1, token {a}": 20,
        "localhost": 99,
    }
    seen = [limit for span in recorded.spans for limit in limits_of(span.attributes)]
    assert sorted((limit.name, limit.remaining) for limit in seen) == sorted(names.items())
    (run,) = in_flight["runs"]
    assert {limit["name"]: limit["remaining"] for limit in run["rate_limits"]} == names
    otelsync.shutdown()
    report = told_by(recorded.home, "report", "--output", str(recorded.home / "reports"))
    assert {limit["resource"]: limit["remaining"] for limit in report["rate_limits"]} == names
    series = MetricSeries()
    for batch in trace_tree.batches(recorded.journal):
        Metrics(series, "test").take(batch)
    remaining = {
        tuple(point.labels.get(name, "") for name in catalogue.LIMITS): point.value
        for family in series.families()
        for point in family.points
        if family.metric is catalogue.RATE_REMAINING
    }
    assert remaining == {
        ("core", "127.0.0.1", a): 4000,
        ("core", "127.0.0.1", b): 12,
        ("search", "127.0.0.1", a): 20,
        ("", "localhost", ""): 99,
    }
    ahead = {
        (each.limit.resource, each.token): bool(forecast(each.limit, calls=100, per_second=1.0))
        for each in observed.standings()
        if each.token in (a, b)
    }
    assert ahead == {("core", a): False, ("core", b): True, ("search", a): True}


def test_all_limits_of_a_response_are_told(recorded: Recorded, listener: Listener) -> None:
    """Not only the tightest."""
    said = {"limit-requests": "100", "remaining-requests": "90", "limit-tokens": "1000", "remaining-tokens": "10"}
    listener.answers["/x"] = [Answer(headers={f"x-ratelimit-{name}": value for name, value in said.items()})]
    by_requests(f"{listener.url}/x", {})
    seen = list(limits_of(recorded.span("GET /x").attributes))
    assert [(limit.resource, limit.remaining, limit.limit) for limit in seen] == [
        ("tokens", 10, 1000),
        ("requests", 90, 100),
    ]


class RaisingRetry(Retry):
    """A policy of the program's own, which raises."""

    def increment(self, *_: Any, **__: Any) -> Retry:  # type: ignore[override]
        raise LookupError("the program's own")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (RaisingRetry(3, status_forcelist=[403]), LookupError),
        (Retry(total=0, status_forcelist=[403]), requests.exceptions.RetryError),
        (Retry(total=3, status=0, status_forcelist=[403]), requests.exceptions.RetryError),
    ],
)
def test_what_a_response_says_is_learned_whatever_the_policy_does(
    recorded: Recorded, listener: Listener, policy: Retry, error: type[Exception]
) -> None:
    """Status and limits stand on the span; that it is sent again is not said where it is not."""
    listener.answers["/x"] = [Answer(403, dict(github("core", 0).headers))]
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=policy))
        with pytest.raises(error):
            session.get(f"{listener.url}/x", timeout=60, headers={"Api-Key": f"{policy!r}-{listener.port}"})
    gc.collect()  # urllib3 leaves the connection to whoever raises
    span = recorded.span("GET /x")
    assert span.attributes["http.response.status_code"] == 403
    assert (span.attributes["sync.rate_limit.remaining"], span.status) == (0, "ERROR")
    events = [line["event"] for line in recorded.lines]
    assert "sync.rate_limit.exhausted" in events
    assert "sync.api.retry" not in events


def test_a_sleep_that_raises_sends_nothing_again(recorded: Recorded, listener: Listener) -> None:
    """The event stands where the request is sent again."""

    class Impatient(Retry):
        def sleep(self, response: Any = None) -> None:  # noqa: ARG002
            raise TimeoutError("not that long")

    listener.answers["/x"] = [Answer(403, dict(github("core", 0).headers))]
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Impatient(3, status_forcelist=[403])))
        with pytest.raises(requests.ConnectionError):
            session.get(f"{listener.url}/x", timeout=60)
    assert "sync.api.retry" not in [line["event"] for line in recorded.lines]
    assert recorded.span("GET /x").attributes["http.response.status_code"] == 403


def test_a_firewall_is_no_limit(recorded: Recorded, listener: Listener) -> None:
    """A 403 that says nothing of limits is sent again for no limit."""
    listener.answers["/x"] = [Answer(403, {"Server": "cloud"}, b"<html>"), Answer()]
    with requests.Session() as session:
        policy = Retry(total=3, status_forcelist=[403], backoff_factor=0.01, backoff_jitter=0.01)
        session.mount("http://", HTTPAdapter(max_retries=policy))
        with otelsync.pipeline("p"):
            assert session.get(f"{listener.url}/x", timeout=60).status_code == 200
    assert "sync.rate_limit.wait" not in [span.name for span in recorded.spans]
    assert recorded.line("sync.api.retry")["reason"] == "server"
    assert not any(line["event"].startswith("sync.rate_limit.") for line in recorded.lines)


def test_what_was_told_stands_where_a_refusal_says_no_time() -> None:
    """A reset in 40 minutes is not replaced by a minute that nobody has told."""
    limits = RateLimits(low=0.1)
    limits.observe("h", told("graphql", 1, NOW + 2400), now=NOW)
    refused = Observation(limits=(RateLimit(resource="graphql", remaining=0),), refused="primary")
    (spent,) = limits.completed("h", refused, now=NOW + 1).limits
    assert (spent.reset, spent.limit, spent.assumed) == (NOW + 2400, 5000, False)
    (told_anew,) = limits.completed("h", replace(refused, retry_after=30.0), now=NOW + 1).limits
    assert (told_anew.reset, told_anew.assumed) == (NOW + 31, False)
    (unknown,) = limits.completed("elsewhere", refused, now=NOW + 1).limits
    assert (unknown.reset, unknown.assumed) == (NOW + 61, True)


def test_an_assumption_is_marked_as_one(recorded: Recorded, listener: Listener) -> None:
    """In the event, and on the span."""
    listener.answers["/x"] = [Answer(429)]
    by_requests(f"{listener.url}/x", {"Authorization": f"Bearer assumed-{listener.port}-0123456789"})
    assert recorded.line("sync.rate_limit.exhausted")["assumed"] is True
    assert recorded.span("GET /x").attributes["sync.rate_limit.assumed"] is True


def test_a_window_of_a_second_is_told_of_once_a_minute(recorded: Recorded) -> None:
    """10,800 windows in three hours are 180 warnings, which say how many windows there were."""
    limits = RateLimits(low=0.1)
    for second in range(10_800):
        now = NOW + second
        full = RateLimit(resource="second", limit=10, remaining=9, reset=now + 0.5, window=1.0)
        spent = RateLimit(resource="second", limit=10, remaining=0, reset=now + 0.9, window=1.0)
        limits.observe("h", Observation(limits=(full,)), now=now)
        limits.observe("h", Observation(limits=(spent,)), now=now + 0.4)
    said = [line for line in recorded.lines if line["event"] == "sync.rate_limit.exhausted"]
    assert len(said) == 180
    assert sum(line.get("times", 1) for line in said) > 10_700
    assert len([line for line in recorded.lines if line["event"] == "sync.rate_limit.observed"]) <= 181


@pytest.mark.parametrize("left", [4000, 750])
@pytest.mark.parametrize("step", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_a_clock_that_is_put_right_in_a_run_leaves_no_limit_spent(step: float, left: int) -> None:
    """What is told next counts, whatever the clock had said before."""
    limits = RateLimits(low=0.1)
    limits.observe("h", told("core", 0, NOW + 600), now=NOW)
    limits.observe("h", told("core", left, NOW + step + 600), now=NOW + step + 1)
    (standing,) = limits.standings()
    assert (standing.level, standing.limit.reset) == ("ok", NOW + step + 600)


def told(resource: str, remaining: int, reset: float) -> Observation:
    return Observation(limits=(RateLimit(resource=resource, limit=5000, remaining=remaining, reset=reset),))


@pytest.mark.parametrize("ends", ["run", "process"])
def test_what_was_so_again_is_said_at_the_end(recorded: Recorded, ends: str) -> None:
    """Of a window of seconds the same is said once a minute; the rest of the count is not lost with the run."""
    limits = observed
    host = f"{ends}.example.com"
    seen = [
        Observation(limits=(RateLimit(resource="burst", limit=10, remaining=left, reset=time.time() + 2, window=2.0),))
        for left in (10, 0)
    ]
    run = otelsync.pipeline("p") if ends == "run" else otelsync.stage("s")
    with otelsync.pipeline("another"):
        pass
    with run as stage:
        for _ in range(50):
            for each in seen:
                limits.observe(host, each)
    if ends == "process":
        otelsync.shutdown(5)
    said = [line.attributes for line in recorded.logs if line.attributes.get("host") == host]
    assert sum(int(line.get("times", 1)) for line in said if "observed" not in str(line)) >= 50
    assert {line.trace_id for line in recorded.logs if line.attributes.get("host") == host} == {stage.trace_id}
