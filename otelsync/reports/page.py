"""The page of a report: the summary, and a waterfall of a bounded number of spans, in one file that needs no other.

It says everything without JavaScript; with it one can search. Nothing is loaded, and its Content-Security-Policy allows
nothing but its own style and script, by their hashes. So there are no ``style`` attributes: bars are drawn as SVG.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otelsync.reports.comparison import differences
from otelsync.reports.figures import Group, Occurrence, Summary, took
from otelsync.reports.selection import Node
from otelsync.reports.time_spent import CATEGORIES, TITLES, WAITS
from otelsync.store.spans import StoredSpan
from otelsync.text.printable import printable
from otelsync.text.quantities import counted, day_and_time, duration, timestamp
from otelsync.vocabulary import ACTIONS, OUTCOMES

if TYPE_CHECKING:
    from jinja2 import Environment

_MOST_GROUPS: Final = 500
"""Rows of the table of groups. The Markdown has all."""
_MOST_OCCURRENCES: Final = 100
_ALL_OPEN: Final = 150
"""Lines of a waterfall that begins unfolded as a whole."""
_WIDTH: Final = 1000
"""Units of a bar's drawing."""
_LEAST: Final = 2
_TICKS: Final = 4


def page(summary: Summary, nodes: Sequence[Node]) -> Iterator[str]:
    """Return ``waterfall.html`` in pieces.

    Args:
        summary: The figures.
        nodes: What the waterfall shows; see `otelsync.reports.selection`.
    """
    environment = templates()
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))  # type: ignore[union-attr]
    shown = {node.span.span_id for node in _walk(nodes) if node.span is not None}
    return environment.get_template("page.html.jinja").generate(
        summary=summary,
        nodes=nodes,
        style=style,
        script=script,
        waterfall=_Waterfall(summary, nodes),
        differences=[] if summary.previous is None else differences(summary, summary.previous),
        **_tables(summary, shown),
    )


