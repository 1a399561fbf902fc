"""Collecting what has become of a stage's parts: counts, failures, recoveries, and the outcome that follows.

A part (group, item, batch, stage, API call) belongs to the nearest stage around it that is still open when it ends,
in whatever thread or task. What other processes do below a stage is not known here: readers and the shipper derive it
from the recorded spans (`otelsync.store.accounts`), by the same rules.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from opentelemetry.trace import Span

from otelsync.bounds import LONGEST_TEXT
from otelsync.digests import blake2b
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.stages import lineage, misuse
from otelsync.text.presentable import presentable
from otelsync.vocabulary import ACTIONS, FAILED, FAILURE, ITEM, PARTIAL, SUCCESS, SYNC_COUNTED_, part_of

WAITED: Final = "waited_ms"
"""The figure with the milliseconds that rate limits have taken."""

MOST_FAILURES: Final = 10_000
"""Failures below one stage that may each be made good."""
_NOT_OWN: Final = frozenset(("attempt", "action", "required"))
"""Arguments that say how it goes, and not what it is."""
TOLD_EACH_TIME: Final = 32
TOLD_EVERY: Final = 0.1
"""Seconds between two announcements of what was counted by hand."""
PartKey = tuple[str, str]
"""The id of the span around a part, and the digest of what it is."""

_log = own_logger("otelsync")


class Collecting:
    """Collects the counts and outcomes of the parts that end below it, as long as it is open."""

    LONG = True
    """True if its start is journalled, so that it can be closed should the process die."""
    open_in = 0
    """Generation of the process in which it is open (see `lineage`); 0 before and after."""
    around: Collecting | None = None
    """The stage around; None outside any."""
    span: Span
    """The stage's span, while it runs and after."""
    good = failed = partial = neutral_items = 0
    """Numbers of direct parts: items apart those that went well; all that failed for good, or in part; and items here
    and in other items that did none of it."""
    is_summed = is_taken = is_remembered = is_counted = False
    """Steps of its own end that are done: what it adds to the stage around is there."""
    _remembered = _told = 0
    _told_at = 0.0
    waited = 0.0
    """Seconds that rate limits have taken so far, here and below."""

    items: dict[str, int]
    """Direct items that have ended, by action; '' for those that were given none."""
    below: dict[str, int]
    """Counts of the stages below that have ended."""
    counted: dict[str, int]
    """Counts made by hand."""
    failures: dict[str, dict[PartKey, int]]
    """Failures that may still be made good, by the name of the part, and what tells it from others of that name."""

    def begin_collecting(self) -> None:
        """Start with nothing."""
        self.items, self.below, self.counted, self.failures = {}, {}, {}, {}

    def count(self, **items: int) -> None:
        """Count items: ``fetched``, ``created``, ``updated``, ``unchanged``, ``skipped``, ``failed``, or your own.

        They become ``sync.items.*`` here and in every stage around. What was fetched need not be counted: it is the
        sum of the rest. After the end of the stage they count for the nearest one around that is still open.
        """
        counts: dict[str, int] = {}
        for name, number in items.items():
            try:
                counts[name] = operator.index(number)
            except Exception as error:  # of its __index__
                hand_back(error)
                _log.warning("count(%s=%r): not a whole number, so it is not counted", name, presentable(number))
        with lineage.rolling_up:  # so that a stage does not end between being looked at and telling what it counted
            target = nearest_open(self)
            if target is not None:
                target.counted = summed(target.counted, counts)
                target.tell_counted()
                return
        if getattr(self, "span", None) is not misuse.NOT_BEGUN:
            misuse.warn_once(
                "count outside",
                "count(): the stage has ended, or was begun by the process that forked this one, so what is counted"
                " is lost; count in a stage of this process, or give each item a span of its own",
            )

    def tell_counted(self) -> None:
        """Announce the span again, with what was counted by hand: each time at first, then ten times a second.

        A span that was handed over to another process is told of no more.
        """
        if not self.LONG or not hasattr(self.span, "announce") or not self.span.is_recording():
            return
        now = monotonic()
        self._told += 1
        if self._told <= TOLD_EACH_TIME or now - self._told_at >= TOLD_EVERY:
            self._told_at = now
            self.span.set_attributes(self.by_hand())
            self.span.announce()

    def by_hand(self) -> dict[str, int]:
        """Return what was counted by hand, as attributes."""
        return {SYNC_COUNTED_ + name: number for name, number in list(self.counted.items())}

    def totals(self) -> dict[str, int]:
        """Return the counts, with ``fetched``: as the caller counted it, else every item, whatever became of it."""
        items, counted, totals = dict(self.items), dict(self.counted), dict(self.below)
        fetched = totals.pop("fetched", 0) + sum(items.values()) + sum(counted.get(action, 0) for action in ACTIONS)
        fetched = counted.pop("fetched", fetched)
        items.pop("", None)
        for counts in (items, counted):
            for name, number in counts.items():
                totals[name] = totals.get(name, 0) + number
        return {"fetched": fetched, **totals} if fetched or totals else totals

    def tally(self) -> tuple[int, int, int]:
        """Return the numbers of direct parts that went well, that failed for good, and that failed in part."""
        items = dict(self.items)
        items.pop(FAILED, 0)
        return self.good + sum(items.values()) - self.neutral_items, self.failed, self.partial

    def figures(self) -> dict[str, int]:
        """Return what was collected, by name, for a pipeline that another process ends."""
        good, failed, partial = self.tally()
        parts = {"parts.good": good, "parts.failed": failed, "parts.partial": partial}
        figures = {f"items.{name}": number for name, number in self.totals().items()}
        return {
            name: number for name, number in {**figures, **parts, WAITED: round(self.waited * 1000)}.items() if number
        }

    def take_figures(self, figures: Mapping[str, int]) -> None:
        """Begin with the figures of several processes, of which those by hand (``counted.``) are in ``items.`` too."""
        self.begin_collecting()
        self.counted = {name.partition(".")[2]: n for name, n in figures.items() if name.startswith("counted.")}
        totals = {name.partition(".")[2]: n for name, n in figures.items() if name.startswith("items.")}
        fetched = totals.pop("fetched", 0) - sum(self.counted.get(action, 0) for action in ACTIONS)
        below = {name: number - self.counted.get(name, 0) for name, number in totals.items()}
        self.below = {name: number for name, number in {"fetched": fetched, **below}.items() if number > 0}
        self.good, self.failed = figures.get("parts.good", 0), figures.get("parts.failed", 0)
        self.partial = figures.get("parts.partial", 0)

    def outcome_of_parts(self) -> str:
        """Return the outcome that follows from what has become of the parts."""
        good, failed, partial = self.tally()
        if failed and not good and not partial:
            return FAILURE
        return PARTIAL if failed or partial or self.counted.get(FAILED, 0) > 0 else SUCCESS

    # An exception of the host's may come between any two calls, and a part then ends once more. So each of these does
    # what counts in one step, with a mark on the part that it was done.

    def take_totals(self, totals: Mapping[str, int], part: Collecting) -> None:
        """Add the counts of a stage below that has ended."""
        if not part.is_summed:
            self.below, part.is_summed = summed(self.below, totals), True

    def take_part(self, outcome: str, part: Collecting, *, is_item: bool) -> None:
        """Take account of how a direct part ended. Items that went well are counted by their action already."""
        if part.is_taken:
            return
        if outcome == FAILURE:
            self.failed, part.is_taken = self.failed + 1, True
        elif outcome == PARTIAL:
            self.partial, part.is_taken = self.partial + 1, True
        elif outcome == SUCCESS:
            self.good, part.is_taken = self.good + (not is_item), True

    def take_neutral_item(self, part: Collecting) -> None:
        """Take account of an item that went neither well nor wrong, though it is counted by its action."""
        if not part.is_taken:
            self.neutral_items, part.is_taken = self.neutral_items + 1, True

    def take_action(self, action: str, part: Collecting) -> None:
        """Count an item by what became of it."""
        if not part.is_counted:
            self.items[action], part.is_counted = self.items.get(action, 0) + 1, True

    def remember_failure(self, name: str, key: PartKey, part: Collecting) -> None:
        """Remember that a part failed, as the same part may succeed later."""
        if self._remembered < MOST_FAILURES and not part.is_remembered:
            keys = self.failures.setdefault(name, {})
            number = keys.get(key, 0) + 1
            keys[key], self._remembered, part.is_remembered = number, self._remembered + 1, True

    def expect(self, name: str) -> None:
        """Look twice at parts of this name: one has failed in an item here."""
        self.failures.setdefault(name, {})

    def failures_of(self, name: str, key: PartKey) -> int:
        """Return how often a part has failed that may still be made good."""
        return self.failures.get(name, {}).get(key, 0)

    def make_good(self, name: str, key: PartKey, part: Collecting) -> None:
        """Forget the failures of a part that has succeeded now."""
        keys = self.failures.get(name, {})
        number = keys.get(key, 0)
        if number and not part.is_remembered:
            failed, remembered = self.failed - number, self._remembered - number
            self.failed, self._remembered, keys[key], part.is_remembered = failed, remembered, 0, True
            del keys[key]
            if not keys:
                self.failures.pop(name, None)


