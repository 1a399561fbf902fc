"""Messages of otelsync itself: shown at once where they are taken, from a thread where they are not, and counted."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_server import eventually

import otelsync
from otelsync.hooks.own_messages import finish, own_logger
from otelsync.hooks.room_to_write import has_room

SIZE = 65_536


class Pipe:
    """A pipe as the output of a logger of ours."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.stream = open(self.writes, "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115
        self.log = own_logger("otelsync.test_own_messages")
        self.handler: logging.Handler = logging.StreamHandler(self.stream)
        self.log.addHandler(self.handler)
        self.log.propagate = False

    def fill(self) -> None:
        """Fill it to the brim."""
        os.set_blocking(self.writes, False)
        for size in (4096, 1):
            while True:
                try:
                    os.write(self.writes, b"x" * size)
                except BlockingIOError:
                    break
        os.set_blocking(self.writes, True)

    def read(self) -> str:
        """What is in it."""
        return os.read(self.reads, 2 * SIZE).decode().lstrip("x")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    while has_room(pipe.stream, 1) is False:
        pipe.read()
    eventually(lambda: not any(thread.name == "otelsync-messages" for thread in threading.enumerate()))
    pipe.log.removeHandler(pipe.handler)
    pipe.log.propagate = True
    pipe.stream.close()
    os.close(pipe.reads)


def test_a_message_that_is_taken_is_shown_at_once(pipe: Pipe) -> None:
    """No thread has to do with it."""
    pipe.log.warning("said %s", "so")
    assert pipe.read() == "said so\n"


def test_messages_wait_for_room_in_order(pipe: Pipe) -> None:
    """Whoever logs goes on; the messages come once there is room, and the shared flags have not changed."""
    pipe.fill()
    for number in range(3):
        pipe.log.warning("number %d", number)
    finish(0.01)
    assert os.get_blocking(pipe.writes)
    read = [pipe.read()]
    while "number 2" not in "".join(read):
        read.append(pipe.read())
    assert "".join(read).splitlines() == ["number 0", "number 1", "number 2"]


def test_those_that_find_no_place_are_counted(pipe: Pipe) -> None:
    """Memory is bounded, and the last message tells how many there were."""
    records: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        records.append(record.getMessage())
        return True

    pipe.handler.addFilter(note)
    pipe.fill()
    for number in range(250):
        pipe.log.warning("number %d", number)
    logging.getLogger("otelsync").addHandler(pipe.handler)
    try:
        while not records or "dropped" not in records[-1]:
            pipe.read()
    finally:
        logging.getLogger("otelsync").removeHandler(pipe.handler)
    assert records[:-1] == [f"number {number}" for number in range(100)]
    assert records[-1].startswith("150 messages")


def test_a_child_says_nothing_for_its_parent(pipe: Pipe) -> None:
    """What was waiting before a fork is the parent's, and the child speaks for itself."""
    pipe.fill()
    pipe.log.warning("the parent's")
    child = os.fork()
    if child == 0:
        pipe.log.warning("the child's")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    read = ""
    while "parent's" not in read:
        read += pipe.read()
    assert read == "the parent's\n"


@pytest.mark.parametrize("seed", range(50))
def test_what_has_room_is_written_whole(seed: int) -> None:
    """A pipe is made of pages, and how writes have filled them is not known; so the answer is on the safe side."""
    chance = random.Random(seed)
    reads, writes = os.pipe()
    try:
        os.set_blocking(writes, False)
        most = chance.choice((1, 100, 2049, 5000))
        with open(writes, "wb", buffering=0, closefd=False) as stream:
            while has_room(stream, most):
                size = most + chance.randrange(io.DEFAULT_BUFFER_SIZE)
                assert os.write(writes, b"x" * size) == size
    finally:
        os.close(reads)
        os.close(writes)


@pytest.mark.parametrize("stream", [None, io.StringIO(), io.TextIOWrapper(io.BytesIO())])
def test_streams_in_memory_have_room(stream: Any) -> None:
    """Nobody has to read them."""
    assert has_room(stream, SIZE)


def test_a_stream_that_does_not_tell_is_unknown() -> None:
    """It may be anything."""
    assert has_room(object(), 1) is None


def test_all_our_loggers_are_made_so() -> None:
    """A module that took one from the standard library could wait for a reader; the guard's own has the same name."""
    package = Path(otelsync.__file__).parent
    own = re.compile(r"^_?log\b.* = logging\.getLogger\((?!\"opentelemetry)", re.MULTILINE)
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if own.search(path.read_text())}
    assert found == {"hooks/host_errors.py"}
    assert own_logger("otelsync").filters
