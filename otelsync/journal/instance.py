"""The id of what records to one place: the same for all signals, in forked children and after a restart.

Processes that share a host, a place for their journals and a service's name are one instance of that service: whoever
ships has one set of metrics for all of them, which join their spans and log records by this id.
"""

from __future__ import annotations

import uuid
from typing import Final

_INSTANCES: Final = uuid.UUID("6f2f1f0e-6d2b-5a2e-9d5b-0a6f3f6b0c11")


def instance_id(host: str, place: str, service: str) -> str:
    """Return the ``service.instance.id`` of a service on a host, whose journals are at `place`."""
    return str(uuid.uuid5(_INSTANCES, "\n".join((host, place, service)).encode("utf-8", "replace").decode()))
