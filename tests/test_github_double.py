"""The GitHub-shaped server of the example: faithful to the recordings, to GitHub's rules and to its fault plan."""

from __future__ import annotations

import http.client
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from examples.github_sync import recordings
from examples.github_sync.double import generator, process
from examples.github_sync.double.api import Api, Request
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.faults import Fault, FaultPlan, FaultSyntaxError
from examples.github_sync.double.generator import GeneratedRepository
from examples.github_sync.double.rate_limit import RateLimits
from examples.github_sync.double.server import GithubServer, serving
from examples.github_sync.double.shapes import API, DETAIL_ONLY, JsonObject

GITHUB3 = "/repos/sigmavirus24/github3.py"
NEWER = {"commit.verification.verified_at"}
"""Fields that GitHub's published description asks for and that came after the recordings."""


@pytest.fixture(scope="module")
def exchanges() -> list[recordings.Exchange]:
    return recordings.load()


@pytest.fixture(scope="module")
def catalogue(exchanges: list[recordings.Exchange]) -> Catalogue:
    return Catalogue(exchanges, [GeneratedRepository("acme/billing-api", 0, 120)])


@pytest.fixture(scope="module")
def server(catalogue: Catalogue) -> Iterator[GithubServer]:
    with serving(Api(catalogue, limits=RateLimits(limit=1_000_000))) as running:
        yield running


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = "token of-a-test"
        yield session


def pages(session: requests.Session, url: str) -> list[JsonObject]:
    """Everything of a list, by following ``Link``."""
    items: list[JsonObject] = []
    following: str | None = url
    while following:
        response = session.get(following)
        assert response.status_code == 200
        items += response.json()
        following = response.links.get("next", {}).get("url")
    return items


def ask(api: Api, path: str, query: str = "", **headers: str) -> tuple[int, dict[str, str], object]:
    """One request without the wire."""
    sent = {"user-agent": "test", "authorization": "token t"} | {k.replace("_", "-"): v for k, v in headers.items()}
    answer = api.answer(Request("GET", path, query, sent))
    return answer.status, dict(answer.headers), json.loads(answer.body) if answer.body else None


def small(*faults: str, limits: RateLimits | None = None, size: int = 5) -> Api:
    """A double of one small generated repository."""
    plan = FaultPlan([Fault.parse(fault) for fault in faults])
    return Api(Catalogue(repositories=[GeneratedRepository("acme/billing-api", 0, size)]), limits=limits, faults=plan)


