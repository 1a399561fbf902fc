"""Sending batches to an OTLP endpoint, in requests that fit, and counting the outcomes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from otelsync.journal.batch import Batch
from otelsync.otlp.arrived import Arrived
from otelsync.otlp.outcome import Outcome
from otelsync.otlp.partial_success import parse_partial_success
from otelsync.otlp.reply import Reply
from otelsync.otlp.request import MOST_BYTES, Run, encode_request, records, runs_of, size, split

if TYPE_CHECKING:
    from otelsync.otlp.grpc import GrpcTransport
    from otelsync.otlp.http import HttpTransport
    from otelsync.otlp.options import OtlpEndpoint, Signal

USER_AGENT = "otelsync"
FIRST_BYTES: Final = 128 * 1024
FEWEST_BYTES: Final = 4096
FULL_BEFORE_MORE: Final = 16
"""Full requests that an endpoint takes before twice as much is tried as it has taken after a refusal."""
MOST_FULL_BEFORE_MORE: Final = 1024
MOST_SPLITS: Final = 64
"""Times that what was refused is divided in one `send`, to find the records that are at fault."""
_FEW_SPLITS: Final = 8
"""The same, as long as an endpoint takes nothing at all."""


class OtlpSink:
    """Sends one signal to one endpoint. Used by one thread; `abort` may come from another."""

    def __init__(self, endpoint: OtlpEndpoint) -> None:
        self.endpoint = endpoint
        self.name: Signal = endpoint.signal
        self._transport = transport_to(endpoint, USER_AGENT)
        self._pace = Pace(endpoint.timeout)
        self._arrived = Arrived()
        self._most = Most()
        self._aborted = False
        self._splits = MOST_SPLITS

    @property
    def room(self) -> int:
        """Bytes of records that are best sent together."""
        return min(self._most.size, self._pace.size)

    def send(self, batches: Sequence[Batch], *, deadline: float | None = None) -> Outcome:
        """Send the batches' records of this signal; no attempt goes on beyond `deadline` (``time.monotonic()``)."""
        left, arrived, partial = self._arrived.take(runs_of(batches, self.name))
        outcome = Outcome(accepted=records(arrived) - partial, partial=partial)
        try:
            self._send(left, arrived, outcome, deadline)
        except BaseException:  # whoever called gives them again
            self._arrived.note(arrived, outcome.partial)
            raise
        if outcome.retry:
            self._arrived.note(arrived, outcome.partial)
        return outcome

    def forget(self, batches: Sequence[Batch]) -> None:
        """Forget the batches' records, which are not given again."""
        self._arrived.take(runs_of(batches, self.name))

    def _send(self, left: list[Run], arrived: list[Run], outcome: Outcome, deadline: float | None) -> None:
        """Send what is left, and add to what has arrived and to the outcome."""
        waiting = deque(split(left, self.room))
        splits, broken = self._splits, 0
        while waiting and not outcome.retry:
            runs = waiting.popleft()
            reply = self._post(runs, deadline)
            if reply.status == "too_large" and records(runs) > 1:
                self._most.refused(size(runs))
                waiting.extendleft(reversed(split(runs, self._most.size)))
                continue
            if reply.status in ("refused", "broken") and records(runs) > 1 and splits > 0:
                splits -= 1  # one bad record is not to take the others along
                waiting.extendleft(reversed(split(runs, max(size(runs) // 2, 1))))
                continue
            self._count(reply, records(runs), outcome)
            if reply.status == "ok":
                self._most.taken(size(runs))
                arrived += runs
            elif reply.status == "broken":
                broken += records(runs)
        self._judge(broken, outcome)

    def _judge(self, broken: int, outcome: Outcome) -> None:
        """Draw the consequences of requests that the endpoint failed at: where it takes others, the records did it."""
        takes_others = outcome.accepted + outcome.partial > 0
        if takes_others:
            outcome.rejected += broken
        elif broken:
            outcome.retry = outcome.denied = True
        if takes_others or broken or outcome.rejected:
            self._splits = MOST_SPLITS if takes_others else _FEW_SPLITS

    def abort(self) -> None:
        """Make a `send` in another thread return soon; this and every later one ask for a retry."""
        self._aborted = True
        self._transport.abort()

    def close(self) -> None:
        """Close the connection. A later `send` opens another."""
        self._transport.close()

    def _post(self, runs: list[Run], deadline: float | None) -> Reply:
        timeout = self.endpoint.timeout
        if deadline is not None:
            timeout = min(timeout, deadline - time.monotonic())
        if self._aborted or timeout <= 0:
            return Reply("untried", reason="out of time")
        request = encode_request(runs)
        began = time.monotonic()
        reply = self._transport.post(request, timeout)
        self._pace.note(reply, len(request), time.monotonic() - began)
        return reply

    def _count(self, reply: Reply, records: int, outcome: Outcome) -> None:
        if reply.status == "ok":
            partial, reason = parse_partial_success(reply.content)
            partial = min(max(partial, 0), records)
            outcome.partial += partial
            outcome.accepted += records - partial
            outcome.reason = without_secrets(reason, self.endpoint) or outcome.reason
            return
        outcome.reason = reply.reason
        if reply.status in ("retry", "timeout", "untried", "denied"):
            outcome.retry, outcome.retry_after, outcome.tried = True, reply.after, reply.status != "untried"
            outcome.denied = reply.status == "denied"
        elif reply.status != "broken":  # which is judged when the others are known
            outcome.rejected += records


class Most:
    """The bytes that an endpoint takes in one request, as far as it has said so.

    What it refuses today it may take tomorrow, as the proxy that refused has gone: after some full requests twice as
    much is tried. Each time that is refused, twice as many go before the next try.
    """

    def __init__(self) -> None:
        self.size = MOST_BYTES
        self._full = 0
        self._wanted = FULL_BEFORE_MORE
        self._tries_more = False

    def refused(self, size: int) -> None:
        """Take note of a request of so many bytes that was too large: half of it is the most."""
        self.size = max(size // 2, 1)
        self._full = 0
        if self._tries_more:
            self._tries_more = False
            self._wanted = min(self._wanted * 2, MOST_FULL_BEFORE_MORE)

    def taken(self, size: int) -> None:
        """Take note of a request of so many bytes that was taken."""
        if self.size >= MOST_BYTES or size * 2 <= self.size:
            return
        if self._tries_more:  # as much as was refused before
            self._tries_more, self._wanted = False, FULL_BEFORE_MORE
        self._full += 1
        if self._full >= self._wanted:
            self._full, self._tries_more = 0, True
            self.size = min(self.size * 2, MOST_BYTES)


class Pace:
    """The size of requests that the way to an endpoint carries within the timeout.

    It begins small and doubles with every request that took no more than a quarter of the timeout, as the next one
    then takes about half; one that was not answered in time halves it.
    """

    def __init__(self, timeout: float) -> None:
        self.size = FIRST_BYTES
        self._timeout = timeout

    def note(self, reply: Reply, size: int, seconds: float) -> None:
        """Take note of how a request of so many bytes went."""
        if reply.status == "timeout" and seconds >= self._timeout / 2:
            self.size = max(min(self.size, size) // 2, FEWEST_BYTES)
        elif reply.status == "ok" and seconds <= self._timeout / 4 and size * 2 > self.size:
            self.size = min(self.size * 2, MOST_BYTES)


def without_secrets(reason: str, endpoint: OtlpEndpoint) -> str:
    """Return the words of a partial success without secrets."""
    if not reason:
        return ""
    from otelsync.otlp.words import shown  # of no use as long as all goes well

    return shown(reason, endpoint.headers)


def transport_to(endpoint: OtlpEndpoint, user_agent: str) -> HttpTransport | GrpcTransport:
    """Return what sends requests to an endpoint."""
    from otelsync.otlp.grpc import GrpcTransport  # what only some shippers need takes a while to load
    from otelsync.otlp.http import HttpTransport

    transport = GrpcTransport if endpoint.protocol == "grpc" else HttpTransport
    return transport(endpoint, user_agent=user_agent)
