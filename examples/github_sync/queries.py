"""The GraphQL queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final

DETAILS: Final = 50
"""Reviews, commits and files that come with a pull request; the rest is asked for by itself."""

# The numbers of pull requests and reviews have outgrown the 32 bits of `databaseId`, which is null for new ones.
_REVIEW = "fullDatabaseId state body submittedAt author { login }"
_COMMIT = "commit { oid message authoredDate author { name } }"
_FILE = "path changeType additions deletions"
_PULL = f"""
  fullDatabaseId number title body state isDraft createdAt updatedAt closedAt mergedAt headRefOid baseRefName
  author {{ login }}
  mergeCommit {{ oid }}
  labels(first: 20) {{ nodes {{ name }} }}
  reviews(first: {DETAILS}) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_REVIEW} }} }}
  commits(first: {DETAILS}) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_COMMIT} }} }}
  files(first: {DETAILS}) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_FILE} }} }}
"""
_REPOSITORY = "databaseId nameWithOwner description createdAt defaultBranchRef { name }"
_RATE_LIMIT = "rateLimit { cost limit remaining used resetAt nodeCount }"

PULL_REQUESTS: Final = f"""
query PullRequests($owner: String!, $name: String!, $size: Int!, $after: String, $window: String!) {{
  {_RATE_LIMIT}
  window: search(query: $window, type: ISSUE) {{ issueCount }}
  repository(owner: $owner, name: $name) {{
    {_REPOSITORY}
    pullRequests(first: $size, after: $after, orderBy: {{field: CREATED_AT, direction: DESC}}) {{
      totalCount
      pageInfo {{ hasNextPage endCursor }}
      nodes {{ {_PULL} }}
    }}
  }}
}}
"""

_NODES = {"reviews": _REVIEW, "commits": _COMMIT, "files": _FILE}


def details(kind: str) -> str:
    """Return the query for a further page of the ``reviews``, ``commits`` or ``files`` of a pull request."""
    return f"""
query Details($owner: String!, $name: String!, $number: Int!, $after: String) {{
  {_RATE_LIMIT}
  repository(owner: $owner, name: $name) {{
    pullRequest(number: $number) {{
      {kind}(first: 100, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_NODES[kind]} }} }}
    }}
  }}
}}
"""


def by_number(numbers: Sequence[int]) -> str:
    """Return the query for some pull requests of a repository; each stands under ``pr`` and its number."""
    parts = "\n".join(f"pr{number}: pullRequest(number: {number}) {{ ...Whole }}" for number in numbers)
    return f"""
query ChangedPullRequests($owner: String!, $name: String!) {{
  {_RATE_LIMIT}
  repository(owner: $owner, name: $name) {{
    {_REPOSITORY}
    {parts}
  }}
}}
fragment Whole on PullRequest {{ {_PULL} }}
"""


def activity(names: Iterable[str], since: date) -> tuple[str, dict[str, Any]]:
    """Return the query, and its variables, for how many pull requests repositories have had since a day.

    Each stands under ``r`` and its place.
    """
    variables = {f"q{place}": f"repo:{name} is:pr created:>={since}" for place, name in enumerate(names)}
    asked = ", ".join(f"${name}: String!" for name in variables)
    parts = "\n".join(f"r{name[1:]}: search(query: ${name}, type: ISSUE) {{ issueCount }}" for name in variables)
    return f"query Activity({asked}) {{ {_RATE_LIMIT}\n{parts} }}", dict(variables)
