"""The body of a record of a failure: one line that says where, what and why, for those who read a list of records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otelsync.text.presentable import text_of
from otelsync.vocabulary import SYNC_PIPELINE, groups_of

LOGGER: Final = "otelsync"
_BEGINS, _ENDS = "sync.", ".failed"
_FAILURES: Final = frozenset(
    f"{_BEGINS}{kind}{_ENDS}" for kind in ("pipeline", "group", "repo", "api", "batch", "item", "pr")
)
_LONGEST: Final = 160
"""Characters of the reason."""
_NAMES: Final = ("operation", "name", "number", "kind", "key")


def is_failure(logger: str, event: str) -> bool:
    """Return whether an event is the end of a stage that has failed."""
    return event in _FAILURES and logger == LOGGER


def failure_text(event: str, fields: Mapping[str, Any], scope: Mapping[str, object]) -> str:
    """Return the line of a failure; `scope` are the fields of the stages around. Neither has secrets.

    >>> failure_text("sync.pr.failed", {"number": "23", "error": "GithubException: 502"}, {"sync.repo": "acme/api"})
    'acme/api #23 failed: GithubException: 502'
    """
    groups = groups_of(scope)
    where = groups[-1][1] if groups else text_of(scope.get(SYNC_PIPELINE, ""))
    what = _what(event.removeprefix(_BEGINS).removesuffix(_ENDS), fields)
    reason = " ".join(text_of(fields.get("error") or "").split())
    if len(reason) > _LONGEST:
        reason = reason[:_LONGEST] + "..."
    said = " ".join(filter(None, (where, what, "failed"))) if where or what else event
    return f"{said}: {reason}" if reason else said


def _what(kind: str, fields: Mapping[str, Any]) -> str:
    told = {name: text_of(fields[name]) for name in _NAMES if fields.get(name) is not None}
    if kind == "pr":
        return f"#{told.get('number', '?')}"
    if kind == "item":
        return " ".join(filter(None, (told.get("kind"), told.get("key"))))
    if kind == "batch":
        return " ".join(filter(None, ("batch", told.get("name"), told.get("number"))))
    return told.get("operation", "") if kind == "api" else ""  # groups and pipelines are where it is
