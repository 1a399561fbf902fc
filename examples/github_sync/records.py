"""From PyGithub's objects to the database's records; all text that GitHub sends is taken as data and nothing else."""

from __future__ import annotations

from github.Commit import Commit as GithubCommit
from github.File import File as GithubFile
from github.PullRequest import PullRequest as GithubPullRequest
from github.PullRequestReview import PullRequestReview
from github.Repository import Repository as GithubRepository

from .database import ChangedFile, Commit, PullRequest, Repository, Review


def repository_record(repository: GithubRepository) -> Repository:
    """The repository's row."""
    return Repository(
        id=repository.id,
        full_name=storable(repository.full_name),
        description=optional(repository.description),
        default_branch=optional(repository.default_branch),
        created_at=repository.created_at,
    )


def pull_request_record(pull: GithubPullRequest, repository_id: int) -> PullRequest:
    """The pull request's row; only fields that a list has, so that PyGithub asks for nothing more."""
    return PullRequest(
        id=pull.id,
        repository_id=repository_id,
        number=pull.number,
        title=storable(pull.title),
        state=storable(pull.state),
        draft=pull.draft,
        # A deleted account's pull requests have no user, or the user "ghost".
        author=optional(pull.user.login) if pull.user is not None else None,
        body=optional(pull.body),
        head_sha=optional(pull.head.sha),
        base_ref=optional(pull.base.ref),
        merge_commit_sha=optional(pull.merge_commit_sha),
        created_at=pull.created_at,
        updated_at=pull.updated_at,
        closed_at=pull.closed_at,
        merged_at=pull.merged_at,
    )


def review_record(review: PullRequestReview, pull_request_id: int) -> Review:
    """A review's row."""
    return Review(
        pull_request_id=pull_request_id,
        id=review.id,
        author=optional(review.user.login) if review.user is not None else None,
        state=storable(review.state),
        body=optional(review.body),
        submitted_at=review.submitted_at,
    )


def file_record(file: GithubFile, pull_request_id: int) -> ChangedFile:
    """A changed file's row."""
    return ChangedFile(
        pull_request_id=pull_request_id,
        path=storable(file.filename),
        status=storable(file.status),
        additions=file.additions,
        deletions=file.deletions,
    )


def commit_record(commit: GithubCommit, pull_request_id: int) -> Commit:
    """A commit's row."""
    written = commit.commit
    return Commit(
        pull_request_id=pull_request_id,
        sha=storable(commit.sha),
        author=optional(written.author.name) if written.author is not None else None,
        message=storable(written.message),
        authored_at=written.author.date if written.author is not None else None,
    )


def storable(text: str | None) -> str:
    """The text as SQLite can hold it: a lone surrogate, which JSON can spell but UTF-8 cannot, becomes ``?``."""
    return (text or "").encode("utf-8", "replace").decode()


def optional(text: str | None) -> str | None:
    """The same for what may be missing."""
    return None if text is None else storable(text)
