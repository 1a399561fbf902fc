"""Runs programs for real: with threads, tasks, forks and generators, as a program would that uses otelsync.

A program of its own: ``python -m random_syncs.interpreter HOME PROGRAMS GATES LOG_LEVEL``. It runs the programs of a
JSON file in a forked child, and those that kill their process each in a child of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

import otelsync
from random_syncs.trees import PAGE_SIZE, Node, is_killed

_TICK: Final = 0.0005
SERVICE: Final = "syncs"
_numbers: Final = count()


class SyncError(Exception):
    """Leaves so many parts further out before it is caught."""

    def __init__(self, reason: str, parts: int) -> None:
        super().__init__(reason)
        self.parts = parts

    def __reduce__(self) -> tuple[type[SyncError], tuple[str, int]]:
        return SyncError, (self.args[0], self.parts)


class _Beside(Protocol):
    """Something that runs beside the code that began it."""

    async def ended(self) -> BaseException | None:
        """Wait for its end; returns the exception that it ended with."""


class _Thread:
    """A coroutine in a thread, with a copy of the context."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run, work))
        self._thread.start()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run(work)
        except Exception as error:
            self._error = error

    async def ended(self) -> BaseException | None:
        while self._thread.is_alive():
            await asyncio.sleep(_TICK)
        return self._error


class _Task:
    """A coroutine as an asyncio task."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.ensure_future(work)

    async def ended(self) -> BaseException | None:
        while not self._task.done():  # it may be of the loop of another thread
            await asyncio.sleep(_TICK)
        return None if self._task.cancelled() else self._task.exception()


class _Fork:
    """A coroutine in a forked child."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._gone = False
        self._pid = in_a_fork(lambda: asyncio.run(work))
        if self._pid:
            work.close()

    async def ended(self) -> BaseException | None:
        while not self._gone:
            self._gone = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            await asyncio.sleep(_TICK)
        return None


_WAYS: Final[dict[str, Callable[[Coroutine[Any, Any, None]], _Beside]]] = {
    "thread": _Thread,
    "task": _Task,
    "fork": _Fork,
}


class Interpreter:
    """Runs one program. `gates`: a directory for the files that let those go on that wait."""

    def __init__(self, gates: Path) -> None:
        self._gates = gates
        self._beside: list[_Beside] = []

    async def run(self, node: Node, late: list[_Beside], gate: Path | None = None) -> None:
        """Run a part.

        Args:
            node: Which.
            late: Takes what outlives it.
            gate: It does not end before this file is there.
        """
        if node.sort == "wait":
            with _wait(node):
                await asyncio.sleep(_TICK)
            return
        opens = self._gates / f"{os.getpid()}-{threading.get_ident()}-{next(_numbers)}"
        try:
            with stage_of(node) as stage:
                if node.counts:
                    stage.count(**node.counts)
                try:
                    await self._body(node, late, opens)
                finally:
                    while gate is not None and not gate.exists():
                        await asyncio.sleep(_TICK)
                await self.end(node, stage)
        finally:
            opens.touch()

    async def _body(self, node: Node, late: list[_Beside], opens: Path) -> None:
        beside: list[_Beside] = []
        try:
            for child in node.children:
                if child.how != "inline":
                    self._begin(child, opens, late if child.outlives else beside)
                    continue
                try:
                    await (self._pages(child) if child.sort == "pages" else self.run(child, beside))
                except SyncError as error:
                    if error.parts:
                        error.parts -= 1
                        raise
        finally:
            errors = await _all(beside)
        for left in errors:
            if not isinstance(left, SyncError):
                raise left
            if left.parts:
                left.parts -= 1
                raise left

    def _begin(self, child: Node, opens: Path, waiting: list[_Beside]) -> None:
        """Run a part beside this one. What outlives it is waited for where it is, or at the end of its own loop."""
        gate = opens if child.outlives else None
        is_task = child.how == "task"
        work = self.run(child, waiting, gate) if is_task else self._whole(child, gate, is_fork=child.how == "fork")
        started = _WAYS[child.how](work)
        waiting.append(started)
        self._beside.append(started)

    async def _whole(self, node: Node, gate: Path | None, *, is_fork: bool) -> None:
        if is_fork:
            self._beside = []
        late: list[_Beside] = []
        try:
            await self.run(node, late, gate)
        finally:
            await _all(late)

    async def end(self, node: Node, stage: Any) -> None:
        """Let become of a part what is to become of it."""
        if node.action is not None and not _said_at_once(node):
            stage.set(action=node.action)
        if node.fate == "fail":
            stage.fail(f"{node.name} is wrong")
        elif node.fate == "raise":
            raise SyncError(f"{node.name} failed", node.passes)
        elif node.fate == "cancel":
            raise asyncio.CancelledError
        elif node.fate == "stop":
            raise KeyboardInterrupt
        elif node.fate == "kill":
            await _all(self._beside)
            os.kill(os.getpid(), signal.SIGKILL)

    async def _pages(self, node: Node) -> None:
        left = len(node.children) if node.breaks_after is None else node.breaks_after
        if node.kind.startswith("async"):
            async for page in _async_pages(node):
                left = await self._page(page, left)
                if left <= 0 and node.breaks_after is not None:
                    break
        else:
            for page in _pages(node):
                left = await self._page(page, left)
                if left <= 0 and node.breaks_after is not None:
                    break
        await asyncio.sleep(0.002)  # the loop closes an asynchronous generator that was left, when it comes to it

    async def _page(self, page: list[Node], left: int) -> int:
        for item in page[:left]:
            with suppress(SyncError):
                await self.run(item, [])
        return left - len(page)


