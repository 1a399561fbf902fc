"""Routes: calls of one kind have one name, and no host has too many."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import github
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelsync.integrations.http.routes import ANY, Routes, github_route, is_github_host, plain_route

GITHUB = {
    "/repos/acme/api": "/repos/{owner}/{repo}",
    "/repos/acme/api/pulls": "/repos/{owner}/{repo}/pulls",
    "/repos/acme/api/pulls/7": "/repos/{owner}/{repo}/pulls/{number}",
    "/repos/acme/api/pulls/7/files?per_page=100": "/repos/{owner}/{repo}/pulls/{number}/files",
    "/repos/acme/api/pulls/comments": "/repos/{owner}/{repo}/pulls/comments",
    "/repos/acme/api/pulls/comments/8": "/repos/{owner}/{repo}/pulls/comments/{id}",
    "/repos/acme/api/pulls/7/reviews/9/comments": "/repos/{owner}/{repo}/pulls/{number}/reviews/{id}/comments",
    "/repos/acme/api/issues/7/labels/bug": "/repos/{owner}/{repo}/issues/{number}/labels/{name}",
    "/repos/acme/api/issues/comments/7": "/repos/{owner}/{repo}/issues/comments/{id}",
    "/repos/acme/api/commits/main/status": "/repos/{owner}/{repo}/commits/{ref}/status",
    "/repos/acme/api/commits/c0ffee/check-runs": "/repos/{owner}/{repo}/commits/{ref}/check-runs",
    "/repos/acme/api/git/commits/c0ffee": "/repos/{owner}/{repo}/git/commits/{ref}",
    "/repos/acme/api/git/trees/c0ffee": "/repos/{owner}/{repo}/git/trees/{sha}",
    "/repos/acme/api/git/refs/heads/feature/x": "/repos/{owner}/{repo}/git/refs/{ref}",
    "/repos/acme/api/contents/src/a/b.py": "/repos/{owner}/{repo}/contents/{path}",
    "/repos/acme/api/compare/a...b": "/repos/{owner}/{repo}/compare/{basehead}",
    "/repos/acme/api/branches/main/protection": "/repos/{owner}/{repo}/branches/{branch}/protection",
    "/repos/acme/api/releases/latest": "/repos/{owner}/{repo}/releases/latest",
    "/repos/acme/api/releases/tags/v1": "/repos/{owner}/{repo}/releases/tags/{tag}",
    "/repos/acme/api/actions/runs/5/jobs": "/repos/{owner}/{repo}/actions/runs/{id}/jobs",
    "/repos/acme/api/actions/workflows/ci.yml/runs": "/repos/{owner}/{repo}/actions/workflows/{id}/runs",
    "/repos/issues/pulls/issues/7": "/repos/{owner}/{repo}/issues/{number}",
    "/repositories/1296269/issues": "/repositories/{id}/issues",
    "/repositories/1296269/pulls/7/commits": "/repositories/{id}/pulls/{number}/commits",
    "/orgs/acme/teams/devs/members/ann": "/orgs/{org}/teams/{team}/members/{username}",
    "/orgs/acme/repos": "/orgs/{org}/repos",
    "/users/ann/repos": "/users/{username}/repos",
    "/user": "/user",
    "/user/repos": "/user/repos",
    "/rate_limit": "/rate_limit",
    "/search/issues": "/search/issues",
    "/graphql": "/graphql",
    "/api/graphql": "/api/graphql",
    "/api/v3/repos/acme/api/pulls/7": "/api/v3/repos/{owner}/{repo}/pulls/{number}",
    "/app/installations/7/access_tokens": "/app/installations/{id}/access_tokens",
    "/gists/aa5a315d61ae9438b18d": "/gists/{id}",
    "/repos/acme": "/repos/{owner}",
    "/user/starred/acme/api": "/user/starred/{owner}/{repo}",
    "/orgs/acme/teams/devs/repos/acme/api": "/orgs/{org}/teams/{team}/repos/{owner}/{repo}",
    "//repos//acme/api/": "/repos/{owner}/{repo}",
    "/": "/",
    "": "/",
}


@pytest.mark.parametrize(("path", "route"), GITHUB.items())
def test_github_paths_are_named_after_their_documentation(path: str, route: str) -> None:
    """Owners, repositories, numbers, names and hashes get a name; words of the API stay."""
    assert github_route(path) == route


def test_what_pygithub_asks_for_has_a_route_without_values() -> None:
    """Each path that stands in PyGithub's documentation and source, with values put in, comes out without them."""
    documented = set()
    for file in Path(github.__file__).parent.glob("*.py"):
        documented |= set(re.findall(r":calls: `[A-Z]+ (/[^\s`?]+)", file.read_text(encoding="utf-8")))
    assert len(documented) > 200
    leaks = {  # /legacy/ and /license/ are not of GitHub's API of these days
        path
        for path in documented
        if not path.startswith(("/legacy/", "/license/"))
        and {"somevalue", "17"} & set(github_route(_filled(path)).split("/"))
    }
    assert leaks == set()


