"""A trace held against a literal, with a difference that can be read."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from typing import Unpack

from otelsync.testing.drawing import Drawn, Row, Source, in_any_order, rows_of, span_tree, text_of

POLL = 0.02
"""Seconds between two looks at what other processes have recorded."""


def assert_span_tree(actual: Source | str, expected: str, *, within: float = 0.0, **options: Unpack[Drawn]) -> None:
    """Hold that a trace looks as expected.

    Args:
        actual: Where the spans come from, or a tree of :func:`~otelsync.testing.span_tree`.
        expected: The tree. How far it is indented as a whole, and how its columns are aligned, does not matter.
        within: Seconds that it may take to come to look like that, where other processes or threads record. There is
            no wait beyond what is needed.
        options: Of :func:`~otelsync.testing.span_tree`.

    Raises:
        AssertionError: It looks different; the message shows how.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + within
    in_order = options.get("in_order", True)
    wanted = _ordered(rows_of(expected), in_order)
    while (found := _ordered(rows_of(_drawn(actual, options)), in_order)) != wanted:
        if time.monotonic() >= deadline:
            raise AssertionError(_difference(wanted, found))
        time.sleep(POLL)


def _drawn(actual: Source | str, options: Drawn) -> str:
    return actual if isinstance(actual, str) else span_tree(actual, **options)


def _ordered(rows: list[Row], in_order: bool) -> list[Row]:
    return rows if in_order else in_any_order(rows)


def _difference(wanted: Sequence[Row], found: Sequence[Row]) -> str:
    if not found:
        return f"no span was recorded; expected:\n\n{text_of(wanted)}"
    # Aligned together, so that a line differs only where it says something else.
    both = text_of([*wanted, *found]).splitlines()
    compared = difflib.ndiff(both[: len(wanted)], both[len(wanted) :], charjunk=None)
    lines = "\n".join(line.rstrip() for line in compared if not line.startswith("?"))
    return f"the trace looks different (- expected, + recorded):\n\n{lines}"
