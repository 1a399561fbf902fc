"""The Celery app of random syncs: its one task runs a group of a program. The environment says where the broker is."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from celery import Celery, Task

from random_syncs.interpreter import Interpreter, SyncError
from random_syncs.trees import Node

app = Celery("syncs")
app.conf.update(
    broker_url=os.environ["TEST_BROKER"],
    result_backend=os.environ["TEST_RESULTS"],
    broker_connection_retry_on_startup=True,
    task_default_queue="syncs",
    result_chord_retry_interval=0.05,
)
GATES: Final = "TEST_GATES"
"""The variable with the directory of the files that programs wait for."""


class _InTask(Interpreter):
    """Runs a group as the body of a task, which may have itself put back."""

    def __init__(self, task: Task[Any, Any], node: Node) -> None:
        super().__init__(Path(os.environ[GATES]))
        self._task, self._top = task, node

    async def end(self, node: Node, stage: Any) -> None:
        if node is self._top and self._task.request.retries < node.retries:
            raise self._task.retry(countdown=0.05, max_retries=None)
        await super().end(node, stage)


@app.task(bind=True, name="sync_group")
def sync_group(self: Task[Any, Any], *given: Any) -> None:
    """Run a group of a program; the last argument is what it is, as JSON."""
    node = Node.from_json(given[-1])
    try:
        asyncio.run(_InTask(self, node).run(node, []))
    except SyncError as error:
        if error.parts:
            raise


with suppress(ImportError):  # or else every child does it anew
    __import__("cffi.cparser")
