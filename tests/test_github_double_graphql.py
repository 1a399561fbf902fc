"""GraphQL of the GitHub-shaped server: answers that fit the published schema, GitHub's prices and GitHub's errors."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests
from github import Auth, Github, GithubException
from github_doubles import ACME, HEADERS, PAGE, Clock, get, page, post, query, small, told, walk

from examples.github_sync import queries, recordings
from examples.github_sync.double import asked_schema, graphql_endpoint, published
from examples.github_sync.double.api import Api, Request
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.generator import GeneratedRepository
from examples.github_sync.double.rate_limit import RateLimits
from examples.github_sync.double.server import serving
from examples.github_sync.double.shapes import JsonObject


class TestSchema:
    def test_a_wrong_archive_is_refused(self, tmp_path: Path) -> None:
        """What does not have the pinned hash is not opened, and the message says what to do."""
        (tmp_path / published.GRAPHQL.archive).write_bytes(b"something else")
        with pytest.raises(published.NotAvailableError, match="delete it and run again"):
            published.graphql_schema(tmp_path)

    def test_without_npm_the_error_says_how_to_fix_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the package and where to put it."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(published.NotAvailableError, match=r"put octokit-graphql-schema-.*\.tgz from another"):
            published.graphql_schema(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_the_part_that_is_kept_is_the_published_one(self) -> None:
        """What the demo serves without npm is made of the published schema, of what the sync's queries ask for."""
        assert asked_schema.text() == asked_schema.made()

    def test_the_part_answers_as_the_whole(self) -> None:
        """Each of the sync's queries has the same answer, price included, by either schema."""
        names = {"owner": "acme", "name": "billing-api"}
        activity, searches = queries.activity(["acme/billing-api"], date(2020, 1, 1))
        asked: list[tuple[str, dict[str, Any]]] = [
            (queries.PULL_REQUESTS, {**names, "size": 5, "after": None, "window": "repo:acme/billing-api is:pr"}),
            (queries.by_number([1, 2]), names),
            (queries.details("commits"), {**names, "number": 3, "after": None}),
            (activity, searches),
        ]
        answers = []
        for source in (asked_schema.text, published.graphql_schema):
            graphql_endpoint.take_schema(source)
            api = small()
            told_so = [query(api, text, **variables) for text, variables in asked]
            answers.append(re.sub(r'"resetAt": "[^"]*"', "", json.dumps(told_so)))
        assert answers[0] == answers[1]
        assert "errors" not in answers[0]


