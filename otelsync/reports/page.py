"""The page of a report: the summary, and a waterfall of a bounded number of spans, in one file that needs no other.

It says everything without JavaScript; with it one can search. Nothing is loaded, and its Content-Security-Policy allows
nothing but its own style and script, by their hashes. So there are no ``style`` attributes: bars are drawn as SVG.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from otelsync.reports.figures import Summary
from otelsync.reports.html_text import inline_hash, text
from otelsync.reports.page_summary import badge, summary_sections
from otelsync.reports.selection import Node, Sum
from otelsync.reports.time_spent import WAITS
from otelsync.store.spans import StoredSpan
from otelsync.text.quantities import counted, duration

OUTCOMES: Final = ("success", "partial", "failure", "interrupted", "cancelled", "running")

_ALL_OPEN: Final = 150
"""Lines of a waterfall that begins unfolded as a whole."""
_DEEPEST_INDENT: Final = 8
_WIDTH: Final = 1000
"""Units of a bar's drawing."""
_LEAST: Final = 2
_TICKS: Final = 4


def page(summary: Summary, nodes: Sequence[Node]) -> Iterator[str]:
    """``waterfall.html`` in pieces.

    Args:
        summary: The figures.
        nodes: What the waterfall shows; see `otelsync.reports.selection`.
    """
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {inline_hash(style)}; script-src {inline_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    title = f"{text(summary.pipeline or 'trace', 80)} {text(summary.name, 60)}"
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#waterfall">Skip to the waterfall</a>\n<main>\n'
    )
    shown = {node.span.span_id for node in _walk(nodes) if node.span is not None}
    yield from summary_sections(summary, shown)
    yield from _Waterfall(summary, nodes).pieces()
    yield (
        f'<footer>Made by <span class="mono">otelsync report {text(summary.name, 60)}</span> from the local store.'
        ' The figures in words: <a href="_SYNC_SUMMARY.md">_SYNC_SUMMARY.md</a>, for programs:'
        f' <a href="summary.json">summary.json</a>.</footer>\n</main>\n<script>{script}</script>\n</body>\n</html>\n'
    )


class _Waterfall:
    def __init__(self, summary: Summary, nodes: Sequence[Node]) -> None:
        self._summary = summary
        self._nodes = nodes
        everything = [*_walk(nodes)]
        self._lines = len(everything)
        self._first = min((node.start_ns for node in everything), default=summary.started_at_ns)
        self._last = max(summary.last_seen_at_ns, self._first + 1)

    def pieces(self) -> Iterator[str]:
        """The sticky head with the time axis, and the lines."""
        yield (
            '<section aria-labelledby="waterfall">\n<div class="bar-head">\n<div class="title">'
            f'<h2 id="waterfall">Waterfall</h2><span class="soft">{text(self._summary.pipeline, 60)}</span>'
            f"{badge(self._summary.outcome)}"
            '<div class="tools" id="tools" hidden><label for="search">Search</label>'
            '<input type="search" id="search" placeholder="name, number, repo, error">'
            '<label><input type="checkbox" id="failed"> failed only</label>'
            '<button type="button" id="unfold">Unfold all</button><button type="button" id="fold">Fold all</button>'
            '<span class="soft" id="found" role="status"></span></div></div>\n'
        )
        ticks = [duration((self._last - self._first) * tick // _TICKS) if tick else "0" for tick in range(_TICKS + 1)]
        yield '<div class="row axis"><span>span</span><span class="ticks">'
        yield "".join(f"<span>{tick}</span>" for tick in ticks[:-2])
        yield f'<span class="end">{ticks[-2]}<span>{ticks[-1]}</span></span></span>'
        yield '<span class="took">took</span><span class="state">outcome</span></div>\n</div>\n'
        yield '<ul class="waterfall">\n'
        for node in self._nodes:
            yield from self._node(node, 0)
        yield "</ul>\n"
        stored = self._summary.rows.spans
        if stored > self._lines:
            yield (
                f'<p class="soft">{self._lines:,} lines for {counted(stored, "span")}: stages, failures and the slowest'
                f' are shown, sums stand for the rest. <span class="mono">otelsync show'
                f" {text(self._summary.name, 60)} --all</span> shows every one.</p>\n"
            )
        yield "</section>\n"

    def _node(self, node: Node, depth: int) -> Iterator[str]:
        indent = min(depth, _DEEPEST_INDENT)
        if node.sum is not None:
            yield f"<li{_mark(node.sum.failed > 0)}>{self._sum(node.sum, indent)}</li>\n"
            return
        if node.span is None:
            return
        why = f'<div class="why d{indent}">{text(node.span.error, 400)}</div>' if node.span.failed else ""
        start = f'<li id="s-{text(node.span.span_id, 32)}"{_mark(node.span.failed)}>'
        line = self._span(node.span, indent)
        if not (node.children or node.is_cut):
            yield f"{start}{line}{why}</li>\n"
            return
        unfolded = " open" if self._lines <= _ALL_OPEN or depth == 0 or _leads_to_failure(node) else ""
        yield f"{start}<details{unfolded}><summary>{line}</summary>{why}\n<ul>\n"
        for child in node.children:
            yield from self._node(child, depth + 1)
        if node.is_cut:
            yield f'<li><span class="row"><span class="name rest d{min(indent + 1, _DEEPEST_INDENT)}">'
            yield "<span>there is more below, for which there was no room</span></span></span></li>\n"
        yield "</ul></details></li>\n"

    def _span(self, span: StoredSpan, indent: int) -> str:
        took = span.duration_ns(self._last)
        outcome = span.outcome
        style = "failure" if outcome == "failed" else outcome if outcome in OUTCOMES else ""
        kind = f"o-{style}" if style else "k-waiting" if span.name in WAITS else ""
        what = f'<span class="what">{text(span.detail, 120)}</span>' if span.detail else ""
        name = f'<span class="name d{indent}"><span class="label">{text(span.name, 120)}</span>{what}</span>'
        state = f'<span class="state{f" o-{style}" if style else ""}">{text(outcome, 20)}</span>'
        started = duration(span.start_ns - self._first)
        return (
            f'<span class="row">{name}'
            f"{self._bar(span.start_ns, span.start_ns + took, kind)}"
            f'<span class="took" title="began {started} after the start, span {text(span.span_id, 32)}">'
            f"{duration(took)}</span>{state}</span>"
        )

    def _sum(self, rest: Sum, indent: int) -> str:
        failed = f", {rest.failed:,} failed" if rest.failed else ""
        mean = duration(rest.total_ns // max(rest.count, 1))
        return (
            f'<span class="row"><span class="name rest d{indent}"><span class="label">and {rest.count:,} more'
            f" {text(rest.name, 80)}{failed}</span></span>{self._bar(rest.start_ns, rest.end_ns, 'k-sum')}"
            f'<span class="took">{duration(rest.total_ns)}</span><span class="state soft">mean {mean}</span></span>'
        )

    def _bar(self, start_ns: int, end_ns: int, kind: str) -> str:
        span = self._last - self._first
        left = min(max(start_ns - self._first, 0), span) * _WIDTH / span
        width = max(min(max(end_ns - self._first, 0), span) * _WIDTH / span - left, _LEAST)
        return (
            f'<span class="track"><svg viewBox="0 0 {_WIDTH} 10" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect{f" class={kind!r}" if kind else ""} x="{min(left, _WIDTH - _LEAST):.1f}" width="{width:.1f}"'
            ' height="10"/></svg></span>'
        )


def _mark(failed: bool) -> str:
    return " data-failed" if failed else ""


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
