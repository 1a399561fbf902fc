"""Stages: the vocabulary of a sync, as whole traces."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import re
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from recorded import Recorded

import otelsync
from otelsync.stages.harmless_exceptions import no_failure
from otelsync.stages.pipeline import new_sync_id
from otelsync.stages.stage import Stage

STAGES: list[Callable[[], Stage]] = [
    lambda: otelsync.pipeline("p"),
    lambda: otelsync.repo("acme/api"),
    lambda: otelsync.api_call("list"),
    lambda: otelsync.pull_request(1),
    lambda: otelsync.stage("s"),
    lambda: otelsync.timed_operation("sync.op"),
]


class UnspeakableError(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_whole_run_is_one_tree(recorded: Recorded) -> None:
    """Pipeline, repo, api call and pull requests nest, and what becomes of the items decides each outcome."""
    with otelsync.pipeline("github.onboarding", team_id=7):
        with otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests", kind="rest", page=1):
            for number in range(100):
                with otelsync.pull_request(number, state="open") as pr:
                    pr.set(action="failed" if number in (3, 4) else "created")
        with otelsync.repo("acme/web") as repo, otelsync.api_call("list_pull_requests", page=1):
            repo.count(unchanged=2)
    assert (
        recorded.tree("sync.api.page", "sync.items.fetched")
        == """
sync.pipeline github.onboarding  [partial] fetched=102
  sync.repo acme/api             [partial] fetched=100
    sync.api list_pull_requests  [partial] page=1 fetched=100
      sync.pr                    x100 (2 failed)
  sync.repo acme/web             [success] fetched=2
    sync.api list_pull_requests  [success] page=1"""
    )


def test_attributes_follow_the_vocabulary(recorded: Recorded) -> None:
    """Each kind of stage sets the attributes of the design under their full names."""
    with (
        otelsync.pipeline("p", team_id=7) as run,
        otelsync.repo("acme/api", url="https://github.com/acme/api", branch="main"),
        otelsync.api_call("list", kind="graphql", page=2, attempt=3),
        otelsync.pull_request(4711, state="open", title="Fix") as pr,
    ):
        pr.set(action="updated", reviews=3)
    common = {"sync.id": run.sync_id, "sync.pipeline": "p"}
    inside = {**common, "sync.repo": "acme/api"}
    counts = {"sync.items.updated": 1, "sync.items.fetched": 1, "sync.outcome": "success"}
    assert recorded.span("sync.pipeline p").attributes == {**common, **counts, "team_id": 7}
    assert recorded.span("sync.repo acme/api").attributes == {
        **inside,
        **counts,
        "sync.group.kind": "repo",
        "sync.group.name": "acme/api",
        "vcs.provider.name": "github",
        "vcs.owner.name": "acme",
        "vcs.repository.name": "api",
        "vcs.repository.url.full": "https://github.com/acme/api",
        "vcs.ref.head.name": "main",
    }
    assert recorded.span("sync.api list").attributes == {
        **inside,
        **counts,
        "sync.api.kind": "graphql",
        "sync.api.page": 2,
        "sync.attempt": 3,
    }
    assert recorded.span("sync.pr").attributes == {
        **inside,
        "vcs.change.id": "4711",
        "vcs.change.state": "open",
        "vcs.change.title": "Fix",
        "sync.action": "updated",
        "sync.outcome": "success",
        "reviews": 3,
    }


def test_sync_id_names_minute_and_trace(recorded: Recorded) -> None:
    """A run's id is its UTC minute and the first eight hex digits of its trace id, on the handle and on each span."""
    with otelsync.pipeline("p") as run, otelsync.stage("s"):
        pass
    assert re.fullmatch(r"\d{12}-SYNC-[0-9A-F]{8}", run.sync_id)
    assert run.sync_id.endswith(run.trace_id[:8].upper())
    assert {span.attributes["sync.id"] for span in recorded.spans} == {run.sync_id}
    assert new_sync_id("765151e9" + 24 * "0", 1754166420) == "202508022027-SYNC-765151E9"


