"""Runs of processes that fork, as their journals hold them: made by a list of steps, without any process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import span_id, untagged
from otelsync.otlp.encoding import field as encoded
from otelsync.shipping.open_accounts import OpenAccounts
from otelsync.store.accounts import Account, Accounts, Ended

OURS = encoded(0x0A, b"\x0a\x08otelsync")
"""The scope of stages, as the journal holds it."""
NAMES = {"stage": "sync.repo r", "call": "sync.api list", "item": "sync.order"}
STEPS = (*NAMES, "close", "close", "created", "updated", "failed", "again", "fork", "fork")


@dataclass
class _Open:
    own: bytes
    parent: bytes
    name: str
    start: int
    forks: int
    is_announced: bool


@dataclass
class _Process:
    series: str
    around: list[bytes]
    """What it stands in: the innermost of its parent's at the fork, then its own."""
    own: list[_Open] = field(default_factory=list)
    forks: int = 0
    failures: set[bytes] = field(default_factory=set)
    """Stages in which the one part failed that may be tried again."""


@dataclass(frozen=True)
class Record:
    """One record of a journal."""

    series: str
    kind: str
    """The list of a group that it stands in."""
    body: bytes


class Run:
    """A pipeline whose processes do as they are told, by the number of a process and what it is to do."""

    def __init__(self, steps: Iterable[tuple[int, str]]) -> None:
        self.records: list[Record] = []
        self.ended: list[Span] = []
        self._now = 0
        self._ids = 0
        first = _Process("1-1-00000000", [])
        self._processes = [first]
        self._begin(first, "sync.pipeline p")
        for number, step in steps:
            process = self._processes[number % len(self._processes)]
            if process is not first or process.own:
                self._do(process, step)
        for process in reversed(self._processes):
            while process.own:
                self._close(process)

    def _do(self, process: _Process, step: str) -> None:
        if step in NAMES:
            self._begin(process, NAMES[step])
        elif step == "close":
            if process.own and (len(process.own) > 1 or process is not self._processes[0]):
                self._close(process)
        elif step == "fork":
            self._fork(process)
        else:
            self._item(process, step)

    def _begin(self, process: _Process, name: str) -> None:
        is_item = name == NAMES["item"]
        stage = _Open(
            self._id(), process.around[-1] if process.around else b"", name, self._time(), process.forks, not is_item
        )
        process.own.append(stage)
        process.around.append(stage.own)
        if not is_item:
            self._announce(process, stage)

    def _announce(self, process: _Process, stage: _Open) -> None:
        self.records.append(Record(process.series, "started", body(_span(stage.own, stage.parent, stage.name))))

    def _close(self, process: _Process) -> None:
        stage = process.own.pop()
        process.around.pop()
        is_item = stage.name == NAMES["item"]
        said: dict[str, Any] = {"sync.outcome": "success", **({"sync.action": "created"} if is_item else {})}
        span = _span(stage.own, stage.parent, stage.name, self._time(), said)
        is_pending = not is_item and process.forks != stage.forks
        self._end(process, span, "pending" if is_pending else "ended" if stage.is_announced else "spans")

    def _fork(self, process: _Process) -> None:
        for stage in process.own:
            if not stage.is_announced:
                stage.is_announced = True
                self._announce(process, stage)
        process.forks += 1
        number = len(self._processes) + 1
        self._processes.append(_Process(f"{number}-1-00000000", [*process.around], failures=set(process.failures)))

    def _item(self, process: _Process, action: str) -> None:
        parent = process.around[-1]
        said: dict[str, Any] = {"sync.action": action, "sync.outcome": "success"}
        if action == "failed":
            said |= {"sync.part.key": "k", "sync.outcome": "failure"}
            process.failures.add(parent)
        elif action == "again":
            said = {"sync.action": "created", "sync.outcome": "success"}
            if parent in process.failures:
                process.failures.discard(parent)
                said |= {"sync.part.key": "k", "sync.recovered": 1, "sync.attempt": 2}
        self._end(process, _span(self._id(), parent, NAMES["item"], self._time(), said), "spans")

    def _end(self, process: _Process, span: Span, kind: str) -> None:
        self.records.append(Record(process.series, kind, body(span)))
        self.ended.append(span)

    def _time(self) -> int:
        self._now += 10
        return self._now

    def _id(self) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(8, "big")

    def truth(self) -> Account:
        """Return the account that the spans give in the order of their ends, as the views derive it."""
        accounts = Accounts(self.ended[-1].span_id.hex())
        for span in self.ended:
            accounts.begin(span.span_id.hex(), span.parent_span_id.hex(), span.name, span.kind)
        *others, root = map(_ended, sorted(self.ended, key=lambda span: span.parent_span_id == b""))
        for each in others:
            accounts.end(each)
        return accounts.close(root)


