"""PyGithub: API calls have names, and what it sleeps through is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from typing import Any

import github
import pytest
from github.GithubRetry import GithubRetry
from github.Requester import Requester
from opentelemetry import trace
from recorded import Recorded
from urllib3.util.retry import Retry

import otelsync
from examples.github_sync.double.api import Api
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.faults import Fault, FaultPlan
from examples.github_sync.double.generator import GeneratedRepository
from examples.github_sync.double.server import GithubServer, serving
from otelsync.integrations.pygithub import Instrumentor
from otelsync.integrations.requests import Instrumentor as RequestsInstrumentor

ACME = "acme/billing-api"
SHOWN = (
    "http.response.status_code",
    "http.request.resend_count",
    "sync.rate_limit.kind",
    "sync.retry.reason",
    "sync.api.kind",
)


@pytest.fixture(autouse=True)
def _directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(params=["with requests", "alone"])
def with_requests(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "with requests")


@pytest.fixture
def _on(recorded: Recorded) -> Iterator[None]:
    assert recorded
    RequestsInstrumentor().instrument()
    Instrumentor().instrument()
    yield
    Instrumentor().uninstrument()
    RequestsInstrumentor().uninstrument()


@contextmanager
def double(*faults: str) -> Iterator[GithubServer]:
    """A GitHub-shaped server with one generated repository."""
    plan = FaultPlan([Fault.parse(fault) for fault in faults])
    with serving(Api(Catalogue(repositories=[GeneratedRepository(ACME, 0, 5)]), faults=plan)) as server:
        yield server


def client(server: GithubServer, **options: Any) -> Any:
    """PyGithub as it comes, but for its pace."""
    given: dict[str, Any] = {"seconds_between_requests": None, "seconds_between_writes": None}
    auth = github.Auth.Token(f"a-token-of-port-{server.server_address[1]}")
    return closing(github.Github(base_url=server.url, auth=auth, **{**given, **options}))


@pytest.mark.usefixtures("_on")
class TestCalls:
    def test_outside_an_api_call_each_is_one(self, recorded: Recorded) -> None:
        """With its route as name, the send below it."""
        with double() as server, client(server) as hub, otelsync.repo(ACME):
            repository = hub.get_repo(ACME)
            list(repository.get_pulls(state="all"))
            repository.get_pull(3).get_files().totalCount  # noqa: B018  # asks
        assert (
            recorded.tree(*SHOWN)
            == """
sync.repo acme/billing-api                                 [success]
  sync.api GET /repos/{owner}/{repo}                       [success] kind=rest
    GET /repos/{owner}/{repo}                              status_code=200
  sync.api GET /repos/{owner}/{repo}/pulls                 [success] kind=rest
    GET /repos/{owner}/{repo}/pulls                        status_code=200
  sync.api GET /repos/{owner}/{repo}/pulls/{number}        [success] kind=rest
    GET /repos/{owner}/{repo}/pulls/{number}               status_code=200
  sync.api GET /repos/{owner}/{repo}/pulls/{number}/files  [success] kind=rest
    GET /repos/{owner}/{repo}/pulls/{number}/files         status_code=200"""
        )

    @pytest.mark.parametrize(("given", "named"), [(2, ()), (1, ("url",)), (0, ("verb", "url"))])
    def test_however_its_arguments_are_given(self, recorded: Recorded, given: int, named: tuple[str, ...]) -> None:
        """The verb and the address may be named or not."""
        asked = {"verb": "GET", "url": f"/repos/{ACME}"}
        with double() as server, client(server) as hub:
            positional, options = list(asked.values())[:given], {key: asked[key] for key in named}
            hub.requester.requestJsonAndCheck(*positional, **options)
        assert recorded.span("sync.api GET /repos/{owner}/{repo}").ended

    def test_inside_an_api_call_it_is_part_of_it(self, recorded: Recorded) -> None:
        """The caller's name stays the only one."""
        with double() as server, client(server) as hub, otelsync.api_call("get_repository"):
            hub.get_repo(ACME)
        assert recorded.tree() == "\nsync.api get_repository      [success]\n  GET /repos/{owner}/{repo}"

    def test_an_error_passes_and_fails_the_call(self, recorded: Recorded) -> None:
        """PyGithub's own exception, with its status on the send."""
        with double() as server, client(server) as hub, pytest.raises(github.UnknownObjectException):
            hub.get_repo("acme/unknown")
        assert (
            recorded.tree("http.response.status_code", "error.type")
            == """
sync.api GET /repos/{owner}/{repo}  [failure] type=UnknownObjectException
  GET /repos/{owner}/{repo}         ERROR status_code=404 type=404"""
        )

    def test_a_query_is_a_call_of_graphql(self, recorded: Recorded) -> None:
        """The call is PyGithub's, the request within it that of requests."""
        with double() as server, client(server) as hub:
            _headers, answer = hub.requester.graphql_query("{ viewer { login } }", {})
        assert answer["data"]["viewer"]["login"]
        call, send = (recorded.span(name) for name in ("sync.api POST /graphql", "POST /graphql"))
        assert call.attributes["sync.api.kind"] == "graphql"
        assert send.parent_id == call.span_id


