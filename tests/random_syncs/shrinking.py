"""Makes a program smaller for as long as a view says of it what is not so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path

from random_syncs.comparing import Finding, compare
from random_syncs.trees import Node


def shrink(found: Finding, folder: Path, *, rounds: int = 40) -> Finding:
    """Return the smallest program found that goes wrong in some of the same views. All of a round run together."""
    views = {said.split(":")[0] for said in found.said}
    for number in range(rounds):
        smaller = list(_smaller(found.program))
        for place, program in enumerate(smaller):
            program.name = f"{found.program.name.split('x')[0]}x{number}x{place}"
        findings = compare(smaller, folder / str(number)) if smaller else []
        wrong = [each for each in findings if views & {said.split(":")[0] for said in each.said}]
        if not wrong:
            break
        found = min(wrong, key=_size)
    return found


def _size(found: Finding) -> tuple[int, int]:
    return sum(1 for _ in found.program.all()), len(str(found.program))


def _smaller(program: Node) -> Iterator[Node]:
    for place, node in enumerate(program.all()):
        for change in _changes(node, program):
            copy = deepcopy(program)
            target = list(copy.all())[place]
            if change(target, copy) is not False:
                yield copy


def _changes(node: Node, program: Node) -> Sequence[Callable[[Node, Node], object]]:
    changes: list[Callable[[Node, Node], object]] = []
    if node is not program:
        changes.append(_remove)
        if node.children and node.sort != "pages" and not any(child.outlives for child in node.children):
            changes.append(_replace_by_children)
    for name, value in (("how", "inline"), ("outlives", False), ("fate", "success"), ("passes", 0), ("counts", {})):
        if getattr(node, name) != value and (name != "how" or not node.outlives) and node.fate != "cancel":
            changes.append(lambda target, _, name=name, value=value: setattr(target, name, value))  # type: ignore[misc]
    return changes


def _parent(target: Node, program: Node) -> Node:
    return next(node for node in program.all() if any(child is target for child in node.children))


def _remove(target: Node, program: Node) -> None:
    parent = _parent(target, program)
    parent.children = [child for child in parent.children if child is not target]


def _replace_by_children(target: Node, program: Node) -> bool:
    parent = _parent(target, program)
    if parent.sort == "pages":
        return False
    place = next(number for number, child in enumerate(parent.children) if child is target)
    parent.children[place : place + 1] = target.children
    return True