def nearest_open(stage: Collecting | None) -> Collecting | None:
    """Return the innermost stage that is open in this process, from `stage` outwards."""
    generation = lineage.generation
    while stage is not None and stage.open_in != generation:
        stage = stage.around
    return stage


def item_around(span: Any, elsewhere: Any = None) -> Any:
    """Return the open item that a span stands in: parts in it belong to it.

    By its span, if both are ours; else that is `elsewhere`, as its stage knows it.
    """
    if elsewhere is not None:
        return elsewhere if elsewhere.span.is_recording() else None
    above = getattr(span, "above", None)
    while above is not None and not above.is_announced:
        if part_of(above.name)[0] == ITEM and above.is_recording():
            return above
        above = above.above
    return None


def summed(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of two counts, name by name."""
    sums = dict(counts)
    for name, number in more.items():
        sums[name] = sums.get(name, 0) + number
    return sums


def digest_of(kind: str, name: str, arguments: Mapping[str, Any]) -> str:
    """Return eight hex digits for what a part is: its kind, its name, and its own attributes."""
    told = ((key, value) for key, value in arguments.items() if key not in _NOT_OWN)
    own = sorted((key, str(presentable(value))[:LONGEST_TEXT]) for key, value in told)
    text = repr((kind, name, own)).encode("utf-8", "backslashreplace")
    return blake2b(text, digest_size=4).hexdigest()
