"""Addresses under ``/_double/``, for tests and other processes: what was observed, and what shall happen.

=================================  =================================================================================
``GET  /_double/violations``       ``{"violations": [...]}``, see witness.py
``GET  /_double/counts``           requests by resource, 304s, and points of GraphQL
``POST /_double/touch``            ``{"repositories": [...], "share": 0.01, "numbers": [...], "kinds": [...],``
                                   ``"at": "...", "seed": 0}``, all optional: edit pull requests, see editing.py
``POST /_double/faults``           ``{"faults": ["502@/graphql#3"]}``: plan more; ``DELETE`` plans nothing any more
``POST /_double/rename``           ``{"repository": "acme/a", "to": "acme/b"}``
``POST /_double/condition``        ``{"repository": "acme/a", "condition": "gone"}``: see catalogue.Condition
=================================  =================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_args

from .catalogue import Catalogue, Condition
from .editing import touch
from .faults import Fault, FaultPlan
from .messages import Answer, Request
from .shapes import JsonObject
from .witness import Witness

PREFIX = "/_double/"
_TOUCH = frozenset(("share", "numbers", "kinds", "at", "seed"))


def answer(
    request: Request, catalogue: Catalogue, faults: FaultPlan, witness: Witness, counts: Mapping[str, int]
) -> Answer:
    """The answer to a request under /_double/; 400 with a reason where it makes no sense."""
    name = f"{request.method} {request.path.removeprefix(PREFIX)}"
    try:
        asked = json.loads(request.body or b"{}")
        if name == "GET violations":
            return _json(200, {"violations": witness.told()})
        if name == "GET counts":
            return _json(200, dict(counts))
        if name == "DELETE faults":
            faults.clear()
            return _json(200, {})
        return _json(200, _changed(name, asked, catalogue, faults))
    except (KeyError, TypeError, ValueError) as wrong:
        return _json(400, {"message": f"{type(wrong).__name__}: {wrong}"})


def _changed(name: str, asked: JsonObject, catalogue: Catalogue, faults: FaultPlan) -> JsonObject:
    if name == "POST touch":
        options = {option: asked[option] for option in _TOUCH & asked.keys()}
        return {"touched": touch(catalogue, asked.get("repositories"), **options)}
    if name == "POST faults":
        for fault in [Fault.parse(text) for text in asked["faults"]]:
            faults.add(fault)
        return {}
    if name == "POST rename":
        catalogue.rename(asked["repository"], asked["to"])
        return {}
    if name == "POST condition":
        if asked["condition"] not in get_args(Condition):
            raise ValueError(f"{asked['condition']!r} is none of {', '.join(get_args(Condition))}")
        catalogue.set_condition(asked["repository"], asked["condition"])
        return {}
    raise ValueError(f"there is no {name}")


def _json(status: int, content: JsonObject) -> Answer:
    return Answer(status, (("Content-Type", "application/json"),), json.dumps(content).encode())