@cache
def templates() -> Environment:
    """Return what renders the templates: everything is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("otelsync.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": counted,
        "day_and_time": day_and_time,
        "duration": duration,
        "inline_hash": _inline_hash,
        "number": "{:,}".format,
        "text": _text,
    }
    environment.globals |= {"outcomes": OUTCOMES, "wait_names": WAITS}
    return environment


def _text(value: object, width: int = 200) -> str:
    """Return text from outside on one line; whoever renders it escapes it."""
    return printable(value, width)


def _inline_hash(content: str) -> str:
    """Return a policy's name for an inline script or style: https://www.w3.org/TR/CSP3/#source-list-syntax ."""
    from markupsafe import Markup

    return Markup(f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'")  # base64


class _Time(NamedTuple):
    """A kind of work in the bar of times; `left` and `width` are in thousandths of the whole."""

    kind: str
    title: str
    nanoseconds: int
    left: float
    width: float


def _times(summary: Summary) -> Iterator[_Time]:
    total = sum(summary.time_ns.values())
    left = 0.0
    for kind in CATEGORIES:
        if summary.time_ns[kind]:
            width = summary.time_ns[kind] * 1000 / total
            yield _Time(kind, TITLES[kind], summary.time_ns[kind], left, width)
            left += width


def _tables(summary: Summary, shown: Collection[str]) -> dict[str, Any]:
    """Return the rows of the summary's tables. `shown`: ids of the spans that can be linked to."""
    occurrences = [(error.type, at) for error in summary.errors for at in error.occurrences]
    return {
        "cards": [*_cards(summary)],
        "times": [*_times(summary)],
        "discrepancies": [(_text(one.what), f"{one.expected:,}", f"{one.found:,}") for one in summary.discrepancies],
        "group_head": (
            _text(summary.group_by, 60),
            "status",
            "fetched#",
            *(f"{action}#" for action in ACTIONS),
            *("API calls#", "time#", "waited#"),
        ),
        "groups": [*_groups(summary)],
        "errors": [
            (
                _text(error.type, 80),
                f"{error.count:,}",
                ", ".join(f"{_text(name, 60)} ({count:,})" for name, count in [*error.stages.items()][:3]),
                _text(error.message),
            )
            for error in summary.errors
        ],
        "occurrences": [_occurrence(kind, at, shown) for kind, at in occurrences[:_MOST_OCCURRENCES]],
        "rate_limits": [
            (
                _text(limit.resource or "all requests", 80),
                *("" if value is None else f"{value:,}" for value in (limit.limit, limit.remaining, limit.lowest)),
                "" if limit.reset_at_ns is None else day_and_time(limit.reset_at_ns),
            )
            for limit in summary.rate_limits
        ],
        "waits": [
            (
                _text(wait.kind, 60),
                f"{wait.count:,}",
                *(duration(value) for value in (wait.planned_ns, wait.actual_ns, wait.longest_ns)),
            )
            for wait in summary.waits
        ],
    }


def _cards(summary: Summary) -> Iterator[tuple[str, str]]:
    items = summary.items
    yield duration(summary.duration_ns), "took"
    yield f"{items.fetched:,}", "fetched"
    yield from ((f"{getattr(items, action):,}", action) for action in ACTIONS if getattr(items, action))
    yield f"{summary.api_calls:,}", "API calls"
    yield f"{summary.retries.resent:,}", "requests sent again"
    yield took(summary.waited_ns), "waited"
    yield f"{summary.error_count:,}", "error" if summary.error_count == 1 else "errors"


def _groups(summary: Summary) -> Iterator[Sequence[object]]:
    from markupsafe import Markup

    for group in summary.groups[:_MOST_GROUPS]:
        yield _group(Markup('<a href="{}">{}</a>').format(_text(group.file), _text(group.name, 80)), group)
    if len(summary.groups) > _MOST_GROUPS:
        yield [f"and {len(summary.groups) - _MOST_GROUPS:,} more", *[""] * 10]
    yield _group("all", summary)


def _group(name: str, figures: Group | Summary) -> Sequence[object]:
    badge = templates().get_template("tables.html.jinja").module.badge  # type: ignore[attr-defined]
    counts = (figures.items.fetched, *(getattr(figures.items, action) for action in ACTIONS), figures.api_calls)
    times = (took(figures.duration_ns), took(figures.waited_ns))
    return [name, badge(figures.outcome), *(f"{number:,}" for number in counts), *times]


def _occurrence(kind: str, at: Occurrence, shown: Collection[str]) -> Sequence[object]:
    from markupsafe import Markup

    mono = Markup('<span class="mono">{}</span>').format
    span = mono(_text(at.span_id))
    return (
        _text(kind, 80),
        _text(" #".join(part for part in (at.repo, at.change) if part), 100),
        Markup('{} <span class="soft">{}</span>').format(_text(at.log, 100), timestamp(at.logged_at_ns))
        if at.log
        else "",
        Markup('<a href="#s-{}">{}</a>').format(_text(at.span_id), span) if at.span_id in shown else span,
        mono(_text(at.trace_id)),
    )


class _Waterfall:
    """Places and looks of a waterfall's lines."""

    def __init__(self, summary: Summary, nodes: Sequence[Node]) -> None:
        everything = [*_walk(nodes)]
        self.lines = len(everything)
        self.first = min((node.start_ns for node in everything), default=summary.started_at_ns)
        self.last = max(summary.last_seen_at_ns, self.first + 1)

    @property
    def ticks(self) -> list[str]:
        """The labels of the time axis."""
        length = self.last - self.first
        return [duration(length * tick // _TICKS) if tick else "0" for tick in range(_TICKS + 1)]

    def place(self, start_ns: int, end_ns: int) -> tuple[float, float]:
        """Return the left end and the width of a bar."""
        length = self.last - self.first
        left = min(max(start_ns - self.first, 0), length) * _WIDTH / length
        width = max(min(max(end_ns - self.first, 0), length) * _WIDTH / length - left, _LEAST)
        return min(left, _WIDTH - _LEAST), width

    def style(self, span: StoredSpan) -> str:
        """Return the outcome that a span is coloured by; empty if by none."""
        return "failure" if span.outcome == "failed" else span.outcome if span.outcome in OUTCOMES else ""

    def is_unfolded(self, node: Node, depth: int) -> bool:
        """Return whether what is below a node is shown from the beginning."""
        return self.lines <= _ALL_OPEN or depth == 0 or _leads_to_failure(node)


def _leads_to_failure(node: Node) -> bool:
    return any(
        (below.span is not None and below.span.failed) or (below.sum is not None and below.sum.failed)
        for below in _walk(node.children)
    )


def _walk(nodes: Sequence[Node]) -> Iterator[Node]:
    left = [*nodes]
    while left:
        node = left.pop()
        yield node
        left += node.children