def test_a_pipeline_within_a_pipeline_keeps_the_sync_id(recorded: Recorded) -> None:
    """What runs inside a run belongs to it, though it is a pipeline of its own."""
    with otelsync.pipeline("outer") as outer, otelsync.pipeline("inner") as inner, otelsync.stage("s"):
        pass
    assert inner.sync_id == outer.sync_id
    assert (
        recorded.tree("sync.pipeline")
        == """
sync.pipeline outer    [success] pipeline=outer
  sync.pipeline inner  [success] pipeline=inner
    sync.stage s       [success] pipeline=inner"""
    )


@pytest.mark.parametrize("make", STAGES)
def test_an_exception_marks_every_stage_it_leaves_and_passes_unchanged(
    recorded: Recorded, make: Callable[[], Stage]
) -> None:
    """An exception makes a stage fail, is recorded where it arose and passes on as the very object."""
    error = KeyError("gone")
    with pytest.raises(KeyError) as caught, otelsync.stage("around"), make():
        raise error
    assert caught.value is error
    around, inner = recorded.span("sync.stage around"), recorded.spans[0]
    assert (inner.status, inner.message, inner.attributes["error.type"]) == ("ERROR", "KeyError: 'gone'", "KeyError")
    assert [name for name, _ in inner.events] == ["exception"]
    assert around.failed
    assert around.events == []


@pytest.mark.parametrize("make", STAGES)
def test_an_exception_that_cannot_be_described_passes_unchanged(recorded: Recorded, make: Callable[[], Stage]) -> None:
    """Not even an exception whose str() raises is replaced by one of ours, and the stage still ends."""
    error = UnspeakableError()
    with pytest.raises(UnspeakableError) as caught, make():
        raise error
    assert caught.value is error
    (span,) = recorded.spans
    assert span.ended
    assert span.failed


