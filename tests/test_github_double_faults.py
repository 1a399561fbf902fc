"""Faults of the GitHub-shaped server in GitHub's exact shapes, and the witness that holds clients to the limits."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests
from github_doubles import ACME, PAGE, Clock, get, page, post, query, small, told

from examples.github_sync.double.api import Answer, Api, Request
from examples.github_sync.double.rate_limit import RateLimits
from examples.github_sync.double.server import GithubServer, serving
from examples.github_sync.double.shapes import JsonObject
from examples.github_sync.double.witness import Witness

VARIABLES = {"owner": "acme", "name": "billing-api", "first": 10}


def ask(api: Api, first: int = 10) -> Answer:
    """One page by GraphQL, whatever comes."""
    return post(api, "/graphql", {"query": PAGE, "variables": VARIABLES | {"first": first}})


def first_error(answer: Answer) -> JsonObject:
    """The first of GraphQL's errors."""
    error = told(answer)["errors"][0]
    assert isinstance(error, dict)
    return error


class TestPrimaryLimit:
    def test_graphql_says_so_with_200(self) -> None:
        """RATE_LIMITED, remaining 0, and the same until the reset; REST goes on."""
        api = small("primary=30@/graphql")
        for _ in range(2):
            answer = ask(api)
            assert (answer.status, first_error(answer)["type"], "data" in told(answer)) == (200, "RATE_LIMITED", False)
            assert answer.header("X-RateLimit-Remaining") == "0"
        assert get(api, f"/repos/{ACME}").status == 200

    def test_graphql_has_another_word_for_it(self) -> None:
        """RATE_LIMIT with a code."""
        error = first_error(ask(small("primary-code=30@/graphql")))
        assert (error["type"], error["code"]) == ("RATE_LIMIT", "graphql_rate_limit")

    def test_rest_says_403_or_429(self) -> None:
        """Both with remaining 0 and GitHub's words."""
        for fault, status in (("primary=30@1", 403), ("primary-429=30@1", 429)):
            answer = get(small(fault), f"/repos/{ACME}")
            assert (answer.status, answer.header("X-RateLimit-Remaining")) == (status, "0")
            assert told(answer)["message"].startswith("API rate limit exceeded for user ID ")

    def test_it_may_come_while_something_remains(self) -> None:
        """Once, and the headers tell of plenty."""
        api = small("primary-remaining@/graphql")
        answer = ask(api)
        assert (answer.status, first_error(answer)["type"]) == (200, "RATE_LIMITED")
        assert int(answer.header("X-RateLimit-Remaining") or 0) > 0
        assert "errors" not in told(ask(api))


class TestSecondaryLimit:
    @pytest.mark.parametrize(
        ("kind", "status", "retry_after", "limited_by"),
        [
            ("secondary", 403, None, None),
            ("secondary=7", 403, "7", None),
            ("secondary-429", 429, None, "secondary"),
            ("secondary-429=7", 429, "7", "secondary"),
            ("429=7", 429, "7", None),
            ("secondary-200", 200, None, None),
            ("secondary-200=7", 200, "7", None),
        ],
    )
    def test_each_shape(self, kind: str, status: int, retry_after: str | None, limited_by: str | None) -> None:
        """Remaining stays above 0; the message is GitHub's; then all goes on."""
        api = small(f"{kind}@/graphql")
        answer = ask(api)
        assert (answer.status, answer.header("Retry-After"), answer.header("GH-Limited-By")) == (
            status,
            retry_after,
            limited_by,
        )
        message = first_error(answer)["message"] if status == 200 else told(answer)["message"]
        assert message.startswith("You have exceeded a secondary rate limit. Please wait a few minutes")
        assert int(answer.header("X-RateLimit-Remaining") or 0) > 0
        assert "errors" not in told(ask(api))


