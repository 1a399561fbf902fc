"""Claims: fields of a caller whose names say of which run, span or group a record is. They get an underscore.

Only otelsync itself says that: a field is data, and may hold whatever an API has sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otelsync.recording.scope import OWN_NAMES, SyncScope
from otelsync.vocabulary import EVENT_ID, group_kind

_MANY: Final = 4_096
_LONGEST: Final = 128
_harmless: Final[set[str]] = set()
"""Names that are known to be of no group."""


def without_claims(fields: Mapping[str, Any], scope: SyncScope, event_id: str) -> Mapping[str, Any]:
    """Return the fields, with an underscore behind the names that the record has for itself.

    Args:
        fields: The caller's.
        scope: Of the record; what says the same as it stays.
        event_id: That of the event, if it has one.
    """
    own, said = OWN_NAMES | {EVENT_ID} if event_id else OWN_NAMES, scope.identity
    if own.isdisjoint(fields) and said.keys().isdisjoint(fields) and not name_a_group(fields):
        return fields
    return {
        f"{key}_" if key in own or (_is_claim(said, key) and not _is_same(said, key, value)) else key: value
        for key, value in fields.items()
    }


def name_a_group(fields: Mapping[str, Any]) -> bool:
    """Return whether a field is called as the attribute is that names a group to all that is inside of it."""
    if _harmless.issuperset(fields):
        return False
    if len(_harmless) > _MANY:
        _harmless.clear()
    names_any = False
    for key in fields:
        if _is_of_group(key):
            names_any = True
        elif type(key) is str and len(key) <= _LONGEST:
            _harmless.add(key)
    return names_any


def _is_of_group(key: object) -> bool:
    return type(key) is str and key.startswith("sync.") and bool(group_kind(key))


def _is_claim(said: Mapping[str, object], key: str) -> bool:
    return key in said or _is_of_group(key)


def _is_same(said: Mapping[str, object], key: str, value: object) -> bool:
    return type(value) is str and said.get(key) == value