def test_a_stage_ends_though_the_exception_refuses_marks(recorded: Recorded) -> None:
    """An exception that lets no attribute be set is recorded once all the same."""

    class ClosedError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError(name)

    with pytest.raises(ClosedError), otelsync.stage("outer"), otelsync.stage("inner"):
        raise ClosedError("no")
    assert (
        recorded.tree(events=True)
        == """
sync.stage outer    [failure]
  sync.stage inner  [failure]
    * exception"""
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_an_end_from_outside_is_a_cancellation(recorded: Recorded, error: BaseException) -> None:
    """What is no error of the sync (Ctrl-C, exit, a cancelled task) makes it cancelled, not failed."""
    with pytest.raises(type(error)), otelsync.pipeline("p"), otelsync.pull_request(1):
        raise error
    assert (
        recorded.tree("sync.outcome")
        == """
sync.pipeline p  [cancelled] outcome=cancelled
  sync.pr        [cancelled] outcome=cancelled"""
    )
    assert not any(span.failed for span in recorded.spans)


class PutBackError(Exception):
    """What some library raises to say that it will try again."""


def test_an_exception_may_be_no_failure(recorded: Recorded) -> None:
    """An exception that was declared harmless gives its stages an outcome; one that is retried is not yet a part."""
    no_failure(PutBackError, "retry")
    with otelsync.pipeline("p"):
        for error in (PutBackError(), None):
            with contextlib.suppress(PutBackError), otelsync.repo("acme/api"), otelsync.pull_request(1) as pr:
                if error is not None:
                    raise error
                pr.set(action="created")
    no_failure(PutBackError, None)
    with pytest.raises(PutBackError), otelsync.repo("acme/web"):
        raise PutBackError
    assert (
        recorded.tree("sync.action")
        == """
sync.pipeline p       [success]
  sync.repo acme/api  [retry]
    sync.pr           [retry]
  sync.repo acme/api  [success]
    sync.pr           action=created
sync.repo acme/web    [failure]"""
    )
    assert [span.name for span in recorded.spans if span.failed] == ["sync.repo acme/web"]
    assert [line["event"] for line in recorded.lines if line.get("level") == "error"] == ["sync.repo.failed"]


def test_a_stage_that_failed_before_stays_failed(recorded: Recorded) -> None:
    """What the program itself called a failure is one, whatever leaves the stage then."""
    no_failure(PutBackError, "retry")
    with contextlib.suppress(PutBackError), otelsync.repo("acme/api") as repo:
        repo.fail("no access")
        raise PutBackError
    no_failure(PutBackError, None)
    assert recorded.span("sync.repo acme/api").message == "no access"


def test_partial_is_not_failure(recorded: Recorded) -> None:
    """A failed part makes what is around it partial; only if all parts failed has the whole failed."""
    for name, failing in (("some", (True, False)), ("all", (True, True)), ("none", (False, False))):
        with otelsync.pipeline(name):
            for number, fails in enumerate(failing):
                with otelsync.repo(f"acme/{number}") as repo:
                    if fails:
                        repo.fail("no access")
    assert (
        recorded.tree()
        == """
sync.pipeline some  [partial]
  sync.repo acme/0  [failure]
  sync.repo acme/1  [success]
sync.pipeline all   [failure]
  sync.repo acme/0  [failure]
  sync.repo acme/1  [failure]
sync.pipeline none  [success]
  sync.repo acme/0  [success]
  sync.repo acme/1  [success]"""
    )
    assert [(s.name, s.message) for s in recorded.spans if s.failed and "pipeline" in s.name] == [
        ("sync.pipeline all", "all 2 parts failed")
    ]


def test_a_retry_that_succeeds_is_no_failure(recorded: Recorded) -> None:
    """An attempt that failed and was caught leaves its mark on itself alone."""
    with otelsync.repo("acme/api"):
        for attempt in (1, 2):
            try:
                with otelsync.api_call("list", attempt=attempt):
                    if attempt == 1:
                        raise TimeoutError
            except TimeoutError:
                pass
    assert (
        recorded.tree("sync.attempt")
        == """
sync.repo acme/api  [success]
  sync.api list     [failure] attempt=1
  sync.api list     [success] attempt=2"""
    )


def test_skip_and_fail_say_why(recorded: Recorded) -> None:
    """A skipped item counts as skipped with its reason; a failed one has the reason as its status message."""
    with otelsync.repo("acme/api"):
        with otelsync.pull_request(1) as pr:
            pr.skip("draft")
        with otelsync.pull_request(2) as pr:
            pr.fail("no author")
    assert (
        recorded.tree(
            "sync.action", "sync.skip.reason", "sync.items.skipped", "sync.items.failed", "sync.items.fetched"
        )
        == """
sync.repo acme/api  [partial] skipped=1 failed=1 fetched=2
  sync.pr           action=skipped reason=draft
  sync.pr           ERROR action=failed"""
    )
    assert [s.message for s in recorded.spans if s.failed] == ["no author"]


def test_counts_reconcile_at_every_level(recorded: Recorded) -> None:
    """What was fetched is the sum of what became of the items, unless the caller counted it, at each level."""
    with otelsync.pipeline("p"), otelsync.repo("acme/api") as repo:
        repo.count(deleted=1)
        with otelsync.api_call("one") as call:
            call.count(fetched=10, created=3)
        with otelsync.api_call("two") as call, otelsync.pull_request(1) as pr:
            pr.set(action="unchanged")
            call.count(updated=2)
    shown = [f"sync.items.{name}" for name in ("fetched", "created", "updated", "unchanged", "deleted")]
    assert (
        recorded.tree(*shown)
        == """
sync.pipeline p       [success] fetched=13 created=3 updated=2 unchanged=1 deleted=1
  sync.repo acme/api  [success] fetched=13 created=3 updated=2 unchanged=1 deleted=1
    sync.api one      [success] fetched=10 created=3
    sync.api two      [success] fetched=3 updated=2 unchanged=1
      sync.pr"""
    )


def test_counting_in_threads_loses_none(recorded: Recorded) -> None:
    """Items that are counted in several threads at once are all counted."""
    threads, items = 4, 15_000
    with otelsync.repo("acme/api") as repo, switching_often(), ThreadPoolExecutor(threads) as pool:

        def work(_: int) -> None:
            for _ in range(items):
                repo.count(updated=1, failed=1)

        list(pool.map(work, range(threads)))
    attributes = recorded.span("sync.repo acme/api").attributes
    assert attributes["sync.items.updated"] == attributes["sync.items.failed"] == threads * items


@contextmanager
def switching_often() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_items_of_copied_contexts_roll_up(recorded: Recorded) -> None:
    """A pull request in a thread that was given the context is counted on the repo, every time."""
    threads, items = 4, 300
    with otelsync.repo("acme/api"), switching_often():

        def work() -> None:
            for number in range(items):
                with otelsync.pull_request(number) as pr:
                    pr.set(action="failed")

        workers = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert recorded.span("sync.repo acme/api").attributes["sync.items.failed"] == threads * items
    assert (
        recorded.tree()
        == f"""
sync.repo acme/api  [failure]
  sync.pr           x{threads * items} ({threads * items} failed)"""
    )


def test_events_are_logged_and_marked(recorded: Recorded) -> None:
    """An event of a stage is a log record with its ids and a mark in its span."""
    with otelsync.stage("s") as stage:
        stage.event("sync.note", size=3, missing=None)
    assert recorded.span("sync.stage s").events == [("sync.note", {"size": 3})]
    line = recorded.line("sync.note")
    assert (line["span_id"], line["size"], line["level"]) == (stage.span_id, 3, "info")


def test_phases_are_set_and_logged(recorded: Recorded) -> None:
    """The phase of a run is an attribute with the last value, and an event each."""
    with otelsync.pipeline("p") as run:
        run.phase("listing")
        run.phase("saving")
    assert (
        recorded.tree("sync.phase", events=True)
        == """
sync.pipeline p                  [success] phase=saving
  * sync.pipeline.phase_changed  phase=listing
  * sync.pipeline.phase_changed  phase=saving"""
    )
    assert [line["phase"] for line in recorded.lines if line["event"] == "sync.pipeline.phase_changed"] == [
        "listing",
        "saving",
    ]


def test_milestones_are_logged(recorded: Recorded) -> None:
    """Pipelines and repos log start and end at INFO; api calls, and of pull requests the end, at DEBUG."""
    with (
        otelsync.pipeline("p", team_id=7),
        otelsync.repo("acme/api"),
        otelsync.api_call("list"),
        otelsync.pull_request(1) as pr,
    ):
        pr.set(action="created")
    said = [(line["level"], line["event"], line.get("outcome"), line.get("created")) for line in recorded.lines]
    assert said == [
        ("info", "sync.pipeline.started", None, None),
        ("info", "sync.repo.started", None, None),
        ("debug", "sync.api.request", None, None),
        ("debug", "sync.pr.processed", "success", None),
        ("debug", "sync.api.completed", "success", 1),
        ("info", "sync.repo.completed", "success", 1),
        ("info", "sync.pipeline.completed", "success", 1),
    ]
    assert all(line["sync_id"] for line in recorded.lines)
    assert all(line["repo"] == "acme/api" for line in recorded.lines[1:-1])


def test_a_failure_is_logged_once_with_its_traceback(recorded: Recorded) -> None:
    """Each stage that fails says so at ERROR; the traceback stands in the innermost record alone."""
    with pytest.raises(ZeroDivisionError), otelsync.pipeline("p"), otelsync.repo("acme/api"), otelsync.api_call("list"):
        _ = 1 // 0
    failed = [line for line in recorded.lines if line["level"] == "error"]
    assert [line["event"] for line in failed] == ["sync.api.failed", "sync.repo.failed", "sync.pipeline.failed"]
    assert ["exception" in line for line in failed] == [True, False, False]
    assert "ZeroDivisionError" in failed[0]["exception"]
    assert failed[0]["error_type"] == "ZeroDivisionError"


def test_timed_operation_logs_its_duration(recorded: Recorded) -> None:
    """A timed operation is a stage whose end logs its fields and how long it took, under its own name."""
    with otelsync.timed_operation("sync.api.graphql", query_name="prs"):
        pass
    (line,) = recorded.lines
    assert (line["event"], line["query_name"], line["outcome"]) == ("sync.api.graphql", "prs", "success")
    assert line["duration_ms"] >= 0
    assert recorded.span("sync.api.graphql").attributes["query_name"] == "prs"


def test_functions_are_stages(recorded: Recorded) -> None:
    """As a decorator a stage runs each call as a span of its own, and leaves the function what it was."""

    @otelsync.stage("add", size=1)
    def add(a: int, *, b: int) -> int:
        """Adds."""
        return a + b

    assert [add(1, b=2), add(3, b=4)] == [3, 7]
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert (
        recorded.tree("size")
        == """
sync.stage add  [success] size=1
sync.stage add  [success] size=1"""
    )


def test_recursive_functions_nest(recorded: Recorded) -> None:
    """A decorated function that calls itself has a span for each depth."""

    @otelsync.stage("down")
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)

    down(2)
    assert (
        recorded.tree()
        == """
sync.stage down      [success]
  sync.stage down    [success]
    sync.stage down  [success]"""
    )


