"""Names of items: a span that is sent by OTLP says which item it is, where the settings ask for it.

Recorded it is called after its kind alone, such as ``sync.pr``, so that searches and metrics have few names. With this
it goes out as ``sync.pr #4711``, for people who read a waterfall. `otel-collector.yaml` does the same in a Collector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otelsync.journal.batch import Batch
from otelsync.otlp.decoding import lean_spans, untagged, value_of
from otelsync.otlp.encoding import field
from otelsync.text.printable import printable
from otelsync.vocabulary import SYNC_ITEM_ID, VCS_CHANGE_ID, is_item

LONGEST_KEY: Final = 80
"""Terminal cells of an item's id within a name; the whole id is an attribute."""
_SPAN: Final = 0x12
_NAME: Final = 0x2A
_KEYS: Final = tuple(b"\x0a" + bytes((len(key),)) + key.encode() for key in (SYNC_ITEM_ID, VCS_CHANGE_ID))
"""The beginnings of the attributes that say which item it is."""


def with_item_names(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches in which the span of each item is named by its id too; what cannot be read stays as it is."""
    return [
        replace(batch, groups=[replace(group, spans=_named(group.spans)) for group in batch.groups])
        for batch in batches
    ]


def _named(bodies: Sequence[bytes]) -> list[bytes]:
    named = list(bodies)
    for number, span in enumerate(lean_spans(bodies)):
        if span is not None and is_item(span.name) and (key := _key_of(span.attributes)):
            # A field that comes again takes the place of the one before it (protobuf's encoding, "last one wins").
            name = field(_NAME, b"%b #%b" % (span.name, key.encode("utf-8", "replace")))
            named[number] = field(_SPAN, untagged(bodies[number]) + name)
    return named


def _key_of(attributes: Iterable[bytes]) -> str:
    for pair in attributes:
        if pair.startswith(_KEYS):
            try:
                return printable(value_of(KeyValue.FromString(pair).value), LONGEST_KEY)
            except DecodeError:
                return ""
    return ""