class TestSleeps:
    @pytest.mark.usefixtures("_on")
    def test_a_refusal_is_waited_for_visibly(self, recorded: Recorded) -> None:
        """A secondary and a primary limit, each send and each wait, though PyGithub returns once."""
        with (
            double("secondary=1@2", "primary=1@4") as server,
            client(server, retry=GithubRetry(total=5)) as hub,
            otelsync.pipeline("p"),
        ):
            repository = hub.get_repo(ACME)
            repository.get_pull(3)
            with otelsync.api_call("again"):
                repository.get_pull(3)
        assert (
            recorded.tree(*SHOWN[:4], roll=9)
            == """
sync.pipeline p                                      [success]
  sync.api GET /repos/{owner}/{repo}                 [success]
    GET /repos/{owner}/{repo}                        status_code=200
  sync.api GET /repos/{owner}/{repo}/pulls/{number}  [success]
    GET /repos/{owner}/{repo}/pulls/{number}         status_code=200 resend_count=1
      GET                                            ERROR status_code=403
      sync.rate_limit.wait                           [success] kind=secondary
      GET                                            status_code=200 resend_count=1
  sync.api again                                     [success]
    GET /repos/{owner}/{repo}/pulls/{number}         status_code=200 resend_count=1
      GET                                            ERROR status_code=403
      sync.rate_limit.wait                           [success] kind=primary
      GET                                            status_code=200 resend_count=1"""
        )
        waits = [span for span in recorded.spans if span.name == "sync.rate_limit.wait"]
        for wait in waits:
            planned = wait.attributes["sync.rate_limit.planned_seconds"]
            assert 0 < planned <= wait.attributes["sync.rate_limit.actual_seconds"] + 0.001
        waited = sum(wait.attributes["sync.rate_limit.actual_seconds"] for wait in waits)
        total = recorded.span("sync.pipeline p").attributes["sync.rate_limit.waited_seconds"]
        assert total == pytest.approx(waited, abs=0.002)

    @pytest.mark.usefixtures("_on")
    def test_a_secondary_limit_that_names_no_time(self, recorded: Recorded) -> None:
        """PyGithub's own figure is the planned one."""
        retry = GithubRetry(total=2, secondary_rate_wait=0.02)
        with double("secondary@2") as server, client(server, retry=retry) as hub:
            hub.get_repo(ACME).get_pull(3)
        wait = recorded.span("sync.rate_limit.wait").attributes
        assert (wait["sync.rate_limit.kind"], wait["sync.rate_limit.planned_seconds"]) == ("secondary", 0.02)

    def test_its_pace_is_seen(self, recorded: Recorded, with_requests: bool) -> None:
        """What it sleeps between two requests is no part of the API's time, and no rate limit has asked for it."""
        if with_requests:
            RequestsInstrumentor().instrument()
        Instrumentor().instrument()
        with (
            double() as server,
            client(server, seconds_between_requests=0.2) as hub,
            otelsync.pipeline("p"),
        ):
            hub.get_repo(ACME).get_pull(3)
        Instrumentor().uninstrument()
        if with_requests:
            RequestsInstrumentor().uninstrument()
        pause = recorded.span("sync.retry.wait")
        call = recorded.span("sync.api GET /repos/{owner}/{repo}/pulls/{number}")
        assert pause.attributes["sync.retry.reason"] == "pacing"
        assert 0 < pause.attributes["sync.retry.planned_seconds"] <= 0.2
        assert pause.parent_id == call.span_id
        assert "sync.rate_limit.waited_seconds" not in recorded.span("sync.pipeline p").attributes

    @pytest.mark.usefixtures("_on")
    def test_a_sleep_outside_any_span_has_none(self, recorded: Recorded) -> None:
        """A wait is part of something."""
        with trace.use_span(trace.INVALID_SPAN):
            import_module("github.Requester").time.sleep(0)
        assert recorded.spans == []


class TestSwitching:
    def test_everything_is_put_back(self) -> None:
        """The requester's methods, its clock and urllib3's methods are the very objects that they were."""
        module = import_module("github.Requester")
        before = (dict(vars(Requester)), module.time, Retry.sleep, Retry.increment)
        Instrumentor().instrument()
        assert vars(Requester)["requestJsonAndCheck"] is not before[0]["requestJsonAndCheck"]
        Instrumentor().uninstrument()
        assert (dict(vars(Requester)), module.time, Retry.sleep, Retry.increment) == before

    def test_urllib3_stays_visible_while_anybody_wants_it(self) -> None:
        """Two integrations share its methods; the last one puts them back."""
        before = Retry.sleep
        Instrumentor().instrument()
        RequestsInstrumentor().instrument()
        Instrumentor().uninstrument()
        assert Retry.sleep is not before
        RequestsInstrumentor().uninstrument()
        assert Retry.sleep is before

    def test_a_failure_of_ours_is_not_the_callers(
        self, record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The call is made without a stage."""
        recorded = record()
        Instrumentor().instrument()

        def fail(*_: Any) -> str:
            raise RuntimeError("ours")

        monkeypatch.setattr("otelsync.integrations.pygithub.github_route", fail)
        with double() as server, client(server) as hub:
            assert hub.get_repo(ACME).full_name == ACME
        Instrumentor().uninstrument()
        assert recorded.spans == []