class TestPullRequests:
    def test_a_page_holds_what_rest_tells(self) -> None:
        """Each field of a page with all its details is that of the REST objects."""
        api = small()
        nodes = page(api)["data"]["repository"]["pullRequests"]["nodes"]
        assert [node["number"] for node in nodes] == list(range(30, 20, -1))
        for node in nodes:
            path = f"/repos/{ACME}/pulls/{node['number']}"
            pull = told(get(api, path))
            reviews, commits, files = (
                json.loads(get(api, f"{path}/{n}").body) for n in ("reviews", "commits", "files")
            )
            assert node["state"] == ("MERGED" if pull["merged"] else pull["state"].upper())
            same = ("title", "body", "created_at", "updated_at", "closed_at", "merged_at", "additions", "changed_files")
            assert {name: node[_camel(name)] for name in same} == {name: pull[name] for name in same}
            assert (node["id"], int(node["fullDatabaseId"])) == (pull["node_id"], pull["id"])
            assert (node["headRefOid"], node["author"]["login"]) == (pull["head"]["sha"], pull["user"]["login"])
            assert [each["fullDatabaseId"] for each in node["reviews"]["nodes"]] == [
                str(each["id"]) for each in reviews
            ]
            assert [each["commit"]["oid"] for each in node["commits"]["nodes"]] == [each["sha"] for each in commits]
            assert [each["path"] for each in node["files"]["nodes"]] == [each["filename"] for each in files]
            assert [each["name"] for each in node["labels"]["nodes"]] == [each["name"] for each in pull["labels"]]

    @pytest.mark.parametrize("first", [1, 7, 30, 100])
    def test_a_walk_meets_each_once(self, first: int) -> None:
        """In pages of any size, the newest first."""
        assert walk(small(), first) == list(range(30, 0, -1))

    def test_every_recorded_pull_request_can_be_had(self) -> None:
        """Old recordings have no node ids, no drafts and deleted users; none of that is an error."""
        api = Api(Catalogue(recordings.load()), limits=RateLimits(limit=100_000))
        found = 0
        for repository in api.catalogue.repositories():
            owner, _, name = repository.full_name.partition("/")
            text = f'{{repository(owner:"{owner}",name:"{name}"){{pullRequests(first:100){{nodes{{{FIELDS}}}}}}}}}'
            answer = query(api, text)
            assert "errors" not in answer
            found += len(answer["data"]["repository"]["pullRequests"]["nodes"])
        assert found == 98

    def test_details_have_pages_too(self) -> None:
        """Reviews of a pull request in pages of one are those of one page."""
        api = small(size=60)
        repository = api.catalogue.repositories()[0]
        number = max(repository.numbers(), key=lambda each: len(repository.reviews(each)))
        text = 'query($n:Int!,$f:Int!,$a:String){repository(owner:"acme",name:"billing-api"){pullRequest(number:$n){'
        text += "reviews(first:$f,after:$a){totalCount pageInfo{endCursor hasNextPage} nodes{id}}}}}"
        whole = query(api, text, n=number, f=100)["data"]["repository"]["pullRequest"]["reviews"]
        after, one_by_one = None, []
        for _ in range(whole["totalCount"]):
            part = query(api, text, n=number, f=1, a=after)["data"]["repository"]["pullRequest"]["reviews"]
            one_by_one += part["nodes"]
            after = part["pageInfo"]["endCursor"]
        assert len(one_by_one) > 2
        assert (one_by_one, part["pageInfo"]["hasNextPage"]) == (whole["nodes"], False)

    def test_states_choose(self) -> None:
        """Only pull requests of the wanted states are counted and shown."""
        text = '{repository(owner:"acme",name:"billing-api"){'
        text += "".join(f"{s}:pullRequests(states:{s},first:100){{totalCount nodes{{state}}}} " for s in STATES)
        found = query(small(size=100), text + "}}")["data"]["repository"]
        assert sum(found[state]["totalCount"] for state in STATES) == 100
        assert all({node["state"] for node in found[state]["nodes"]} == {state} for state in STATES)

    def test_an_edit_between_two_pages_hides_one_from_a_walk_by_updates(self) -> None:
        """The edited pull request moves to the front, where the walk has been; by creation it is met."""
        drifting = small("drift@/graphql/acme/billing-api")
        assert len(walk(drifting, 10, "UPDATED_AT")) == 29
        assert len(walk(small("drift@/graphql/acme/billing-api"), 10)) == 30

    def test_one_is_found_by_its_id(self) -> None:
        """`node` leads to the pull request of that id; an id that is none is not found."""
        api = small()
        identity = page(api, 1)["data"]["repository"]["pullRequests"]["nodes"][0]["id"]
        assert query(api, f'{{node(id:"{identity}"){{... on PullRequest {{number}}}}}}')["data"]["node"] == {
            "number": 30
        }
        assert query(api, '{node(id:"nonsense"){id}}')["errors"][0]["type"] == "NOT_FOUND"

    def test_many_aliases_go_into_one_query(self) -> None:
        """Forty pull requests by number cost a point; one that is missing is null, the others are there."""
        api = small()
        inner = " ".join(f"p{number}: pullRequest(number: {number}) {{ number title }}" for number in range(1, 42))
        answer = query(api, f'{{repository(owner:"acme",name:"billing-api"){{{inner}}} rateLimit{{cost}}}}')
        found = answer["data"]["repository"]
        assert [found[f"p{number}"]["number"] for number in range(1, 31)] == list(range(1, 31))
        assert found["p31"] is None
        assert answer["errors"][0]["path"] == ["repository", "p31"]
        assert answer["data"]["rateLimit"]["cost"] == 1


