from collections.abc import Mapping
from typing import Any, Literal

class Place:
    _map: Any
    _records: list[int]
    _offset: int
    _size: int
    _known_scopes: int
    _next_look: int

def append_span(
    journal: Place,
    known: dict[str, bytes | None],
    is_guarded: bool,
    kind: int,
    ref: int,
    head: bytes,
    span_id: bytes,
    name: bytes | None,
    start: int,
    end: int,
    scope_bytes: bytes,
    scope_keys: frozenset[str],
    attributes: Mapping[str, Any],
    /,
) -> bool: ...
def write_log(
    journal: Place | None,
    known: dict[str, bytes | None],
    is_guarded: bool,
    ref: int,
    fd: int | None,
    now: int,
    head_json: bytes,
    head_otlp: bytes,
    trace_hex: bytes,
    trace_fields: bytes,
    span_id: bytes,
    scope_json: bytes,
    scope_fields: bytes,
    scope_names: frozenset[str],
    fields: Mapping[str, Any],
    rendered: bytes,
    /,
) -> bool | bytes: ...
def present(offset: int, earliest: int, /) -> int: ...
def plain_copy(attributes: object, /) -> dict[str, Any] | None: ...
def is_little(fields: object, /) -> bool: ...
def clears(text: str, /) -> bool: ...
def item_of(body: bytes, /) -> bytes | Literal[False] | None: ...
def crc32(data: bytes, seed: int, /) -> int: ...
