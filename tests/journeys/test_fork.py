"""Fork: what children record is delivered under ids of their own, however they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts import Host, account, found_at_endpoint, found_in_store, host
from otlp_server import OtlpServer, otlp_server


def delivered_everywhere(running: Host, server: OtlpServer, spans: int) -> None:
    """Hold that exactly so many spans have come to the store and to the endpoint, each under an id of its own."""
    for found in (found_in_store(running.store), found_at_endpoint(server)):
        assert (sum(found.spans.values()), len(found.spans)) == (spans, spans)
        assert found.torn == []
    for sink in ("store", "traces"):
        counted = account(running.journal, sink)
        assert (counted.recorded, counted.shipped, counted.pending) == (spans, spans, 0)
    assert running.log == ""


@pytest.mark.slow
def test_eight_children_that_end_in_os_exit(tmp_path: Path) -> None:
    """8 forked children of 10,000 spans each, all with the same random.seed(), make 80,000 spans with 80,000 ids, and
    their parent's shutdown() has delivered them."""
    with otlp_server() as server:
        with host(tmp_path / "home", "fork_children", 8, 10_000, OTEL_EXPORTER_OTLP_ENDPOINT=server.url) as running:
            assert running.answer() == "True", running.log
            assert running.end() == 0
        delivered_everywhere(running, server, 8 * 10_000 + 21)


def test_processes_of_multiprocessing(tmp_path: Path) -> None:
    """Children that multiprocessing forks lose nothing either."""
    with otlp_server() as server:
        with host(tmp_path / "home", "fork_processes", 3, 1000, OTEL_EXPORTER_OTLP_ENDPOINT=server.url) as running:
            assert running.answer() == "True", running.log
            assert running.end() == 0
        delivered_everywhere(running, server, 3 * 1000 + 1)


def test_a_fork_while_others_record(tmp_path: Path) -> None:
    """A fork in the middle of another thread's record harms neither side."""
    with otlp_server() as server:
        with host(
            tmp_path / "home", "fork_while_recording", 20, 100, OTEL_EXPORTER_OTLP_ENDPOINT=server.url
        ) as running:
            settled, beside = running.answer().split()
            assert settled == "True", running.log
            assert running.end() == 0
        delivered_everywhere(running, server, 20 * 100 + int(beside))
