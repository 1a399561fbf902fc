"""Chords over a result backend that knows nothing of them: Celery polls for the headers, by a task of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery_here import expect, make_app, outcome, results_in_files, working
from recorded import Recorded

import otelsync


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    """A worker whose results are in files."""
    with working(make_app(results_in_files(tmp_path_factory.mktemp("polling") / "results"))) as app:
        yield app


def test_polling_for_a_chord_leaves_no_spans(app: Celery, recorded: Recorded) -> None:
    """`celery.chord_unlock` is no span, however often it polls, and what it publishes stands where the chord does."""
    tasks = app.tasks
    with otelsync.stage("here"):
        result = chord([tasks["add"].s(1), tasks["note"].s(5)])(tasks["total"].s())
    assert outcome(result) == 7
    expect(
        recorded,
        """
sync.stage here
  apply_async/add
    run/add          [success]
  apply_async/note
    run/note         [success]
  apply_async/total
    run/total        [success] -> apply_async/add -> apply_async/note""",
    )


def test_a_chord_outside_any_span_is_one_trace(app: Celery, recorded: Recorded) -> None:
    """The first header's publish is the root of all, though `chord_unlock` is published before it."""
    tasks = app.tasks
    result = chord([tasks["add"].s(1), tasks["note"].s(5)])(tasks["total"].s())
    assert outcome(result) == 7
    expect(
        recorded,
        """
apply_async/add
  apply_async/note
    run/note         [success]
  apply_async/total
    run/total        [success] -> apply_async/add -> apply_async/note
  run/add            [success]""",
    )


def test_a_chord_as_a_step_of_a_chain(app: Celery, recorded: Recorded) -> None:
    """The body of a chord that a worker publishes stands beside the steps before it, though it was polled for."""
    tasks = app.tasks
    with otelsync.stage("here"):
        canvas: Any = chain(tasks["add"].s(1), group(tasks["add"].s(1), tasks["add"].s(2)), tasks["total"].s())
        result = canvas.delay()
    assert outcome(result) == 7
    expect(
        recorded,
        """
sync.stage here
  apply_async/add
    run/add          [success]
  apply_async/total
    run/total        [success] -> apply_async/add -> apply_async/add
  apply_async/add    -> run/add
    run/add          [success]
  apply_async/add    -> run/add
    run/add          [success]""",
    )
