"""Small doubles, and ways to ask them, for the tests of the GitHub-shaped server."""

from __future__ import annotations

import json
from collections.abc import Callable

from examples.github_sync.double.api import Answer, Api, Request
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.faults import Fault, FaultPlan
from examples.github_sync.double.generator import GeneratedRepository
from examples.github_sync.double.rate_limit import RateLimits
from examples.github_sync.double.shapes import JsonObject

ACME = "acme/billing-api"
HEADERS = {"user-agent": "test", "authorization": "Bearer t"}


def small(*faults: str, limits: RateLimits | None = None, size: int = 30, count: int = 1) -> Api:
    """A double of small generated repositories, the first of them acme/billing-api."""
    names = (ACME, "acme/checkout-api", "acme/search-api")[:count]
    repositories = [GeneratedRepository(name, index, size) for index, name in enumerate(names)]
    plan = FaultPlan(Fault.parse(fault) for fault in faults)
    return Api(Catalogue(repositories=repositories), limits=limits, faults=plan)


def get(api: Api, path: str, query: str = "", **headers: str) -> Answer:
    """One REST request without the wire."""
    return api.answer(Request("GET", path, query, HEADERS | headers))


def told(answer: Answer) -> JsonObject:
    """The JSON object of an answer."""
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


def post(api: Api, path: str, content: object, **headers: str) -> Answer:
    """One request with JSON without the wire."""
    return api.answer(Request("POST", path, "", HEADERS | headers, json.dumps(content).encode()))


def query(api: Api, text: str, **variables: object) -> JsonObject:
    """The content of the answer to a GraphQL query."""
    answer = post(api, "/graphql", {"query": text, "variables": variables})
    assert answer.status == 200, answer.body
    return told(answer)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


PAGE = """
query Page($owner: String!, $name: String!, $first: Int!, $after: String, $by: IssueOrderField = CREATED_AT) {
  rateLimit { cost limit remaining used resetAt nodeCount }
  repository(owner: $owner, name: $name) {
    databaseId nameWithOwner description createdAt updatedAt pushedAt isArchived defaultBranchRef { name }
    pullRequests(first: $first, after: $after, orderBy: {field: $by, direction: DESC}) {
      totalCount
      pageInfo { hasNextPage endCursor }
      nodes {
        id databaseId fullDatabaseId number title body state isDraft createdAt updatedAt closedAt mergedAt headRefOid
        baseRefName additions deletions changedFiles author { login } mergeCommit { oid }
        labels(first: 50) { totalCount pageInfo { hasNextPage endCursor } nodes { name } }
        reviews(first: 50) {
          totalCount pageInfo { hasNextPage endCursor }
          nodes { id fullDatabaseId state body submittedAt author { login } }
        }
        commits(first: 50) {
          totalCount pageInfo { hasNextPage endCursor }
          nodes { commit { oid message authoredDate author { name } } }
        }
        files(first: 50) {
          totalCount pageInfo { hasNextPage endCursor } nodes { path additions deletions changeType }
        }
      }
    }
  }
}
"""
"""A page of pull requests with all that a sync stores of them."""


def page(api: Api, first: int = 10, after: str | None = None, by: str = "CREATED_AT") -> JsonObject:
    """The content of the answer for a page of acme/billing-api."""
    return query(api, PAGE, owner="acme", name="billing-api", first=first, after=after, by=by)


def walk(api: Api, first: int, by: str = "CREATED_AT", between: Callable[[], object] = lambda: None) -> list[int]:
    """The numbers of all pull requests of acme/billing-api, page by page; something may happen between two pages."""
    numbers: list[int] = []
    after: str | None = None
    while True:
        found = page(api, first, after, by)["data"]["repository"]["pullRequests"]
        numbers += [node["number"] for node in found["nodes"]]
        after = found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            return numbers
        between()