class TestRecordings:
    def test_all_exchanges_are_read(self, exchanges: list[recordings.Exchange]) -> None:
        """Every exchange of the 402 cassettes is there."""
        assert len(exchanges) == 1059
        assert len({exchange.cassette for exchange in exchanges}) == 402

    def test_a_wrong_archive_is_refused(self, tmp_path: Path) -> None:
        """What does not have the pinned hash is not opened, and the message says what to do."""
        (tmp_path / recordings.ARCHIVE).write_bytes(b"something else")
        with pytest.raises(recordings.RecordingsUnavailableError, match="delete it and run again"):
            recordings.load(tmp_path)

    def test_without_an_index_the_error_says_how_to_fix_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Offline, the error names the package and where to put it."""
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(recordings.RecordingsUnavailableError, match=r"put github3\.py-4\.0\.1\.tar\.gz") as caught:
            recordings.load(tmp_path)
        assert recordings.PACKAGE in str(caught.value)
        assert list(tmp_path.iterdir()) == []


class TestReplay:
    def test_every_recorded_read_is_answered_as_recorded(
        self, exchanges: list[recordings.Exchange], server: GithubServer, session: requests.Session
    ) -> None:
        """Status, body, content type, ETag and Link of each recorded GET come back, with our address in place."""
        recorded: dict[tuple[str, str], list[recordings.Exchange]] = defaultdict(list)
        for exchange in exchanges:
            if exchange.method == "GET" and exchange.url.startswith(API) and exchange.status != 304:
                recorded[exchange.url, exchange.accept].append(exchange)
        recorded = {key: found for key, found in recorded.items() if "/rate_limit" not in key[0]}
        assert len(recorded) > 300
        for (url, accept), found in recorded.items():
            response = session.get(
                server.url + url.removeprefix(API), headers={"Accept": accept}, allow_redirects=False
            )
            received = _received(response)
            # Upper and lower case are the same to GitHub; some repositories were recorded under both.
            same = [e for e in exchanges if e.url.lower() == url.lower() and _served(e, server.url) == received]
            assert same, (url, accept, response.status_code, [e.status for e in found])

    def test_a_recorded_walk_over_pages_is_the_same(
        self, exchanges: list[recordings.Exchange], server: GithubServer, session: requests.Session
    ) -> None:
        """Following Link from the first recorded page of forks gives all recorded pages in their order."""
        first = f"{API}{GITHUB3}/forks?per_page=100"
        walk = [
            e for e in exchanges if "/forks?" in e.url and e.cassette == "Repository_forks.json" and e.status == 200
        ]
        assert walk[0].url == first
        expected = [fork["full_name"] for exchange in walk for fork in json.loads(exchange.body)]
        found = [fork["full_name"] for fork in pages(session, server.url + first.removeprefix(API))]
        assert len(found) > 200
        assert found == expected

    def test_a_renamed_repository_is_redirected_here(self, server: GithubServer, session: requests.Session) -> None:
        """The recorded 301 leads to the repository's number on this server."""
        response = session.get(f"{server.url}/repos/sigmavirus24/betamax", allow_redirects=False)
        assert response.status_code == 301
        assert response.headers["Location"] == f"{server.url}/repositories/11439734"
        assert session.get(response.headers["Location"]).json()["full_name"] == "betamaxpy/betamax"

    def test_the_media_type_chooses_the_recording(self, server: GithubServer, session: requests.Session) -> None:
        """One address is answered as JSON or as a diff, as the Accept header asks."""
        url = f"{server.url}{GITHUB3}/pulls/235"
        assert session.get(url).json()["number"] == 235
        diff = session.get(url, headers={"Accept": "application/vnd.github.diff"})
        assert diff.text.startswith("diff --git")


def _served(exchange: recordings.Exchange, ours: str) -> tuple[object, ...]:
    link, location = exchange.header("Link"), exchange.header("Location")
    body = exchange.body
    if (exchange.header("Content-Type") or "").startswith("application/json"):
        body = body.replace(API.encode(), ours.encode())
    return (
        exchange.status,
        body,
        exchange.header("Content-Type"),
        exchange.header("ETag"),
        link and link.replace(API, ours),
        location and location.replace(API, ours),
    )


def _received(response: requests.Response) -> tuple[object, ...]:
    headers = [response.headers.get(name) for name in ("Content-Type", "ETag", "Link", "Location")]
    return (response.status_code, response.content, *headers)


