"""Write records to a stream: lines of JSON, or coloured text for people."""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import time
from typing import Any, Final, Protocol

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.room_to_write import has_room
from otelsync.hooks.untouched import random_untouched
from otelsync.logs.fields import dumped
from otelsync.text.presentable import presentable, text_of
from otelsync.text.printable import printable
from otelsync.text.trace_address import trace_address

_ERRORS: Final = frozenset(("error", "critical"))


class Stream(Protocol):
    """A text or binary file, or anything else that takes finished lines."""

    def write(self, line: Any, /) -> object:
        """Append a line."""

    def flush(self) -> object:
        """Let what was written reach its place."""


class Output:
    """Writes records to a stream.

    Args:
        stream: A text or binary stream; None for standard output as it is at each moment.
        text: Write text for people, not JSON.
        colors: Colour the text.
        trace_url: What the text of an error has the address of its trace from; None: it has none.
    """

    def __init__(
        self, stream: Stream | None, *, text: bool = False, colors: bool = False, trace_url: str | None = None
    ) -> None:
        self._stream = stream
        self._trace_url = trace_url
        self.is_text = text
        """True if it writes text for people, not JSON."""
        self._shared: tuple[object, int] = (None, -1)
        self._renderer = None
        if text:
            with random_untouched():
                from structlog.dev import ConsoleRenderer, plain_traceback

            self._renderer = ConsoleRenderer(colors=colors, exception_formatter=plain_traceback)
        is_ours = not text and stream is not None and stream not in (sys.stdout, sys.stderr)
        self.descriptor = _fileno(stream) if is_ours else -1
        """Descriptor that finished lines of JSON are written to at once; -1 if they have to go through the stream.

        Standard output is not ours to write to past its buffers: what others have written to it must stay in order.
        """

    @property
    def is_standard(self) -> bool:
        """True if it is standard output."""
        return self._stream is None

    @property
    def stream(self) -> Stream | None:
        """The stream of records, as it is at this moment."""
        return sys.stdout if self._stream is None else self._stream

    def on(self, stream: Stream) -> Output:
        """Return an output to another stream, in the same form but for colours."""
        return Output(stream, text=self.is_text, trace_url=self._trace_url)

    def shared_descriptor(self) -> int:
        """The descriptor behind a stream that others write to as well, such as standard output; -1 if it has none.

        What they have written so far goes out first, so that everything stays in order.
        """
        if self.is_text:
            return -1
        stream: Any = sys.stdout if self._stream is None else self._stream
        if self._shared[0] is not stream:
            self._shared = (stream, _fileno(stream))
        if self._shared[1] >= 0:
            try:
                stream.flush()
            except (OSError, ValueError) as error:
                hand_back(error)
                return -1
        return self._shared[1]

    def write(self, record: dict[str, Any]) -> None:
        """Render a record and write it."""
        self.write_line(self._text(record).encode("utf-8", "backslashreplace") if self._renderer else dumped(record))

    def write_line(self, line: bytes) -> None:
        """Write a finished line. A stream that is gone is no reason to harm the host."""
        try:
            if self.descriptor < 0:
                self._write_to_stream(line)
            else:
                _write_all(self.descriptor, line)
        except (OSError, ValueError) as error:
            hand_back(error)

    def _write_to_stream(self, line: bytes) -> None:
        stream: Any = self._stream or sys.stdout
        if stream is None:
            return
        if isinstance(stream, io.TextIOBase):
            stream.write(line.decode("utf-8", "replace"))
        else:
            stream.write(line)
        stream.flush()

    def _text(self, record: dict[str, Any]) -> str:
        assert self._renderer is not None
        shown = {
            printable(presentable(key)): printable(value) if isinstance(value, str) else presentable(value)
            for key, value in record.items()
        }
        if isinstance(record.get("exception"), str):  # set in, since a line of a message may look like a record
            lines = record["exception"].split("\n")
            shown["exception"] = "\n".join(f"  {printable(line.expandtabs())}".rstrip() for line in lines)
        level = str(shown["level"])
        if self._trace_url is not None and level in _ERRORS:
            address = trace_address(self._trace_url, *map(record.get, ("trace_id", "span_id", "sync_id")))
            if address:
                shown.setdefault("trace_url", address)
        return f"{self._renderer(None, level, shown)}\n"


def _fileno(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError, TypeError) as error:
        hand_back(error)
        return -1


def _write_all(fd: int, line: bytes) -> None:
    """Write a line to a descriptor that may not take it at once; give up after a second without progress."""
    while line:
        try:
            line = line[os.write(fd, line) :]
        except BlockingIOError:
            if not _takes_more(fd):
                return


def _takes_more(fd: int) -> bool:
    """Wait for a second at most until a descriptor takes more; one above 1023 can be waited for by poll() alone."""
    if hasattr(select, "poll"):  # eventlet takes it away
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        return bool(poll.poll(1000))
    return bool(select.select([], [fd], [], 1.0)[1])


def timestamp(now: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    second, nanoseconds = divmod(now, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{nanoseconds // 1000:06d}Z"


def complain(said: str, problem: BaseException) -> None:
    """A record that cannot be logged is no reason to harm the host; whoever develops wants to know."""
    if logging.raiseExceptions and sys.stderr is not None and has_room(sys.stderr, 1000) is not False:
        try:
            sys.stderr.write(f"otelsync: {said}: {text_of(problem)}\n")
        except Exception as error:  # a stream that is closed, or of the program's own making
            hand_back(error)