def read(run: Run, random: Random, looks: Sequence[int], *, restarts: bool = False) -> dict[str, Span]:
    """Read a run as a shipper may, and return the ends of the stages that are pending, by span id.

    Args:
        run: What is read.
        random: Draws the order of the processes, and how much is read of each at a time.
        looks: The numbers of records that were there when the shipper looked, and read all of them.
        restarts: Whether another shipper goes on after each of these.
    """
    accounts, pending = OpenAccounts(), dict[str, bytes]()
    started: dict[str, tuple[str, bytes]] = {}
    before = 0
    for look in sorted({min(look, len(run.records)) for look in looks} | {len(run.records)}):
        for batch in _shuffled(run.records[before:look], random):
            accounts.take([batch])
            for group in batch.groups:
                started |= {span_id(each) or "": (batch.journal.rpartition("-")[0], each) for each in group.started}
                pending |= {span_id(each) or "": each for each in group.pending}
                for each in group.closed:
                    started.pop(span_id(each) or "", None)
        before = look
        if look < len(run.records):
            accounts.have_all()
            accounts = _resumed(accounts.dump(), started, pending) if restarts else accounts
    ends = [accounts.complete(pending[key], is_pending=True) for key in accounts.by_end(pending)]
    assert not accounts.holds
    return {span.span_id.hex(): span for span in (Span.FromString(untagged(end)) for end in ends)}


def _resumed(text: str, started: dict[str, tuple[str, bytes]], pending: dict[str, bytes]) -> OpenAccounts:
    accounts = OpenAccounts()
    for series, each in started.values():
        accounts.begin_all([each], series)
    accounts.begin_all([*pending.values()])
    accounts.note_ends([*pending.values()])
    accounts.load(text)
    return accounts


def _shuffled(records: Sequence[Record], random: Random) -> Iterator[Batch]:
    left: dict[str, list[Record]] = {}
    for record in records:
        left.setdefault(record.series, []).append(record)
    while left:
        series = random.choice(sorted(left))
        number = random.choice((1, 2, 5, 1000))
        taken, left[series] = left[series][:number], left[series][number:]
        if not left[series]:
            del left[series]
        yield from in_batches(taken, len(taken))


def in_batches(records: Sequence[Record], size: int) -> Iterator[Batch]:
    """Return the records of one process in batches."""
    for first in range(0, len(records), size):
        group = Group(b"", OURS)
        for record in records[first : first + size]:
            getattr(group, record.kind).append(record.body)
        group.spans += group.ended
        yield Batch(f"{records[0].series}-000000.journal", 0, 1, [group])


def _ended(span: Span) -> Ended:
    said = {pair.key: pair.value.int_value or pair.value.string_value for pair in span.attributes}
    ids = span.span_id.hex(), span.parent_span_id.hex()
    return Ended(*ids, span.name, span.kind, span.status.code == Status.STATUS_CODE_ERROR, said)


def _span(own: bytes, parent: bytes, name: str, end: int = 0, said: dict[str, Any] | None = None) -> Span:
    attributes = [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in (said or {}).items()
    ]
    has_failed = (said or {}).get("sync.outcome") == "failure"
    return Span(
        trace_id=b"t" * 16,
        span_id=own,
        parent_span_id=parent,
        name=name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=1,
        end_time_unix_nano=end,
        attributes=attributes,
        status=Status(code=Status.STATUS_CODE_ERROR) if has_failed else None,
    )


def body(span: Span) -> bytes:
    """Return a span as the journal holds it: ids first."""
    head = b"\x0a\x10" + span.trace_id
    head += b"\x22\x08" + span.parent_span_id if span.parent_span_id else b""
    rest = Span.FromString(span.SerializeToString())
    for name in ("trace_id", "span_id", "parent_span_id"):
        rest.ClearField(name)
    return encoded(0x12, head + b"\x12\x08" + span.span_id + rest.SerializeToString())
