"""pytest's fixtures of otelsync, which is loaded when a test asks for one and not before.

This module stands beside the package, as to import anything in the package loads it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from otelsync.testing import Recorded

_RECORDED = pytest.StashKey["Recorded"]()


@pytest.fixture
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """What otelsync records in this test, here and in processes that it starts; see docs/testing.md."""
    from otelsync.testing import record

    with record(tmp_path_factory.mktemp("otelsync")) as recorded:
        request.node.stash[_RECORDED] = recorded
        yield recorded


@pytest.fixture
def no_undeclared_events(recorded: Recorded) -> Iterator[None]:
    """Fail if the test logs an event that stands in no catalogue."""
    yield
    from otelsync.testing import undeclared_events

    undeclared = undeclared_events(recorded.logs)
    if undeclared:
        pytest.fail(f"events that no catalogue declares: {', '.join(undeclared)}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the trace of a test that has failed."""
    report = yield
    recorded = item.stash.get(_RECORDED, None)
    if recorded is not None and call.when == "call" and report.failed:
        try:
            report.sections.append((f"Recorded in {recorded.home}", recorded.tree()))
        except Exception as error:
            report.sections.append(("Recorded by otelsync", f"cannot be read: {error}"))
    return report
