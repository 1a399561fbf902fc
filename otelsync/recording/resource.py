"""The resource of a process: its service, its host, and the id that all its signals share.

What the user says of it wins, in ``OTEL_RESOURCE_ATTRIBUTES`` or by a resource detector.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.util import types

from otelsync.journal.instance import instance_id
from otelsync.vocabulary import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME


def resource_of(place: str, service: str | None = None) -> Resource:
    """Return the resource of a process whose journals are at `place`.

    `service`: the service's name; by default the one that the SDK finds.

    Raises:
        ValueError: A variable of the SDK has a value that it refuses.
    """
    found = Resource.create({} if service is None else {SERVICE_NAME: service})
    attributes = found.attributes
    added: dict[str, types.AttributeValue] = {}
    if not attributes.get(HOST_NAME):
        added[HOST_NAME] = socket.gethostname()
    if _is_random(attributes.get(SERVICE_INSTANCE_ID)):
        added[SERVICE_INSTANCE_ID] = _id_in({**attributes, **added}, place)
    return found.merge(Resource(added)) if added else found


def renamed(attributes: Mapping[str, object], service: str, place: str) -> dict[str, types.AttributeValue]:
    """Return what changes in a resource whose service has another name from now on."""
    changed: dict[str, types.AttributeValue] = {SERVICE_NAME: service}
    if attributes.get(SERVICE_INSTANCE_ID) == _id_in(attributes, place):  # the user's own stays
        changed[SERVICE_INSTANCE_ID] = _id_in({**attributes, **changed}, place)
    return changed


def _id_in(attributes: Mapping[str, object], place: str) -> str:
    return instance_id(str(attributes.get(HOST_NAME)), place, str(attributes.get(SERVICE_NAME)))


def _is_random(given: object) -> bool:
    """Return whether an id says nothing: there is none, or the SDK has drawn it, another one in each process."""
    if not given:
        return True
    if given == OTELResourceDetector().detect().attributes.get(SERVICE_INSTANCE_ID):
        return False
    try:
        return uuid.UUID(str(given)).version == 4
    except ValueError:
        return False