def test_coroutines_are_stages(recorded: Recorded) -> None:
    """Coroutine functions stay such, and gathered calls are siblings."""

    @otelsync.stage("fetch")
    async def fetch(number: int) -> int:
        with otelsync.stage(f"inner {number}"):
            await asyncio.sleep(0)
        return number

    async def main() -> list[int]:
        assert inspect.iscoroutinefunction(fetch)
        with otelsync.pipeline("p"):
            return list(await asyncio.gather(fetch(1), fetch(2)))

    assert asyncio.run(main()) == [1, 2]
    assert (
        recorded.tree()
        == """
sync.pipeline p         [success]
  sync.stage fetch      [success]
    sync.stage inner 1  [success]
  sync.stage fetch      [success]
    sync.stage inner 2  [success]"""
    )


def test_generators_do_not_leak_into_their_consumer(recorded: Recorded) -> None:
    """The stage of a generator is current in its own code, and not in what its consumer does meanwhile."""

    @otelsync.stage("pages")
    def pages() -> Generator[int, str, str]:
        with otelsync.stage("read"):
            sent = yield 1
        with otelsync.stage(f"read {sent}"):
            yield 2
        return "done"

    def consume() -> Iterator[Any]:
        source = pages()
        yield next(source)
        with otelsync.stage("between"):
            yield source.send("more")
        with pytest.raises(StopIteration) as stop:
            next(source)
        yield stop.value.value

    with otelsync.pipeline("p"):
        assert list(consume()) == [1, 2, "done"]
        assert trace.get_current_span().get_span_context().is_valid
    assert (
        recorded.tree()
        == """
sync.pipeline p           [success]
  sync.stage pages        [success]
    sync.stage read       [success]
    sync.stage read more  [success]
  sync.stage between      [success]"""
    )


