"""Accounts of the stages that are open, kept up as the shipper reads what all processes of a directory record.

They are what is known when a process cannot say it itself: a stage whose process was killed, and one whose process
forked while it was open (see SPAN_PENDING in `otelsync.journal.format`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelsync import vocabulary
from otelsync.journal.batch import Batch
from otelsync.journal.native import native
from otelsync.otlp.decoding import LeanSpan, lean_spans, span_id, untagged, value_of
from otelsync.otlp.encoding import field
from otelsync.store.accounts import Accounts, Ended, Place, Settled, says_more
from otelsync.vocabulary import FAILURE, ITEM, part_of

MOST_PLACES: Final = 20_000
"""Spans that are remembered, open or as the way from a late part to what is still open."""
MOST_WAITING: Final = 4_096
"""Parts that wait for the span around them to be read."""

_DEEPEST: Final = 1_000
_MESSAGE_ID: Final = vocabulary.MESSAGING_MESSAGE_ID.encode()
_PRODUCER: Final = 4
_IS_REMOTE: Final = 0x200
"""The flag of a span whose parent was recorded elsewhere."""
_ERROR: Final = b"\x18\x02"
_INTERNAL: Final = 1
_COME_TO_AN_END: Final = frozenset((1, 2, 3))
"""Kinds of spans below which nothing comes once they have ended."""
_LONGEST_KNOWN: Final = 64
"""Bytes of an attribute that is worth remembering."""
_SHORTEST: Final = len("sync.x")
_ID: Final = 8


class OpenAccounts(Accounts):
    """The accounts of all traces in one journal directory."""

    def __init__(self) -> None:
        super().__init__(keeps=False)
        self._early: dict[str, list[Ended | tuple[str, str, int]]] = {}
        """Parts that ended before anything was read of the span around them, by its id: a stage of a process that is
        read later, an item, or a span of somebody else. Items that went well as parent's id, action and number."""
        self._early_in: dict[str, str] = {}
        """Traces of these, by the id of the span around."""
        self._waiting = 0
        """Number of these parts."""
        self._left: set[str] = set()
        """Those of them that are spans: what ends later is in them no more, though their places are open."""
        self._trace = ""
        self._ends: dict[str, int] = {}
        """Ends of the stages that are pending, by span id."""
        self._now = self._at = 0
        """The end of what is taken in; 0 where that is not known."""

    def take(self, batches: Sequence[Batch]) -> None:
        """Take in the records of batches that were read together."""
        groups = [group for batch in batches for group in batch.groups]
        for group in groups:
            self.begin_all(group.started)
            self.note_ends(group.pending)
        announced = {body for group in groups for body in group.ended if item_of(body)}
        ours = [body for group in groups if group.is_ours for body in group.spans]
        others = [body for group in groups if not group.is_ours for body in group.spans]
        self._take_spans(ours, others, announced)
        if len(self.places) > MOST_PLACES:
            self._forget()

    def begin_all(self, started: Sequence[bytes]) -> None:
        """Take note of spans that have begun."""
        for span in lean_spans(started) if started else ():
            if span is not None:
                name = span.name.decode("utf-8", "replace")
                span_id = span.span_id.hex()
                parent_id = span.parent_span_id.hex()
                self.begin(span_id, parent_id, name, span.kind)
                self._take_early(span_id)
                if parent_id and parent_id not in self.places and not span.flags & _IS_REMOTE:
                    self._await(parent_id, span.trace_id.hex())

    def note_ends(self, pending: Sequence[bytes]) -> None:
        """Take note of when stages ended that are completed later: what ends after that is no part of them."""
        for span in lean_spans(pending) if pending else ():
            if span is not None:
                self._ends[span.span_id.hex()] = span.end

    def end_of(self, key: str) -> int:
        """Return when a stage that is pending has ended, in nanoseconds since the epoch; 0: that is not known."""
        return self._ends.get(key, 0)

    def _take_spans(self, ours: Sequence[bytes], others: Sequence[bytes], announced: Collection[bytes]) -> None:
        """Count the items that went well, and take in other spans, but for those of others that nobody waits for.

        Args:
            ours: Spans of stages.
            others: Spans of other scopes; none of these is an item, whatever its name.
            announced: The items in which a process has forked, which have a place of their own.
        """
        items: list[tuple[bytes, bytes]] = []
        left = [body for body in others if item_of(body) is None or (self._early and span_id(body) in self._early)]
        for body in ours:
            item = item_of(body)
            if item and not (announced and body in announced):
                items.append((item, body))
            else:
                left.append(body)
        ended = [span for span in lean_spans(left) if span is not None]
        apart = self._apart(items, ended)
        counts = Counter(item for item, _ in items)
        counts.subtract(item for item, _ in apart)
        for said, number in counts.items():
            name, _, action = said[8:].partition(b"\0")
            if number and part_of(name.decode("utf-8", "replace"))[0] == ITEM:
                self._take_part((said[:8].hex(), action.decode("utf-8", "replace"), number))
        ended += [span for span in lean_spans([body for _, body in apart]) if span is not None]
        for span in sorted(ended, key=lambda span: (span.end, -span.start)):
            self._take(span)

    def _apart(self, items: list[tuple[bytes, bytes]], ended: Sequence[LeanSpan]) -> list[tuple[bytes, bytes]]:
        """Return the items to be read one by one; those left over stand in open stages, and ended before these did."""
        if self._ends:
            return items
        parents = {item[:8] for item, _ in items}
        stages = {parent for parent in parents if self._is_open(parent.hex())}
        ends = {span.span_id: span.end for span in ended if span.span_id in stages}
        others = {parent.hex() for parent in parents} | {span.parent_span_id.hex() for span in ended}
        below = (others | self._early.keys()) - self.places.keys() - {""}
        late = _ended_after(ends, [body for item, body in items if item[:8] in ends]) if ends else frozenset()
        if not below and not late and len(stages) == len(parents):
            return []
        return [
            (item, body)
            for item, body in items
            if item[:8] not in stages or body in late or (below and span_id(body) in below)
        ]

    def _is_open(self, span_id: str) -> bool:
        """Return whether items in a span count for it."""
        place = self.places.get(span_id)
        return place is not None and place.open and place.counts and span_id not in self._left

    def _take(self, span: LeanSpan) -> None:
        span_id, name = span.span_id.hex(), span.name.decode("utf-8", "replace")
        place, sort, self._trace = self.places.get(span_id), part_of(name)[0], span.trace_id.hex()
        if place is None and (span_id in self._early or span.kind == _PRODUCER):
            place = self.places[span_id] = Place(span.parent_span_id.hex(), sort)
            self._take_early(span_id, are_late=True)
        self._now = span.end
        if sort == ITEM or (place is not None and place.open):
            attributes = _ours(span.attributes)
            has_failed = _ERROR in span.status
            self._take_part(
                Ended(span_id, span.parent_span_id.hex(), name, span.kind, has_failed, attributes, 0, span.end)
            )
        if place is not None and place.counts:
            place.end_ns = span.end

    def _take_part(self, part: Ended | tuple[str, str, int], *, is_late: bool = False) -> None:
        """Take in a part, as soon as it is known where it stands."""
        parent_id = part.parent_id if isinstance(part, Ended) else part[0]
        for _ in range(_DEEPEST):  # through items, and through what has ended itself
            place = self.places.get(parent_id)
            if place is None or (place.open and place.counts and not self._is_over(parent_id)):
                break
            parent_id = place.parent_id
        if parent_id and parent_id not in self.places:
            self._await(parent_id, self._trace).append(part)
            self._waiting += 1
            if isinstance(part, Ended):
                self._left.add(part.span_id)
            while self._waiting > MOST_WAITING:
                self._stop_waiting()
        elif isinstance(part, Ended):
            self._now = part.end_ns
            self._at = part.end_ns if is_late else 0
            self.end(part)
        else:
            self._at = 0
            self.item(*part)

    def _around(self, parent_id: str, *, counting: bool = False) -> Place:
        """Return the nearest place; one that nobody looks at if the stage that a part belongs to has ended.

        A part in an item comes late, when the item has ended: its stage has counted it itself, and said so.
        """
        above = parent_id
        for _ in range(_DEEPEST if self._at else 0):
            place = self.places.get(above)
            if place is None or (place.open and place.counts):
                break
            if place.counts and place.end_ns >= self._at:
                return Place("", vocabulary.PIPELINE)
            if place.open and place.collects and not counting:
                break
            above = place.parent_id
        return super()._around(parent_id, counting=counting)

    def _has_ended(self, span_id: str) -> bool:
        """Return whether a stage that is pending has ended before what is taken in now."""
        if not self._ends or self._ends.get(span_id, self._now) >= self._now:
            return False
        place = self.places.get(span_id)
        # A run has all that is read before it is completed.
        return place is not None and not (place.is_run and not place.parent_id)

    def _is_over(self, span_id: str) -> bool:
        """Return whether a stage has ended before what is taken in now, and is still to be taken in itself."""
        return span_id in self._left or self._has_ended(span_id)

    def _await(self, span_id: str, trace_id: str) -> list[Ended | tuple[str, str, int]]:
        """Wait for a span of which nothing has been read; returns the parts in it that have ended."""
        parts = self._early.setdefault(span_id, [])
        self._early_in[span_id] = trace_id
        if len(self._early) > MOST_PLACES:
            self._stop_waiting()
        return parts

    def _stop_waiting(self) -> None:
        """Give up the span that was waited for longest: it may never come, and stages know what they counted."""
        oldest = next(iter(self._early))
        self._leave(oldest)

    def _take_early(self, span_id: str, *, are_late: bool = False) -> None:
        """Take in parts of a span; `are_late`: it has ended, and so may have the stage that they belong to."""
        before, self._trace = self._trace, self._early_in.get(span_id, self._trace)  # of the parts, whoever is read now
        for part in self._leave(span_id):
            self._take_part(part, is_late=are_late)
        self._trace = before

    def _leave(self, span_id: str) -> list[Ended | tuple[str, str, int]]:
        """Let the parts of a span wait no more, and return them."""
        self._early_in.pop(span_id, None)
        parts = self._early.pop(span_id, [])
        self._waiting -= len(parts)
        self._left.difference_update(part.span_id for part in parts if isinstance(part, Ended))
        return parts

    def _take_rest(self, trace_id: str, root_id: str) -> None:
        """Take in for a root what stands in spans of its trace that never came, such as items of a killed process."""
        for parent_id in [key for key, trace in self._early_in.items() if trace == trace_id]:
            self.places[parent_id] = way = Place(root_id, "")
            way.open = False
            self._take_early(parent_id)

    def _forget(self) -> None:
        """Forget the oldest, those that have ended first."""
        too_many = len(self.places) - MOST_PLACES
        ended = [key for key, place in self.places.items() if not place.open]
        for key in (ended or list(self.places))[:too_many]:
            del self.places[key]

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
        settled = self.settle(ended, place)
        _amend(span, attributes, settled, place, is_pending=is_pending)
        if place.open:
            self._ends.pop(span_id, None)
            self._now, self._trace = span.end_time_unix_nano, span.trace_id.hex()
            place.open = False
            place.end_ns = self._now
            self._take_part(ended._replace(end_ns=self._now))
        return field(0x12, span.SerializeToString())

    def by_end(self, span_ids: Iterable[str]) -> list[str]:
        """Return spans in the order of their ends; of those that ended together the innermost first."""
        return sorted(span_ids, key=lambda span_id: (self.end_of(span_id), -len(self.above(span_id))))

    def above(self, span_id: str) -> list[str]:
        """Return the spans above one, as far as they are known, from the inside outwards."""
        way: list[str] = []
        place = self.places.get(span_id)
        while place is not None and place.parent_id not in way and len(way) < MOST_PLACES:
            way.append(place.parent_id)
            place = self.places.get(place.parent_id)
        return way

    # Across restarts

    def dump(self) -> str:
        """Return what has ended in the stages that are open, as JSON; what is empty is left out."""
        held = {key: place.dump() for key, place in self.places.items() if place.open and not place.is_empty}
        early = {key: [list(part) for part in parts] for key, parts in self._early.items() if parts}
        traces = {key: self._early_in[key] for key in early}
        return orjson.dumps([held, early, traces]).decode() if held or early else ""

    def load(self, text: str) -> None:
        """Take up what :meth:`dump` returned; the stages have begun again before. What cannot be read is left out."""
        try:
            held, early, self._early_in = orjson.loads(text) if text else ({}, {}, {})
            for key, values in held.items():
                if key in self.places:
                    self.places[key].load(values)
            for key, parts in early.items():
                self._early[key] = [Ended(*part) if len(part) > 3 else tuple(part) for part in parts]
                self._waiting += len(parts)
                self._left.update(part.span_id for part in self._early[key] if isinstance(part, Ended))
        except (ValueError, TypeError, AttributeError, KeyError):
            return


