"""Orphans: the spans that were open when their process died, closed as spans that say so.

Whoever kills a process, or sees it go, may know better than "it was interrupted": such a verdict stands in its own
journal, may be read before or after the orphan's, and is kept until it is of use.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelsync.journal.batch import Batch
from otelsync.journal.format import HEADER_SIZE, SPAN_END
from otelsync.journal.header import JournalError
from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.otlp.decoding import latest, lean_spans, span_id, untagged
from otelsync.otlp.encoding import field
from otelsync.otlp.request import Run
from otelsync.shipping.checkpoint import OpenSeries, Verdict, decode, encode
from otelsync.shipping.open_accounts import OpenAccounts
from otelsync.vocabulary import SYNC_OUTCOME

if TYPE_CHECKING:
    from otelsync.journal.writer import Journal

MOST_OPEN = 10_000
"""Stages that are remembered as open, per process. A program that begins and never ends them must not fill the disk."""

MOST_VERDICTS = 10_000
"""Verdicts that wait for their span to be closed."""
VERDICT_HOURS = 1
"""Hours for which a verdict waits after it was read. One that comes after its span's own end would wait for ever."""


def note(batch: Batch, series: OpenSeries) -> None:
    """Bring `series` up to date with the stages that begin and end in `batch`, and with its latest time."""
    for group in batch.groups:
        for body in group.started:
            key = span_id(body)
            if key is not None and len(series.stages) < MOST_OPEN:
                series.stages[key] = [encode(body), encode(group.resource), encode(group.scope)]
        series.last_seen = max(series.last_seen, latest(group))
    if series.stages:
        for group in batch.groups:
            for body in group.closed:
                series.stages.pop(span_id(body) or "", None)


def note_verdicts(batch: Batch, verdicts: dict[str, Verdict]) -> bool:
    """Bring `verdicts` up to date with those in `batch`, and with the spans that ended by themselves; True if any."""
    changed = False
    now = time.time_ns()
    for group in batch.groups:
        for body in group.verdicts:
            key = span_id(body)
            if key is not None:
                verdicts.pop(key, None)
                verdicts[key] = Verdict(encode(body), now)
                changed = True
        for body in group.ended if verdicts else ():
            changed = verdicts.pop(span_id(body) or "", None) is not None or changed
    return _forget_old(verdicts, now) or changed


def _forget_old(verdicts: dict[str, Verdict], now: int) -> bool:
    """Forget those that have waited too long, or are too many, the oldest first; True if any."""
    forgotten = False
    while verdicts:
        oldest = next(iter(verdicts))
        if len(verdicts) <= MOST_VERDICTS and now - verdicts[oldest].read_at < VERDICT_HOURS * 3600 * 1_000_000_000:
            break
        del verdicts[oldest]
        forgotten = True
    return forgotten


def closed(series: OpenSeries, verdicts: Mapping[str, Verdict], accounts: OpenAccounts) -> list[Run]:
    """The open spans of a dead process as finished ones with the same ids.

    Where there is a verdict, it says how they ended; else status ERROR and ``sync.outcome = interrupted`` do. They end
    when the last sign of life was recorded or seen, or at the verdict's time, and not before they began. What has been
    counted in them is added.
    """
    last_seen = max(series.last_seen, series.alive_at)
    runs: list[Run] = []
    for key in accounts.by_end(series.stages):
        body, resource, scope = series.stages[key]
        end = _close(decode(body), last_seen, verdicts.get(key))
        runs.append(Run(decode(resource), decode(scope), [accounts.complete(end, is_pending=False)]))
    return runs


def new_journal(directory: Path) -> Journal:
    """Return a journal for the ends of stages, in a series of its own; there is no file before something is written."""
    from otelsync.journal.writer import Journal  # takes a while to load, and is not needed as a rule

    # The bounds on bytes are for what the host records. These few records are what explains why it stopped.
    return Journal(directory, max_bytes=1 << 40, max_directory_bytes=1 << 50)


def write(journal: Journal, runs: Iterable[Run]) -> str:
    """Journal `runs`, and close the journal; return why not all could be, and so none was."""
    said: list[str] = []
    journal.say = said.append
    resource_number = cache(journal.resource)
    scope_number = cache(lambda resource, scope: journal.scope(resource_number(resource), scope))
    for resource, scope, bodies in runs:
        for body in bodies:
            journal.append(SPAN_END, scope_number(resource, scope), body)
    journal.close()
    if not journal.dropped:
        return ""
    directory = journal.directory
    for segment in list_segments(directory).get(journal.series, []):  # else those that were written come twice
        path_of(directory, segment.name).unlink(missing_ok=True)
    # Without the name of the file, which is another one each time
    return said[0].partition(f": '{directory}")[0] if said else "records were dropped"


def written(directory: Path, series: str) -> Iterator[str]:
    """Yield the ids of the spans whose ends stand in the files of a series, as far as they can be read."""
    for segment in list_segments(directory).get(series, []):
        with suppress(OSError, JournalError), closing(JournalReader(path_of(directory, segment.name))) as reader:
            at = HEADER_SIZE
            while (batch := reader.read(at)) is not None:
                at = batch.end
                yield from (span_id(body) or "" for group in batch.groups for body in group.ended)


def _close(body: bytes, last_seen: int, verdict: Verdict | None) -> bytes:
    judged = _judged(untagged(body), last_seen, untagged(decode(verdict.body))) if verdict else None
    return field(0x12, _interrupted(body, last_seen) if judged is None else judged)


def _judged(message: bytes, last_seen: int, verdict: bytes) -> bytes | None:
    """An unfinished span with what a verdict says; None if they do not belong together, or one cannot be read."""
    try:
        span, end = Span.FromString(message), Span.FromString(verdict)
    except DecodeError:
        return None
    if (span.trace_id, span.span_id) != (end.trace_id, end.span_id):
        return None
    replaced = {pair.key for pair in end.attributes}
    kept = [pair for pair in span.attributes if pair.key not in replaced]
    del span.attributes[:]
    span.attributes.extend([*kept, *end.attributes])
    span.end_time_unix_nano = max(last_seen, end.end_time_unix_nano, span.start_time_unix_nano)
    span.status.CopyFrom(end.status)
    return span.SerializeToString()


def _interrupted(body: bytes, last_seen: int) -> bytes:
    """Append fields to an unfinished span: in protobuf the last value wins, and repeated fields and messages merge."""
    (span,) = lean_spans([body])
    rest = Span(
        attributes=[KeyValue(key=SYNC_OUTCOME, value=AnyValue(string_value="interrupted"))],
        status=Status(code=Status.STATUS_CODE_ERROR, message="the process ended before this stage did"),
        end_time_unix_nano=max(last_seen, span.start if span else 0),
    )
    return untagged(body) + rest.SerializeToString()
