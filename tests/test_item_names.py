"""Names of items on the way to OTLP: which item a span is, where the settings ask for it; everything else stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_server import otlp_server
from sync_spans import body, read

import otelsync
from otelsync.journal.batch import Batch, Group
from otelsync.shipping.item_names import LONGEST_KEY, with_item_names


def named(*bodies: bytes) -> list[Span]:
    batch = Batch("", 0, 0, [Group(b"", b"", spans=list(bodies))])
    (dressed,) = with_item_names([batch])
    assert (dressed.spans, dressed.logs) == (batch.spans, batch.logs)
    return read(dressed)


def name_of(name: str, **attributes: str) -> str:
    (span,) = named(body(1, name, **attributes))  # type: ignore[arg-type]
    return span.name


def test_items_are_named_by_their_id() -> None:
    """Of any kind; groups, calls and spans of others keep their names, whatever they carry."""
    assert name_of("sync.pr", vcs__change__id="7") == "sync.pr #7"
    assert name_of("sync.order", sync__item__id="A-17") == "sync.order #A-17"
    assert name_of("sync.pr") == "sync.pr"
    assert name_of("sync.pr.folded", sync__item__id="7") == "sync.pr.folded"
    for name in ("sync.repo acme/api", "sync.api list", "sync.stage s", "sync.rate_limit.wait", "GET", "sync.batch b"):
        assert name_of(name, sync__item__id="7", vcs__change__id="7") == name


def test_an_id_is_bounded_and_harmless() -> None:
    """It comes from outside; the whole of it is an attribute."""
    assert len(name_of("sync.order", sync__item__id="x" * 5_000)) == len("sync.order #") + LONGEST_KEY
    assert name_of("sync.order", sync__item__id="a\x1b[31m\nb") == "sync.order #a\\x1b[31m\\nb"


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_what_cannot_be_read_stays_as_it_is(junk: list[bytes]) -> None:
    """And holds up nothing beside it."""
    bodies = [*junk, body(1, "sync.pr", vcs__change__id="7")]
    (dressed,) = with_item_names([Batch("", 0, 0, [Group(b"", b"", spans=bodies)])])
    assert dressed.groups[0].spans[:-1] == junk
    assert dressed.groups[0].spans[-1] != bodies[-1]


def test_nothing_but_the_name_differs() -> None:
    """Ids, times, attributes and status are those of the record."""
    given_span = body(3, "sync.pr", 2, failed=True, vcs__change__id="7", sync__repo="acme/api")
    (before,) = read(Batch("", 0, 0, [Group(b"", b"", spans=[given_span])]))
    (after,) = named(given_span)
    before.name = "sync.pr #7"
    assert after == before


@pytest.mark.parametrize("names", ["kinds", "items"])
def test_the_shipper_does_it_on_the_way_to_otlp_alone(tmp_path: Path, names: str) -> None:
    """What is recorded, and the local store, have few names."""
    with otlp_server() as server:
        otelsync.configure(home=tmp_path, endpoint=server.url, store="on", ship="thread", span_names=names)
        with otelsync.repo("acme/api"):
            for number in range(3):
                with otelsync.pull_request(number):
                    pass
            with otelsync.item("order", "A-17"):
                pass
        assert otelsync.shutdown(60)
        sent = sorted(span.name for span in server.spans)
    plain = ["sync.order", "sync.pr", "sync.pr", "sync.pr", "sync.repo acme/api"]
    full = ["sync.order #A-17", "sync.pr #0", "sync.pr #1", "sync.pr #2", "sync.repo acme/api"]
    assert sent == (full if names == "items" else plain)
    with closing(sqlite3.connect(tmp_path / "store.db")) as store:
        assert [name for (name,) in store.execute("SELECT name FROM spans ORDER BY name")] == plain
