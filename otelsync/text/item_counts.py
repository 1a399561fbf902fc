"""Counts of items in a line, by what became of them."""

from __future__ import annotations

from collections.abc import Mapping

from otelsync.vocabulary import ACTIONS


def items_line(fetched: int, actions: Mapping[str, int], others: Mapping[str, int] | None = None) -> str:
    """Return how many items there were, and what became of them: known actions first, then others by their own names.

    `others` are what was counted beside items. Names go out as they come.

    >>> items_line(3, {"created": 1, "creatd": 1})
    '3 fetched = 1 created + 1 creatd + 1 without an action'
    """
    parts = _parts(actions)
    left = fetched - sum(actions.values())
    if left > 0:
        parts.append(f"{left:,} without an action")
    off = f" ({-left:,} more than were fetched)" if left < 0 else ""
    beside = "".join(f"; {part}" for part in _parts(others or {}))
    return f"{fetched:,} fetched = {' + '.join(parts) or '0'}{off}{beside}"


def apart(counts: Mapping[str, int]) -> tuple[int, dict[str, int], dict[str, int]]:
    """Return the items fetched, their actions, and what was counted beside them, of the totals of a stage.

    Unknown names are actions as long as they fit into what was fetched, which counts made by hand are no part of.
    """
    fetched = counts.get("fetched", 0)
    actions = {name: counts[name] for name in ACTIONS if counts.get(name)}
    unknown = {name: number for name, number in counts.items() if number and name not in ACTIONS and name != "fetched"}
    if sum(actions.values()) + sum(unknown.values()) <= fetched:
        return fetched, actions | unknown, {}
    return fetched, actions, unknown


def _parts(counts: Mapping[str, int]) -> list[str]:
    names = [*ACTIONS, *sorted(set(counts) - set(ACTIONS))]
    return [f"{counts[name]:,} {name}" for name in names if counts.get(name)]