class TestPullRequests:
    def test_the_list_holds_every_recorded_pull_request(
        self,
        exchanges: list[recordings.Exchange],
        catalogue: Catalogue,
        server: GithubServer,
        session: requests.Session,
    ) -> None:
        """All numbers that occur in the recordings are listed, oldest first, over all repositories."""
        numbers: dict[str, set[int]] = defaultdict(set)
        for exchange in exchanges:
            for found in _pulls(exchange.body):
                numbers["/".join(urlsplit(found["url"]).path.split("/")[2:4])].add(found["number"])
        assert sum(len(found) for found in numbers.values()) == 98
        for full_name, expected in numbers.items():
            query = "state=all&sort=created&direction=asc&per_page=7"
            listed = [pull["number"] for pull in pages(session, f"{server.url}/repos/{full_name}/pulls?{query}")]
            assert listed == sorted(expected), full_name
        assert {r.full_name for r in catalogue.repositories()} == {*numbers, "acme/billing-api"}

    def test_a_list_is_open_and_newest_first_by_default(self, server: GithubServer, session: requests.Session) -> None:
        """Without a query only open pull requests come, thirty at most, the newest first."""
        found = session.get(f"{server.url}/repos/acme/billing-api/pulls").json()
        assert {pull["state"] for pull in found} == {"open"}
        assert [pull["number"] for pull in found] == sorted((pull["number"] for pull in found), reverse=True)

    @pytest.mark.parametrize(
        ("asked", "given"), [("", 30), ("&per_page=100", 100), ("&per_page=1000", 100), ("&per_page=x", 30)]
    )
    def test_pages_have_thirty_items_and_at_most_a_hundred(
        self, server: GithubServer, session: requests.Session, asked: str, given: int
    ) -> None:
        """The page size is what was asked for within GitHub's bounds."""
        assert len(session.get(f"{server.url}/repos/acme/billing-api/pulls?state=all{asked}").json()) == given

    def test_link_names_the_other_pages_by_the_repositorys_number(
        self, server: GithubServer, session: requests.Session
    ) -> None:
        """In the middle all four relations are there; the addresses are GitHub's form of this server's."""
        links = session.get(f"{server.url}/repos/acme/billing-api/pulls?state=all&per_page=50&page=2").links
        base = f"{server.url}/repositories/900000000/pulls?state=all&per_page=50&page="
        expected = {"prev": "1", "next": "3", "last": "3", "first": "1"}
        assert {name: link["url"] for name, link in links.items()} == {n: base + p for n, p in expected.items()}

    def test_a_single_page_has_no_link(self, server: GithubServer, session: requests.Session) -> None:
        """Link is left out, not empty."""
        assert "Link" not in session.get(f"{server.url}{GITHUB3}/pulls/671/reviews").headers

    def test_a_list_hides_what_only_the_detail_shows(self, server: GithubServer, session: requests.Session) -> None:
        """Counts and mergeability come with the single pull request alone."""
        listed = session.get(f"{server.url}/repos/acme/billing-api/pulls?state=all").json()[0]
        detail = session.get(f"{server.url}/repos/acme/billing-api/pulls/{listed['number']}").json()
        assert detail.keys() - listed.keys() == set(DETAIL_ONLY)
        assert {key: detail[key] for key in listed} == listed

    def test_details_are_the_recorded_ones(self, server: GithubServer, session: requests.Session) -> None:
        """Reviews, files and commits are recorded ones, also where only other requests showed them."""
        reviews = session.get(f"{server.url}{GITHUB3}/pulls/671/reviews").json()
        assert [review["submitted_at"] for review in reviews] == sorted(r["submitted_at"] for r in reviews)
        assert len(reviews) == 5
        commits = session.get(f"{server.url}{GITHUB3}/pulls/235/commits").json()
        assert commits[-1]["sha"] == session.get(f"{server.url}{GITHUB3}/pulls/235").json()["head"]["sha"]
        # Known only from its review comments.
        assert session.get(f"{server.url}/repos/shazow/urllib3/pulls/1283/reviews").json()[0]["state"] == "COMMENTED"

    def test_names_are_found_in_any_case(self, server: GithubServer, session: requests.Session) -> None:
        """As on GitHub, ACME/Billing-API is acme/billing-api."""
        assert session.get(f"{server.url}/repos/ACME/Billing-API").json()["full_name"] == "acme/billing-api"

    @pytest.mark.parametrize(
        "path",
        ["/repos/acme/none", "/repos/acme/billing-api/pulls/9999", "/repos/acme/billing-api/secrets", "/", "/../x"],
    )
    def test_what_is_unknown_is_not_found(self, server: GithubServer, session: requests.Session, path: str) -> None:
        """404 with GitHub's JSON."""
        response = session.get(server.url + path)
        assert response.status_code == 404
        assert response.json()["message"] == "Not Found"

    def test_writes_are_not_found(self, server: GithubServer, session: requests.Session) -> None:
        """The double is read-only; the connection stays usable after a request with a body."""
        assert session.post(f"{server.url}{GITHUB3}/pulls", json={"title": "x"}).status_code == 404
        assert session.get(f"{server.url}{GITHUB3}").status_code == 200

    def test_the_user_needs_a_token(self, server: GithubServer, session: requests.Session) -> None:
        """401 without one, the recorded user with one."""
        assert session.get(f"{server.url}/user", headers={"Authorization": ""}).status_code == 401
        assert "login" in session.get(f"{server.url}/user").json()

    def test_the_connection_is_kept(self, server: GithubServer) -> None:
        """Two requests go over one connection; HEAD has no body."""
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
        try:
            for method in ("HEAD", "GET"):
                connection.request(method, GITHUB3, headers={"User-Agent": "test"})
                response = connection.getresponse()
                assert response.version == 11
                assert bool(response.read()) == (method == "GET")
                assert connection.sock is not None
        finally:
            connection.close()

    def test_a_request_without_a_user_agent_is_forbidden(self) -> None:
        """403, as GitHub has it."""
        assert small().answer(Request("GET", "/repos/acme/billing-api")).status == 403


