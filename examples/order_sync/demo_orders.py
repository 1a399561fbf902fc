"""Orders for the demo and the tests: invented, and the same each time."""

from __future__ import annotations

from collections.abc import Iterable

from .board import LABELS
from .database import Record

_GARMENTS = ("Polo", "Hooded Jacket", "Tech Tee", "Trousers", "Quarter Zip")
_SEASONS = ("2025 FALL", "2025 SPRING", "2026 SPRING")
_SIZES = ("S", "M", "L", "XL")


def orders(customer: str, number: int) -> list[Record]:
    """So many orders of a customer, a third for each season; every sixth is cancelled."""
    made = []
    for index in range(number):
        key = f"{customer[:2]}-{1001 + index}"
        title = f"{customer.title()} {_GARMENTS[index % len(_GARMENTS)]} {1001 + index}"
        status = LABELS[1] if index % 6 == 5 else LABELS[index % 2 * 2]
        made.append(_record("order", key, customer, _SEASONS[index % 3], title, status, 40 + index * 7 % 160))
    return made


def subitems(of: Iterable[Record]) -> list[Record]:
    """One to three sizes of each order."""
    return [
        _record(
            "subitem",
            f"{order.key}-{size}",
            order.customer,
            order.key,
            f"Size {size}",
            order.status,
            order.quantity // 4,
        )
        for position, order in enumerate(of)
        for size in _SIZES[position % 2 : position % 2 + 1 + position % 3]
    ]


def _record(kind: str, key: str, customer: str, parent: str, title: str, status: str, quantity: int) -> Record:
    assert kind in ("order", "subitem")
    return Record(kind, key, customer, parent, title, status, quantity, None, "PENDING", None, None)  # type: ignore[arg-type]