class TestFailures:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_graphql_fails_with_its_own_words(self, status: int) -> None:
        """No data, and the sentence about something that went wrong."""
        answer = ask(small(f"{status}@/graphql"))
        assert (answer.status, told(answer)["data"]) == (status, None)
        assert first_error(answer)["message"].startswith("Something went wrong while executing your query on ")

    def test_large_pages_fail_and_small_ones_work(self) -> None:
        """502 for more than 10 of a page, by GraphQL, by aliases and by REST, as often as they are asked for."""
        api = small("too-large=10@/*#*")
        assert [ask(api, first).status for first in (30, 11, 10, 30, 5)] == [502, 502, 200, 502, 200]
        aliases = " ".join(f"p{n}: pullRequest(number: {n}) {{ id }}" for n in range(1, 12))
        text = f'{{repository(owner:"acme",name:"billing-api"){{{aliases}}}}}'
        assert post(api, "/graphql", {"query": text}).status == 502
        assert [get(api, f"/repos/{ACME}/pulls", f"per_page={n}").status for n in (11, 10)] == [502, 200]

    def test_half_of_the_nodes_are_missing_when_resources_run_out(self) -> None:
        """RESOURCE_LIMITS_EXCEEDED beside the nodes that there are."""
        answer = told(ask(small("resource-limits@/graphql")))
        nodes = answer["data"]["repository"]["pullRequests"]["nodes"]
        assert [node is None for node in nodes] == [False] * 5 + [True] * 5
        assert answer["errors"][0]["type"] == "RESOURCE_LIMITS_EXCEEDED"
        assert answer["errors"][0]["path"] == ["repository", "pullRequests", "nodes", 5]

    def test_one_node_may_be_forbidden(self) -> None:
        """FORBIDDEN beside the others, in a page and among aliases."""
        answer = told(ask(small("forbidden@/graphql")))
        assert [node is None for node in answer["data"]["repository"]["pullRequests"]["nodes"]].count(True) == 1
        assert answer["errors"][0]["type"] == "FORBIDDEN"
        text = '{repository(owner:"acme",name:"billing-api"){a:pullRequest(number:1){id} b:pullRequest(number:2){id}}}'
        answer = query(small("forbidden@/graphql"), text)
        assert answer["data"]["repository"]["a"] is None
        assert answer["data"]["repository"]["b"] is not None
        assert answer["errors"][0]["path"] == ["repository", "a"]

    def test_a_fault_finds_the_repository_that_a_query_names(self) -> None:
        """Only acme/checkout-api fails, whether it stands in the text or in the variables."""
        api = small("502@/graphql/acme/checkout-api#*", count=2)
        assert ask(api).status == 200
        assert post(api, "/graphql", {"query": PAGE, "variables": VARIABLES | {"name": "checkout-api"}}).status == 502
        assert post(api, "/graphql", {"query": '{repository(owner:"acme",name:"checkout-api"){id}}'}).status == 502

    def test_each_third_request_may_fail(self) -> None:
        """A storm that lasts: %3 with #*."""
        api = small("502@/graphql%3#*")
        assert [ask(api).status for _ in range(7)] == [200, 200, 502, 200, 200, 502, 200]

    def test_malformed_json_is_a_whole_answer(self) -> None:
        """Status 200, and JSON that ends in the middle."""
        answer = ask(small("malformed@/graphql"))
        assert answer.status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.body)

    @pytest.mark.parametrize("status", [401, 404, 409, 410, 451])
    def test_other_statuses_come_with_a_message(self, status: int) -> None:
        """For any path, as planned."""
        answer = get(small(f"{status}@/repos/{ACME}/pulls"), f"/repos/{ACME}/pulls")
        assert (answer.status, bool(told(answer)["message"])) == (status, True)

    def test_a_plan_can_change_while_it_runs(self) -> None:
        """More faults, then none."""
        api = small()
        assert post(api, "/_double/faults", {"faults": ["502@/graphql#*"]}).status == 200
        assert ask(api).status == 502
        assert post(api, "/_double/faults", {"faults": ["teapot@1"]}).status == 400


