"""An outlet: one sink as the shipper sees it, with its thread, its backoff and what is on its way to it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Final, Protocol

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch
from otelsync.otlp.exporter import OtlpSink, Outcome
from otelsync.shipping.messages import RECOVERED

_log = own_logger("otelsync.shipping")
NOTHING_ARRIVES: Final = "nothing arrives there as it is set up"
"""Said of an endpoint that turns everything away."""
REFUSED_KEEP: Final = 24.0
"""Hours."""
LEAST_ROOM: Final = 512
"""Bytes. With less it is not worth while to look for more."""
_dice = random.SystemRandom()
"""Not the shared generator: a host that seeds it must not have its numbers taken away."""


class BatchStore(Protocol):
    """The local store, as far as shipping needs it. Used by one thread."""

    def deliver(self, batch: Batch) -> None:
        """Store a batch exactly once. Raises when it cannot."""

    def position(self, journal: str) -> int:
        """The offset up to which the records of a journal file are stored; 0 for an unknown file."""

    def forget(self, journal: str) -> None:
        """Forget the position in a journal file that is gone for good."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds for which a failing sink is left alone: doubled from `first` to `longest`, give or take half.

    One that takes nothing as things are set up is left alone for longer: from one minute to ten.
    """

    first: float = 1.0
    longest: float = 30.0

    def pause(self, failures: int, *, denied: bool = False) -> float:
        """The pause after so many failures in a row."""
        first, longest = (self.first * 60, self.longest * 20) if denied else (self.first, self.longest)
        return min(longest, first * 2.0 ** min(failures - 1, 30)) * _dice.uniform(0.5, 1.5)


@dataclass(slots=True)
class Parcel:
    """The batches that a sink is given at one time."""

    room_bytes: int
    room_records: int
    deadline: float | None = None
    """No attempt goes on beyond this, ``time.monotonic()``."""
    epoch: int = 0
    """The checkpoint that the batches were read by."""
    batches: list[Batch] = field(default_factory=list)
    shaped: list[Batch] | None = None
    """Batches to send in place of these."""

    @property
    def content(self) -> list[Batch]:
        """Batches to send."""
        return self.batches if self.shaped is None else self.shaped

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.room_bytes -= batch.end - batch.start
        self.room_records -= batch.spans + batch.logs

    @property
    def has_room(self) -> bool:
        """True if it is worth while to look for more."""
        return self.room_bytes >= LEAST_ROOM and self.room_records > 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A parcel, and what became of it."""

    outlet: Outlet
    parcel: Parcel
    outcome: Outcome


