"""Context for threads: functions, and executors, that run their work in the context of whoever handed it over."""

from __future__ import annotations

import contextvars
import functools
import inspect
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeVar, cast

from opentelemetry import trace

from otelsync.recording.runtime_context import current_scope
from otelsync.recording.scope import EMPTY

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_ELSEWHERE: Final = frozenset(("ProcessPoolExecutor", "InterpreterPoolExecutor"))
"""Classes of executors, whoever makes them, whose functions are pickled on their way to the worker."""


def propagate(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` bound to the context of this moment: ``Thread(target=otelsync.propagate(work))``.

    Wherever it is called, in whatever thread and however often at once, its stages and log records belong to the
    stage in which it was bound, and it sees the context variables of that moment. Each call has a copy of its own.
    Bound where no stage and no span is current, it leaves callers that have one in theirs.

    Args:
        function: A function, coroutine function, bound method, or anything else that can be called.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(function):
        raise TypeError(
            f"otelsync.propagate() takes a function, and was given {type(function).__name__}. Did you forget to leave "
            "out the parentheses? Write Thread(target=otelsync.propagate(work), args=(...))"
        )
    bound = contextvars.copy_context()
    is_empty = not _has_anything()

    def context() -> contextvars.Context:
        return contextvars.copy_context() if is_empty and _has_anything() else bound.copy()

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        @functools.wraps(function)
        async def run_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            inside = context()
            return await _stepping(inside, inside.run(cast("Any", function), *args, **kwargs))

        return cast("Callable[P, R]", run_coroutine)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return context().run(function, *args, **kwargs)

    return run


def executor(pool: Executor) -> ContextExecutor:
    """Return an executor that runs in `pool` what it is given, in the context of whoever gave it.

    ``with otelsync.executor(ThreadPoolExecutor(8)) as pool: pool.map(sync_repo, repos)``. Everything else is the
    pool's own.

    Raises:
        TypeError: Its workers are processes, where no context can follow, or it is no executor.
    """
    names = {each.__name__ for each in type(pool).__mro__}
    if names & _ELSEWHERE or ("Pool" in names and "ThreadPool" not in names):
        raise TypeError(
            f"otelsync.executor() cannot carry the context into the workers of a {type(pool).__name__}, as it cannot "
            "be pickled: use a ThreadPoolExecutor, or begin a pipeline in the function that runs there"
        )
    if not isinstance(pool, Executor):
        raise TypeError(
            f"otelsync.executor() takes an executor of concurrent.futures, and was given {type(pool).__name__}: hand "
            "over otelsync.propagate(function) instead of the function"
        )
    return ContextExecutor(pool)


class ContextExecutor(Executor):
    """An executor that carries the context of whoever submits; made by :func:`executor`.

    Args:
        pool: The executor that does the work.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call in the pool, in a copy of the context of this moment."""
        return self._pool.submit(propagate(fn), *args, **kwargs)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **options: Any) -> Iterator[T]:
        """Run a call for each item in the pool, each in a copy of the context of this moment."""
        return self._pool.map(propagate(fn), *iterables, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the pool down."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __enter__(self) -> ContextExecutor:
        self._pool.__enter__()
        return self

    def __exit__(self, *left_with: Any) -> bool | None:
        return self._pool.__exit__(*left_with)

    def __getattr__(self, name: str) -> Any:
        """Return what the pool has beside that."""
        if name == "_pool":  # a copy, of which nothing is made yet
            raise AttributeError(name)
        return getattr(self._pool, name)


def _has_anything() -> bool:
    """Return whether there is anything of ours in the context of this moment, or a span."""
    return current_scope() is not EMPTY or trace.get_current_span().get_span_context().is_valid


@types.coroutine
def _stepping(context: contextvars.Context, inner: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a coroutine in `context`, and what it waits for outside. So it stays within the task that awaits it."""
    step: Callable[[], Any] = functools.partial(inner.send, None)
    while True:
        try:
            awaited = context.run(step)
        except StopIteration as stop:
            return cast("T", stop.value)
        try:
            step = functools.partial(inner.send, (yield awaited))
        except GeneratorExit:
            context.run(inner.close)
            raise
        except BaseException as thrown:
            step = functools.partial(inner.throw, thrown)