@contextmanager
def running(api: Api) -> Iterator[tuple[GithubServer, requests.Session]]:
    """A server on loopback and a client with a token."""
    with serving(api) as server, requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = "Bearer t"
        yield server, session


class TestOnTheWire:
    def test_a_connection_is_cut_in_mid_body(self) -> None:
        """The client has the headers and half of the body; the next request works."""
        with running(small("cut@/graphql")) as (server, session):
            content = {"query": PAGE, "variables": VARIABLES}
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                session.post(f"{server.url}/graphql", json=content)
            assert session.post(f"{server.url}/graphql", json=content).status_code == 200
            assert server.violations == []

    def test_violations_are_told_to_other_processes(self) -> None:
        """What the server knows, and what it counts, can be asked for."""
        with running(small("secondary=30@1")) as (server, session):
            session.get(f"{server.url}/repos/{ACME}")
            session.get(f"{server.url}/repos/{ACME}")
            (violation,) = session.get(f"{server.url}/_double/violations").json()["violations"]
            assert (violation["kind"], violation["reason"]) == ("early", "Retry-After: 30")
            assert session.get(f"{server.url}/_double/counts").json()["core"] == 2


STORM = (
    *(
        "secondary=1@/graphql%5#2",
        "secondary-429=1@/graphql%7#2",
        "secondary-200=1@/graphql%11#1",
        "secondary@/graphql%13#1",
    ),
    *("primary=1@/graphql%17#1", "primary-code=1@/graphql%19#1", "primary-remaining=1@/graphql%23#1"),
    *("502@/graphql%4#*", "cut@/graphql%9#*", "drop@/graphql%10#*", "malformed@/graphql%6#*", "slow=0.1@/graphql%3#*"),
)


class TestStorm:
    def test_a_client_that_keeps_the_rules_gets_all_and_breaks_none(self) -> None:
        """Through every kind of limit and failure, two tokens at once, each by a client that waits as it is told."""
        api = small(*STORM, size=60)
        api.witness = Witness(least_wait=0.5)
        with serving(api) as server, ThreadPoolExecutor() as threads:
            walks = [threads.submit(_patient_walk, server.url, token) for token in ("one", "two")]
            assert [walk.result() for walk in walks] == [list(range(60, 0, -1))] * 2
            assert server.violations == []
            assert server.api.counts["graphql"] > 60


def _patient_walk(url: str, token: str) -> list[int]:
    """The numbers of all pull requests, two a page, by a client that tries again as GitHub wants it to."""
    numbers: list[int] = []
    after: str | None = None
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        while True:
            variables = {"owner": "acme", "name": "billing-api", "first": 2, "after": after}
            found = _patient_page(session, url, variables)
            numbers += [node["number"] for node in found["nodes"]]
            after = found["pageInfo"]["endCursor"]
            if not found["pageInfo"]["hasNextPage"]:
                return numbers


def _patient_page(session: requests.Session, url: str, variables: JsonObject) -> JsonObject:
    pause = threading.Event()
    while True:
        try:
            answer = session.post(f"{url}/graphql", json={"query": PAGE, "variables": variables})
            content = answer.json()
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.JSONDecodeError):
            continue
        if answer.status_code == 200 and "errors" not in content:
            found = content["data"]["repository"]["pullRequests"]
            assert isinstance(found, dict)
            return found
        retry_after, reset = answer.headers.get("Retry-After"), float(answer.headers["X-RateLimit-Reset"])
        if answer.status_code < 500:
            spent = answer.headers["X-RateLimit-Remaining"] == "0"
            pause.wait(float(retry_after) if retry_after else max(0.0, reset - time.time()) if spent else 0.5)


