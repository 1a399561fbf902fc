"""Environments: which customers there are, where their orders and boards are, and how boldly boards are asked."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .board import Limits

_HERE = Path(__file__).parent / "environments"


class EnvironmentFileError(ValueError):
    """An environment cannot be used; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer: the board of its orders, and what the board calls an order's status where it differs."""

    name: str
    board: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment. Without `url` the sync starts a board of its own, with `limits`."""

    name: str
    url: str
    token: str
    directory: Path
    batch_size: int
    backoff_seconds: float
    demo_orders: int
    customers: tuple[Customer, ...]
    limits: Limits | None

    @property
    def database(self) -> Path:
        """The database, unless the command line names another."""
        return self.directory / "orders.db"

    def chosen(self, names: list[str] | None) -> tuple[Customer, ...]:
        """The customers of these names; all of them without names."""
        known = {customer.name: customer for customer in self.customers}
        unknown = [name for name in names or () if name not in known]
        if unknown:
            raise EnvironmentFileError(f"no customer {unknown[0]!r} in {self.name}; there are {', '.join(known)}")
        return tuple(known[name] for name in dict.fromkeys(names)) if names else self.customers


def load(name: str) -> Environment:
    """The environment of this name, or in this TOML file; BOARD_API_URL and BOARD_API_TOKEN go before it.

    Raises:
        EnvironmentFileError: There is none, or it cannot be used.
    """
    path = Path(name) if name.endswith(".toml") else _HERE / f"{name}.toml"
    try:
        return _environment(path.stem, tomllib.loads(path.read_text()))
    except FileNotFoundError:
        known = ", ".join(sorted(each.stem for each in _HERE.glob("*.toml")))
        raise EnvironmentFileError(f"no environment {name!r}; there are {known}, or name a TOML file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EnvironmentFileError(f"{path}: {type(error).__name__}: {error}") from error


def _environment(name: str, read: dict[str, Any]) -> Environment:
    customers = [Customer(name, each["board"], each.get("labels", {})) for name, each in read["customers"].items()]
    environment = Environment(
        name=name,
        url=os.environ.get("BOARD_API_URL") or read["url"],
        token=os.environ.get("BOARD_API_TOKEN") or "demo-token",
        directory=Path(read["directory"]),
        batch_size=int(read["batch_size"]),
        backoff_seconds=float(read["backoff_seconds"]),
        demo_orders=int(read.get("demo_orders", 0)),
        customers=tuple(customers),
        limits=Limits(**read["board"]) if "board" in read else None,
    )
    if any(", " in customer.name or not customer.name for customer in customers):
        raise ValueError("a customer's name is a text without a comma")
    if environment.batch_size < 1:
        raise ValueError("batch_size is at least 1")
    if not environment.url and environment.limits is None:
        raise ValueError("no url; set BOARD_API_URL")
    return environment
