"""The route of a URL: its path with names for what varies, so that calls of one kind have one name."""

from __future__ import annotations

import re
from typing import Final

_MOST_ROUTES: Final = 100
_MOST_HOSTS: Final = 50
_MOST_SEGMENTS: Final = 16
ANY: Final = "/*"
"""The route of whatever has more kinds of paths than can be told apart."""

_FOLLOWS: Final = {
    word: name
    for name, words in {
        "{id}": "artifacts assets check-runs check-suites comments deployments gists hooks installations invitations "
        "jobs keys organizations projects releases repositories reviews rulesets runners runs threads workflows",
        "{username}": "assignees collaborators following members memberships outside_collaborators public_members "
        "users",
        "{name}": "labels schema secrets templates variables",
        "{number}": "discussions issues milestones pulls",
        "{sha}": "blobs statuses trees",
        "{app}": "apps",
        "{branch}": "branches",
        "{enterprise}": "enterprises",
        "{environment}": "environments",
        "{key}": "codes_of_conduct",
        "{license}": "licenses",
        "{org}": "orgs",
        "{ref}": "commits",
        "{tag}": "tags",
        "{team}": "teams",
    }.items()
    for word in words.split()
}
"""Names for what follows these words in the paths of GitHub's API (docs.github.com/rest)."""
_OWNER_AND_REPO: Final = frozenset(("networks", "repos", "starred", "subscriptions"))
"""Behind these words stand two values."""
_TO_THE_END: Final = {
    "compare": "{basehead}",
    "contents": "{path}",
    **dict.fromkeys(("matching-refs", "ref", "refs", "tarball", "zipball"), "{ref}"),
}
"""Behind these words all the rest is one value, slashes and all."""
_WORDS: Final = {
    "artifacts": {"metadata"},
    "check-suites": {"preferences"},
    "commits": {"comments"},
    "gists": {"public", "starred"},
    "issues": {"comments", "events", "search"},
    "members": {"outside_collaborators"},
    "memberships": {"orgs"},
    "projects": {"columns"},
    "pulls": {"comments"},
    "releases": {"assets", "generate-notes", "latest", "tags"},
    "rulesets": {"rule-suites"},
    "runners": {"downloads", "generate-jitconfig", "registration-token", "remove-token"},
    "secrets": {"public-key"},
}
"""Words that may follow such a word and are no value."""

_GITHUB: Final = re.compile(r"api\.github\.com|api\.[a-z0-9-]+\.ghe\.com|github\.com")
_WORD: Final = re.compile(r"[a-z][a-z_-]{0,39}")
_UUID: Final = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_HEX: Final = re.compile(r"(?i)(?=.*[0-9])[0-9a-f]{7,}")
_PLAIN: Final = re.compile(r"(?a)v\d{1,2}(?:\.\d{1,2})?|[A-Za-z][A-Za-z_.-]{0,31}")


def github_route(path: str) -> str:
    """The route of a path of GitHub's REST or GraphQL API, also that of a GitHub Enterprise server.

    >>> github_route("/repos/acme/api/pulls/7/files")
    '/repos/{owner}/{repo}/pulls/{number}/files'
    """
    segments = _segments(path)
    route: list[str] = []
    if segments[:2] == ["api", "v3"]:
        route, segments = segments[:2], segments[2:]
    before = ""
    for segment in segments:
        if before in _TO_THE_END:
            route.append(_TO_THE_END[before])
            break
        before = _github_segment(before, segment)
        route.append(before)
    return "/" + "/".join(route)


def _github_segment(before: str, segment: str) -> str:
    """Return a segment's part of the route, by the part of the segment before it."""
    if before in _OWNER_AND_REPO:
        return "{owner}"
    if before == "{owner}":
        return "{repo}"
    if before in _FOLLOWS and segment not in _WORDS.get(before, ()):
        return _FOLLOWS[before]
    return segment if _WORD.fullmatch(segment) else "{id}"


def plain_route(path: str) -> str:
    """The route of a path of any API: numbers, UUIDs, hexadecimal, long and odd segments become ``{id}``.

    >>> plain_route("/v1/files/file-8Xa9/content")
    '/v1/files/{id}/content'
    """
    return "/" + "/".join(segment if _is_plain(segment) else "{id}" for segment in _segments(path))


def _is_plain(segment: str) -> bool:
    return bool(_PLAIN.fullmatch(segment)) and not _HEX.fullmatch(segment) and not _UUID.fullmatch(segment)


def _segments(path: str) -> list[str]:
    """The segments of a path; what comes behind the sixteenth is left out."""
    bare = path.partition("?")[0].partition("#")[0]
    return [segment for segment in bare[:4096].split("/") if segment][:_MOST_SEGMENTS]


class Routes:
    """The routes of many hosts, and no more of them than a dashboard can bear.

    Args:
        most: Routes that a host can have; beyond them its route is ``/*``.
        most_hosts: Hosts that can have routes.
    """

    def __init__(self, most: int = _MOST_ROUTES, most_hosts: int = _MOST_HOSTS) -> None:
        self._most = most
        self._most_hosts = most_hosts
        self._known: dict[str, set[str]] = {}  # threads that learn at the same time may go beyond the bounds by one

    def route(self, host: str, path: str, *, is_github: bool = False) -> str:
        """The route of a path at a host. `is_github` says that a host of any other name is a GitHub server."""
        route = github_route(path) if is_github or is_github_path(host, path) else plain_route(path)
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= self._most_hosts:
                return ANY
            known = self._known.setdefault(host, set())
        if route not in known:
            if len(known) >= self._most:
                return ANY
            known.add(route)
        return route


def is_github_path(host: str, path: str) -> bool:
    """Return whether a path is one of GitHub's API, or of one that is made like it."""
    return is_github_host(host) or path.startswith(("/repos/", "/repositories/", "/api/v3/"))


def is_github_host(host: str) -> bool:
    """Return whether GitHub's API is known to be there."""
    return _GITHUB.fullmatch(host) is not None
