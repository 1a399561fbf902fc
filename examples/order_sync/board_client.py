"""The client of the board's API: one request at a time, each an API call in the trace, repeated while that is worth it.

A batch is one request of many mutations, so some of it can be refused while the rest is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import requests

import otelsync

from .config import Customer, Environment
from .database import Record, Saved

catalogue = otelsync.Catalogue("me", source=__name__)
ASKED = catalogue.event(1, "board.asked", level="debug", fields=("operation", "status"), says="The board has answered.")
BUDGET_SPENT = catalogue.event(
    2, "board.budget_spent", level="info", fields=("operation", "limit", "seconds"), says="A limit is waited for."
)
STUMBLED = catalogue.event(
    3, "board.stumbled", level="warning", fields=("operation", "reason", "seconds"), says="A request is sent again."
)
REFUSED = catalogue.event(
    4, "board.refused", level="warning", fields=("operation", "key", "reason"), says="The board has refused a record."
)
log = otelsync.get_logger(__name__)

ATTEMPTS: Final = 4
"""For a request that the board or the network has failed."""
WAITS: Final = 60
"""For one that a limit has refused."""
_TIMEOUT: Final = 30.0
_LONGEST_WAIT: Final = 120.0
_FIGURES: Final = "complexity { before after query reset_in_x_seconds }"
_LIMITS: Final = {"ComplexityException": "complexity", "RateLimitExceeded": "minute"}


class BoardError(RuntimeError):
    """The board has refused a request for good; the message is what it said."""


class BoardUnreachableError(BoardError):
    """The board has not answered as it should, however often it was asked."""


@dataclass
class Contents:
    """What is on a board already: groups by title, items by the key of their record. Both are added to."""

    groups: dict[str, str] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What has come of a request: the HTTP status, 0 where there was no answer, and the JSON object in it."""

    status: int
    body: Mapping[str, Any]
    retry_after: str = ""

    @property
    def limit(self) -> str:
        """Which limit has refused the whole request: ``complexity`` or ``minute``; empty: none."""
        return _LIMITS.get(str(self._extensions.get("code")), "minute" if self.status == 429 else "")

    @property
    def wait(self) -> float:
        """Seconds after which it may come again: as the board says, else as HTTP does, else one."""
        said = self._extensions.get("retry_in_seconds", self.retry_after)
        try:
            return min(max(0.0, float(said)), _LONGEST_WAIT)
        except (TypeError, ValueError):
            return 1.0

    @property
    def stumbled(self) -> bool:
        """True if it was no fault of the request."""
        return self.status == 0 or self.status >= 500

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return str(self._first.get("message") or f"status {self.status}")

    @property
    def _first(self) -> Mapping[str, Any]:
        errors = self.body.get("errors") if "data" not in self.body else None
        first = errors[0] if isinstance(errors, list) and errors else None
        return first if isinstance(first, dict) else {}

    @property
    def _extensions(self) -> Mapping[str, Any]:
        extensions = self._first.get("extensions")
        return extensions if isinstance(extensions, dict) else {}


class Boards(Protocol):
    """What a sync asks of boards."""

    def contents(self, customer: Customer) -> Contents:
        """What is on a customer's board."""

    def create_group(self, customer: Customer, title: str) -> str:
        """Add a group to a customer's board; returns its id."""

    def save(self, customer: Customer, place: str, records: Sequence[Record], known: Contents) -> list[Saved]:
        """Bring orders into a group (its id), or sub-items below their orders; says what became of each."""


class NoBoards:
    """Boards of a dry run: everything would be done, and nothing is."""

    def contents(self, customer: Customer) -> Contents:  # noqa: ARG002
        """Nothing is asked."""
        return Contents()

    def create_group(self, customer: Customer, title: str) -> str:  # noqa: ARG002
        """No group is made."""
        return ""

    def save(self, customer: Customer, place: str, records: Sequence[Record], known: Contents) -> list[Saved]:  # noqa: ARG002
        """Every record is left out."""
        return [Saved("skipped") for _ in records]


