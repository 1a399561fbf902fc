"""Ends of stages that their own processes do not write: the process is gone, or others know more than it does.

A killed process leaves stages open, which are closed as interrupted. A process that forked while a stage was open
leaves its end to the shipper, and so does a worker that ends a dispatched pipeline. Either is done when everything has
been read that was recorded by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelsync.journal.batch import Batch
from otelsync.journal.header import process_alive
from otelsync.journal.names import parse_name
from otelsync.journal.process_identity import Writer
from otelsync.otlp.decoding import span_id, untagged
from otelsync.otlp.request import Run
from otelsync.shipping import orphans
from otelsync.shipping.backlog import Backlog, Segment
from otelsync.shipping.checkpoint import STAGES, OpenSeries, decode, encode
from otelsync.shipping.open_accounts import OpenAccounts

if TYPE_CHECKING:
    from otelsync.journal.writer import Journal

_GRACE: Final = 2.0
"""Seconds that an end waits for stages of living processes below it: a task gives its result before its run ends."""


_SAVE_SECONDS: Final = 5.0
"""Seconds between two looks at living processes that the next shipper is told of, where nothing else has changed."""


class StageEnds:
    """Knows the stages of one directory that are open, and writes the ends that nobody else writes.

    Args:
        directory: The journal directory.
        backlog: Its files, and the checkpoint that holds what is known.
        write: Takes the ends, and returns whether it could; by default they go into a journal of the directory.
        grace: Seconds to wait, at most, for what is still open below a stage that has ended.
    """

    def __init__(
        self,
        directory: Path,
        backlog: Backlog,
        write: Callable[[Sequence[Run]], bool] | None = None,
        *,
        grace: float = _GRACE,
    ) -> None:
        self._grace = grace
        self._directory = directory
        self._write = write or self._journal
        self._new_journal: Journal | None = None
        self._backlog = backlog
        self._accounts = OpenAccounts()
        self._seen: dict[str, dict[str, int]] = {}
        """By series whose process has gone, and by span that is pending: what was committed when that was noticed."""
        self._noticed: dict[str, float] = {}
        """By the same: when that was, of the monotonic clock."""
        self._told_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the checkpoint."""
        checkpoint = self._backlog.checkpoint
        self._accounts = OpenAccounts()
        for name, series in checkpoint.open.items():
            self._accounts.begin_all(series.bodies(), name)
        pending = [decode(body) for body, *_ in checkpoint.pending.values()]
        self._accounts.begin_all(pending)
        self._accounts.note_ends(pending)
        self._accounts.load(checkpoint.accounts)
        self._leave_out_written()
        self._seen.clear()
        self._noticed.clear()

    def _leave_out_written(self) -> None:
        """Forget the stages whose ends an earlier shipper has written, and was killed before it could say so."""
        checkpoint = self._backlog.checkpoint
        if not checkpoint.ends_in:
            return
        for key in orphans.written(self._directory, checkpoint.ends_in):
            checkpoint.pending.pop(key, None)
            checkpoint.verdicts.pop(key, None)
            for series in checkpoint.open.values():
                series.stages.pop(key, None)
        checkpoint.ends_in = ""

    def note(self, batches: Sequence[Batch]) -> None:
        """Take note of the stages that begin and end in what was read, and that this has been read."""
        checkpoint = self._backlog.checkpoint
        for batch in batches:
            if orphans.note_verdicts(batch, checkpoint.verdicts):
                self._backlog.changed()
            if batch.journal in self._backlog.segments:  # else we have written its records
                orphans.note(batch, self._series_of(self._backlog.segments[batch.journal]))
            for group in batch.groups:
                for body in group.pending:
                    held = [encode(body), encode(group.resource), encode(group.scope)]
                    checkpoint.pending.setdefault(span_id(body) or "", held)
            self._backlog.take(STAGES, batch)
        if batches:
            self._accounts.take(batches)
            checkpoint.accounts = self._accounts.dump()

    def _series_of(self, segment: Segment) -> OpenSeries:
        found = self._backlog.checkpoint.open
        if segment.name.series not in found:
            found[segment.name.series] = OpenSeries(segment.header.writer.boot_id.hex())
        return found[segment.name.series]

    def are_due(self) -> bool:
        """Return whether there are ends to be written."""
        return bool(self._dead_series() or self._backlog.checkpoint.pending)

    def write(self) -> bool:
        """Write the ends of which all has been read; True if there were any.

        That is what their own process recorded, and what others did: a verdict is recorded before the kill.
        """
        self.see_living(now=time.monotonic() - self._told_at >= _SAVE_SECONDS)
        self._have_all()
        dead, pending = self._dead_series(), self._backlog.checkpoint.pending
        waiting = [*dead, *pending]
        if any(name not in self._seen for name in waiting):
            self._backlog.scan()  # what was committed before the end that was just seen
        seen = {name: segment.header.committed for name, segment in self._backlog.segments.items()}
        self._seen = {name: self._seen.get(name, seen) for name in waiting}
        now = time.monotonic()
        self._noticed = {name: self._noticed.get(name, now) for name in waiting}
        ready = [name for name in waiting if self._has_read(self._seen[name])]
        closed = [name for name in ready if name not in pending and self._close_series(name)]
        completed = [name for name in self._accounts.by_end(pending) if name in ready and self._complete(name)]
        if closed or completed:
            self._backlog.checkpoint.accounts = self._accounts.dump()
            self._backlog.scan()
        self._forget_series()
        return bool(closed or completed)

    def _have_all(self) -> None:
        """Let the accounts know if everything has been read that was there at the last look at the directory."""
        segments = self._backlog.segments.values()
        if self._accounts.holds and all(
            segment.caught_up(STAGES) or (segment.header.damaged and process_alive(segment.header))
            for segment in segments
        ):
            self._accounts.have_all()
            self._backlog.checkpoint.accounts = self._accounts.dump()
            self._backlog.changed()

    def see_living(self, *, now: bool = True) -> None:
        """Take note of when the processes with open stages were last seen. `now`: let the next shipper know it, too."""
        is_any = False
        for name, series in self._backlog.checkpoint.open.items():
            if series.stages:
                at = time.time_ns()  # before the look, so it is never after the end
                if _alive(name, series):
                    series.alive_at, is_any = max(at, series.alive_at), True
        if is_any and now:
            self._told_at = time.monotonic()
            self._backlog.changed()

    def _dead_series(self) -> list[str]:
        """The series whose process has gone and left stages open."""
        open_series = self._backlog.checkpoint.open
        return [name for name, series in open_series.items() if series.stages and not _alive(name, series)]

    def _has_read(self, targets: Mapping[str, int]) -> bool:
        """Return whether the shipper itself has passed the offsets in `targets`, as far as they can be read."""
        segments = self._backlog.segments
        return all(
            segments[name].progress.cursor(STAGES) >= target
            for name, target in targets.items()
            if name in segments and not (segments[name].header.damaged and process_alive(segments[name].header))
        )

    def _close_series(self, name: str) -> bool:
        verdicts = self._backlog.checkpoint.verdicts
        series = self._backlog.checkpoint.open[name]
        self._announce()
        if not self._write(orphans.closed(series, verdicts, self._accounts)):
            return False
        for key in series.stages:
            verdicts.pop(key, None)
        series.stages.clear()
        self._backlog.changed()
        return True

    def _complete(self, key: str) -> bool:
        """Write the end of a stage that is pending, once nothing below it is left to be ended here."""
        checkpoint = self._backlog.checkpoint
        end = self._accounts.end_of(key)
        inside = {other: held for other, held in checkpoint.pending.items() if self._accounts.end_of(other) <= end}
        for name in self._dead_series():
            inside |= checkpoint.open[name].stages
        inside.pop(key, None)
        if any(key in self._accounts.above(other) for other in inside):
            return False
        is_root = not self._accounts.above(key) or self._accounts.above(key) == [""]
        if is_root and _trace_of(checkpoint.pending[key]) in {_trace_of(held) for held in inside.values()}:
            return False  # what is above these is not all known
        if time.monotonic() - self._noticed[key] < self._grace and self._is_open_below(key, is_root=is_root):
            return False
        body, resource, scope = map(decode, checkpoint.pending[key])
        self._announce()
        if not self._write([Run(resource, scope, [self._accounts.complete(body, is_pending=True)])]):
            return False
        del checkpoint.pending[key]
        self._backlog.changed()
        return True

    def _is_open_below(self, key: str, *, is_root: bool) -> bool:
        """Return whether a process still has a stage open below one that is pending."""
        pending, trace = self._backlog.checkpoint.pending, _trace_of(self._backlog.checkpoint.pending[key])
        return any(
            other not in pending and _trace_of(held) == trace and (is_root or key in self._accounts.above(other))
            for series in self._backlog.checkpoint.open.values()
            for other, held in series.stages.items()
        )

    def _announce(self) -> None:
        """Let the checkpoint say where ends will stand: a shipper that is killed meanwhile leaves them there once."""
        if self._write != self._journal:
            return
        self._new_journal = orphans.new_journal(self._directory)
        checkpoint = self._backlog.checkpoint
        checkpoint.accounts, checkpoint.ends_in = self._accounts.dump(), self._new_journal.name_series()
        self._backlog.changed()
        self._backlog.save()  # if it cannot be, what is written may come twice, as whatever is shipped then

    def _journal(self, ends: Sequence[Run]) -> bool:
        assert self._new_journal is not None
        try:
            refused = orphans.write(self._new_journal, ends)
        except OSError as error:
            refused = error.strerror or str(error)
        if refused:
            self._backlog.say(f"cannot write the end of a stage for its process: {refused}; it is tried again")
        return not refused

    def _forget_series(self) -> None:
        """Series without open stages and without files need no memory."""
        present = {segment.name.series for segment in self._backlog.segments.values()}
        open_series = self._backlog.checkpoint.open
        for name in [name for name, series in open_series.items() if not series.stages and name not in present]:
            del open_series[name]
            self._backlog.changed()


def _trace_of(held: Sequence[str]) -> bytes:
    """Return the id of the trace of a stage as the checkpoint holds it; see `OpenSeries`."""
    return untagged(decode(held[0]))[2:18]


def _alive(name: str, series: OpenSeries) -> bool:
    """Return whether the process of a series still runs, also when its files have been deleted already."""
    segment = parse_name(f"{name}-000000.journal")
    if segment is None:
        return False
    return Writer(segment.pid, segment.start_ticks, bytes.fromhex(series.boot_id)).alive()
