"""Programs of syncs as data: a tree of parts, each with how it runs and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

MADE_GOOD: Final = "success"
FATES: Final = ("success", "fail", "raise", "cancel", "stop", "kill")
"""What becomes of a part after all in it: it succeeds; `fail()`; an exception leaves it; its task is cancelled;
KeyboardInterrupt; its process is killed in it."""
WAYS: Final = ("inline", "thread", "task", "fork")
"""How a part runs: in the block around, in a thread with a copy of the context, an asyncio task, a forked child."""
PAGES: Final = ("with", "async with", "decorated", "async decorated")
"""How a generator of pages makes its API calls: one a page, around its `yield`; or one around the whole generator."""
PAGE_SIZE: Final = 3
CANVASES: Final = ("group", "chain", "chord", "awaited group", "awaited chain", "awaited chord")
"""How a pipeline publishes its groups: by `dispatch()`, or in its block, in which it waits for them."""


@dataclass
class Node:
    """A part of a sync, or a wait, or a generator of pages.

    `sort` is one of pipeline, group, item, batch, stage, api; `wait`, whose `kind` is rate_limit, retry or stage; and
    `pages`, whose `kind` is one of `PAGES` and whose children are the items on all of them; below a generator that is
    decorated they are no parts of the call.
    """

    sort: str
    kind: str
    name: str
    how: str = "inline"
    outlives: bool = False
    """True if what encloses it ends first. Then whatever encloses that waits for it."""
    fate: str = MADE_GOOD
    passes: int = 0
    """The number of parts further out that its exception leaves too, before it is caught."""
    action: str | None = None
    """What becomes of an item."""
    required: bool = True
    attempt: int | None = None
    retries: int = 0
    """The number of times that the Celery task that it is has itself put back, at its end."""
    counts: dict[str, int] = field(default_factory=dict)
    """What is counted by hand."""
    breaks_after: int | None = None
    """The number of items after which whoever reads the pages leaves the loop."""
    children: list[Node] = field(default_factory=list)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells it from other parts: all but its attempt."""
        return self.sort, self.kind, self.name

    def all(self) -> Iterator[Node]:
        """It, and everything below."""
        yield self
        for child in self.children:
            yield from child.all()

    def as_json(self) -> dict[str, Any]:
        """It as JSON, without what is as usual."""
        plain = Node(self.sort, self.kind, self.name)
        said = {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}
        said |= {"sort": self.sort, "kind": self.kind, "name": self.name}
        return said | ({"children": [child.as_json() for child in self.children]} if self.children else {})

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Node:
        """The same again."""
        return cls(**{**said, "children": [cls.from_json(child) for child in said.get("children", [])]})

    def __str__(self) -> str:
        return "\n".join(self._lines(0))

    def _lines(self, depth: int) -> Iterator[str]:
        said = [f"{self.sort}:{self.kind} {self.name}" if self.kind else f"{self.sort} {self.name}"]
        said += [self.how] if self.how != "inline" else []
        said += ["outlives"] if self.outlives else []
        said += [self.fate + (f"(passes {self.passes})" if self.passes else "")] if self.fate != MADE_GOOD else []
        said += [f"action={self.action}"] if self.sort == "item" else []
        said += ["required=False"] if not self.required else []
        said += [f"put back {self.retries} times"] if self.retries else []
        said += [f"attempt={self.attempt}"] if self.attempt else []
        said += [f"breaks_after={self.breaks_after}"] if self.breaks_after is not None else []
        said += (
            [f"count({', '.join(f'{name}={number}' for name, number in self.counts.items())})"] if self.counts else []
        )
        yield "  " * depth + "  ".join(said)
        for child in self.children:
            yield from child._lines(depth + 1)


def is_killed(program: Node) -> bool:
    """Whether its own process is killed, and not only a child of it."""
    return program.fate == "kill" or any(child.how != "fork" and is_killed(child) for child in program.children)
