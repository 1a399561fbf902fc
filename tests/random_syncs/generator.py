"""Makes a random program from a number: the same one each time.

Left out is what the rules leave open; see `Maker`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from random_syncs.trees import CANVASES, PAGES, Node

GROUPS: Final = ("repo", "customer", "board")
ITEMS: Final = ("pr", "order")
ACTIONS: Final = ("created", "updated", "unchanged", "skipped", "created", "updated", "creatd", None)
"""One is a misspelling."""
WAITS: Final = ("rate_limit", "retry", "stage")
INSIDE: Final = {
    "pipeline": ("group", "group", "group", "group", "stage", "batch", "api", "wait"),
    "group": ("api", "api", "api", "batch", "stage", "item", "item", "group", "wait", "pages"),
    "api": ("item", "item", "item", "item", "wait"),
    "batch": ("item", "item", "item", "api", "wait"),
    "stage": ("item", "api", "batch", "stage", "pages", "wait"),
    "item": ("api", "stage", "item", "wait"),
}
MOST_INSIDE: Final = {"group": 4, "api": 6, "batch": 5, "stage": 3, "item": 0}
MOST_NODES: Final = 40


@dataclass(frozen=True)
class Around:
    """What is around a part."""

    depth: int = 0
    can_fork: bool = True
    """False in threads, and in children that were forked already."""
    can_die: bool = False
    """True in a forked child: its process may be killed."""
    is_broken: bool = False
    """True if nothing outlives anything there."""
    is_tried: bool = False
    """True inside of what is tried again."""
    passes: int = 0
    """The number of parts further out that an exception may leave."""


class Maker:
    """Makes one program. Left open by the rules, so never made:

    - a part that outlives the whole pipeline, or the task, the item or the attempt that it is in;
    - a forked child in an item, which the shipper does not always find its way out of;
    - the kill of a process in which one part waits for another's end, or in an item with parts of its own.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._names = 0
        self._nodes = 0

    def program(self) -> Node:
        """The program."""
        kind = self._random.choices(("ordinary", "stopped", "killed"), (87, 4, 9))[0]
        top = Node("pipeline", "pipeline", f"p{self._seed}")
        around = Around(is_broken=kind == "killed", can_fork=kind != "killed")
        self._fill(top, around, self._random.choice((1, 2, 2, 3, 3, 4)))
        if kind != "ordinary":
            inline = [node for node in _inline(top) if not node.attempt and node.fate == "success"]
            self._random.choice(inline).fate = "stop" if kind == "stopped" else "kill"
        elif self._chance(0.05):
            top.fate = self._random.choice(("fail", "raise"))
        return top

    def canvas(self) -> Node:
        """A program whose groups are Celery tasks. Some fail, are put back, or kill the process they run in."""
        top = Node("pipeline", self._random.choice(CANVASES), f"c{self._seed}")
        for _ in range(self._random.choice((1, 2, 2, 3, 3, 4)) + ("chord" in top.kind)):
            node = Node("group", self._random.choice(GROUPS), self._name("group"), how="thread")
            is_killed = self._chance(0.04)
            around = Around(depth=1, can_fork=False, is_broken=is_killed)
            self._fill(node, around, self._random.randint(0, 4))
            if is_killed:
                inline = [each for each in _inline(node) if not each.attempt and each.fate == "success"]
                self._random.choice(inline).fate = "kill"
            else:
                node.retries = self._random.choices((0, 1, 2), (75, 20, 5))[0]
                node.fate = self._random.choices(("success", "fail", "raise"), (75, 10, 15))[0]
                node.passes = self._random.randint(0, 1) if node.fate == "raise" else 0
            node.how = "inline"
            for child in node.children:
                child.outlives = False
            top.children.append(node)
        return top

    def _chance(self, of: float) -> bool:
        return self._random.random() < of

    def _name(self, sort: str) -> str:
        self._names += 1
        return str(self._names) if sort == "item" else f"{sort}{self._names}"

    def _fill(self, node: Node, around: Around, size: int) -> None:
        for _ in range(size):
            if self._nodes >= MOST_NODES:
                break
            node.children += self._child(self._random.choice(INSIDE[node.sort]), node, around)
        if node.sort in ("group", "stage", "batch", "api") and self._chance(0.2):
            self._count(node)

    def _count(self, node: Node) -> None:
        counts = {
            name: self._random.randint(1, 5)
            for name in ("created", "updated", "unchanged", "skipped", "failed", "archived")
            if self._chance(0.12 if name == "failed" else 0.4)
        }
        if self._chance(0.2):
            counts["fetched"] = sum(counts.values()) + self._random.randint(0, 9)
        node.counts = counts

    def _item(self, fate: str) -> Node:
        self._nodes += 1
        action = self._random.choice(ACTIONS) if fate == "success" else None
        return Node("item", self._random.choice(ITEMS), self._name("item"), fate=fate, action=action)

    def _child(self, sort: str, parent: Node, around: Around) -> list[Node]:
        if sort == "wait":
            self._nodes += 1
            return [Node("wait", self._random.choice(WAITS), self._name("wait"))]
        if sort == "pages":
            return self._pages()
        if sort != "item" and around.depth >= 5:
            sort = "item"
        node = self._plain(sort)
        self._nodes += 1
        if self._chance(0.12) and not around.is_tried:
            return self._tried_again(node, around)
        node.required = not self._chance(0.06)
        self._how(node, parent, around)
        self._what(node, around)
        return [node]

    def _plain(self, sort: str) -> Node:
        kind = (
            self._random.choice(GROUPS) if sort == "group" else self._random.choice(ITEMS) if sort == "item" else sort
        )
        node = Node(sort, kind, self._name(sort))
        if sort == "item":
            node.action = self._random.choice(ACTIONS)
        return node

    def _how(self, node: Node, parent: Node, around: Around) -> None:
        ways = (
            ["inline"] * 6
            + ["thread", "task", "task"]
            + (["fork"] if around.can_fork and parent.sort != "item" else [])
        )
        node.how = self._random.choice(ways)
        can_outlive = node.how != "inline" and parent.sort not in ("pipeline", "item") and not around.is_broken
        node.outlives = can_outlive and self._chance(0.4)

    def _what(self, node: Node, around: Around) -> None:
        is_apart = node.how in ("fork", "thread")
        is_killed = node.how == "fork" and not node.outlives and self._chance(0.2)
        inner = replace(
            around,
            depth=around.depth + 1,
            can_fork=around.can_fork and not is_apart,
            is_broken=around.is_broken or is_killed,
            passes=0 if node.how == "fork" or node.outlives else around.passes + 1,
        )
        most = MOST_INSIDE[node.sort] or self._chance(0.06)
        self._fill(node, inner, self._random.randint(0, most))
        if is_killed:
            inline = [each for each in _inline(node) if not each.attempt and each.fate == "success"]
            self._random.choice(inline).fate = "kill"
            return
        if not self._chance(0.3 if node.sort == "item" else 0.12):
            return
        fates = ["fail", "raise", "raise"] + (["cancel"] * 2 if node.how == "task" else [])
        node.fate = self._random.choice(fates)
        node.action = None
        if node.fate == "raise" and node.how != "fork" and not node.outlives and self._chance(0.4):
            node.passes = self._random.randint(0, around.passes)

    def _tried_again(self, node: Node, around: Around) -> list[Node]:
        """One part several times: it fails, and then succeeds, or never does, or fails once more."""
        if node.sort == "item" and int(node.name) % 3 == 0:  # its action would be an argument, and tell it from others
            node.name = self._name("item")
        failures, last = (
            self._random.randint(1, 3),
            self._random.choice(("none", "success", "success", "success", "again")),
        )
        fate = self._random.choice(("fail", "raise"))
        tries = [replace(node, fate=fate, action=None, children=[]) for _ in range(failures)]
        tries += [replace(node, children=[])] if last != "none" else []
        tries += [replace(node, fate=fate, action=None, children=[])] if last == "again" else []
        inner = replace(around, depth=around.depth + 1, can_fork=False, is_broken=True, is_tried=True, passes=0)
        for each in tries:
            self._fill(each, inner, self._random.choice((0, 0, 1, 2)) if node.sort != "item" else 0)
        if node.sort != "group" and self._chance(0.5):
            for number, each in enumerate(tries, 1):
                each.attempt = number
        self._nodes += len(tries)
        if self._chance(0.4):
            waits = [Node("wait", "retry", self._name("wait")) for _ in tries[1:]]
            return [tries[0], *(each for pair in zip(waits, tries[1:], strict=True) for each in pair)]
        return tries

    def _pages(self) -> list[Node]:
        items = self._random.randint(1, 8)
        breaks = self._random.randint(1, items) if self._chance(0.5) else None
        node = Node("pages", self._random.choice(PAGES), self._name("pages"), breaks_after=breaks)
        for _ in range(items):
            fails = self._chance(0.25)
            node.children.append(self._item(self._random.choice(("fail", "raise")) if fails else "success"))
        return [node]


def _inline(node: Node) -> list[Node]:
    """The part, and those below that run in its own flow, and reach their end."""
    found = [node] if node.sort not in ("wait", "pages") else []
    for child in node.children if node.sort != "item" else ():
        if child.how == "inline" and child.sort != "pages" and child.required:
            found += _inline(child)
    return found


def program(seed: int) -> Node:
    """The program of this number."""
    return Maker(seed).program()


def canvas(seed: int) -> Node:
    """The program of this number whose groups are Celery tasks."""
    return Maker(seed).canvas()
