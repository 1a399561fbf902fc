"""The truth of a program, from its tree alone: what any view has to say of its run.

The rules are those of docs/concepts.md, written down a second time and without a look at otelsync's code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from random_syncs.trees import CANVASES, PAGE_SIZE, Node

ACTIONS: Final = ("created", "updated", "unchanged", "skipped", "failed")


@dataclass
class Figures:
    """What is said of a run: by the truth, or by a view, which leaves None what it does not say."""

    outcome: str | None = None
    items: dict[str, int] | None = None
    """By action, and all as `fetched`; without zeros."""
    errors: int | None = None
    retries: int | None = None
    waits: int | None = None


@dataclass
class _Part:
    """A part that has ended, as the part sees it that it belongs to."""

    identity: tuple[str, str, str]
    outcome: str
    required: bool = True
    arose: bool = False
    """True if it failed by itself: by `fail()`, or by an exception that arose here; or was the innermost that died."""
    attempt: int | None = None


@dataclass
class _End:
    """How a part came to its end."""

    part: _Part | None = None
    """None: it leaves no trace, or is no part."""
    late: list[_Part] = field(default_factory=list)
    """Parts below it that outlived it."""
    leaves: int | None = None
    """An exception that leaves it goes through so many parts more."""
    stops: bool = False
    """KeyboardInterrupt leaves it."""
    dies: bool = False
    """Its process is dead."""


@dataclass
class _Sum:
    items: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    retries: int = 0
    waits: int = 0


def truth(program: Node) -> Figures:
    """Return what is true of a run of this program."""
    known = _Sum()
    end = _canvas(program, known) if program.kind in CANVASES else _run(program, known)
    assert end.part is not None
    _settle([end.part], known)
    items = {name: number for name, number in sorted(known.items.items()) if number}
    return Figures(end.part.outcome, items, known.errors, known.retries, known.waits)


def _run(node: Node, known: _Sum) -> _End:
    if node.sort == "wait":
        known.waits += 1
        return _End()
    body = _body(node.children, known)
    return _ended(node, body, known)


def _canvas(program: Node, known: _Sum) -> _End:
    """Run a pipeline whose groups are tasks. What follows on one that failed does not run."""
    parts: list[_Part] = []
    has_failed = False
    for child in program.children:
        follows = "chain" in program.kind or ("chord" in program.kind and child is program.children[-1])
        if follows and has_failed:
            continue
        for _ in range(child.retries):
            attempt = _Sum()
            _settle(_body(child.children, attempt).parts, attempt)
            known.items.update(attempt.items)
            known.waits += attempt.waits
            known.retries += attempt.retries + 1
        end = _run(child, known)
        has_failed |= bool(end.leaves) or end.dies
        if end.part is not None:
            parts.append(end.part)
    outcome = _derived(_settle(parts, known), {})
    return _End(_Part(program.identity, outcome))


@dataclass
class _Body:
    parts: list[_Part] = field(default_factory=list)
    late: list[_Part] = field(default_factory=list)
    """Children that outlive it."""
    leaves: int | None = None
    stops: bool = False
    dies: bool = False


def _body(children: list[Node], known: _Sum) -> _Body:
    """Run what is in a part, up to the exception that leaves it."""
    body = _Body()
    awaited: int | None = None
    for child in children:
        if child.sort == "pages":
            body.parts += _pages(child, known)
            continue
        end = _run(child, known)
        owner = body.late if child.outlives else body.parts
        owner += end.late
        if end.part is not None:
            owner.append(end.part)
        if child.how != "inline":  # its exception is seen when it is awaited, at the end
            if end.leaves and awaited is None:
                awaited = end.leaves - 1
            continue
        body.stops, body.dies = end.stops, end.dies
        if end.leaves:
            body.leaves = end.leaves - 1
        if end.leaves or end.stops or end.dies:
            return body
    body.leaves = awaited
    return body


def _ended(node: Node, body: _Body, known: _Sum) -> _End:
    clean = body.leaves is None and not body.stops and not body.dies
    dies = body.dies or (clean and node.fate == "kill")
    stops = body.stops or (clean and node.fate == "stop")
    arose = clean and node.fate in ("fail", "raise")
    passed = body.leaves is not None
    leaves = body.leaves if passed else node.passes if clean and node.fate == "raise" else None
    if dies and node.sort == "item":
        return _End(dies=True)  # its beginning is not recorded
    below = _settle(body.parts, known)
    if dies:
        outcome = "interrupted"
        arose = "interrupted" not in below
    elif stops or (clean and node.fate == "cancel"):
        outcome = "cancelled"
    elif arose or passed:
        outcome = "failure"
    else:
        outcome = _derived(below, node.counts)
    if not dies:
        _count(node, outcome, known)
    part = _Part(node.identity, outcome, node.required, arose, node.attempt)
    return _End(part, body.late, leaves, stops, dies)


def _derived(below: list[str], counts: dict[str, int]) -> str:
    """What becomes of a part by what became of its own parts."""
    if below and all(outcome == "failure" for outcome in below):
        return "failure"
    unwell = any(outcome in ("failure", "partial", "interrupted") for outcome in below)
    return "partial" if unwell or counts.get("failed") else "success"


def _settle(parts: list[_Part], known: _Sum) -> list[str]:
    """Count errors and retries among the parts of one part, and return the outcomes that count for it."""
    outcomes = []
    failures: Counter[tuple[str, str, str]] = Counter()
    for place, part in enumerate(parts):
        if (part.attempt or 1) > 1:
            known.retries += 1
        elif part.outcome == "success":
            known.retries += failures[part.identity]
        if part.outcome == "success":
            del failures[part.identity]
        is_recovered = any(
            other.identity == part.identity and other.outcome == "success" for other in parts[place + 1 :]
        )
        if part.outcome == "failure" and is_recovered:
            failures[part.identity] += 1
        elif part.outcome != "cancelled" and (part.required or part.outcome != "failure"):
            outcomes.append(part.outcome)
            known.errors += part.arose
    return outcomes


def _count(node: Node, outcome: str, known: _Sum) -> None:
    """Count an item, or what a part has counted by hand."""
    if node.sort == "item":
        known.items["fetched"] += 1
        action = "failed" if outcome == "failure" else node.action
        if action:
            known.items[action] += 1
        return
    counts = dict(node.counts)
    counts.setdefault("fetched", sum(counts.get(action, 0) for action in ACTIONS))
    known.items.update(counts)


def _pages(node: Node, known: _Sum) -> list[_Part]:
    """Run a generator of pages; returns the parts of whoever reads them."""
    read = node.children[: node.breaks_after]
    if "decorated" in node.kind:
        below = _body(read, known).parts
        return [*below, _Part(("api", "api", node.name), "success")]
    parts = []
    for number in range(0, max(len(read), 1), PAGE_SIZE):
        page = _body(read[number : number + PAGE_SIZE], known)
        outcome = _derived(_settle(page.parts, known), {})
        parts.append(_Part(("api", "api", f"{node.name}/{number}"), outcome))
    return parts