STATES = ("OPEN", "CLOSED", "MERGED")
FIELDS = (
    "id number title body state isDraft createdAt updatedAt closedAt mergedAt author{login} mergedBy{login} "
    "reviews(first:50){nodes{state submittedAt author{login}}} files(first:50){nodes{path changeType}} "
    "commits(first:50){nodes{commit{oid message authoredDate author{name user{login}}}}} labels(first:9){nodes{name}}"
)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


class TestSearch:
    def test_counts_are_those_of_the_catalogue(self) -> None:
        """Aliased searches count by state and by date; ends of days belong to the day."""
        api = small(size=100, count=2)
        pulls = [told(get(api, f"/repos/{ACME}/pulls/{number}")) for number in range(1, 101)]
        day = pulls[40]["created_at"][:10]
        expected = {
            "all": 100,
            "open": sum(pull["state"] == "open" for pull in pulls),
            "merged": sum(pull["merged"] for pull in pulls),
            f"created:>={day}": sum(pull["created_at"][:10] >= day for pull in pulls),
            f"created:>{day}": sum(pull["created_at"][:10] > day for pull in pulls),
            f"created:<{day}": sum(pull["created_at"][:10] < day for pull in pulls),
            f"updated:<={day}": sum(pull["updated_at"][:10] <= day for pull in pulls),
            f"merged:{day}..*": sum((pull["merged_at"] or "")[:10] >= day for pull in pulls),
            f"created:>={pulls[40]['created_at']}": 60,
        }
        terms = {"all": "", "open": "is:open", "merged": "is:merged"}
        aliases = [
            f's{n}: search(query: "repo:{ACME} is:pr {terms.get(term, term)}", type: ISSUE) {{ issueCount }}'
            for n, term in enumerate(expected)
        ]
        found = query(api, f"{{ {' '.join(aliases)} }}")["data"]
        assert [found[f"s{n}"]["issueCount"] for n in range(len(expected))] == list(expected.values())

    def test_a_query_that_it_does_not_understand_is_refused(self) -> None:
        """No count is better than a wrong one."""
        answer = query(small(), '{search(query:"repo:acme/billing-api comments:>3",type:ISSUE){issueCount}}')
        assert "comments" in answer["errors"][0]["message"]


