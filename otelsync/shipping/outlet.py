"""An outlet: one sink as the shipper sees it, with its thread, its backoff and what is on its way to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Final, NamedTuple, Protocol

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch
from otelsync.otlp.outcome import Outcome

_log = own_logger("otelsync.shipping")
NOTHING_ARRIVES: Final = "nothing arrives there as it is set up"
"""Said of an endpoint that turns everything away."""
REFUSED_KEEP: Final = 24.0
"""Hours."""
LEAST_ROOM: Final = 512
"""Bytes. With less it is not worth while to look for more."""


class BatchStore(Protocol):
    """The local store, as far as shipping needs it. Used by one thread."""

    def deliver(self, batch: Batch) -> None:
        """Store a batch exactly once. Raises when it cannot."""

    def position(self, journal: str) -> int:
        """The offset up to which the records of a journal file are stored; 0 for an unknown file."""

    def forget(self, journal: str) -> None:
        """Forget the position in a journal file that is gone for good."""

    def close(self) -> None: ...


class Backoff(NamedTuple):
    """Seconds for which a failing sink is left alone: doubled from `first` to `longest`, give or take half.

    One that takes nothing as things are set up is left alone for longer: from one minute to ten.
    """

    first: float = 1.0
    longest: float = 30.0

    def pause(self, failures: int, *, denied: bool = False) -> float:
        """The pause after so many failures in a row."""
        from random import SystemRandom  # not the shared generator, which is the host's; most shippers need none

        first, longest = (self.first * 60, self.longest * 20) if denied else (self.first, self.longest)
        return min(longest, first * 2.0 ** min(failures - 1, 30)) * SystemRandom().uniform(0.5, 1.5)


@dataclass(slots=True, eq=False, repr=False)
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


class Delivery(NamedTuple):
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
            self._warn("works again after %.0f s", time.monotonic() - self._failing_since)
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
