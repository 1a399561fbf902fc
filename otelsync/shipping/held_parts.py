"""Parts of open stages that other processes recorded, held with their ends until it is known when the stage ended.

A stage that has ended may still stand open here: the end lies in a file that is read later. Items that went well are
held as the numbers that their ends are, most others as what they say.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from otelsync.store.accounts import Ended

MOST_ENDS: Final = 65_536
"""Ends of items that are held, of all stages together. Beyond that the earliest are counted without."""
MOST_PARTS: Final = 4_096
"""Other parts."""


class Held:
    """Parts that are held for one stage."""

    __slots__ = ("counted", "ends", "parts", "read_before")

    def __init__(self) -> None:
        self.parts: list[tuple[Ended, bool]] = []
        """Each with whether it came late, which is when what it stands in had ended."""
        self.read_before = 0
        """Number of these that were there when everything had last been read."""
        self.ends: dict[str, array[int]] = {}
        """Ends of items that went well, by action, in nanoseconds since the epoch."""
        self.counted: dict[str, int] = {}
        """Number of items that ended before these, by action."""

    def items(self) -> dict[str, tuple[array[int], int]]:
        """Return the ends of items by action, and the number of those that ended earlier."""
        actions = self.ends.keys() | self.counted.keys()
        return {action: (self.ends.get(action, array("Q")), self.counted.get(action, 0)) for action in sorted(actions)}


class HeldParts:
    """Everything that is held, by the id of the stage."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._parts = self._ends = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, span_id: object) -> bool:
        return span_id in self._held

    def has_parts(self, span_id: str) -> bool:
        """Return whether parts are held for a stage that are more than items that went well."""
        held = self._held.get(span_id)
        return held is not None and bool(held.parts)

    def add(self, span_id: str, part: Ended, *, is_late: bool) -> str:
        """Hold a part; returns the stage that has too many then, or nothing."""
        self._of(span_id).parts.append((part, is_late))
        self._parts += 1
        if self._parts <= MOST_PARTS:
            return ""
        return max(self._held, key=lambda key: len(self._held[key].parts))

    def add_items(self, span_id: str, action: str, ends: array[int], counted: int = 0) -> None:
        """Hold items that went well."""
        held = self._of(span_id)
        if ends:
            held.ends.setdefault(action, array("Q")).extend(ends)
            self._ends += len(ends)
        if counted:
            held.counted[action] = held.counted.get(action, 0) + counted
        while self._ends > MOST_ENDS:
            self._count_earliest()

    def pop(self, span_id: str) -> Held | None:
        """Return what is held for a stage, and hold it no more."""
        held = self._held.pop(span_id, None)
        if held is not None:
            self._parts -= len(held.parts)
            self._ends -= sum(map(len, held.ends.values()))
        return held

    def pop_parts(self, span_id: str, *, since_all_was_read: bool = False) -> list[tuple[Ended, bool]]:
        """Return the parts of a stage that are more than items that went well, and hold these no more.

        `since_all_was_read`: only those that were not there yet the last time.
        """
        held = self._held.get(span_id)
        if held is None:
            return []
        first = held.read_before if since_all_was_read else 0
        parts = held.parts[first:]
        del held.parts[first:]
        held.read_before = len(held.parts)
        self._parts -= len(parts)
        if not (held.parts or held.ends or held.counted):
            del self._held[span_id]
        return parts

    def put_back(self, span_id: str, parts: list[tuple[Ended, bool]], *, are_read: bool = False) -> None:
        """Hold parts again. `are_read`: everything has been read that was recorded when they were."""
        if parts:
            held = self._of(span_id)
            held.parts[:0] = parts
            held.read_before = len(held.parts) if are_read else 0
            self._parts += len(parts)

    def _of(self, span_id: str) -> Held:
        held = self._held.get(span_id)
        if held is None:
            held = self._held[span_id] = Held()
        return held

    def _count_earliest(self) -> None:
        """Forget the earlier half of the ends of which there are most."""
        held, action = max(
            ((held, action) for held in self._held.values() for action in held.ends),
            key=lambda entry: len(entry[0].ends[entry[1]]),
        )
        ends = sorted(held.ends[action])
        half = (len(ends) + 1) // 2
        held.ends[action] = array("Q", ends[half:])
        held.counted[action] = held.counted.get(action, 0) + half
        self._ends -= half

    # Across restarts

    def dump(self) -> dict[str, list[Any]]:
        """Return it as JSON can hold it."""
        return {
            key: [
                [[list(part), is_late] for part, is_late in held.parts],
                {action: base64.b64encode(ends.tobytes()).decode() for action, ends in held.ends.items()},
                held.counted,
            ]
            for key, held in self._held.items()
        }

    def load(self, document: Mapping[str, Iterable[Any]]) -> list[Ended]:
        """Take up what :meth:`dump` returned, and return the parts in it.

        Raises ValueError, TypeError, AttributeError for anything else.
        """
        for key, (parts, ends, counted) in document.items():
            self.put_back(key, [(Ended(*part), bool(is_late)) for part, is_late in parts])
            for action, encoded in ends.items():
                self.add_items(key, action, array("Q", base64.b64decode(encoded)))
            for action, number in counted.items():
                self.add_items(key, action, array("Q"), int(number))
        return [part for held in self._held.values() for part, _ in held.parts]
