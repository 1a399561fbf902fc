"""One pass over the spans of a run: each is counted in the group that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otelsync.reports.failures import Failures
from otelsync.reports.figures import NOTHING
from otelsync.reports.rate_limits import RateLimits
from otelsync.reports.sweep import STATUS_ERROR, Step
from otelsync.reports.tally import OTHER, Tally, bounded, own_items
from otelsync.vocabulary import NAMED_REPO, SYNC_OUTCOME, SYNC_PR, SYNC_REPO

MOST_GROUPS: Final = 2_000
"""Groups that are told apart; all others are one."""
_LONGEST_NAME: Final = 500


@dataclass
class Reading:
    """Figures from the spans of a run.

    Args:
        attribute: Whose values name the groups.
        root: Trace and span id of the pipeline.
    """

    attribute: str
    root: tuple[str, str]
    tallies: dict[str, Tally] = field(default_factory=dict)
    outside: Tally = field(default_factory=Tally)
    failures: Failures = field(default_factory=Failures)
    rate_limits: RateLimits = field(default_factory=RateLimits)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    """The pipeline's attributes."""
    error: str = ""
    """The pipeline's error."""
    rows: int = 0
    running: int = 0
    put_back: int = 0
    """Attempts of tasks that will be made again."""
    groups_of_repos: dict[str, str] = field(default_factory=dict)

    def begin(self, step: Step) -> None:
        """Find the group of a span."""
        said, outer = step.attributes.get(self.attribute), step.parent
        unsaid = said is None or said == ""
        if outer is not None and (unsaid or said == outer.group_from):
            step.group, step.group_from = outer.group, outer.group_from
        elif not unsaid:
            step.group, step.group_from = self._known(group_name(said)), said
        if step.group is None or step.name.startswith(NAMED_REPO):
            self._know_repo(step)

    def add(self, step: Step) -> None:
        """Take in a span that has ended."""
        self.rows += 1
        tally = self.outside if step.group is None else self.tallies[step.group]
        tally.add(step)
        if step.running:
            self.running += 1
        if step.name == SYNC_PR and step.status != STATUS_ERROR and not step.has_counts:
            return
        is_root = (step.trace_id, step.span_id) == self.root
        if step.has_counts:
            items = own_items(step)
            tally.stages += NOTHING if is_root else items
        if step.status == STATUS_ERROR:
            self.failures.add(step)
        self.rate_limits.add(step)
        self.put_back += step.attributes.get(SYNC_OUTCOME) == "retry"
        if is_root:
            self.pipeline = step.attributes
            self.error = bounded(step.status_message) if step.failed else ""

    def _know_repo(self, step: Step) -> None:
        """Learn the group of a repo, or take it over for a span that has nothing around it any more."""
        repo = step.attributes.get(SYNC_REPO)
        if not isinstance(repo, str):
            return
        if step.group is None:
            step.group = self.groups_of_repos.get(group_name(repo))
        elif len(self.groups_of_repos) < MOST_GROUPS:
            self.groups_of_repos.setdefault(group_name(repo), step.group)

    def _known(self, name: str) -> str:
        if name not in self.tallies:
            if len(self.tallies) >= MOST_GROUPS:
                name = OTHER
            self.tallies.setdefault(name, Tally())
        return name


def group_name(value: object) -> str:
    """A group's name. Two that are the same for as long as anybody reads stay apart."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= _LONGEST_NAME:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{text[:_LONGEST_NAME]}…{digest}"