def test_a_generator_is_closed_and_thrown_into(recorded: Recorded) -> None:
    """A generator that is left early is cancelled; an exception thrown into it arrives, and fails it if it leaves."""
    seen: list[str] = []

    @otelsync.stage("numbers")
    def numbers(name: str) -> Generator[int, None, None]:
        try:
            yield from range(10)
        except ValueError as error:
            seen.append(f"{name} {error}")
            raise
        finally:
            seen.append(f"{name} closed")

    left = numbers("left")
    next(left)
    left.close()
    thrown = numbers("thrown")
    next(thrown)
    with pytest.raises(ValueError, match="into"):
        thrown.throw(ValueError("into"))
    assert seen == ["left closed", "thrown into", "thrown closed"]
    assert (
        recorded.tree()
        == """
sync.stage numbers  [cancelled]
sync.stage numbers  [failure]"""
    )


def test_async_generators_are_stages(recorded: Recorded) -> None:
    """An async generator's stage covers its own code; closing it in another context is no error."""

    @otelsync.stage("stream")
    async def stream() -> AsyncGenerator[int, None]:
        with otelsync.stage("connection"):
            yield 1
            yield 2

    async def main() -> None:
        with otelsync.pipeline("p") as run:
            items = [item async for item in stream()]
            assert items == [1, 2]
            early = stream()
            assert await anext(early) == 1
            assert trace.get_current_span() is run.span
            await asyncio.create_task(early.aclose())  # another task: another contextvars context
            assert trace.get_current_span() is run.span

    asyncio.run(main())
    assert (
        recorded.tree()
        == """
sync.pipeline p            [success]
  sync.stage stream        [success]
    sync.stage connection  [success]
  sync.stage stream        [cancelled]
    sync.stage connection  [cancelled]"""
    )


