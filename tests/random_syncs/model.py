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
    attempt: int = 1
    errors: int = 0
    """Errors in it: that it failed by itself, and those of its parts."""
    items: Counter[str] = field(default_factory=Counter)


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
    """What is counted without a look at where it was."""

    retries: int = 0
    waits: int = 0


def truth(program: Node) -> Figures:
    """Return what is true of a run of this program."""
    known = _Sum()
    part = _canvas(program, known) if program.kind in CANVASES else _run(program, known).part
    assert part is not None
    items = {name: number for name, number in sorted(part.items.items()) if number}
    return Figures(part.outcome, items, part.errors, known.retries, known.waits)


def _run(node: Node, known: _Sum) -> _End:
    if node.sort == "wait":
        known.waits += 1
        return _End()
    return _ended(node, _body(node.children, known), known)


def _canvas(program: Node, known: _Sum) -> _Part:
    """Run a pipeline whose groups are tasks. What follows on one that failed does not run."""
    parts: list[_Part] = []
    items: Counter[str] = Counter()
    has_failed = False
    for child in program.children:
        follows = "chain" in program.kind or ("chord" in program.kind and child is program.children[-1])
        if follows and has_failed:
            continue
        for _ in range(child.retries):
            items += _settle(_body(child.children, known).parts, known).items + _by_hand(child)
            known.retries += 1
        end = _run(child, known)
        has_failed |= bool(end.leaves) or end.dies
        if end.part is not None:
            parts.append(end.part)
    below = _settle(parts, known)
    return _Part(program.identity, _derived(below.outcomes, {}), errors=below.errors, items=below.items + items)


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
        return _End(late=[*body.late, *body.parts], dies=True)  # its beginning is not recorded
    below = _settle(body.parts, known)
    derived = _derived(below.outcomes, node.counts)
    if dies:
        outcome, arose = "interrupted", "interrupted" not in below.outcomes
    elif stops or (clean and node.fate == "cancel"):
        outcome = _cancelled(derived) if node.sort != "pipeline" else "cancelled"
    elif arose or passed:
        outcome = "failure"
    else:
        outcome = "partial" if node.sort == "item" and derived != "success" else derived
    items = _items(node, outcome, below.items)
    part = _Part(node.identity, outcome, node.required, node.attempt or 1, below.errors + arose, items)
    return _End(part, body.late, leaves, stops, dies)


def _cancelled(derived: str) -> str:
    """What a part that was cancelled is for the part that it belongs to."""
    return "cancelled" if derived == "success" else "partial"


def _derived(below: list[str], counts: dict[str, int]) -> str:
    """What becomes of a part by what became of its own parts."""
    if below and all(outcome in ("failure", "interrupted") for outcome in below):
        return "failure"
    unwell = any(outcome in ("failure", "partial", "interrupted") for outcome in below)
    return "partial" if unwell or counts.get("failed") else "success"


@dataclass
class _Settled:
    outcomes: list[str] = field(default_factory=list)
    """Of the parts that count."""
    errors: int = 0
    items: Counter[str] = field(default_factory=Counter)


def _settle(parts: list[_Part], known: _Sum) -> _Settled:
    """Return what the parts of one part come to, and count which of them were tried again."""
    settled = _Settled()
    made_good: Counter[tuple[str, str, str]] = Counter()
    for place, part in enumerate(parts):
        settled.items += part.items
        if part.outcome == "success":
            recovered = made_good.pop(part.identity, 0)
            known.retries += recovered if part.attempt == 1 else 0
        known.retries += part.attempt > 1
        later = (other for other in parts[place + 1 :] if other.outcome == "success")
        if part.outcome == "failure" and any(other.identity == part.identity for other in later):
            made_good[part.identity] += 1
        elif part.required or part.outcome not in ("failure", "interrupted"):
            settled.errors += part.errors
            if part.outcome != "cancelled":
                settled.outcomes.append(part.outcome)
    return settled


def _items(node: Node, outcome: str, below: Counter[str]) -> Counter[str]:
    """Return the items in a part that has ended."""
    if node.sort == "item":
        action = "failed" if outcome == "failure" else node.action
        return below + Counter([action] if action else []) + Counter(fetched=1)
    items = below + _by_hand(node)
    if "fetched" in node.counts:
        items["fetched"] = node.counts["fetched"]
    return items


def _by_hand(node: Node) -> Counter[str]:
    counts = {"fetched": sum(node.counts.get(action, 0) for action in ACTIONS), **node.counts}
    return Counter(counts)


def _pages(node: Node, known: _Sum) -> list[_Part]:
    """Run a generator of pages; returns the parts of whoever reads them."""
    read = node.children[: node.breaks_after]
    if "decorated" in node.kind:
        outcome = "success" if node.breaks_after is None else "cancelled"
        return [*_body(read, known).parts, _Part(("api", "api", node.name), outcome)]
    parts = []
    for number in range(0, max(len(read), 1), PAGE_SIZE):
        page = _settle(_body(read[number : number + PAGE_SIZE], known).parts, known)
        outcome = _derived(page.outcomes, {})
        if node.breaks_after is not None and number + PAGE_SIZE >= len(read):
            outcome = _cancelled(outcome)
        parts.append(_Part(("api", "api", f"{node.name}/{number}"), outcome, errors=page.errors, items=page.items))
    return parts