class TestWitness:
    def test_two_requests_at_once_on_one_token_are_noted(self) -> None:
        """A second request while the first one is being answered is a violation; on another token it is none."""
        with running(small("slow=0.5@1")) as (server, session), ThreadPoolExecutor() as threads:
            slow = threads.submit(session.get, f"{server.url}/repos/{ACME}")
            _until(lambda: server.api.counts["core"] == 1)
            other = {"Authorization": "Bearer other"}
            assert requests.get(f"{server.url}/repos/{ACME}", headers=other, timeout=9).status_code == 200
            assert server.violations == []
            same = {"Authorization": "token t"}
            assert requests.get(f"{server.url}/repos/{ACME}", headers=same, timeout=9).status_code == 200
            assert slow.result().status_code == 200
            assert [violation.kind for violation in server.violations] == ["parallel"]

    def test_one_that_was_killed_is_not_in_the_way(self) -> None:
        """A client that hangs up does not make its successor's request a parallel one."""
        with running(small("slow=0.5@1")) as (server, session):
            with socket.create_connection(("127.0.0.1", server.server_address[1])) as killed:
                lines = (f"GET /repos/{ACME} HTTP/1.1", "Host: x", "User-Agent: x", "Authorization: Bearer t", "", "")
                killed.sendall("\r\n".join(lines).encode())
                _until(lambda: server.api.counts["core"] == 1)
            assert session.get(f"{server.url}/repos/{ACME}").status_code == 200
            assert server.violations == []

    def test_one_after_the_other_is_no_violation(self) -> None:
        """However fast a client sends its next request."""
        with running(small()) as (server, session):
            for _ in range(100):
                session.get(f"{server.url}/repos/{ACME}")
            assert server.violations == []

    @pytest.mark.parametrize(
        ("fault", "wait"),
        [
            ("secondary=7@1", 7),
            ("secondary@1", 60),
            ("secondary-429@1", 60),
            ("primary=20@1", 20),
            ("primary-429=20@1", 20),
            ("primary-remaining=7@1", 7),
            ("primary-remaining@1", 60),
        ],
    )
    def test_a_request_before_the_limit_allows_it_is_noted(self, fault: str, wait: int) -> None:
        """A moment too early is a violation; the moment itself is none. So for REST and GraphQL."""
        for send in (_rest, ask):
            clock = Clock()
            api = small(fault, limits=RateLimits(clock=clock))
            for now, early in ((1000.0, []), (1000.0 + wait - 0.5, [0.5]), (1000.0 + wait + 60, [0.5])):
                clock.now = now
                _watched(api, send)
                assert [violation.early for violation in api.witness.violations] == early

    def test_a_secondary_limit_closes_all_a_primary_one_only_its_own(self) -> None:
        """REST goes on after GraphQL's points are spent, but not after a secondary limit."""
        for fault, violations in (("primary=20@/graphql", 0), ("secondary=20@/graphql", 1)):
            api = small(fault, limits=RateLimits(clock=Clock()))
            _watched(api, ask)
            _watched(api, _rest)
            assert len(api.witness.violations) == violations

    def test_the_last_request_of_a_window_closes_it(self) -> None:
        """After an answer with remaining 0 the next request waits for the reset; /rate_limit may be asked."""
        clock = Clock()
        api = small(limits=RateLimits(limit=1, window=60, clock=clock))
        _watched(api, _rest)
        _watched(api, lambda api: get(api, "/rate_limit"), "/rate_limit")
        assert api.witness.violations == []
        _watched(api, _rest)
        assert [violation.early for violation in api.witness.violations] == [60.0]


def _watched(api: Api, send: Callable[[Api], Answer], path: str = f"/repos/{ACME}") -> None:
    """One request, watched as the server watches it."""
    with api.witness.watching("t", Request("GET", "/graphql" if send is ask else path)):
        send(api)


def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.005)


def _rest(api: Api) -> Answer:
    """One request by REST."""
    return get(api, f"/repos/{ACME}")


def test_the_page_of_the_tests_is_a_whole_one() -> None:
    """Without a fault the page has data and no errors."""
    assert "errors" not in page(small())