def _filled(path: str) -> str:
    """A documented path with values: numbers for ids, a word that could be the API's own for everything else."""
    path = path.replace("{archive_format}", "tarball")
    path = re.sub(r"\{[^{}/]*(?:id|number)\}", "17", path)
    return re.sub(r"\{[^{}/]*\}", "somevalue", path)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/batches/batch_01jd9k", "/openai/v1/batches/{id}"),
        ("/openai/v1/files/file-8Xa9/content", "/openai/v1/files/{id}/content"),
        ("/items/42", "/items/{id}"),
        ("/items/3F2504E0-4F89-11D3-9A0C-0305E82C3301/x", "/items/{id}/x"),
        ("/blobs/deadbeef01", "/blobs/{id}"),
        ("/people/ann@example.com", "/people/{id}"),
        ("/x/" + "a" * 60, "/x/{id}"),
        ("/caf%C3%A9", "/{id}"),
        ("/index.html", "/index.html"),
        ("/" + "/".join("abcdefghijklmnopqrstuvwxyz"), "/" + "/".join("abcdefghijklmnop")),
    ],
)
def test_other_paths_lose_what_looks_like_a_value(path: str, route: str) -> None:
    """Numbers, UUIDs, hashes, long and odd segments become ``{id}``; a path deeper than sixteen is cut."""
    assert plain_route(path) == route


def test_the_host_says_whose_rules_hold() -> None:
    """GitHub's for GitHub, for what looks like it, and where the caller knows; else the general ones."""
    routes = Routes()
    assert routes.route("api.github.com", "/users/ann") == "/users/{username}"
    assert routes.route("example.com", "/users/ann") == "/users/ann"
    assert routes.route("git.example.com", "/users/ann", is_github=True) == "/users/{username}"
    assert routes.route("example.com", "/repos/acme/api/pulls/7") == "/repos/{owner}/{repo}/pulls/{number}"
    assert is_github_host("api.acme.ghe.com")
    assert not is_github_host("api.github.com.evil.example")


def test_a_host_has_no_more_routes_than_can_be_told_apart() -> None:
    """A site whose paths are data ends up as one route; those that are known stay, and so do other hosts."""
    routes = Routes(most=10, most_hosts=2)
    words = ["".join(letters) for letters in product("abcdef", repeat=3)]
    seen = [routes.route("a.example", f"/{word}") for word in words]
    assert len(set(seen)) == 11
    assert seen[-1] == ANY
    assert routes.route("a.example", f"/{words[0]}") == f"/{words[0]}"
    assert routes.route("b.example", "/x") == "/x"
    assert routes.route("c.example", "/x") == ANY


@given(st.text(max_size=300))
def test_any_path_has_a_route(path: str) -> None:
    """Whatever it is, its route begins with a slash, is bounded, and is the route of itself under GitHub's rules."""
    for route in (github_route(path), plain_route(path)):
        assert route.startswith("/")
        assert len(route) < 700
        assert route.isascii()
        assert route.isprintable()


@given(st.lists(st.sampled_from(["repos", "pulls", "7", "x", "contents", "tags", "api", "v3"]), max_size=30))
def test_a_path_of_words_has_a_bounded_route(segments: list[str]) -> None:
    """No order of the API's own words makes a route longer than its path may be deep."""
    assert github_route("/" + "/".join(segments)).count("/") <= 20