class BoardClient:
    """The boards of an environment, through their API."""

    def __init__(self, environment: Environment, url: str) -> None:
        self._url = url
        self._backoff = environment.backoff_seconds
        self._session = requests.Session()
        self._session.headers["Authorization"] = environment.token
        self._session.trust_env = False  # no proxy for loopback

    def __enter__(self) -> BoardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def contents(self, customer: Customer) -> Contents:
        """What is on a customer's board."""
        query = f"query {{ {_FIGURES} boards(ids: $ids) {{ groups {{ id title }} items {{ id key }} }} }}"
        boards = self._ask("read_board", query, {"ids": [customer.board]})["data"]["boards"]
        if not boards:
            raise BoardError(f"board {customer.board} of {customer.name} does not exist")
        groups, items = boards[0]["groups"], boards[0]["items"]
        return Contents({each["title"]: each["id"] for each in groups}, {each["key"]: each["id"] for each in items})

    def create_group(self, customer: Customer, title: str) -> str:
        """Add a group to a customer's board; returns its id."""
        query = f"mutation {{ {_FIGURES} create_group(board_id: $board, group_name: $title) {{ id }} }}"
        reply = self._ask("create_group", query, {"board": customer.board, "title": title})
        return str(reply["data"]["create_group"]["id"])

    def save(self, customer: Customer, place: str, records: Sequence[Record], known: Contents) -> list[Saved]:
        """Bring orders into a group (its id), or sub-items below their orders; says what became of each."""
        fields, variables = [_FIGURES], {"board": customer.board, "group": place}
        for number, record in enumerate(records):
            fields.append(f"r{number}: {_mutation(record, known)}".replace("#", str(number)))
            parent = known.items.get(record.parent) or ""
            item = known.items.get(record.key) or ""
            values = {
                "key": record.key,
                "status": {"label": customer.labels.get(record.status, record.status)},
                "quantity": record.quantity,
            }
            variables |= {f"name{number}": record.title, f"values{number}": json.dumps(values)}
            variables |= {f"parent{number}": parent, f"item{number}": item}
        operation = f"create_{records[0].kind}s"
        reply = self._ask(operation, f"mutation {{ {' '.join(fields)} }}", variables)
        return [self._saved(operation, reply, number, record, known) for number, record in enumerate(records)]

    def _saved(self, operation: str, reply: Mapping[str, Any], number: int, record: Record, known: Contents) -> Saved:
        made = reply["data"].get(f"r{number}")
        if made is None:
            errors = [each for each in reply.get("errors") or () if each.get("path") == [f"r{number}"]]
            reason = str(errors[0]["message"]) if errors else "no answer"
            log.warning(REFUSED, operation=operation, key=record.key, reason=reason)
            return Saved("failed", error=reason)
        was_there = record.key in known.items
        known.items[record.key] = made["id"]
        return Saved("updated" if was_there else "created", made["id"])

    def _ask(self, operation: str, query: str, variables: Mapping[str, object]) -> Mapping[str, Any]:
        """Send a request until the board has answered it; returns the JSON of the answer.

        Raises:
            BoardUnreachableError: It has not, in `ATTEMPTS` attempts.
            BoardError: It has refused all of it.
        """
        stumbles = waits = 0
        with otelsync.api_call(operation, kind="graphql") as stage:
            while True:
                reply = self._send(query, variables)
                stage.set(**{"sync.api.attempts": 1 + waits + stumbles})
                log.debug(ASKED, operation=operation, status=reply.status)
                if reply.limit and waits < WAITS:
                    waits += 1
                    log.info(BUDGET_SPENT, operation=operation, limit=reply.limit, seconds=reply.wait)
                    with otelsync.rate_limit_wait(reply.wait, kind=reply.limit):
                        time.sleep(reply.wait)
                elif reply.stumbled and stumbles < ATTEMPTS - 1:
                    seconds = self._backoff * 2**stumbles
                    stumbles += 1
                    log.warning(STUMBLED, operation=operation, reason=reply.reason, seconds=seconds)
                    with otelsync.retry_wait(seconds, reason="server" if reply.status else "connection"):
                        time.sleep(seconds)
                elif reply.status == 200 and "data" in reply.body:
                    budget = reply.body["data"]["complexity"]
                    stage.set(
                        **{"sync.rate_limit.resource": "complexity", "sync.rate_limit.remaining": budget["after"]}
                    )
                    return reply.body
                else:
                    raise (BoardUnreachableError if reply.stumbled else BoardError)(reply.reason)

    def _send(self, query: str, variables: Mapping[str, object]) -> Reply:
        try:
            response = self._session.post(self._url, json={"query": query, "variables": variables}, timeout=_TIMEOUT)
            body = response.json()
        except requests.RequestException as error:
            return Reply(0, {"errors": [{"message": f"{type(error).__name__} at {self._url}"}]})
        retry_after = response.headers.get("Retry-After", "")
        return Reply(response.status_code, body if isinstance(body, dict) else {}, retry_after)


def _mutation(record: Record, known: Contents) -> str:
    """The mutation that brings a record onto the board; `#` stands for its number."""
    values = "item_name: $name#, column_values: $values#"
    if record.key in known.items:
        return f"change_multiple_column_values(board_id: $board, item_id: $item#, {values}) {{ id }}"
    if record.kind == "subitem":
        return f"create_subitem(parent_item_id: $parent#, {values}) {{ id }}"
    return f"create_item(board_id: $board, group_id: $group, {values}) {{ id }}"
