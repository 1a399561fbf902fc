"""Log events that stand in no catalogue, found among what was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import otelsync.logs.own_events  # noqa: F401  # declares them
from otelsync.logs import events
from otelsync.testing.records import Log
from otelsync.vocabulary import EVENT_ID

_ID: Final = re.compile(r"(?a)[a-z][a-z0-9]-[0-9]{3}")


def undeclared_events(logs: Iterable[Log]) -> list[str]:
    """The names of events among `logs` that stand in no catalogue; each once, in order.

    A record of an event that was known where it was logged carries its id: in another process there may be other
    catalogues than here. What does not look like a name is a message, and needs no declaration.
    """
    return events.undeclared(log.event for log in logs if not _ID.fullmatch(str(log.attributes.get(EVENT_ID, ""))))