def _ended_after(ends: Mapping[bytes, int], items: Sequence[bytes]) -> frozenset[bytes]:
    """Return the items that did not end before what they stand in did. `ends`: of that, by id."""
    spans = zip(items, lean_spans(items), strict=True)
    return frozenset(body for body, span in spans if span is None or span.end >= ends[span.parent_span_id])


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


def _ours(attributes: Iterable[bytes]) -> dict[str, Any]:
    """Return those attributes that are of a sync; most repeat, and are read once."""
    found: dict[str, Any] = {}
    for encoded in attributes:
        if encoded[2:7] == b"sync." or encoded[2 : 2 + len(_MESSAGE_ID)] == _MESSAGE_ID:
            pair = _known(encoded) if len(encoded) <= _LONGEST_KNOWN else _read(encoded)
            if pair is not None:
                found[pair[0]] = pair[1]
    return found


def _read(encoded: bytes) -> tuple[str, object] | None:
    try:
        pair = KeyValue.FromString(encoded)
    except DecodeError:
        return None
    return pair.key, value_of(pair.value)


_known: Final = lru_cache(4_096)(_read)


def _item_of(body: bytes) -> bytes | Literal[False] | None:
    """Read a span as the C extension's ``item_of`` does."""
    (span,) = lean_spans([body])
    if span is None:
        return None
    if not span.name.startswith(b"sync.") or len(span.name) < _SHORTEST:
        return False if span.kind in _COME_TO_AN_END else None
    is_plain = not span.status and span.kind == _INTERNAL and len(span.parent_span_id) == _ID
    if not is_plain or b" " in span.name or b"." in span.name[5:]:
        return None
    said = _ours(span.attributes)
    action = said.get(vocabulary.SYNC_ACTION, "")
    if says_more(said) or not isinstance(action, str) or action == vocabulary.FAILED:
        return None
    return span.parent_span_id + span.name + b"\0" + action.encode()


item_of: Final = native.item_of if native else _item_of
