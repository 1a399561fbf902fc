"""Journals read as no shipper may choose to: the processes in any order, and their records in any portions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelsync.journal.batch import Batch
from otelsync.journal.format import HEADER_SIZE
from otelsync.journal.reader import JournalReader
from otelsync.otlp.decoding import span_id, untagged, value_of
from otelsync.shipping.open_accounts import OpenAccounts


def completed(journal: Path, seed: int) -> list[Span]:
    """Read the processes in an order that `seed` stands for; returns the ends that a shipper would write."""
    accounts, pending = OpenAccounts(), dict[str, bytes]()
    for batch in shuffled(sorted(journal.glob("*.journal")), Random(seed)):
        accounts.take([batch])
        pending |= {span_id(body) or "": body for group in batch.groups for body in group.pending}
    ends = [accounts.complete(pending[key], is_pending=True) for key in accounts.by_end(pending)]
    return [Span.FromString(untagged(end)) for end in ends]


def shuffled(paths: Iterable[Path], random: Random) -> Iterator[Batch]:
    """Read the files of each process in their order, now of this one, now of that, one record at a time or many."""
    with ExitStack() as closing:
        left: dict[str, list[tuple[JournalReader, int]]] = {}
        for path in sorted(paths):
            reader = closing.enter_context(contextlib.closing(JournalReader(path)))
            left.setdefault(path.stem.rpartition("-")[0], []).append((reader, HEADER_SIZE))
        while left:
            series = random.choice(list(left))
            for _ in range(random.choice((1, 3, 1000))):
                reader, begin = left[series][0]
                batch = reader.read(begin, max_records=random.choice((1, 2, 10, 1000)))
                if batch is not None:
                    left[series][0] = (reader, batch.end)
                    yield batch
                    continue
                del left[series][0]
                if not left[series]:
                    del left[series]
                    break


def plain(span: Span) -> dict[str, Any]:
    """Return the attributes of a span."""
    return {pair.key: value_of(pair.value) for pair in span.attributes}


def counts(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Return its items by action."""
    begin = "sync.items."
    return {key.removeprefix(begin): value for key, value in attributes.items() if key.startswith(begin)}