def _pulls(body: bytes) -> Iterator[JsonObject]:
    """Every pull request anywhere in a body."""
    open_values = [json.loads(body)] if body[:1] in (b"{", b"[") else []
    while open_values:
        value = open_values.pop()
        if isinstance(value, dict) and {"diff_url", "head", "base"} <= value.keys():
            yield value
        if isinstance(value, dict | list):
            open_values.extend(value.values() if isinstance(value, dict) else value)


class TestLimits:
    def test_the_headers_count_down_for_each_token(self) -> None:
        """A request costs its token one; /rate_limit costs nothing and tells the same."""
        api = small(limits=RateLimits(limit=10))
        remaining = [ask(api, "/repos/acme/billing-api")[1]["X-RateLimit-Remaining"] for _ in range(3)]
        assert remaining == ["9", "8", "7"]
        _, headers, told = ask(api, "/rate_limit")
        assert headers["X-RateLimit-Remaining"] == "7"
        assert isinstance(told, dict)
        assert told["resources"]["core"]["used"] == 3
        assert ask(api, "/repos/acme/billing-api", authorization="token u")[1]["X-RateLimit-Remaining"] == "9"

    def test_when_nothing_remains_requests_are_forbidden_until_the_reset(self) -> None:
        """403 with GitHub's words and remaining 0; the next window is full again."""
        now = 1000.0
        api = small(limits=RateLimits(limit=2, window=60, clock=lambda: now))
        assert [ask(api, "/repos/acme/billing-api")[0] for _ in range(3)] == [200, 200, 403]
        status, headers, body = ask(api, "/repos/acme/billing-api/pulls")
        assert (status, headers["X-RateLimit-Remaining"], headers["X-RateLimit-Reset"]) == (403, "0", "1060")
        assert isinstance(body, dict)
        assert body["message"].startswith("API rate limit exceeded for user ID ")
        now = 1060.0
        assert ask(api, "/repos/acme/billing-api")[1]["X-RateLimit-Remaining"] == "1"

    def test_without_a_token_the_limit_is_sixty(self) -> None:
        """Anonymous requests have the lower limit."""
        assert ask(small(), "/repos/acme/billing-api", authorization="")[1]["X-RateLimit-Limit"] == "60"

    def test_what_is_known_already_costs_nothing(self) -> None:
        """If-None-Match with the ETag gives a 304 without a body and leaves the limit alone; a change shows."""
        api = small()
        _, first, _ = ask(api, "/repos/acme/billing-api/pulls/3")
        status, headers, body = ask(api, "/repos/acme/billing-api/pulls/3", if_none_match=first["ETag"])
        assert (status, body) == (304, None)
        assert headers["X-RateLimit-Remaining"] == first["X-RateLimit-Remaining"]
        assert headers["ETag"] == first["ETag"]
        api.catalogue.change("acme/billing-api", 3, title="Another title")
        assert ask(api, "/repos/acme/billing-api/pulls/3", if_none_match=first["ETag"])[0] == 200


