"""The page of a report: the summary, and a waterfall of a bounded number of spans, in one file that needs no other.

It says everything without JavaScript; with it one can search. Nothing is loaded, and its Content-Security-Policy allows
nothing but its own style and script, by their hashes. So there are no ``style`` attributes: bars are drawn as SVG.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from otelsync.reports.comparison import differences, error_line, item_name
from otelsync.reports.figures import Item, Summary, took
from otelsync.reports.selection import Node
from otelsync.reports.sweep import is_wait
from otelsync.reports.time_spent import TITLES
from otelsync.store.spans import StoredSpan
from otelsync.text.plurals import label, plural
from otelsync.text.printable import printable
from otelsync.text.quantities import counted, day_and_time, duration, timestamp
from otelsync.text.trace_address import trace_address
from otelsync.vocabulary import OUTCOMES, part_of

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


def page(summary: Summary, nodes: Sequence[Node], trace_url: str | None = None) -> Iterator[str]:
    """Return ``waterfall.html`` in pieces.

    Args:
        summary: The figures.
        nodes: The lines of the waterfall; see `otelsync.reports.selection`.
        trace_url: What addresses of traces are made of; None: there are none.
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
        most_groups=_MOST_GROUPS,
        occurrences=[(error.type, at) for error in summary.errors for at in error.occurrences][:_MOST_OCCURRENCES],
        shown=shown,
        address=partial(trace_address, trace_url),
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
        "differences": differences,
        "duration": duration,
        "error_line": error_line,
        "inline_hash": _inline_hash,
        "item_name": item_name,
        "label": label,
        "number": "{:,}".format,
        "plural": plural,
        "text": _text,
        "timestamp": timestamp,
        "took": took,
    }
    environment.globals |= {
        "items_title": items_title,
        "outcomes": OUTCOMES,
        "titles": TITLES,
    }
    return environment


def items_title(how: str, items: Sequence[Item]) -> str:
    """Return a heading of some items: ``Failed orders``, ``Slowest items`` where they are of several kinds.

    Args:
        how: The first word.
        items: What stands below.
    """
    kinds = {item.kind for item in items}
    return f"{how} {plural(kinds.pop()) if len(kinds) == 1 else 'items'}"


def _text(value: object, width: int = 200) -> str:
    """Return text from outside on one line; whoever renders it escapes it."""
    return printable(value, width)


def _inline_hash(content: str) -> str:
    """Return a policy's name for an inline script or style: https://www.w3.org/TR/CSP3/#source-list-syntax ."""
    from markupsafe import Markup

    return Markup(f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'")  # base64


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

    def is_wait(self, span: StoredSpan) -> bool:
        """Return whether a span is drawn as a wait."""
        return is_wait(part_of(span.name)[0], span.attributes)

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
