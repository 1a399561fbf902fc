"""A trace as text: an indented tree of its spans, with what a test wants to see of each, held against a literal."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypedDict, Unpack

from otelsync.testing.reading import Span, spans_in
from otelsync.text.printable import printable
from otelsync.text.quantities import duration
from otelsync.vocabulary import FAILURE, ITEM, SUCCESS, SYNC_STAGE_KIND, WAITING, part_of

POLL: Final = 0.02
"""Seconds between two looks at what other processes have recorded."""


class HasSpans(Protocol):
    """Anything that spans can be asked of, such as a :class:`~otelsync.testing.Recorded`."""

    @property
    def spans(self) -> Iterable[Span]:
        """The spans."""


Source: TypeAlias = HasSpans | Path | Iterable[Span]
"""Source of a tree's spans: what has recorded them, a home (``OTELSYNC_HOME``), or the spans themselves."""

Shown: TypeAlias = Iterable[str] | Mapping[str, str]
"""Attributes to show, by name; with a mapping also what to call each, where empty is nothing but its value."""


class Drawn(TypedDict, total=False):
    """The options of :func:`span_tree`."""

    attributes: Shown
    events: bool
    times: bool
    durations: bool
    in_order: bool
    roll: int


class _Row(NamedTuple):
    """A line of a tree."""

    depth: int
    name: str
    about: str


def span_tree(
    source: Source,
    *,
    attributes: Shown = (),
    events: bool = False,
    times: bool = False,
    durations: bool = False,
    in_order: bool = True,
    roll: int = 3,
) -> str:
    """The spans as an indented tree, of any number of traces.

    Behind each name stand the outcome in brackets, or else the status, as of items that went well or failed; ``open``,
    if it has not ended; ``waiting``, if it is a stage of that kind; the id of its parent, if that was not recorded
    (``<-``); the spans that it is linked to (``->``); and its attributes.

    Args:
        source: Where the spans come from.
        attributes: What to show of each, such as ``["sync.api.page"]``, which gives ``page=1``;
            ``{"http.response.status_code": ""}`` gives ``200``.
        events: Show span events, each on a line of its own behind a ``*``.
        times: Number the moments in which spans begin and end, and show ``t=2..7``: who was inside whom, or beside.
        durations: Show how long each took; different every time, so for people, not for tests.
        in_order: Siblings as they began. Otherwise by what is shown of them, for those that work at the same time.
        roll: From this many on, siblings of one name that have no children are one line: ``x100 (2 failed)``.
    """
    spans = sorted(_spans_of(source), key=lambda span: span.start)
    drawing = _Drawing(spans, _labels(attributes), events=events, durations=durations, roll=roll)
    if times:
        drawing.moments = _moments(spans)
    rows = list(drawing.rows("", 0))
    return _text_of(rows if in_order else _in_any_order(rows))


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
    wanted = _rows_of(expected, in_order)
    while True:
        found = _rows_of(actual if isinstance(actual, str) else span_tree(actual, **options), in_order)
        if found == wanted:
            return
        if time.monotonic() >= deadline:
            raise AssertionError(_difference(wanted, found))
        time.sleep(POLL)


def _difference(wanted: Sequence[_Row], found: Sequence[_Row]) -> str:
    if not found:
        return f"no span was recorded; expected:\n\n{_text_of(wanted)}"
    # Aligned together, so that a line differs only where it says something else.
    both = _text_of([*wanted, *found]).splitlines()
    compared = difflib.ndiff(both[: len(wanted)], both[len(wanted) :], charjunk=None)
    lines = "\n".join(line.rstrip() for line in compared if not line.startswith("?"))
    return f"the trace looks different (- expected, + recorded):\n\n{lines}"


def _text_of(rows: Sequence[_Row]) -> str:
    """The rows as text, in two columns."""
    names = ["  " * row.depth + row.name for row in rows]
    width = max(map(len, names), default=0) + 2
    return "\n".join(f"{name:{width}}{row.about}".rstrip() for name, row in zip(names, rows, strict=True))


def _rows_of(text: str, in_order: bool) -> list[_Row]:
    """The rows of a tree that somebody has written: what stands behind two spaces or more is not the name.

    Indentation may be of any width, as long as what is deeper is indented more.
    """
    rows: list[_Row] = []
    indents: list[int] = []
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        while indents and indents[-1] >= indent:
            indents.pop()
        name, *about = re.split(r" {2,}", line.strip(), maxsplit=1)
        rows.append(_Row(len(indents), name, re.sub(r" {2,}", " ", "".join(about))))
        indents.append(indent)
    return rows if in_order else _in_any_order(rows)


