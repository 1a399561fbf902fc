"""Accounts of the stages that are open, as what all processes of a directory record is read, in whatever order.

What stands in a stage of another process is held with its end (see `otelsync.shipping.held_parts`), as that process
may have ended the stage before, in a file that is read later.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from otelsync import vocabulary
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanSpan, lean_spans, span_id
from otelsync.shipping.held_parts import HeldParts
from otelsync.shipping.plain_items import ID, action_of, ends_of, item_of, sync_attributes, trace_of
from otelsync.store.accounts import Accounts, Ended, Place
from otelsync.vocabulary import ITEM, part_of

MOST_PLACES: Final = 20_000
"""Spans that are remembered, open or as the way from a late part to what is still open."""
MOST_WAITING: Final = 4_096
"""Parts that wait for the span around them to be read."""

_DEEPEST: Final = 1_000
_PRODUCER: Final = 4
_IS_REMOTE: Final = 0x200
"""The flag of a span whose parent was recorded elsewhere."""
_ERROR: Final = b"\x18\x02"
_UNKNOWN: Final = "?"
"""In the place of the files of a process."""

Items = list[tuple[bytes, bytes]]
"""Items that went well: what :data:`item_of` says of each, and its body."""


class ReadAccounts(Accounts):
    """The accounts of all traces in one journal directory, as far as their records have been read."""

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
        self._stood_in: Collection[str] = ()
        """Spans without a place that others stand in of those that are taken in now."""
        self._trace = ""
        self._ends: dict[str, int] = {}
        """Ends of the stages that are pending, by span id."""
        self._now = self._at = 0
        """The end of what is taken in; 0 where that is not known."""
        self._ending = ""
        """The stage whose end is taken in, as its own process says it."""
        self._series: str | None = None
        """Files of the process whose records are taken in. None: what the shipper ends itself."""
        self._begun_in: dict[str, str] = {}
        """The same of the processes that the spans with places began in."""
        self._held = HeldParts()

    def take(self, batches: Sequence[Batch]) -> None:
        """Take in the records of batches that were read together."""
        by_series: dict[str, list[Group]] = {}
        for batch in batches:
            by_series.setdefault(batch.journal.rpartition("-")[0], []).extend(batch.groups)
        for series, groups in by_series.items():
            for group in groups:
                self.begin_all(group.started, series)
                self.note_ends(group.pending)
        for series, groups in by_series.items():
            self._series = series
            announced = {body for group in groups for body in group.ended if item_of(body)}
            ours = [body for group in groups if group.is_ours for body in group.spans]
            others = [body for group in groups if not group.is_ours for body in group.spans]
            self._take_spans(ours, others, announced)
        self._series = None
        if len(self.places) > MOST_PLACES:
            self._forget()

    def begin_all(self, started: Sequence[bytes], series: str = "") -> None:
        """Take note of spans that have begun, in a process with these files."""
        for span in lean_spans(started) if started else ():
            if span is not None:
                name = span.name.decode("utf-8", "replace")
                span_id = span.span_id.hex()
                parent_id = span.parent_span_id.hex()
                self.begin(span_id, parent_id, name, span.kind)
                self._begun_in.setdefault(span_id, series)
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
        said = Counter(item for item, _ in items)
        below = self._stood_in = self._below(said, ended)
        if elsewhere := self._elsewhere(said, below):
            items = self._hold_elsewhere(items, elsewhere, below)
            said = Counter(item for item, _ in items)
        apart = self._apart(items, {item[:ID] for item in said}, ended, below)
        said.subtract(item for item, _ in apart)
        for item, number in said.items():
            if number and (action := action_of(item)) is not None:
                self._take_part((item[:ID].hex(), action, number))
        ended += [span for span in lean_spans([body for _, body in apart]) if span is not None]
        for span in sorted(ended, key=lambda span: (span.end, -span.start)):
            self._take(span)

    def _below(self, items: Iterable[bytes], ended: Sequence[LeanSpan]) -> Collection[str]:
        """Return the spans without a place that something stands in."""
        others = {item[:ID].hex() for item in items} | {span.parent_span_id.hex() for span in ended}
        return (others | self._early.keys()) - self.places.keys() - {""}

    def _elsewhere(self, items: Iterable[bytes], below: Collection[str]) -> Collection[bytes]:
        """Return what items stand in that is a stage of another process, or a span of which nothing has been read."""
        return {
            parent
            for parent in {item[:ID] for item in items}
            if (key := parent.hex()) in below or (self._begun_in.get(key) != self._series and self._is_open(key))
        }

    def _hold_elsewhere(self, items: Items, elsewhere: Collection[bytes], below: Collection[str]) -> Items:
        """Hold the items that stand there, unless something stands in them; returns the others."""
        others: Items = []
        held: dict[bytes, list[bytes]] = {}
        for entry in items:
            item, body = entry
            if item[:ID] not in elsewhere or (below and span_id(body) in below):
                others.append(entry)
            else:
                held.setdefault(item, []).append(body)
        for item, bodies in held.items():
            if (action := action_of(item)) is not None:
                self._trace = trace_of(bodies[0])
                self._hold_items(item[:ID].hex(), action, array("Q", ends_of(item, bodies)))
        return others

    def _apart(
        self, items: Items, parents: Collection[bytes], ended: Sequence[LeanSpan], below: Collection[str]
    ) -> Items:
        """Return the items to be read one by one; those left over stand in open stages, and ended before these did."""
        if self._ends:
            return items
        stages = {parent for parent in parents if self._is_open(parent.hex())}
        ends = {span.span_id: span.end for span in ended if span.span_id in stages}
        late = _ended_after(ends, [body for item, body in items if item[:ID] in ends]) if ends else frozenset()
        if not below and not late and len(stages) == len(parents):
            return []
        return [
            (item, body)
            for item, body in items
            if item[:ID] not in stages or body in late or (below and span_id(body) in below)
        ]

    def _is_open(self, span_id: str) -> bool:
        """Return whether items in a span count for it."""
        place = self.places.get(span_id)
        return place is not None and place.open and place.counts and span_id not in self._left

    def _take(self, span: LeanSpan) -> None:
        span_id, name = span.span_id.hex(), span.name.decode("utf-8", "replace")
        place, sort, self._trace = self.places.get(span_id), part_of(name)[0], span.trace_id.hex()
        if place is None and (span_id in self._early or span_id in self._stood_in or span.kind == _PRODUCER):
            place = self.places[span_id] = Place(span.parent_span_id.hex(), sort)
            self._take_early(span_id, are_late=True)
        if place is not None and place.open and span_id in self._held:
            self._ends[span_id], self._ending = span.end, span_id
            self._let_go(span_id)
            self._ending = ""
            del self._ends[span_id]
        self._now = span.end
        if sort == ITEM or (place is not None and place.open):
            attributes = sync_attributes(span.attributes)
            has_failed = _ERROR in span.status
            self._take_part(
                Ended(span_id, span.parent_span_id.hex(), name, span.kind, has_failed, attributes, 0, span.end)
            )
        if place is not None and place.counts:
            place.end_ns = span.end

    def _take_part(self, part: Ended | tuple[str, str, int], *, is_late: bool = False) -> None:
        """Take in a part, as soon as it is known where it stands."""
        parent_id, self._now = (part.parent_id, part.end_ns) if isinstance(part, Ended) else (part[0], 0)
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
        elif not isinstance(part, Ended):
            self._at = 0
            self.item(*part)
        elif parent_id and self._is_shared(parent_id, part):
            self._left.add(part.span_id)
            if too_many := self._held.add(parent_id, part, is_late=is_late):
                self._let_go_early(too_many)
        else:
            self._end_part(part, is_late=is_late)

    def _end_part(self, part: Ended, *, is_late: bool) -> None:
        self._now = part.end_ns
        self._at = part.end_ns if is_late else 0
        self.end(part)

    # What is held, as its stage may have ended before

    def _is_shared(self, span_id: str, part: Ended) -> bool:
        """Return whether a part of a stage is to be held: it is not all known what had ended in it by then.

        One with a key may have failed in another process before, or may be made good there.
        """
        if self._held.has_parts(span_id):
            return True
        if self._series is None:
            return False
        own = self.places.get(part.span_id)
        has_forked = own is not None and own.collects and not own.counts
        return has_forked or vocabulary.SYNC_PART_KEY in part.attributes or self._begun_in.get(span_id) != self._series

    def _hold_items(
        self, parent_id: str, action: str, ends: array[int], counted: int = 0, *, is_late: bool = False
    ) -> None:
        """Hold items that went well for the stage around them. `counted`: of these it is known that they ended early.

        `is_late`: what they stand in has ended, and so may have the stage, which has counted them itself then.
        """
        for _ in range(_DEEPEST):
            place = self.places.get(parent_id)
            if place is None or (place.open and place.counts and parent_id not in self._left):
                break
            if is_late and place.counts and place.end_ns:
                ends, counted = _after(place.end_ns, ends), 0
            parent_id = place.parent_id
        if parent_id and (ends or counted):
            if parent_id not in self.places:
                self._await(parent_id, self._trace)
            self._held.add_items(parent_id, action, ends, counted)

    def _let_go(self, span_id: str) -> None:
        """Take in what is held for a stage, and further out what ended after it did."""
        held, place = self._held.pop(span_id), self.places.get(span_id)
        if held is None or place is None:
            return
        end = self._ends.get(span_id) if span_id == self._ending or not is_root(place) else None
        for action, (ends, counted) in held.items().items():
            late = array("Q") if end is None else _after(end, ends)
            self._now = self._at = 0
            if number := len(ends) - len(late) + counted:
                self.item(span_id, action, number)
            self._hold_items(place.parent_id, action, late)
        self._take_held(span_id, sorted(held.parts, key=self._in_order))

    def _let_go_early(self, span_id: str, end: int | None = None) -> None:
        """Take in the parts held for a stage that had ended by `end`, or else the earlier half of them."""
        parts = self._held.pop_parts(span_id)
        parts.sort(key=self._in_order)
        number = (len(parts) + 1) // 2 if end is None else sum(part.end_ns <= end for part, _ in parts)
        self._held.put_back(span_id, parts[number:])
        self._take_held(span_id, parts[:number])

    def _take_held(self, span_id: str, parts: Iterable[tuple[Ended, bool]]) -> None:
        """Take in parts that were held for a stage, which are in the order of their ends."""
        for part, is_late in parts:
            self._left.discard(part.span_id)
            self._now = part.end_ns
            if self._has_ended(span_id):
                self._take_part(part, is_late=is_late)
            else:
                self._end_part(part, is_late=is_late)

    def _in_order(self, entry: tuple[Ended, bool]) -> tuple[int, int, str]:
        """Return what parts are sorted by: their ends; of those that ended together the innermost comes first."""
        part, _ = entry
        return part.end_ns, -len(self.above(part.parent_id)), part.span_id

    @property
    def holds(self) -> bool:
        """True if anything is held."""
        return bool(self._held)

    def have_all(self) -> None:
        """Take in what is held: everything has been read that was recorded when it was.

        The end of a stage that is still to come is later than these. Parts that are no plain items are taken in the
        next time: one process was looked at after another, and what stands in them may come from the latter.
        """
        for key in sorted(self._held, key=lambda key: -len(self.above(key))):
            if key in self.places:
                rest = self._held.pop_parts(key, since_all_was_read=True)
                self._let_go(key)
                self._held.put_back(key, rest, are_read=True)

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
        return place is not None and (span_id == self._ending or not is_root(place))

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
        trace_id = self._early_in.get(oldest, "")
        self._leave(oldest)
        if oldest in self._held and len(self._early) < MOST_PLACES:
            self._await(oldest, trace_id)  # the items in it need little
        else:
            self._held.pop(oldest)

    def _take_early(self, span_id: str, *, are_late: bool = False) -> None:
        """Take in parts of a span; `are_late`: it has ended, and so may have the stage that they belong to."""
        before = self._trace, self._series
        self._trace, self._series = self._early_in.get(span_id, self._trace), _UNKNOWN  # of the parts, not of the span
        parts, place = self._leave(span_id), self.places.get(span_id)
        if place is not None and not (place.open and place.counts) and (held := self._held.pop(span_id)):
            for action, (ends, counted) in held.items().items():
                self._hold_items(place.parent_id, action, ends, counted, is_late=are_late)
        for part in parts:
            self._take_part(part, is_late=are_late)
        self._trace, self._series = before

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
            self._begun_in.pop(key, None)
            self._held.pop(key)

    def above(self, span_id: str) -> list[str]:
        """Return the spans above one, as far as they are known, from the inside outwards."""
        way: list[str] = []
        place = self.places.get(span_id)
        while place is not None and place.parent_id not in way and len(way) < MOST_PLACES:
            way.append(place.parent_id)
            place = self.places.get(place.parent_id)
        return way


def is_root(place: Place) -> bool:
    """Return whether a place is that of a run, which has all that is read before it is completed."""
    return place.is_run and not place.parent_id


def _after(end: int, ends: array[int]) -> array[int]:
    """Return those of `ends` that are later than `end`."""
    return array("Q", [each for each in ends if each > end])


def _ended_after(ends: Mapping[bytes, int], items: Sequence[bytes]) -> frozenset[bytes]:
    """Return the items that did not end before what they stand in did. `ends`: of that, by id."""
    spans = zip(items, lean_spans(items), strict=True)
    return frozenset(body for body, span in spans if span is None or span.end >= ends[span.parent_span_id])
