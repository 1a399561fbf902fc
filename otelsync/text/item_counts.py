"""Counts of items in a line, by what became of them."""

from __future__ import annotations

from collections.abc import Mapping

from otelsync.vocabulary import ACTIONS


def items_line(fetched: int, actions: Mapping[str, int]) -> str:
    """Return how many items there were, and what became of them: known actions first, then others by their own names.

    >>> items_line(3, {"created": 1, "creatd": 1})
    '3 fetched = 1 created + 1 creatd + 1 without an action'
    """
    names = [*ACTIONS, *sorted(set(actions) - set(ACTIONS))]
    parts = [f"{actions[name]:,} {name}" for name in names if actions.get(name)]
    left = fetched - sum(actions.values())
    if left > 0:
        parts.append(f"{left:,} without an action")
    off = f" ({-left:,} more than were fetched)" if left < 0 else ""
    return f"{fetched:,} fetched = {' + '.join(parts) or '0'}{off}"
