"""The outlet to an OTLP endpoint. Only a shipper that has one loads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch
from otelsync.otlp.decoding import latest
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.outcome import Outcome
from otelsync.shipping.outlet import LEAST_ROOM, NOTHING_ARRIVES, REFUSED_KEEP, Backoff, Delivery, Outlet, Parcel

_log = own_logger("otelsync.shipping")


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


def _age(batches: Sequence[Batch]) -> float:
    """Seconds since the latest of these records."""
    newest = max((latest(group) for batch in batches for group in batch.groups), default=0)
    return time.time() - newest / 1e9
