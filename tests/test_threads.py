"""Context for threads: `propagate` and `executor`, with real threads and pools."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import multiprocessing.pool
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace
from recorded import Recorded

import otelsync

PATIENCE = 30.0
USER: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def parent_of(recorded: Recorded, name: str) -> str:
    """The name of the span around the only one of that name."""
    child = recorded.span(name)
    return next((node.name for node in recorded.spans if node.span_id == child.parent_id), "")


def work(name: str) -> str:
    """A stage, and what was seen in it."""
    with otelsync.stage(name):
        return USER.get()


async def work_later(name: str) -> str:
    """The same, in a coroutine that waits in between."""
    with otelsync.stage(name):
        await asyncio.sleep(0.001)
        return USER.get()


class Worker:
    """Something with methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self) -> str:
        return work(self.name)

    def __call__(self) -> str:
        return work(self.name)


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a new thread."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function(*args)))
    thread.start()
    thread.join(PATIENCE)
    (result,) = results
    return result


class TestPropagate:
    def test_a_thread_belongs_to_the_stage_that_started_it(self, recorded: Recorded) -> None:
        """Its stages nest, its counts and log records arrive, and context variables are there."""
        USER.set("ann")
        seen = []

        def target(name: str) -> None:
            with otelsync.item("order", name, action="created"):
                seen.append(USER.get())
            otelsync.get_logger("x").info("in.thread")

        with otelsync.pipeline("p") as run, otelsync.group("customer", "GREYSON"):
            thread = threading.Thread(target=otelsync.propagate(target), args=("4711",))
            thread.start()
            thread.join(PATIENCE)
        assert seen == ["ann"]
        assert parent_of(recorded, "sync.order") == "sync.customer GREYSON"
        line = recorded.line("in.thread")
        assert (line["sync_id"], line["customer"]) == (run.sync_id, "GREYSON")
        assert [line for line in recorded.lines if line["level"] == "warning"] == []

    @pytest.mark.parametrize(
        "function",
        [functools.partial(work, "inner"), Worker("inner").run, Worker("inner"), lambda: work("inner")],
        ids=["partial", "bound method", "callable object", "function"],
    )
    def test_whatever_can_be_called(self, recorded: Recorded, function: Callable[[], str]) -> None:
        """Functions, bound methods, partial ones and objects that can be called."""
        with otelsync.pipeline("p"):
            bound = otelsync.propagate(function)
        assert in_thread(bound) == USER.get()
        assert parent_of(recorded, "sync.stage inner") == "sync.pipeline p"

    def test_it_keeps_its_name_and_passes_everything_on(self) -> None:
        """Arguments, results, exceptions, name and docstring are those of the function."""

        def divide(a: int, *, b: int) -> float:
            """Divide."""
            return a / b

        bound = otelsync.propagate(divide)
        assert (bound.__name__, bound.__doc__, bound(1, b=2)) == ("divide", "Divide.", 0.5)
        with pytest.raises(ZeroDivisionError):
            bound(1, b=0)

    def test_many_calls_at_once(self, recorded: Recorded) -> None:
        """One bound function runs in several threads at the same time, and each call has variables of its own."""
        barrier = threading.Barrier(8, timeout=PATIENCE)

        def target(number: int) -> str:
            USER.set(str(number))
            with otelsync.stage(f"s{number}"):
                barrier.wait()
                return USER.get()

        with otelsync.pipeline("p"):
            bound = otelsync.propagate(target)
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(bound, range(8))) == [str(number) for number in range(8)]
        assert {parent_of(recorded, f"sync.stage s{number}") for number in range(8)} == {"sync.pipeline p"}

    def test_a_bound_function_may_call_itself(self) -> None:
        """A context is entered once at a time, so that each call needs a copy."""

        def down(number: int) -> int:
            return number if not number else bound(number - 1)

        bound = otelsync.propagate(down)
        assert bound(5) == 0

    @pytest.mark.parametrize("function", [work_later, functools.partial(work_later)], ids=["function", "partial"])
    def test_a_coroutine_function(self, recorded: Recorded, function: Callable[[str], Any]) -> None:
        """It is one still, and each of its steps runs in the context, in the task that awaits it."""
        USER.set("ann")
        with otelsync.pipeline("p"):
            bound = otelsync.propagate(function)
        assert inspect.iscoroutinefunction(bound)
        assert in_thread(lambda: contextvars.Context().run(asyncio.run, bound("inner"))) == "ann"
        assert parent_of(recorded, "sync.stage inner") == "sync.pipeline p"

    def test_a_coroutine_is_cancelled_and_timed_out_as_ever(self, recorded: Recorded) -> None:
        """What is thrown in arrives, what it raises comes out, and the current task is the one that awaits."""
        ended = []

        async def endless() -> None:
            with otelsync.stage("endless"):
                ended.append(asyncio.current_task())
                await asyncio.sleep(PATIENCE)

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await bound()
            assert ended == [asyncio.current_task()]

        with otelsync.pipeline("p"):
            bound = otelsync.propagate(endless)
        asyncio.run(main())
        assert recorded.span("sync.stage endless").attributes["sync.outcome"] == "cancelled"
        assert not trace.get_current_span().get_span_context().is_valid

    def test_a_coroutine_that_is_closed_early_ends_its_stage(self, recorded: Recorded) -> None:
        """Closing the outer one closes the inner one, in its context."""

        async def main() -> None:
            coroutine = bound("inner")
            coroutine.send(None)
            coroutine.close()

        with otelsync.pipeline("p"):
            bound = otelsync.propagate(work_later)
        asyncio.run(main())
        assert parent_of(recorded, "sync.stage inner") == "sync.pipeline p"

    def test_bound_where_nothing_is_current_it_leaves_its_caller_alone(self, recorded: Recorded) -> None:
        """As a decorator at import there is no context to carry; its calls stay in that of their caller."""
        bound = contextvars.Context().run(otelsync.propagate, work)
        with otelsync.pipeline("p"):
            bound("inner")
        assert parent_of(recorded, "sync.stage inner") == "sync.pipeline p"

    def test_what_cannot_be_called_raises_at_once(self) -> None:
        """A call in place of a function is named, before a thread starts that would do nothing."""
        with pytest.raises(TypeError, match=r"was given NoneType.*leave out the parentheses"):
            otelsync.propagate(None)  # type: ignore[arg-type]

    def test_without_configuration(self) -> None:
        """It carries context variables all the same."""
        USER.set("ann")
        with otelsync.pipeline("p"):
            assert in_thread(otelsync.propagate(work), "inner") == "ann"


