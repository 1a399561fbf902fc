"""Time the pieces of our own path one by one: what a pull request costs is their sum, plus what only load shows.

Each piece runs in short chunks, and the quietest chunk counts: unlike a mean it does not move when a neighbour on the
machine does. It leaves out page faults, garbage collection and the GIL, so the sum is below what a round measures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from time import perf_counter_ns, time_ns
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

import otelsync
from benchmarks import report
from benchmarks.placement import pin_to_measured_core
from benchmarks.workload import PR_SPAN, REPO_SPAN
from otelsync.journal.format import SPAN
from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.writer import Journal
from otelsync.otlp.encoding import AttributeEncoder, varint
from otelsync.otlp.request import encode_request, runs_of
from otelsync.recording import runtime_context
from otelsync.recording.provider import TracerProvider
from otelsync.redaction import Redactor

Piece = Callable[[], object]
Pieces = Iterator[tuple[str, Piece, int]]
"""Name, what to call, and how many records one call handles. The set-up lives as long as the iteration."""

_CALLS: Final = 100
_NS_A_PIECE: Final = 600_000_000
_SPAN_BYTES: Final = 250
_RECORDS: Final = 500
_SPAN_ATTRIBUTES: Final = 0x4A


def table() -> str:
    """Every piece with its microseconds; those of an empty call are subtracted."""
    pin_to_measured_core()
    nothing = quietest(lambda: None)
    rows = [["piece", "us"]]
    with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as directory:
        for group in (_spans, _logging, _logging_with_otlp, _encoding, _journal, _shipping):
            for name, piece, records in group(Path(directory) / group.__name__):
                rows.append([name, f"{(quietest(piece, max(1, _CALLS // records)) - nothing) / records:.3f}"])
    return report.draw(rows)


def quietest(piece: Piece, calls: int = _CALLS) -> float:
    """Microseconds a call in the quietest of many chunks of so many calls."""
    best = 1 << 62
    until = perf_counter_ns() + _NS_A_PIECE
    while (start := perf_counter_ns()) < until:
        for _ in range(calls):
            piece()
        best = min(best, perf_counter_ns() - start)
    return best / calls / 1000


def _spans(directory: Path) -> Pieces:
    """What a user calls, down to the journal."""
    runtime_context.install()
    journal = Journal(directory)
    provider = TracerProvider(journal, redactor=Redactor(), resource=Resource({"service.name": "benchmark"}))
    tracer = provider.get_tracer("benchmark")
    numbers = count()

    def whole() -> None:
        with tracer.start_as_current_span(PR_SPAN, attributes=_attributes(next(numbers))) as span:
            span.set_attribute("sync.action", "created")
            span.set_attribute("sync.pr.files", 3)

    with tracer.start_as_current_span(REPO_SPAN) as repo:
        yield "start_as_current_span, 6 attributes, end", whole, 1
        yield "start_span", lambda: tracer.start_span(PR_SPAN), 1
        yield "start_span, 4 attributes", lambda: tracer.start_span(PR_SPAN, attributes=_attributes(1)), 1
        yield "start_span, end", lambda: tracer.start_span(PR_SPAN).end(), 1
        yield "start_span, set_attribute", lambda: tracer.start_span(PR_SPAN).set_attribute("page", 1), 1
        yield "set_attribute, a known key again", lambda: repo.set_attribute("sync.action", "created"), 1
        yield "start_span, add_event", lambda: tracer.start_span(PR_SPAN).add_event("sync.pr.reviewed"), 1
        yield "get_current_span", trace.get_current_span, 1
    provider.shutdown()
    journal.close()
    runtime_context.uninstall()


def _logging(directory: Path) -> Pieces:
    """A log record inside a span, in a file."""
    yield from _log_records(directory, "in a file", otlp=False)


def _logging_with_otlp(directory: Path) -> Pieces:
    """A log record inside a span, in a file and in the journal."""
    yield from _log_records(directory, "in a file and the journal", otlp=True)


def _log_records(directory: Path, where: str, *, otlp: bool) -> Pieces:
    directory.mkdir()
    numbers = count()
    with (directory / "log.jsonl").open("ab") as stream:
        otelsync.configure(
            service_name="benchmark",
            home=directory,
            ship="off",
            journal_logs=otlp,
            log_format="json",
            log_level="INFO",
            log_stream=stream,
        )
        log = otelsync.get_logger("benchmark")

        def record() -> None:
            number = next(numbers)
            title = f"Fix leak {number} in the connection pool"
            log.info("sync.pr.synced", number=number, state="open", action="created", files=3, title=title)

        with trace.get_tracer("benchmark").start_as_current_span(PR_SPAN):
            yield f"log record, 5 fields, {where}", record, 1
            yield f"log record, no fields, {where}", lambda: log.info("sync.pr.synced"), 1
            yield "log record below the level", lambda: log.debug("sync.pr.synced"), 1
        otelsync.shutdown()


def _encoding(_directory: Path) -> Pieces:
    """From attributes to bytes."""
    encoder = AttributeEncoder(_SPAN_ATTRIBUTES, Redactor())
    known, numbers = _attributes(1), count()
    yield "encode 4 attributes, all known", lambda: encoder.encode(known), 1
    yield "encode 1 attribute, a new string", lambda: encoder.encode({"vcs.change.id": str(next(numbers))}), 1
    redactor = Redactor()
    yield "redact 40 harmless characters", lambda: redactor.redact("Fix leak 12345 in the connection pools"), 1


def _journal(directory: Path) -> Pieces:
    """From bytes to the file."""
    journal = _filled(directory, 1)
    body = bytes(_SPAN_BYTES)
    yield f"append {_SPAN_BYTES} bytes", lambda: journal.append(SPAN, 0, body), 1
    yield "time_ns", time_ns, 1
    journal.close()


def _shipping(directory: Path) -> Pieces:
    """From the file to a request."""
    _filled(directory, _RECORDS).close()
    (segment,) = next(iter(list_segments(directory).values()))
    with closing(JournalReader(directory / segment.name)) as reader:
        batch = reader.read(0)
        if batch is None:
            raise RuntimeError("the journal that was just written cannot be read")
        yield "read a span from the journal", lambda: reader.read(0), batch.spans
        yield "put a span into a request", lambda: encode_request(runs_of([batch], "traces")), batch.spans


def _filled(directory: Path, records: int) -> Journal:
    journal = Journal(directory)
    scope = journal.scope(journal.resource(b"\x0a\x00"), b"\x0a\x00")
    for _ in range(records):
        journal.append(SPAN, scope, b"\x12" + varint(_SPAN_BYTES) + bytes(_SPAN_BYTES))
    return journal


def _attributes(number: int) -> dict[str, str | int]:
    return {
        "vcs.change.id": str(number),
        "vcs.change.state": "open",
        "vcs.change.author": "contributor-7",
        "sync.api.page": 1,
    }