def test_a_cancelled_task_is_cancelled(recorded: Recorded) -> None:
    """Cancelling a task ends its stages as cancelled, and those around it are none the worse."""

    async def main() -> None:
        begun = asyncio.Event()

        async def slow() -> None:
            with otelsync.api_call("slow"):
                begun.set()
                await asyncio.Event().wait()

        with otelsync.pipeline("p"):
            task = asyncio.create_task(slow())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert (
        recorded.tree()
        == """
sync.pipeline p  [success]
  sync.api slow  [cancelled]"""
    )


def test_without_configuration_stages_do_nothing() -> None:
    """Outside any configuration stages run, record nothing and have empty ids; all their methods work."""
    with otelsync.pipeline("p") as run, otelsync.repo("acme/api"), otelsync.pull_request(1) as pr:
        run.phase("x")
        run.event("e", field=1)
        run.count(created=1)
        pr.skip("why")
        pr.fail("why")
    assert (run.sync_id, run.trace_id, run.span_id) == ("", "", "")
    assert run.outcome == "failure"


def test_long_stages_are_announced(recorded: Recorded) -> None:
    """A stage that can be long is in the journal while it runs; a pull request only at its end."""
    with otelsync.pipeline("p", team_id=7), otelsync.repo("acme/api"), otelsync.pull_request(1):
        assert (
            recorded.tree("team_id")
            == """
sync.pipeline p       open team_id=7
  sync.repo acme/api  open"""
        )
        begun = {span.name: span.attributes for span in recorded.spans}
    assert begun["sync.repo acme/api"]["sync.id"]
    assert all(span.ended for span in recorded.spans)


def test_a_stage_is_used_again(recorded: Recorded) -> None:
    """A stage that has ended can be entered again, as a span of its own with counts of its own."""
    again = otelsync.stage("again")
    for _ in range(2):
        with again:
            again.count(created=1)
    assert (
        recorded.tree("sync.items.created")
        == """
sync.stage again  [success] created=1
sync.stage again  [success] created=1"""
    )


def test_wrong_use_never_raises(recorded: Recorded) -> None:
    """Actions that are not hashable, values of no type OTLP knows and reasons that are empty harm nobody."""
    with otelsync.repo("acme/api") as repo, otelsync.pull_request(1) as pr:
        pr.set(action=["created"], odd=object())
        repo.fail("")
    assert recorded.span("sync.repo acme/api").failed
    assert recorded.span("sync.pr").ended
