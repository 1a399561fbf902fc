"""The state of folding as the checkpoint holds it: JSON text, from which a shipper goes on where another stopped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from otelsync.shipping.checkpoint import decode, encode
from otelsync.shipping.folding.budget import Budget
from otelsync.shipping.folding.calls import Fold, Waiting
from otelsync.shipping.folding.fan_out import FanOuts
from otelsync.shipping.folding.siblings import Held, Place, Siblings
from otelsync.vocabulary import SYNC_PR

_BROKEN: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError)
_KINDS: Final = "kinds"


class FoldStateError(Exception):
    """The state cannot be read."""


def dump_fold(fold: Fold) -> str:
    """The state of a fold, between two batches."""
    places: dict[Place, int] = {}
    document = {
        "held": fold.held,
        "open": {key.hex(): below for key, below in fold.open.items()},
        "leaked": [key.hex() for key in fold.leaked],
        "budgets": {key.hex(): _budget(budget) for key, budget in fold.budgets.items()},
        "siblings": {key.hex(): _siblings(siblings, places) for key, siblings in fold.siblings.items()},
        "waiting": {
            key.hex(): [waiting.series, waiting.touched, _spans(waiting.spans, places)]
            for key, waiting in fold.waiting.items()
        },
        # Last, as the others number them
        "places": [[encode(resource), encode(scope)] for resource, scope in places],
    }
    return orjson.dumps(document).decode()


def load_fold(text: str, fold: Fold) -> None:
    """Fill a new fold with a state. Raises FoldStateError."""
    if not text:
        return
    try:
        document = orjson.loads(text)
        places = [(decode(resource), decode(scope)) for resource, scope in document["places"]]
        fold.held = int(document["held"])
        fold.open.update({bytes.fromhex(key): bool(below) for key, below in document["open"].items()})
        fold.leaked.update({bytes.fromhex(key): None for key in document["leaked"]})
        fold.budgets.update(
            {bytes.fromhex(key): _read_budget(value, fold) for key, value in document["budgets"].items()}
        )
        for key, value in document["siblings"].items():
            fold.siblings[bytes.fromhex(key)] = _read_siblings(value, places)
        for key, (series, touched, spans) in document["waiting"].items():
            fold.waiting[bytes.fromhex(key)] = Waiting(str(series), float(touched), _read_spans(spans, places))
    except _BROKEN as error:
        raise FoldStateError(type(error).__name__) from error


def dump_fan_outs(fan_outs: FanOuts, ahead: Fold) -> str:
    """Return the decisions about groups, and the part of the traces' budgets that was used by then."""
    document: dict[str, object] = {
        key.hex(): [key in fan_outs.full, sorted(inside), _budget(ahead.budgets.get(key) or Budget(ahead.limits))]
        for key, inside in fan_outs.traces.items()
    }
    document[_KINDS] = [encode(key) for key in fan_outs.kinds]
    return orjson.dumps(document).decode()


def load_fan_outs(text: str, fan_outs: FanOuts, ahead: Fold) -> None:
    """Fill in what was decided. Raises FoldStateError."""
    if not text:
        return
    try:
        document = orjson.loads(text)
        fan_outs.kinds.update({decode(key): None for key in document.pop(_KINDS, ())})
        for key, (is_full, inside, budget) in document.items():
            trace_id = bytes.fromhex(key)
            fan_outs.add(trace_id, set(map(str, inside)), is_full=bool(is_full))
            ahead.budgets[trace_id] = _read_budget(budget, ahead)
    except _BROKEN as error:
        raise FoldStateError(type(error).__name__) from error


def _number(place: Place, places: dict[Place, int]) -> int:
    """The number of a place among those seen so far, as each stands in the state once."""
    return places.setdefault(place, len(places))


def _budget(budget: Budget) -> list[object]:
    return [budget.spans, budget.bytes, list(budget.durations.items()), *budget.looked]


def _read_budget(value: Any, fold: Fold) -> Budget:
    spans, size, durations, *looked = value
    next_look, five_medians = map(int, looked or (0, 0))  # earlier versions did not say
    return Budget(fold.limits, int(spans), int(size), _counts(durations), (next_look, five_medians))


def _siblings(siblings: Siblings, places: dict[Place, int]) -> list[object]:
    return [
        siblings.trace_id.hex(),
        _number(siblings.place, places),
        siblings.series,
        siblings.touched,
        siblings.items,
        siblings.spans,
        list(siblings.durations.items()),
        siblings.longest,
        siblings.first_start,
        siblings.last_end,
        [[took, number, _spans(item, places)] for took, number, item in siblings.slowest],
        siblings.keeps,
        siblings.name,
    ]


def _read_siblings(value: Any, places: list[Place]) -> Siblings:
    trace_id, place, series, touched, items, spans, durations, longest, first, last, slowest, keeps, *name = value
    return Siblings(
        bytes.fromhex(trace_id),
        places[place],
        str(series),
        float(touched),
        str(name[0]) if name else SYNC_PR,  # earlier versions knew no others
        int(items),
        int(spans),
        _counts(durations),
        int(longest),
        int(first),
        int(last),
        [(int(took), int(number), tuple(_read_spans(item, places))) for took, number, item in slowest],
        int(keeps),
    )


def _spans(spans: Iterable[Held], places: dict[Place, int]) -> list[object]:
    return [[encode(held.body), _number(held.place, places), held.trace_id.hex(), held.sum] for held in spans]


def _read_spans(value: Any, places: list[Place]) -> list[Held]:
    return [
        Held(decode(body), places[place], bytes.fromhex(trace_id), int(total)) for body, place, trace_id, total in value
    ]


def _counts(pairs: Any) -> dict[int, int]:
    return {int(bucket): int(count) for bucket, count in pairs}