class TestFaults:
    def test_a_primary_limit_is_used_up_at_the_planned_request(self) -> None:
        """The second request finds nothing left, and so do the following ones until the reset."""
        api = small("primary=1@2", limits=RateLimits(clock=lambda: 1000.0))
        assert [ask(api, "/repos/acme/billing-api")[0] for _ in range(3)] == [200, 403, 403]
        assert ask(api, "/rate_limit")[1]["X-RateLimit-Reset"] == "1001"

    def test_a_secondary_limit_leaves_the_primary_alone(self) -> None:
        """403 or 429, Retry-After only where planned, remaining above 0."""
        api = small("secondary=1@/repos/acme/billing-api", "secondary-429@/repos/acme/billing-api/pulls")
        status, headers, body = ask(api, "/repos/acme/billing-api")
        assert (status, headers["Retry-After"]) == (403, "1")
        assert isinstance(body, dict)
        assert body["message"].startswith("You have exceeded a secondary rate limit.")
        status, headers, _ = ask(api, "/repos/acme/billing-api/pulls")
        assert status == 429
        assert "Retry-After" not in headers
        assert int(headers["X-RateLimit-Remaining"]) > 0
        assert ask(api, "/repos/acme/billing-api")[0] == 200

    def test_a_server_error_comes_as_often_as_planned(self) -> None:
        """Twice for one path, always for a pattern."""
        api = small("502@/repos/acme/billing-api#2", "503@/repos/*/pulls/4/*#*")
        assert [ask(api, "/repos/acme/billing-api")[0] for _ in range(3)] == [502, 502, 200]
        assert [ask(api, "/repos/acme/billing-api/pulls/4/files")[0] for _ in range(3)] == [503, 503, 503]
        assert ask(api, "/repos/acme/billing-api/pulls/3/files")[0] == 200

    def test_a_slow_answer_is_an_answer(self) -> None:
        """The delay comes on top."""
        answer = small("slow=0.5@1").answer(Request("GET", "/repos/acme/billing-api", "", {"user-agent": "test"}))
        assert (answer.status, answer.delay) == (200, 0.5)

    def test_a_dropped_connection_is_closed_without_an_answer(self, session: requests.Session) -> None:
        """The client sees the connection end; the server goes on."""
        with serving(small("drop@1")) as running:
            with pytest.raises(requests.ConnectionError):
                session.get(f"{running.url}/repos/acme/billing-api")
            assert session.get(f"{running.url}/repos/acme/billing-api").status_code == 200

    @pytest.mark.parametrize("text", ["", "502", "502@", "teapot@3", "502@pulls", "502@3#x", "slow=x@1", "slow=-1@1"])
    def test_a_fault_that_is_written_wrong_is_refused(self, text: str) -> None:
        """The message shows the form."""
        with pytest.raises(FaultSyntaxError, match="KIND"):
            Fault.parse(text)


class TestGenerator:
    def test_generated_objects_have_the_shape_of_recorded_ones(
        self, server: GithubServer, session: requests.Session
    ) -> None:
        """Same fields at every level as the newest recordings (asked for without ``full``)."""
        repository = GeneratedRepository("acme/billing-api", 0, 120)
        reviewed = next(number for number in repository.numbers() if repository.reviews(number))
        for recorded, generated, kept_out in (
            ("pulls/873", "pulls/3", {"body_html", "body_text"}),
            ("pulls/235/files", "pulls/3/files", set()),
            ("pulls/235/commits", "pulls/3/commits", set()),
            ("pulls/671/reviews?per_page=100", f"pulls/{reviewed}/reviews", {"body_html", "body_text"}),
        ):
            real = _first(session.get(f"{server.url}{GITHUB3}/{recorded}").json())
            ours = _first(session.get(f"{server.url}/repos/acme/billing-api/{generated}").json())
            assert _shape(ours) - NEWER == {path for path in _shape(real) if path not in kept_out}, recorded

    def test_the_same_seed_gives_the_same(self) -> None:
        """Two repositories of one seed are equal, those of two seeds are not."""
        one, same, other = (GeneratedRepository("acme/billing-api", 0, 9, seed) for seed in (1, 1, 2))
        assert [one.pull_request(n) for n in one.numbers()] == [same.pull_request(n) for n in same.numbers()]
        assert one.pull_request(3) != other.pull_request(3)

    def test_figures_fit_the_details(self) -> None:
        """A pull request's counts are those of its files and commits; its last commit is its head."""
        repository = GeneratedRepository("acme/billing-api", 0, 40)
        for number in repository.numbers():
            pull = repository.pull_request(number)
            assert pull is not None
            files, commits = repository.files(number), repository.commits(number)
            assert (pull["changed_files"], pull["commits"]) == (len(files), len(commits))
            assert pull["additions"] == sum(file["additions"] for file in files)
            assert commits[-1]["sha"] == pull["head"]["sha"]
            assert (pull["state"] == "closed") == (pull["closed_at"] is not None)

    def test_numbers_and_names_do_not_collide(self) -> None:
        """Over fifty repositories of a thousand, names and numbers are distinct; 250 names are, too."""
        repositories = [GeneratedRepository(name, index, 1000) for index, name in enumerate(generator.names(50))]
        assert len({repository.full_name for repository in repositories}) == 50
        identities = {pull["id"] for r in repositories for n in (1, 1000) if (pull := r.pull_request(n)) is not None}
        assert len(identities) == 100
        assert len(set(generator.names(250))) == 250

    def test_some_titles_are_hostile(self) -> None:
        """The thirteenth title would harm a careless terminal."""
        pull = GeneratedRepository("acme/billing-api", 0, 20).pull_request(13)
        assert pull is not None
        assert "\x1b[2J" in pull["title"]


