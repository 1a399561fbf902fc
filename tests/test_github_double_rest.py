"""REST of the GitHub-shaped server beyond pull requests, and all of it against GitHub's own description."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from github_doubles import ACME, HEADERS, Clock, get, post, small, told
from jsonschema import Draft4Validator

from examples.github_sync.double import published
from examples.github_sync.double.api import Answer, Api, Request
from examples.github_sync.double.app_tokens import AppTokens
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.editing import touch
from examples.github_sync.double.generator import GeneratedRepository
from examples.github_sync.double.shapes import API, JsonObject

Check = Callable[[str, str, Answer], None]


@pytest.fixture(scope="module")
def check() -> Check:
    """Hold an answer against GitHub's published description of the path."""
    description: dict[str, Any] = _plain(published.rest_description())

    def check(method: str, path: str, answer: Answer) -> None:
        responses = description["paths"][path][method]["responses"]
        response = responses.get(str(answer.status)) or responses["4XX"]
        if "$ref" in response:
            response = description["components"]["responses"][response["$ref"].rpartition("/")[2]]
        schema = response["content"]["application/json"]["schema"]
        validator = Draft4Validator({"allOf": [schema], "components": description["components"]})
        problems = [f"{'/'.join(map(str, each.path))}: {each.message}" for each in validator.iter_errors(_body(answer))]
        assert problems == []

    return check


