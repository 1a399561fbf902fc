"""GitHub's objects with all their fields: the shape that the newest recordings have (a test compares)."""

from __future__ import annotations

import base64
from typing import Any

JsonObject = dict[str, Any]

API = "https://api.github.com"
WEB = "https://github.com"

DETAIL_ONLY = (
    "merged",
    "mergeable",
    "rebaseable",
    "mergeable_state",
    "merged_by",
    "comments",
    "review_comments",
    "maintainer_can_modify",
    "commits",
    "additions",
    "deletions",
    "changed_files",
)
"""What a pull request has when it is asked for alone, and not in a list."""

REPOSITORY_ONLY: JsonObject = {"has_discussions": False, "network_count": 0, "subscribers_count": 7}
"""What a repository has when it is asked for alone, and not within other objects."""

_USER_URLS = (
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("organizations_url", "/orgs"),
    ("repos_url", "/repos"),
    ("events_url", "/events{/privacy}"),
    ("received_events_url", "/received_events"),
)

_REPOSITORY_URLS = (
    ("forks_url", "/forks"),
    ("keys_url", "/keys{/key_id}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("teams_url", "/teams"),
    ("hooks_url", "/hooks"),
    ("issue_events_url", "/issues/events{/number}"),
    ("events_url", "/events"),
    ("assignees_url", "/assignees{/user}"),
    ("branches_url", "/branches{/branch}"),
    ("tags_url", "/tags"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("trees_url", "/git/trees{/sha}"),
    ("statuses_url", "/statuses/{sha}"),
    ("languages_url", "/languages"),
    ("stargazers_url", "/stargazers"),
    ("contributors_url", "/contributors"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("commits_url", "/commits{/sha}"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("comments_url", "/comments{/number}"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("contents_url", "/contents/{+path}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("merges_url", "/merges"),
    ("archive_url", "/{archive_format}{/ref}"),
    ("downloads_url", "/downloads"),
    ("issues_url", "/issues{/number}"),
    ("pulls_url", "/pulls{/number}"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("labels_url", "/labels{/name}"),
    ("releases_url", "/releases{/id}"),
    ("deployments_url", "/deployments"),
)


def node_id(kind: str, number: int) -> str:
    """The GraphQL id that GitHub gave objects before 2022: ``04:User240830`` in base64."""
    return base64.b64encode(f"0{len(kind)}:{kind}{number}".encode()).decode()


def user(login: str, number: int, kind: str = "User") -> JsonObject:
    """A user or an organization, as it is embedded in other objects."""
    api = f"{API}/users/{login}"
    return {
        "login": login,
        "id": number,
        "node_id": node_id(kind, number),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number}?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": f"{WEB}/{login}",
        **{name: api + path for name, path in _USER_URLS},
        "type": kind,
        "site_admin": False,
    }


def repository(owner: JsonObject, name: str, number: int, *, created_at: str, pushed_at: str) -> JsonObject:
    """A repository, as it is embedded in pull requests."""
    full_name = f"{owner['login']}/{name}"
    api = f"{API}/repos/{full_name}"
    return {
        "id": number,
        "node_id": node_id("Repository", number),
        "name": name,
        "full_name": full_name,
        "private": False,
        "owner": owner,
        "html_url": f"{WEB}/{full_name}",
        "description": f"Generated: {name}",
        "fork": False,
        "url": api,
        **{key: api + path for key, path in _REPOSITORY_URLS},
        "created_at": created_at,
        "updated_at": pushed_at,
        "pushed_at": pushed_at,
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "clone_url": f"{WEB}/{full_name}.git",
        "svn_url": f"{WEB}/{full_name}",
        "homepage": None,
        "size": 4096,
        "stargazers_count": 7,
        "watchers_count": 7,
        "language": "Python",
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": True,
        "has_pages": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "open_issues_count": 0,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "topics": [],
        "visibility": "public",
        "forks": 0,
        "open_issues": 0,
        "watchers": 7,
        "default_branch": "main",
    }


def pull_request(
    repo: JsonObject, number: int, identity: int, author: JsonObject, *, branch: str, head: str, base: str
) -> JsonObject:
    """An open pull request with its links; titles, dates and figures are the caller's to fill in."""
    api, web = f"{repo['url']}/pulls/{number}", f"{repo['html_url']}/pull/{number}"
    issue = f"{repo['url']}/issues/{number}"
    links = {
        "self": api,
        "html": web,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{api}/comments",
        "review_comment": f"{repo['url']}/pulls/comments{{/number}}",
        "commits": f"{api}/commits",
        "statuses": f"{repo['url']}/statuses/{head}",
    }
    owner = repo["owner"]
    return {
        "url": api,
        "id": identity,
        "node_id": node_id("PullRequest", identity),
        "html_url": web,
        "diff_url": f"{web}.diff",
        "patch_url": f"{web}.patch",
        "issue_url": issue,
        "number": number,
        "state": "open",
        "locked": False,
        "title": "",
        "user": author,
        "body": None,
        "created_at": None,
        "updated_at": None,
        "closed_at": None,
        "merged_at": None,
        "merge_commit_sha": None,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "labels": [],
        "milestone": None,
        "draft": False,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "head": {
            "label": f"{owner['login']}:{branch}",
            "ref": branch,
            "sha": head,
            "user": owner,
            "repo": repo,
        },
        "base": {"label": f"{owner['login']}:main", "ref": "main", "sha": base, "user": owner, "repo": repo},
        "_links": {name: {"href": url} for name, url in links.items()},
        "author_association": "MEMBER",
        "auto_merge": None,
        "active_lock_reason": None,
        "merged": False,
        "mergeable": None,
        "rebaseable": None,
        "mergeable_state": "unknown",
        "merged_by": None,
        "comments": 0,
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": 0,
        "additions": 0,
        "deletions": 0,
        "changed_files": 0,
    }


def review(pull: JsonObject, identity: int, author: JsonObject, *, state: str, body: str, at: str) -> JsonObject:
    """A submitted review of a pull request; `state` is APPROVED, CHANGES_REQUESTED, COMMENTED or DISMISSED."""
    web = f"{pull['html_url']}#pullrequestreview-{identity}"
    return {
        "id": identity,
        "node_id": node_id("PullRequestReview", identity),
        "user": author,
        "body": body,
        "state": state,
        "html_url": web,
        "pull_request_url": pull["url"],
        "author_association": "MEMBER",
        "_links": {"html": {"href": web}, "pull_request": {"href": pull["url"]}},
        "submitted_at": at,
        "commit_id": pull["head"]["sha"],
    }


def changed_file(pull: JsonObject, path: str, blob: str, *, status: str, additions: int, deletions: int) -> JsonObject:
    """A file that a pull request changes, with a patch of the right length."""
    repo, head = pull["base"]["repo"], pull["head"]["sha"]
    lines = [f"-old line {n}" for n in range(deletions)] + [f"+new line {n}" for n in range(additions)]
    return {
        "sha": blob,
        "filename": path,
        "status": status,
        "additions": additions,
        "deletions": deletions,
        "changes": additions + deletions,
        "blob_url": f"{repo['html_url']}/blob/{head}/{path}",
        "raw_url": f"{repo['html_url']}/raw/{head}/{path}",
        "contents_url": f"{repo['url']}/contents/{path}?ref={head}",
        "patch": f"@@ -1,{deletions} +1,{additions} @@\n" + "\n".join(lines),
    }


def commit(repo: JsonObject, sha: str, parent: str, author: JsonObject, *, message: str, at: str) -> JsonObject:
    """A commit, as the list of a pull request's commits shows it."""
    api, web = f"{repo['url']}/commits/{sha}", f"{repo['html_url']}/commit/{sha}"
    person = {"name": author["login"], "email": f"{author['login']}@example.com", "date": at}
    return {
        "sha": sha,
        "node_id": node_id("Commit", repo["id"]),
        "commit": {
            "author": person,
            "committer": person,
            "message": message,
            "tree": {"sha": sha[::-1], "url": f"{repo['url']}/git/trees/{sha[::-1]}"},
            "url": f"{repo['url']}/git/commits/{sha}",
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": api,
        "html_url": web,
        "comments_url": f"{api}/comments",
        "author": author,
        "committer": author,
        "parents": [
            {"sha": parent, "url": f"{repo['url']}/commits/{parent}", "html_url": f"{repo['html_url']}/commit/{parent}"}
        ],
    }


def issue(repo: JsonObject, number: int, identity: int, author: JsonObject, *, at: str) -> JsonObject:
    """An open issue without a title; `at` is when it was created and last updated."""
    api = f"{repo['url']}/issues/{number}"
    return {
        "url": api,
        "repository_url": repo["url"],
        "labels_url": f"{api}/labels{{/name}}",
        "comments_url": f"{api}/comments",
        "events_url": f"{api}/events",
        "html_url": f"{repo['html_url']}/issues/{number}",
        "id": identity,
        "node_id": node_id("Issue", identity),
        "number": number,
        "title": "",
        "user": author,
        "labels": [],
        "state": "open",
        "locked": False,
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "comments": 0,
        "created_at": at,
        "updated_at": at,
        "closed_at": None,
        "author_association": "MEMBER",
        "active_lock_reason": None,
        "body": None,
        "timeline_url": f"{api}/timeline",
        "performed_via_github_app": None,
        "state_reason": None,
    }


def issue_of(pull: JsonObject, identity: int) -> JsonObject:
    """A pull request as the list of issues shows it: with the id of the issue, and a key that tells what it is."""
    repo = pull["base"]["repo"]
    found = issue(repo, pull["number"], identity, pull["user"], at=pull["created_at"])
    same: tuple[str, ...] = (
        "title",
        "labels",
        "state",
        "locked",
        "assignee",
        "assignees",
        "milestone",
        "comments",
        "updated_at",
    )
    same += ("closed_at", "author_association", "active_lock_reason", "body")
    found.update({name: pull[name] for name in same if name in pull})
    found.update(
        html_url=pull["html_url"],
        node_id=pull.get("node_id") or node_id("PullRequest", pull["id"]),
        draft=pull["draft"],
        pull_request={
            "url": pull["url"],
            "html_url": pull["html_url"],
            "diff_url": pull["diff_url"],
            "patch_url": pull["patch_url"],
            "merged_at": pull["merged_at"],
        },
    )
    return found
