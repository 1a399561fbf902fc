"""A board API like monday.com's, small: groups, items and sub-items by GraphQL, with its limits and refusals.

As there, a query has a complexity, of which a budget is refilled now and then; requests are limited as well; one
request can carry many mutations, of which some are refused and the others made; and the labels of a drop-down are
case-sensitive. Unlike there, its windows are short, and its GraphQL is what the client of this example sends.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final

LABELS: Final = ("ACTIVE", "CANCELLED", "SHIPPED")
"""Of the drop-down of each board."""
BOARDS: Final = ("1001", "1002")

_FIELD: Final = re.compile(r"(?:(\w+)\s*:\s*)?(\w+)\s*\(([^()]*)\)")
_ARGUMENT: Final = re.compile(r"(\w+)\s*:\s*\$(\w+)")
_COSTS: Final = {"boards": 20}
_COST: Final = 10
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS groups (id INTEGER PRIMARY KEY, board TEXT NOT NULL, title TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY, board TEXT NOT NULL, group_id INTEGER, parent_id INTEGER, name TEXT NOT NULL,
    key TEXT NOT NULL, status TEXT NOT NULL, quantity INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one token may ask: so much complexity, and so many requests, each within its window of seconds."""

    complexity_budget: int = 5_000
    complexity_seconds: float = 60.0
    requests: int = 1_000
    requests_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: status, JSON body, and Retry-After in seconds, if it says so."""

    status: int
    body: dict[str, Any]
    retry_after: int | None = None


class Refusal(Exception):  # noqa: N818  # it is an answer, in GraphQL's form
    """A field that cannot be resolved: message and code of its entry under ``errors``."""

    def __init__(self, code: str, message: str, **extensions: object) -> None:
        super().__init__(message)
        self.entry: dict[str, Any] = {"message": message, "extensions": {"code": code, **extensions}}


@dataclass(slots=True)
class Window:
    """A quota that is full again when its window is over."""

    quota: int
    seconds: float
    clock: Callable[[], float]
    left: int = 0
    ends: float = field(default=float("-inf"))

    def look(self) -> int:
        """What is left now."""
        if self.clock() >= self.ends:
            self.left, self.ends = self.quota, self.clock() + self.seconds
        return self.left

    @property
    def resets_in(self) -> float:
        """Seconds until it is full again."""
        return max(self.ends - self.clock(), 0.001)


class Board:
    """The API behind ``POST /v2``.

    Args:
        store: A SQLite file that keeps groups and items; None: they are forgotten with the process.
        limits: Of all requests together.
        faults: HTTP statuses, by the number of the request (from 1) that fails with it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: Path | None = None,
        limits: Limits | None = None,
        faults: Mapping[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or Limits()
        self._store = sqlite3.connect(store or ":memory:", check_same_thread=False, isolation_level=None)
        self._store.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {_TABLES}")
        self._complexity = Window(limits.complexity_budget, limits.complexity_seconds, clock)
        self._requests = Window(limits.requests, limits.requests_seconds, clock)
        self._faults = faults or {}
        self._lock = threading.Lock()
        self.asked = 0
        """Number of requests so far."""

    def close(self) -> None:
        """Close its file."""
        with self._lock:
            self._store.close()

    def names(self) -> list[str]:
        """Names of all items and sub-items."""
        with self._lock:
            return [name for (name,) in self._store.execute("SELECT name FROM items ORDER BY id")]

    def answer(self, authorization: str, request: object) -> Answer:
        """Answer one request: a JSON object with ``query`` and ``variables``."""
        with self._lock:
            self.asked += 1
            if self.asked in self._faults:
                return Answer(self._faults[self.asked], {"errors": [{"message": "a fault of the board"}]})
            if not authorization:
                return Answer(401, {"errors": [{"message": "Not Authenticated"}]})
            if self._requests.look() < 1:
                return self._too_many()
            self._requests.left -= 1
            match request:
                case {"query": str(query), "variables": dict(variables)}:
                    return self._resolve(query.partition("{")[2], variables)
            return Answer(400, {"errors": [{"message": "query and variables expected"}]})

    def _too_many(self) -> Answer:
        wait = self._requests.resets_in
        refusal = Refusal("RateLimitExceeded", "Minute limit rate exceeded", retry_in_seconds=round(wait, 3))
        return Answer(429, {"errors": [refusal.entry]}, retry_after=ceil(wait))

    def _resolve(self, query: str, variables: dict[str, Any]) -> Answer:
        fields = _FIELD.findall(query)
        cost = sum(_COSTS.get(name, _COST) for _, name, _ in fields)
        before = self._complexity.look()
        if cost > before:
            return self._too_complex(cost, before)
        self._complexity.left -= cost
        figures = {"before": before, "after": before - cost, "query": cost}
        data: dict[str, Any] = {
            "complexity": {**figures, "reset_in_x_seconds": round(self._complexity.resets_in, 3)},
        }
        errors: list[dict[str, Any]] = []
        for alias, name, arguments in fields:
            given = {argument: variables.get(variable) for argument, variable in _ARGUMENT.findall(arguments)}
            try:
                data[alias or name] = self._field(name, given)
            except KeyError as missing:
                return Answer(400, {"errors": [Refusal("missingRequiredArguments", f"{name} needs {missing}").entry]})
            except Refusal as refusal:
                data[alias or name] = None
                errors.append({**refusal.entry, "path": [alias or name]})
        return Answer(200, {"data": data, "errors": errors} if errors else {"data": data})

    def _too_complex(self, cost: int, left: int) -> Answer:
        """The API has answered so with status 429 and with 200, by its version; here they take turns."""
        if cost > self._complexity.quota:
            message = f"Query has complexity of {cost}, which exceeds max complexity of {self._complexity.quota}"
            return Answer(200, {"errors": [Refusal("MaxComplexityExceeded", message).entry]})
        wait = self._complexity.resets_in
        message = f"Complexity budget exhausted, query cost {cost} budget remaining {left}"
        refusal = Refusal("ComplexityException", message, complexity=cost, retry_in_seconds=round(wait, 3))
        return Answer(200 if self.asked % 2 else 429, {"errors": [refusal.entry]})

    def _field(self, name: str, given: dict[str, Any]) -> object:
        match name:
            case "boards":
                return [self._contents(board) for board in given["ids"] if board in BOARDS]
            case "create_group":
                return self._insert("groups", board=given["board_id"], title=given["group_name"])
            case "create_item":
                return self._insert("items", board=given["board_id"], group_id=given["group_id"], **_columns(given))
            case "create_subitem":
                board = self._board_of(given["parent_item_id"])
                return self._insert("items", board=board, parent_id=given["parent_item_id"], **_columns(given))
            case "change_multiple_column_values":
                return self._change(given["item_id"], _columns(given))
        raise Refusal("undefinedField", f"Field '{name}' doesn't exist")

    def _contents(self, board: str) -> dict[str, Any]:
        groups = self._store.execute("SELECT id, title FROM groups WHERE board = ? ORDER BY id", (board,))
        items = self._store.execute("SELECT id, key FROM items WHERE board = ? ORDER BY id", (board,))
        return {
            "groups": [{"id": str(number), "title": title} for number, title in groups],
            "items": [{"id": str(number), "key": key} for number, key in items],
        }

    def _board_of(self, item: str) -> str:
        row = self._store.execute("SELECT board FROM items WHERE id = ?", (item,)).fetchone()
        if row is None:
            raise Refusal("ResourceNotFoundException", f"item {item} does not exist")
        return str(row[0])

    def _insert(self, table: str, **values: object) -> dict[str, str]:
        if values["board"] not in BOARDS:
            raise Refusal("ResourceNotFoundException", f"board {values['board']} does not exist")
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        row = self._store.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
        return {"id": str(row.lastrowid)}

    def _change(self, item: str, values: dict[str, object]) -> dict[str, str]:
        self._board_of(item)
        names = ", ".join(f"{name} = ?" for name in values)
        self._store.execute(f"UPDATE items SET {names} WHERE id = ?", (*values.values(), item))
        return {"id": item}


def _columns(given: dict[str, Any]) -> dict[str, object]:
    """The columns that a mutation sets; as there, their values come as JSON in a text."""
    values = json.loads(given["column_values"])
    label = values["status"]["label"]
    if label not in LABELS:
        possible = ", ".join(LABELS)
        raise Refusal(
            "ColumnValueException",
            f"The dropdown label '{label}' does not exist, possible labels are: {{{possible}}}",
        )
    return {"name": given["item_name"], "key": values["key"], "status": label, "quantity": values["quantity"]}