def _plain(node: Any) -> Any:
    """An OpenAPI 3.0 schema as plain JSON schema: `nullable` is one of the types."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _plain(value) for name, value in node.items() if name not in ("example", "examples", "nullable")}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


def _body(answer: Answer) -> Any:
    return json.loads(answer.body)


class TestDescription:
    @pytest.mark.parametrize(
        ("path", "of", "query"),
        [
            ("", "", ""),
            ("/pulls", "/pulls", "state=all"),
            ("/pulls/7", "/pulls/{pull_number}", ""),
            ("/pulls/7/reviews", "/pulls/{pull_number}/reviews", ""),
            ("/pulls/7/files", "/pulls/{pull_number}/files", ""),
            ("/pulls/7/commits", "/pulls/{pull_number}/commits", ""),
            ("/issues", "/issues", "state=all&per_page=100"),
            ("/pulls/9999", "/pulls/{pull_number}", ""),
        ],
    )
    def test_answers_about_a_repository_are_as_described(self, check: Check, path: str, of: str, query: str) -> None:
        """Every field that the description asks for is there, in its type."""
        check("get", "/repos/{owner}/{repo}" + of, get(small(size=40), f"/repos/{ACME}{path}", query))

    def test_the_other_answers_are_as_described(self, check: Check) -> None:
        """Search, rate limit, a new token, a rename, and a repository that GitHub has closed."""
        api = small(size=40, count=2)
        check("get", "/search/issues", get(api, "/search/issues", f"q=repo:{ACME}+is:pr"))
        check("get", "/search/issues", get(api, "/search/issues", "q=repo:acme/none"))
        check("get", "/rate_limit", get(api, "/rate_limit"))
        given = _token(api)
        check("post", "/app/installations/{installation_id}/access_tokens", given)
        api.catalogue.rename(ACME, "acme/invoices")
        check("get", "/repos/{owner}/{repo}", get(api, f"/repos/{ACME}"))
        api.catalogue.set_condition("acme/checkout-api", "hidden")
        check("get", "/repos/{owner}/{repo}", get(api, "/repos/acme/checkout-api"))


class TestIssues:
    def test_issues_and_pull_requests_are_one_list(self) -> None:
        """Pull requests carry a key of their own, and the issue's id, which is not the pull request's."""
        api = small(size=40)
        items = _body(get(api, f"/repos/{ACME}/issues", "state=all&per_page=100"))
        assert [item["number"] for item in items] == list(range(44, 0, -1))
        assert [item["number"] for item in items if "pull_request" not in item] == [44, 43, 42, 41]
        pull = told(get(api, f"/repos/{ACME}/pulls/7"))
        (issue,) = [item for item in items if item["number"] == 7]
        assert issue["id"] != pull["id"]
        assert issue["pull_request"]["url"] == pull["url"]
        assert (issue["title"], issue["updated_at"]) == (pull["title"], pull["updated_at"])

    def test_only_open_ones_come_by_default(self) -> None:
        """`state` is open where nothing else is asked for, with `since`, too."""
        items = _body(get(small(size=40), f"/repos/{ACME}/issues", "since=2020-01-01T00:00:00Z"))
        assert {item["state"] for item in items} == {"open"}

    def test_since_holds_the_second_itself(self) -> None:
        """What was updated in that second is there, what was updated before is not; the oldest comes first."""
        api = small(size=40)
        touch(api.catalogue, [ACME], numbers=[3, 5], at="2026-05-01T00:00:00Z")
        touch(api.catalogue, [ACME], numbers=[9], at="2026-05-01T00:00:01Z")
        query = "state=all&sort=updated&direction=asc&per_page=100&since=2026-05-01T00:00:0"
        found = [item["number"] for item in _body(get(api, f"/repos/{ACME}/issues", query + "0Z"))]
        assert found == [3, 5, 9]
        assert [item["number"] for item in _body(get(api, f"/repos/{ACME}/issues", query + "1Z"))] == [9]

    def test_an_unchanged_list_costs_nothing(self) -> None:
        """A 304 without a body, until something was edited."""
        api = small(size=40)
        query = "state=all&since=2026-01-01T00:00:00Z"
        first = get(api, f"/repos/{ACME}/issues", query)
        etag = first.header("ETag")
        assert etag is not None
        again = get(api, f"/repos/{ACME}/issues", query, **{"if-none-match": etag})
        assert (again.status, again.body) == (304, b"")
        assert again.header("X-RateLimit-Used") == first.header("X-RateLimit-Used") == "1"
        touch(api.catalogue, [ACME], numbers=[3])
        assert get(api, f"/repos/{ACME}/issues", query, **{"if-none-match": etag}).status == 200


class TestEdits:
    def test_a_share_of_the_pull_requests_is_edited(self) -> None:
        """One in a hundred of each repository; titles, reviews, or nothing but the time; counts say it."""
        api = small(size=300, count=2)
        answer = told(post(api, "/_double/touch", {"share": 0.01, "at": "2026-05-01T00:00:00Z"}))["touched"]
        assert {name: len(numbers) for name, numbers in answer.items()} == {ACME: 3, "acme/checkout-api": 3}
        title, reviews, nothing = answer[ACME]
        assert told(get(api, f"/repos/{ACME}/pulls/{title}"))["title"].endswith("(edited)")
        found = _body(get(api, f"/repos/{ACME}/pulls/{reviews}/reviews"))
        assert (found[-1]["submitted_at"], len({each["id"] for each in found})) == ("2026-05-01T00:00:00Z", len(found))
        assert told(get(api, f"/repos/{ACME}/pulls/{nothing}"))["updated_at"] == "2026-05-01T00:00:00Z"

    def test_a_repository_that_is_not_there_is_an_error(self) -> None:
        """400 with the reason, and nothing is edited."""
        assert post(small(), "/_double/touch", {"repositories": ["acme/none"], "share": 1}).status == 400


class TestConditions:
    def test_a_rename_leads_to_the_same_list(self) -> None:
        """301 keeps what was asked of the repository."""
        api = small()
        api.catalogue.rename(ACME, "acme/invoices")
        moved = get(api, f"/repos/{ACME}/pulls", "state=all&page=2")
        assert (moved.status, moved.header("Location")) == (301, f"{API}/repositories/900000000/pulls?state=all&page=2")
        assert told(get(api, "/repositories/900000000"))["full_name"] == "acme/invoices"

    @pytest.mark.parametrize(
        ("condition", "path", "status"),
        [("hidden", "", 404), ("gone", "/pulls", 410), ("blocked", "/issues", 451), ("empty", "/commits", 409)],
    )
    def test_a_repository_that_is_not_well_has_its_status(self, condition: str, path: str, status: int) -> None:
        """404, 410, 451 and 409, each with a message."""
        api = small()
        assert post(api, "/_double/condition", {"repository": ACME, "condition": condition}).status == 200
        answer = get(api, f"/repos/{ACME}{path}")
        assert (answer.status, bool(told(answer)["message"])) == (status, True)


class TestAppTokens:
    def test_a_token_is_good_until_it_expires(self) -> None:
        """Then 401 and "Bad credentials", by REST and by GraphQL; a new one draws from the same quota."""
        clock = Clock()
        api = Api(Catalogue(repositories=[GeneratedRepository(ACME, 0, 3)]), apps=AppTokens(60, clock))
        given = told(_token(api))
        assert given["expires_at"] == "1970-01-01T00:17:40Z"
        authorization = f"token {given['token']}"
        assert get(api, f"/repos/{ACME}", authorization=authorization).status == 200
        clock.now = 1060.0
        refused = get(api, f"/repos/{ACME}", authorization=authorization)
        assert (refused.status, told(refused)["message"]) == (401, "Bad credentials")
        assert post(api, "/graphql", {"query": "{viewer{login}}"}, authorization=authorization).status == 401
        again = told(_token(api, expires=2000))["token"]
        assert get(api, f"/repos/{ACME}", authorization=f"token {again}").header("X-RateLimit-Used") == "2"

    @pytest.mark.parametrize("token", ["", "abc", "a.b.c"])
    def test_the_apps_own_token_is_looked_at(self, token: str) -> None:
        """What is no JSON Web Token is refused, and so is one that has expired."""
        path = "/app/installations/7/access_tokens"
        assert post(small(), path, {}, authorization=f"Bearer {token}").status == 401
        assert _token(small(), expires=1).status == 401


def _token(api: Api, expires: int = 2**40) -> Answer:
    claims = base64.urlsafe_b64encode(json.dumps({"iss": "1", "exp": expires}).encode()).decode().rstrip("=")
    headers: JsonObject = HEADERS | {"authorization": f"Bearer e30.{claims}.sig"}
    return api.answer(Request("POST", "/app/installations/7/access_tokens", "", headers))
