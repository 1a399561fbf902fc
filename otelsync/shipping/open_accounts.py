"""Accounts of the stages that are open, kept up as the shipper reads what all processes of a directory record.

They are what is known when a process cannot say it itself: a stage whose process was killed, and one whose process
forked while it was open (see SPAN_PENDING in `otelsync.journal.format`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelsync import vocabulary
from otelsync.otlp.decoding import untagged, value_of
from otelsync.otlp.encoding import field
from otelsync.shipping.read_accounts import ReadAccounts
from otelsync.store.accounts import Ended, Place, Settled
from otelsync.vocabulary import FAILURE


class OpenAccounts(ReadAccounts):
    """The accounts of all traces in one journal directory."""

    # What no process could say

    def complete(self, body: bytes, *, is_pending: bool) -> bytes:
        """Return a span that has ended, with what has been recorded below it elsewhere; it ends here as well.

        `is_pending`: its own process has ended it, and left the rest to the shipper.
        """
        try:
            span = Span.FromString(untagged(body))
        except DecodeError:
            return body
        span_id = span.span_id.hex()
        attributes = {pair.key: value_of(pair.value) for pair in span.attributes}
        has_failed = span.status.code == Status.STATUS_CODE_ERROR
        ended = Ended(span_id, span.parent_span_id.hex(), span.name, span.kind, has_failed, attributes)
        place = self.places.setdefault(span_id, Place(ended.parent_id, vocabulary.PIPELINE))
        if place.open and not ended.parent_id:
            self._take_rest(span.trace_id.hex(), span_id)
        if place.open:
            self._ends.setdefault(span_id, span.end_time_unix_nano)
            self._let_go_below(span_id, place)
        settled = self.settle(ended, place)
        _amend(span, attributes, settled, place, is_pending=is_pending)
        if place.open:
            self._ends.pop(span_id, None)
            self._now, self._trace = span.end_time_unix_nano, span.trace_id.hex()
            place.open = False
            place.end_ns = self._now
            self._take_part(ended._replace(end_ns=self._now))
        return field(0x12, span.SerializeToString())

    def _let_go_below(self, span_id: str, place: Place) -> None:
        """Take in what is held of a span that ends: for itself, or if it is an item for the stage around."""
        self._let_go(span_id)
        if place.collects and not place.counts:
            for around in self.above(span_id):
                if self._held.has_parts(around):
                    self._let_go_early(around, self._ends[span_id])

    def by_end(self, span_ids: Iterable[str]) -> list[str]:
        """Return spans in the order of their ends; of those that ended together the innermost first."""
        return sorted(span_ids, key=lambda span_id: (self.end_of(span_id), -len(self.above(span_id))))

    # Across restarts

    def dump(self) -> str:
        """Return what has ended in the stages that are open, as JSON; what is empty is left out."""
        places = {key: place.dump() for key, place in self.places.items() if place.open and not place.is_empty}
        early = {key: [list(part) for part in parts] for key, parts in self._early.items() if parts}
        traces = {key: self._early_in[key] for key in self._early if key in early or key in self._held}
        if not (places or early or self._held):
            return ""
        return orjson.dumps([places, early, traces, self._held.dump()]).decode()

    def load(self, text: str) -> None:
        """Take up what :meth:`dump` returned; the stages have begun again before. What cannot be read is left out."""
        try:
            places, early, self._early_in, *held = orjson.loads(text) if text else ({}, {}, {})
            parts = self._held.load(held[0]) if held else []
            for key, several in early.items():
                self._early[key] = [Ended(*part) if len(part) > 3 else tuple(part) for part in several]
                self._waiting += len(several)
                parts += [part for part in self._early[key] if isinstance(part, Ended)]
            for part in parts:
                self.begin(part.span_id, part.parent_id, part.name, part.kind)
                self._left.add(part.span_id)
            for key, values in places.items():
                if key in self.places:
                    self.places[key].load(values)
            for key in self._held:
                if key not in self.places:
                    self._await(key, self._early_in.get(key, ""))
        except (ValueError, TypeError, AttributeError, KeyError):
            return


def _amend(span: Span, before: Mapping[str, Any], settled: Settled, place: Place, *, is_pending: bool) -> None:
    """Let a span say what its account says."""
    said: dict[str, int | str] = {vocabulary.SYNC_ITEMS_ + name: number for name, number in settled.totals.items()}
    said[vocabulary.SYNC_OUTCOME] = settled.outcome
    if is_pending:
        said[vocabulary.SYNC_COMPLETED] = True
    is_derived = settled.outcome == FAILURE and (before.get(vocabulary.SYNC_OUTCOME) != FAILURE or _all_failed(before))
    if is_derived:
        said |= {vocabulary.SYNC_PARTS: place.parts, vocabulary.SYNC_PARTS_FAILED: place.failed}
        message = f"all {place.failed} parts failed" if place.failed > 1 else "its only part failed"
        if not _all_failed(before):  # else it has said why
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=message))
    elif _all_failed(before):
        span.status.Clear()
    stale = said.keys() | {vocabulary.SYNC_PARTS, vocabulary.SYNC_PARTS_FAILED}
    kept = [pair for pair in span.attributes if pair.key not in stale]
    del span.attributes[:]
    span.attributes.extend([*kept, *(_pair(key, value) for key, value in said.items())])


def _all_failed(attributes: Mapping[str, Any]) -> bool:
    return vocabulary.SYNC_PARTS_FAILED in attributes


def _pair(key: str, value: int | str) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    held = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=held)