class TestExecutor:
    def test_submitted_and_mapped_work_belongs_to_the_stage(self, recorded: Recorded) -> None:
        """Each call belongs to the stage that is current when it is handed over, whatever thread it runs in."""
        with otelsync.executor(ThreadPoolExecutor(4)) as pool, otelsync.pipeline("p"):
            with otelsync.group("customer", "GREYSON"):
                pool.submit(work, "submitted").result(PATIENCE)
                assert list(pool.map(work, ["a", "b"], timeout=PATIENCE)) == [USER.get()] * 2
            with otelsync.group("customer", "PELOTON"):
                pool.submit(work, name="later").result(PATIENCE)
        assert parent_of(recorded, "sync.stage submitted") == "sync.customer GREYSON"
        assert parent_of(recorded, "sync.stage a") == parent_of(recorded, "sync.stage b") == "sync.customer GREYSON"
        assert parent_of(recorded, "sync.stage later") == "sync.customer PELOTON"

    def test_items_of_a_pool_count(self, recorded: Recorded) -> None:
        """What a hundred calls in eight threads count arrives in the pipeline."""

        def save(number: int) -> None:
            with otelsync.item("order", number) as order:
                order.set(action="created")

        with otelsync.pipeline("p"), otelsync.executor(ThreadPoolExecutor(8)) as pool:
            list(pool.map(save, range(100)))
        assert recorded.span("sync.pipeline p").attributes["sync.items.created"] == 100

    def test_it_is_an_executor_and_the_pool_beside(self) -> None:
        """asyncio takes it, `shutdown` and `with` end the pool, and other attributes are the pool's."""
        threads = ThreadPoolExecutor(3, thread_name_prefix="sync")

        async def main() -> str:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, lambda: threading.current_thread().name)

        with otelsync.executor(threads) as pool:
            assert isinstance(pool, Executor)
            assert pool._max_workers == 3
            assert asyncio.run(main()).startswith("sync")
        with pytest.raises(RuntimeError, match="after shutdown"):
            threads.submit(time.time)
        with pytest.raises(AttributeError, match="no_such"):
            pool.no_such  # noqa: B018

    def test_shutdown_can_cancel(self) -> None:
        """Its options are those of the pool."""
        begun, go_on = threading.Event(), threading.Event()

        def hold() -> bool:
            begun.set()
            return go_on.wait(PATIENCE)

        pool = otelsync.executor(ThreadPoolExecutor(1))
        running = pool.submit(hold)
        waiting = pool.submit(time.time)
        assert begun.wait(PATIENCE)
        pool.shutdown(wait=False, cancel_futures=True)
        go_on.set()
        assert running.result(PATIENCE)
        assert waiting.cancelled()

    def test_processes_raise_at_once(self) -> None:
        """A context cannot be pickled, and the error says what to do."""
        with ProcessPoolExecutor(1) as pool, pytest.raises(TypeError, match="use a ThreadPoolExecutor, or begin"):
            otelsync.executor(pool)
        with multiprocessing.get_context("spawn").Pool(1) as other, pytest.raises(TypeError, match="workers of a Pool"):
            otelsync.executor(other)  # type: ignore[arg-type]

    def test_other_pools_raise_at_once(self) -> None:
        """What is no executor is named, with what serves there, and that does serve."""
        with multiprocessing.pool.ThreadPool(1) as pool:
            with pytest.raises(TypeError, match=r"hand over otelsync.propagate\(function\)"):
                otelsync.executor(pool)  # type: ignore[arg-type]
            USER.set("ann")
            assert pool.map(otelsync.propagate(work), ["s"]) == ["ann"]
