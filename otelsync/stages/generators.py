"""Generator functions as stages: current while their own code runs, suspended while their consumer's does."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from opentelemetry.context import Context


class Suspendable(AbstractContextManager["Suspendable"], Protocol):
    """A stage that can be stepped out of and back into."""

    def suspend(self) -> Context:
        """Step out of the stage; returns the context in which its code goes on."""

    def resume(self, context: Context) -> None:
        """Step back into the stage, in the context that :meth:`suspend` returned."""


def around_generator(
    again: Callable[[], Suspendable], function: Callable[..., Any]
) -> Callable[..., Generator[Any, Any, Any]]:
    """Return `function` with a stage around each of its generators."""

    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with again() as running:
            inner = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, inner)
            while True:
                try:
                    item = step()
                except StopIteration as stop:
                    return stop.value
                context = running.suspend()
                try:
                    sent = yield item
                    step = functools.partial(inner.send, sent)
                except GeneratorExit:
                    running.resume(context)
                    inner.close()
                    raise
                except BaseException as thrown:
                    step = functools.partial(inner.throw, thrown)
                running.resume(context)

    return around


def around_async_generator(
    again: Callable[[], Suspendable], function: Callable[..., Any]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return the same for an asynchronous generator function."""

    @functools.wraps(function)
    async def around(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with again() as running:
            inner = function(*args, **kwargs)
            step = inner.__anext__
            while True:
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
                context = running.suspend()
                try:
                    sent = yield item
                    step = functools.partial(inner.asend, sent)
                except GeneratorExit:
                    running.resume(context)
                    await inner.aclose()
                    raise
                except BaseException as thrown:
                    step = functools.partial(inner.athrow, thrown)
                running.resume(context)

    return around