def _in_any_order(rows: Sequence[_Row]) -> list[_Row]:
    """The rows with siblings sorted by what they and those below them say."""
    branches: list[list[_Row]] = []
    for row in rows:
        if row.depth == rows[0].depth:
            branches.append([row])
        else:
            branches[-1].append(row)
    ordered = sorted([branch[0], *_in_any_order(branch[1:])] for branch in branches)
    return [row for branch in ordered for row in branch]


class _Drawing:
    """The spans of a tree, by their places in it, and what is shown of them."""

    def __init__(
        self, spans: Sequence[Span], labels: Mapping[str, str], *, events: bool, durations: bool, roll: int
    ) -> None:
        self._names = {span.span_id: span.name for span in spans}
        self._children: dict[str, list[Span]] = {}
        """By the parent's id."""
        for span in spans:
            self._children.setdefault(span.parent_id if span.parent_id in self._names else "", []).append(span)
        self._labels = labels
        self._events = events
        self._durations = durations
        self._roll = roll
        self.moments: Mapping[tuple[str, bool], int] = {}

    def rows(self, parent: str, depth: int) -> Iterator[_Row]:
        """Yield the rows below a span, or the roots."""
        families: dict[str, list[Span]] = {}
        for span in self._children.get(parent, []):
            families.setdefault(span.name, []).append(span)
        rolled = {name for name, family in families.items() if self._is_rolled(family)}
        for span in self._children.get(parent, []):
            name = printable(span.name)
            if span.name in rolled:
                if span is families[span.name][0]:
                    yield _Row(depth, name, _summary(families[span.name]))
                continue
            yield _Row(depth, name, self._about(span))
            if self._events:
                for event, attributes in span.events:
                    yield _Row(depth + 1, f"* {printable(event)}", self._said(attributes))
            yield from self.rows(span.span_id, depth + 1)

    def _is_rolled(self, family: Sequence[Span]) -> bool:
        return len(family) >= self._roll and not any(span.span_id in self._children for span in family)

    def _about(self, span: Span) -> str:
        says_more = span.outcome not in ("", SUCCESS, FAILURE) or part_of(span.name)[0] != ITEM
        parts = [f"[{span.outcome}]" if span.outcome and says_more else span.status]
        if not span.ended:
            parts.append("open")
        if span.attributes.get(SYNC_STAGE_KIND) == WAITING:
            parts.append("waiting")
        if span.parent_id and span.parent_id not in self._names:
            parts.append(f"<- {span.parent_id}")
        parts += [f"-> {printable(self._names.get(link, link))}" for link in span.links]
        parts.append(self._said(span.attributes))
        if self.moments:
            ends = self.moments.get((span.span_id, True), "")
            parts.append(f"t={self.moments[span.span_id, False]}..{ends}")
        if self._durations and span.end is not None:
            parts.append(duration(span.end - span.start))
        return " ".join(filter(None, parts))

    def _said(self, attributes: Mapping[str, Any]) -> str:
        return " ".join(
            f"{label}{printable(str(attributes[key]))}" for key, label in self._labels.items() if key in attributes
        )


def _spans_of(source: Source) -> Iterable[Span]:
    if isinstance(source, Path):
        return spans_in(source)
    return source if isinstance(source, Iterable) else source.spans


def _labels(shown: Shown) -> dict[str, str]:
    """Return the label before the value of each attribute."""
    names = shown if isinstance(shown, Mapping) else {key: key.rpartition(".")[2] for key in shown}
    return {key: f"{name}=" if name else "" for key, name in names.items()}


def _moments(spans: Iterable[Span]) -> dict[tuple[str, bool], int]:
    """The number of each start and each end, from 1: a clock that goes on by one whenever somebody looks at it.

    Real clocks stay as they are, in this process and in others; so the numbers are given when the trace is read.
    """
    starts = [(span.start, False, span.span_id) for span in spans]
    ends = [(span.end, True, span.span_id) for span in spans if span.end is not None]
    moments = sorted(starts + ends, key=lambda moment: moment[:2])
    return {(span_id, is_end): number for number, (_, is_end, span_id) in enumerate(moments, 1)}


def _summary(family: Sequence[Span]) -> str:
    failed, running = sum(span.failed for span in family), sum(not span.ended for span in family)
    notes = [f"{failed} failed"] * bool(failed) + [f"{running} open"] * bool(running)
    return f"x{len(family)} ({', '.join(notes)})" if notes else f"x{len(family)}"