class TestPrice:
    def test_a_page_costs_what_its_connections_cost(self) -> None:
        """1 + 4 x 50 requests are two points, and 50 + 50 x 4 x 50 nodes, as GitHub's rule has it."""
        api = small()
        limit = page(api, 50)["data"]["rateLimit"]
        assert (limit["cost"], limit["nodeCount"], limit["used"], limit["remaining"]) == (2, 10_050, 2, 4998)
        assert page(api, 1)["data"]["rateLimit"]["used"] == 3

    def test_quotas_are_apart(self) -> None:
        """GraphQL and REST count down on their own, and /rate_limit tells both."""
        api = small()
        page(api, 50)
        headers = dict(get(api, f"/repos/{ACME}").headers)
        assert (headers["X-RateLimit-Resource"], headers["X-RateLimit-Used"]) == ("core", "1")
        found = told(get(api, "/rate_limit"))["resources"]
        assert {name: quota["used"] for name, quota in found.items()} == {"core": 1, "graphql": 2, "search": 0}

    def test_when_too_little_remains_the_answer_is_200_and_rate_limited(self) -> None:
        """One point is left, two are needed: no data, and remaining is not 0."""
        clock = Clock()
        api = small(limits=RateLimits(limit=5, window=60, clock=clock))
        for _ in range(2):
            assert "errors" not in page(api, 50)
        answer = post(api, "/graphql", {"query": PLAIN_PAGE})
        assert (answer.status, answer.header("X-RateLimit-Remaining"), answer.limited) == (200, "1", "primary")
        assert told(answer)["errors"][0]["type"] == "RATE_LIMITED"
        clock.now = 1060.0
        assert "errors" not in page(api, 50)

    @pytest.mark.parametrize(
        ("text", "kind", "words"),
        [
            ("pullRequests{nodes{id}}", "MISSING_PAGINATION_BOUNDARIES", "`first` or `last`"),
            ("pullRequests(first:101){nodes{id}}", "EXCESSIVE_PAGINATION", "101 records"),
            (
                "pullRequests(first:100){nodes{reviews(first:100){nodes{comments(first:100){nodes{id}}}}}}",
                "MAX_NODE_LIMIT_EXCEEDED",
                "up to 1,010,100 possible nodes which exceeds the maximum limit of 500,000",
            ),
        ],
    )
    def test_what_asks_for_too_much_does_not_run(self, text: str, kind: str, words: str) -> None:
        """No data, and GitHub's type and words."""
        answer = query(small(), f'{{repository(owner:"acme",name:"billing-api"){{{text}}}}}')
        assert (answer["data"], answer["errors"][0]["type"]) == (None, kind)
        assert words in answer["errors"][0]["message"]

    def test_a_count_needs_no_bounds(self) -> None:
        """`totalCount` alone needs neither first nor last."""
        answer = query(small(), '{repository(owner:"acme",name:"billing-api"){pullRequests{totalCount}}}')
        assert answer["data"]["repository"]["pullRequests"] == {"totalCount": 30}


PLAIN_PAGE = (
    '{repository(owner:"acme",name:"billing-api"){pullRequests(first:100)'
    "{nodes{reviews(first:1){nodes{id}} files(first:1){nodes{path}}}}}}"
)


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message", "path", "code"),
        [
            ("{foo}", "Field 'foo' doesn't exist on type 'Query'", ["query", "foo"], "undefinedField"),
            (
                'query Q{repository(owner:"a",name:"b"){pullRequests(first:1,bar:2){totalCount}}}',
                "Field 'pullRequests' doesn't accept argument 'bar'",
                ["query Q", "repository", "pullRequests", "bar"],
                "argumentNotAccepted",
            ),
            (
                '{repository(owner:"a"){id}}',
                "Field 'repository' is missing required arguments: name",
                ["query", "repository"],
                "missingRequiredArguments",
            ),
        ],
    )
    def test_a_query_against_the_schema_is_refused(self, text: str, message: str, path: list[str], code: str) -> None:
        """HTTP 200, no data, and what is wrong in GitHub's shape."""
        (wrong,) = query(small(), text)["errors"]
        assert (wrong["message"], wrong["path"], wrong["extensions"]["code"]) == (message, path, code)
        assert wrong["locations"][0]["line"] == 1

    def test_a_variable_that_is_missing_is_named(self) -> None:
        """The error names the variable and its type."""
        (wrong,) = query(small(), 'query($o:String!){repository(owner:$o,name:"b"){id}}')["errors"]
        assert wrong["message"] == "Variable $o of type String! was provided invalid value"

    def test_a_field_that_the_double_lacks_is_an_error(self) -> None:
        """It is never a silent null."""
        (wrong,) = query(small(), '{repository(owner:"acme",name:"billing-api"){stargazerCount}}')["errors"]
        assert wrong["message"] == "The double does not serve Repository.stargazerCount"

    def test_what_is_missing_is_null_beside_what_is_there(self) -> None:
        """NOT_FOUND comes with the other repository's data."""
        answer = query(
            small(), '{a:repository(owner:"acme",name:"none"){id} b:repository(owner:"acme",name:"billing-api"){name}}'
        )
        assert answer["data"] == {"a": None, "b": {"name": "billing-api"}}
        (wrong,) = answer["errors"]
        assert wrong == {
            "type": "NOT_FOUND",
            "path": ["a"],
            "locations": [{"line": 1, "column": 2}],
            "message": "Could not resolve to a Repository with the name 'acme/none'.",
        }

    def test_a_renamed_repository_answers_under_its_old_name(self) -> None:
        """GraphQL follows a rename and tells the new name; content and ids stay."""
        api = small()
        before = page(api, 3)["data"]["repository"]
        api.catalogue.rename(ACME, "acme/invoices")
        after = page(api, 3)["data"]["repository"]
        assert after["nameWithOwner"] == "acme/invoices"
        assert [node["id"] for node in _nodes(after)] == [node["id"] for node in _nodes(before)]
        assert [node["title"] for node in _nodes(after)] == [node["title"] for node in _nodes(before)]

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"query": 3}', b'{"query": "{viewer{login}}", "variables": 3}'])
    def test_a_body_that_is_no_query_is_bad(self, body: bytes) -> None:
        """HTTP 400 with a message."""
        assert small().answer(Request("POST", "/graphql", "", HEADERS, body)).status == 400

    def test_a_token_is_needed(self) -> None:
        """401 without one."""
        assert post(small(), "/graphql", {"query": "{viewer{login}}"}, authorization="").status == 401