def _first(found: JsonObject | list[JsonObject]) -> JsonObject:
    return found[0] if isinstance(found, list) else found


def _shape(value: object, path: str = "") -> set[str]:
    """The paths of all fields; lists and what is null in one of the two are not entered."""
    if not isinstance(value, dict):
        return set()
    below = {f"{path}{key}" for key in value}
    for key in ("user", "head", "base", "_links", "owner", "repo", "commit", "author", "tree", "verification"):
        below |= _shape(value.get(key), f"{path}{key}.")
    return below


class TestProcess:
    def test_it_runs_as_a_process_and_ends_with_the_block(self, session: requests.Session, tmp_path: Path) -> None:
        """Address and repositories are told; afterwards nothing listens; the access log tells each request."""
        log = tmp_path / "double.log"
        arguments = ["--no-recordings", "--generated", "2x3", "--log", str(log)]
        with process.started(arguments) as double:
            assert double.repositories == {"acme/billing-api": 3, "acme/checkout-api": 3}
            assert session.get(f"{double.url}/repos/acme/checkout-api/pulls/2").json()["number"] == 2
        with pytest.raises(requests.ConnectionError):
            session.get(f"{double.url}/repos/acme/checkout-api")
        line = json.loads(log.read_text().splitlines()[0])
        assert (line["path"], line["status"]) == ("/repos/acme/checkout-api/pulls/2", 200)

    def test_the_quick_start_gives_recent_pull_requests(self, session: requests.Session, tmp_path: Path) -> None:
        """--repos and --pulls end about now; faults, conditions, renames and the log are there."""
        log = tmp_path / "double.log"
        arguments = ["--no-recordings", "--repos", "3", "--pulls", "40", "--fault", "502@/graphql", "--log", str(log)]
        arguments += ["--renamed", "acme/billing-api=acme/invoices", "--condition", "acme/search-api=gone"]
        with process.started(arguments) as double:
            assert double.repositories == {"acme/invoices": 40, "acme/checkout-api": 40, "acme/search-api": 40}
            newest = session.get(f"{double.url}/repos/acme/checkout-api/issues?state=all").json()[0]
            age = datetime.now(UTC) - datetime.fromisoformat(newest["created_at"])
            assert timedelta(days=-1) < age < timedelta(days=1)
            text = '{repository(owner:"acme",name:"billing-api"){nameWithOwner}}'
            answers = [session.post(f"{double.url}/graphql", json={"query": text}) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [502, 200]
            assert answers[1].json()["data"]["repository"]["nameWithOwner"] == "acme/invoices"
            assert session.get(f"{double.url}/repos/acme/search-api").status_code == 410
            assert session.get(f"{double.url}/_double/violations").json() == {"violations": []}
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [line.get("fault") for line in lines] == [None, "502", None, None, None]
        assert lines[2] | {"resource": "graphql", "cost": 1, "status": 200} == lines[2]
        assert "of-a-test" not in log.read_text()

    def test_what_keeps_it_from_starting_is_told(self) -> None:
        """A wrong option is in the error."""
        with pytest.raises(process.DoubleFailedError, match="50x1000"), process.started(["--generated", "many"]):
            pytest.fail("it should not have started")