class Outlet:
    """A sink's name, what it takes, and how it has been doing."""

    def __init__(self, name: str, signals: Sequence[str], place: str, backoff: Backoff) -> None:
        self.name = name
        self.signals = tuple(signals)
        self.busy = False
        self.ready_at = 0.0
        self._place = place
        self._backoff = backoff
        self.is_denied = False
        """True if its last attempt has shown that it takes nothing as things are set up."""
        self._failures = 0
        self._denials = 0
        self._denials_said: set[str] = set()
        self._failing_since = 0.0
        self._throttled_until = 0.0
        self._rejected_for = ""
        self._warned_of = ""

    def deliver(self, parcel: Parcel, done: SimpleQueue[Delivery | None]) -> None:
        """Give the sink a parcel; the delivery comes through `done`, now or later."""
        raise NotImplementedError

    @property
    def room(self) -> int | None:
        """Bytes of records that it is best given at one time, if it has a say in that."""
        return None

    @property
    def is_failing(self) -> bool:
        """Return whether its last attempt has failed, and it was said why."""
        return self._failures > 0

    def ready(self, now: float) -> bool:
        """Return whether it can be given a parcel."""
        return not self.busy and now >= self.ready_at

    def hurry(self) -> None:
        """Try again at once, unless the endpoint asked to be left alone."""
        self.is_denied = False
        self.ready_at = min(self.ready_at, self._throttled_until)

    def judge(self, parcel: Parcel, outcome: Outcome) -> Outcome:  # noqa: ARG002  (others look at it)
        """Return what becomes of a parcel after an attempt."""
        return outcome

    def note(self, outcome: Outcome) -> None:
        """Draw the consequences: back off or recover, and say so once."""
        self.busy = False
        if outcome.expired:
            self.is_denied, self.ready_at = False, 0.0  # there may be more of that age
            if "" not in self._denials_said:
                self._denials_said.add("")
                self._warn("%d dropped, as they have waited for too long (%s)", outcome.expired, outcome.reason)
            return
        if outcome.retry:
            if outcome.tried:
                self._fail(outcome)
            else:
                self.ready_at = time.monotonic() + self._backoff.first
            return
        if self._failures:
            self._warn(f"{RECOVERED} %.0f s", time.monotonic() - self._failing_since)
        self._failures = self._denials = 0
        self._denials_said.clear()
        self.is_denied = False
        self._throttled_until = self.ready_at = 0.0
        rejected = outcome.rejected + outcome.partial
        if rejected and _head(outcome.reason) != self._rejected_for:
            self._rejected_for = _head(outcome.reason)
            said = "%d rejected for good (%s); further ones for this reason are only counted"
            self._warn(said, rejected, outcome.reason)
        elif not rejected and outcome.reason and outcome.reason != self._warned_of:
            self._warned_of = outcome.reason
            self._warn("it took everything and warns: %s; further warnings of this kind are not logged", outcome.reason)

    def abort(self) -> None:
        """Make a delivery that is on its way end soon."""

    def close(self, timeout: float) -> None:
        """Close the sink, for at most `timeout` seconds."""

    def _warn(self, message: str, *values: object) -> None:
        _log.warning(f"%s to %s: {message}", self.name, self._place, *values)

    def _fail(self, outcome: Outcome) -> None:
        now = time.monotonic()
        self.is_denied = outcome.denied
        if not self._failures:
            self._failing_since = now
        if outcome.denied:
            self._denials += 1
            if (cause := _head(outcome.reason)) not in self._denials_said:
                self._denials_said.add(cause)
                self._warn("%s; %s", outcome.reason, self._until_mended())
        elif not self._failures:
            self._warn("%s; the records stay in the journal and are sent later", outcome.reason)
        self._failures += 1
        self._throttled_until = now + (outcome.retry_after or 0.0)
        pause = self._backoff.pause(self._denials if outcome.denied else self._failures, denied=outcome.denied)
        self.ready_at = max(now + pause, self._throttled_until)

    def _until_mended(self) -> str:
        return "the records stay in the journal, and it is tried again every few minutes"