def _nodes(repository: JsonObject) -> list[JsonObject]:
    nodes: list[JsonObject] = repository["pullRequests"]["nodes"]
    return nodes


class TestWhatIsNotServed:
    @pytest.mark.parametrize(
        "text",
        [
            'pullRequests(first:1,labels:["bug"]){nodes{id}}',
            'pullRequests(first:1,headRefName:"x"){nodes{id}}',
            "pullRequests(first:1,orderBy:{field:COMMENTS,direction:ASC}){nodes{id}}",
            'pullRequest(number:1){reviews(first:1,author:"x"){nodes{id}}}',
        ],
    )
    def test_an_argument_that_the_double_lacks_is_an_error(self, text: str) -> None:
        """It is never ignored."""
        (wrong,) = query(small(), f'{{repository(owner:"acme",name:"billing-api"){{{text}}}}}')["errors"]
        assert wrong["message"].startswith("The double does not serve the ")

    @pytest.mark.parametrize("asked", ["head=acme:x", "base=main", "sort=popularity", "labels=bug"])
    def test_nor_is_one_of_rest(self, asked: str) -> None:
        """501 with the name."""
        assert get(small(), f"/repos/{ACME}/pulls", asked).status == 501


def test_pygithub_can_ask() -> None:
    """PyGithub's own way to GraphQL, errors included."""
    with serving(small()) as server, closing(Github(base_url=server.url, auth=Auth.Token("x"), retry=None)) as github:
        _headers, answer = github.requester.graphql_query(PAGE, {"owner": "acme", "name": "billing-api", "first": 3})
        assert answer["data"]["repository"]["pullRequests"]["totalCount"] == 30
        with pytest.raises(GithubException, match="Could not resolve to a Repository"):
            github.requester.graphql_query('{repository(owner:"acme",name:"none"){id}}', {})
        assert github.get_repo(ACME).get_issues(state="all").totalCount == 33
        assert github.search_issues(f"repo:{ACME} is:pr").totalCount == 30


def test_it_answers_on_the_wire() -> None:
    """A POST over HTTP gives the same as without; addresses are those of the server."""
    api = Api(Catalogue(repositories=[GeneratedRepository(ACME, 0, 3)]))
    with serving(api) as server, requests.Session() as session:
        session.trust_env = False
        text = '{repository(owner:"acme",name:"billing-api"){pullRequest(number:2){number}} viewer{login}}'
        answer = session.post(f"{server.url}/graphql", json={"query": text}, headers={"Authorization": "bearer x"})
        assert answer.json()["data"]["repository"] == {"pullRequest": {"number": 2}}
        assert answer.headers["X-RateLimit-Resource"] == "graphql"
        assert server.violations == []