def _chunks(node: Node) -> Iterator[tuple[int, list[Node]]]:
    for number in range(0, max(len(node.children), 1), PAGE_SIZE):
        yield number, node.children[number : number + PAGE_SIZE]


def _pages(node: Node) -> Iterator[list[Node]]:
    def one_by_one() -> Iterator[list[Node]]:
        for number, page in _chunks(node):
            with otelsync.api_call(node.name, page=number):
                yield page

    @otelsync.api_call(node.name)
    def all_in_one() -> Iterator[list[Node]]:
        for _, page in _chunks(node):
            yield page

    return all_in_one() if "decorated" in node.kind else one_by_one()


def _async_pages(node: Node) -> AsyncIterator[list[Node]]:
    async def one_by_one() -> AsyncIterator[list[Node]]:
        for number, page in _chunks(node):
            with otelsync.api_call(node.name, page=number):
                await asyncio.sleep(0)
                yield page

    @otelsync.api_call(node.name)
    async def all_in_one() -> AsyncIterator[list[Node]]:
        for _, page in _chunks(node):
            await asyncio.sleep(0)
            yield page

    return all_in_one() if "decorated" in node.kind else one_by_one()


async def _all(beside: list[_Beside]) -> list[BaseException]:
    """Wait for all, also for those that come meanwhile; returns their exceptions."""
    found = []
    place = 0
    while place < len(beside):
        error = await beside[place].ended()
        place += 1
        if error is not None:
            found.append(error)
    return found


def _said_at_once(node: Node) -> bool:
    """Whether an item's action is an argument; else it is set later."""
    return int(node.name) % 3 == 0


def stage_of(node: Node) -> AbstractContextManager[Any]:
    """The stage that a part is."""
    said: dict[str, Any] = {} if node.required else {"required": False}
    if node.attempt is not None:
        said["attempt"] = node.attempt
    if node.sort == "item":
        if node.action is not None and _said_at_once(node):
            said["action"] = node.action
        number = int(node.name)
        return otelsync.pull_request(number, **said) if node.kind == "pr" else otelsync.item(node.kind, number, **said)
    if node.sort == "group":
        return otelsync.repo(node.name, **said) if node.kind == "repo" else otelsync.group(node.kind, node.name, **said)
    make: Any = {
        "pipeline": otelsync.pipeline,
        "batch": otelsync.batch,
        "stage": otelsync.stage,
        "api": otelsync.api_call,
    }[node.sort]
    stage: AbstractContextManager[Any] = make(node.name, **said)
    return stage


def _wait(node: Node) -> AbstractContextManager[Any]:
    if node.kind == "rate_limit":
        return otelsync.rate_limit_wait(_TICK)
    if node.kind == "retry":
        return otelsync.retry_wait(_TICK, "server")
    return otelsync.stage(node.name, kind="waiting")


def in_a_fork(work: Callable[[], object]) -> int:
    """Do this in a forked child, which then ends at once; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 0
    try:
        work()
    except SyncError:
        code = 1
    except BaseException as error:
        traceback.print_exception(error)
        code = 99
    finally:
        os._exit(code)


def run_all(home: Path, programs: list[Node], gates: Path, log_level: str) -> None:
    """Run programs one after another, in this process."""
    otelsync.configure(service_name=SERVICE, home=home, ship="off", log_level=log_level, log_format="json")
    for program in programs:
        with suppress(SyncError, KeyboardInterrupt):
            asyncio.run(Interpreter(gates).run(program, []))
    otelsync.shutdown()


def main(home: Path, path: Path, gates: Path, log_level: str) -> int:
    """Run the programs of a file; returns the number of processes that did not end as they should."""
    programs = [Node.from_json(said) for said in json.loads(path.read_text())]
    together = [program for program in programs if not is_killed(program)]
    wrong = 0
    for share in [together, *([program] for program in programs if is_killed(program))]:
        pid = in_a_fork(partial(run_all, home, share, gates, log_level))
        status = os.waitpid(pid, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL if share is not together else 0):  # an exception may come before the kill
            print(f"{[program.name for program in share]} ended with {code}", file=sys.stderr, flush=True)
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