class OtlpOutlet(Outlet):
    """An OTLP endpoint. Requests are sent in a thread of its own, so that a hanging one holds up nobody else.

    Args:
        sink: What sends to it.
        backoff: How long it is left alone when it fails.
        dress: Makes of batches what is sent in place of them: as many records, and always the same of the same.
        refused_keep: Hours for which records wait for an endpoint that takes nothing.
    """

    def __init__(
        self,
        sink: OtlpSink,
        backoff: Backoff,
        dress: Callable[[list[Batch]], list[Batch]] = list,
        *,
        refused_keep: float = REFUSED_KEEP,
    ) -> None:
        super().__init__(sink.name, ["span" if sink.name == "traces" else "log"], sink.endpoint.place, backoff)
        self._sink = sink
        self._dress = dress
        self._keep = refused_keep * 3600
        self._denied_since = 0.0
        self._inbox: SimpleQueue[tuple[Parcel, SimpleQueue[Delivery | None]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def deliver(self, parcel: Parcel, done: SimpleQueue[Delivery | None]) -> None:
        """Give the sink a parcel; the delivery comes through `done`. Nothing to send is delivered at once."""
        if not any(batch.spans if "span" in self.signals else batch.logs for batch in parcel.content):
            done.put(Delivery(self, parcel, Outcome()))
            return
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=f"otelsync-{self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the process may have no more threads, for now
                done.put(Delivery(self, parcel, Outcome(retry=True, reason=str(error))))
                return
            self._thread = thread
        self.busy = True
        self._inbox.put((parcel, done))

    @property
    def room(self) -> int:
        """Bytes that go out in one request, so that what has arrived need not be sent again with what has not."""
        return max(self._sink.room, LEAST_ROOM)

    def note(self, outcome: Outcome) -> None:
        """Draw the consequences of an attempt. What needed no attempt says nothing about the endpoint."""
        self.busy = False
        if outcome.retry or outcome.accepted or outcome.rejected or outcome.partial or outcome.expired:
            super().note(outcome)

    def judge(self, parcel: Parcel, outcome: Outcome) -> Outcome:
        """Give up what an endpoint that takes nothing has turned away for too long."""
        if not outcome.denied:
            return outcome
        now = time.monotonic()
        if not self._denials:
            self._denied_since = now
        if now - self._denied_since < self._keep or _age(parcel.content) < self._keep:
            return outcome
        given = sum(batch.spans if "span" in self.signals else batch.logs for batch in parcel.content)
        self._sink.forget(self._dress(parcel.content))
        return replace(outcome, retry=False, expired=given - outcome.accepted - outcome.rejected - outcome.partial)

    def _until_mended(self) -> str:
        return (
            f"{NOTHING_ARRIVES}, see `otelsync doctor`; the records stay in the journal, it is tried again"
            f" every few minutes, and what is older than {self._keep / 3600:g} h is then dropped"
        )

    def abort(self) -> None:
        """Make a request that is on its way end soon."""
        self._sink.abort()

    def close(self, timeout: float) -> None:
        """Close the connection, and wait for the thread for at most `timeout` seconds."""
        thread, self._thread = self._thread, None
        if thread is None:
            self._sink.close()
            return
        self._inbox.put(None)
        thread.join(timeout)

    def _work(self) -> None:
        while (work := self._inbox.get()) is not None:
            parcel, done = work
            done.put(Delivery(self, parcel, self._send(parcel)))
        self._sink.close()

    def _send(self, parcel: Parcel) -> Outcome:
        try:
            return self._sink.send(self._dress(parcel.content), deadline=parcel.deadline)
        except Exception as error:
            _log.debug("%s: unexpected", self.name, exc_info=True)
            return Outcome(retry=True, reason=f"unexpected {type(error).__name__}")


class StoreOutlet(Outlet):
    """The local store, written in the shipper's own thread."""

    def __init__(self, store: BatchStore, backoff: Backoff) -> None:
        super().__init__("store", ["span", "log"], "the local store", backoff)
        self._store = store

    def position(self, journal: str) -> int:
        """Return how far the store has come in a file, by its own account; raises what the store raises."""
        return self._store.position(journal)

    def forget(self, journal: str) -> None:
        """Tell the store that a file is gone. If it cannot take note now, one row too many stays in it."""
        with suppress(Exception):
            self._store.forget(journal)

    def deliver(self, parcel: Parcel, done: SimpleQueue[Delivery | None]) -> None:
        """Store the parcel's batches. Those before one that fails count as delivered."""
        for number, batch in enumerate(parcel.batches):
            try:
                self._store.deliver(batch)
            except Exception as error:
                if number:
                    stored = replace(parcel, batches=parcel.batches[:number])
                    done.put(Delivery(self, stored, _stored(stored)))
                done.put(Delivery(self, parcel, Outcome(retry=True, reason=str(error) or type(error).__name__)))
                return
        done.put(Delivery(self, parcel, _stored(parcel)))

    def close(self, timeout: float) -> None:  # noqa: ARG002  (the store has no wait to bound)
        try:
            self._store.close()
        except Exception as error:
            _log.warning("the local store could not be closed: %s", error)


def _stored(parcel: Parcel) -> Outcome:
    return Outcome(accepted=sum(batch.spans + batch.logs for batch in parcel.batches))


def _head(reason: str) -> str:
    """Return the status alone: an endpoint may word each answer differently."""
    return reason.partition(":")[0]


def _age(batches: Sequence[Batch]) -> float:
    """Seconds since the latest of these records."""
    from otelsync.otlp.decoding import latest  # takes a while to load, and most shippers never need it

    newest = max((latest(group) for batch in batches for group in batch.groups), default=0)
    return time.time() - newest / 1e9
