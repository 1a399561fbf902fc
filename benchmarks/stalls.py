"""Measure how long one value holds up the thread that records it: ``python -m benchmarks.stalls``.

Each value is given to each way in: as an attribute, a name, a message, a field, an exception. The time is that of the
recording calls alone, from the begin of a stage to its end; the record must be journalled, with a note of what was cut.
Values of a gigabyte are made before, and cost nothing to hand over.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any, Final

from opentelemetry import trace

import otelsync
from benchmarks import report
from otelsync.recording.provider import TracerProvider

GIGABYTE: Final = 10**9
MEGABYTES: Final = 16 * 10**6
Way = Callable[[Any], object]


class HugeRepr:
    """A value like a data frame, whose text is long; it is made once, as making it is not ours to bound."""

    text = "1.5 2.5\n" * (MEGABYTES // 8)

    def __repr__(self) -> str:
        return self.text


def values() -> Iterator[tuple[str, Any]]:
    """Yield values by name, each when it is asked for."""
    yield "1 GB of x", "x" * GIGABYTE
    yield "1 GB of bytes", b"x" * GIGABYTE
    for name, piece in _PIECES.items():
        yield f"16 MB of {name}", piece * (MEGABYTES // len(piece))
        yield f"64 KB of {name}", piece * (65_000 // len(piece))
    yield "an integer of 10 million digits", 1 << 33_000_000
    yield "a list of 10 million", [0] * 10_000_000
    yield "a list of 100,000 texts", ["token=abcdef and more"] * 100_000
    yield "a range", range(GIGABYTE)
    yield "a mapping of a million", dict.fromkeys(map(str, range(1_000_000)), "x")
    yield "a nest of 100,000", _nest(100_000)
    yield "a tree of 4^10", _tree(10)
    yield "a long representation", HugeRepr()
    yield "a long key", {"k" * MEGABYTES: "v"}
    yield "a chain of 10,000 exceptions", _chained(10_000)
    yield "an exception from 5,000 calls", _deep(5_000)


_PIECES: Final = {
    "words": "x y ",
    "JSON": '{"key": "value", "n": 1} ',
    "a diff with tokens": "+ token = get()\n",
    "hostile text": 'ghp_ token"\\ ',
    "secrets": "token=abcdef ",
    "sk-": "a sk- ",
    "URLs with passwords": "a://b:c@d ",
    "letters of another alphabet": "日本語 token ",
    "control characters": "\x1b[31m\x00 ",
}


def _nest(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


def _tree(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value] * 4  # few objects, and a million items
    return value


def _chained(number: int) -> BaseException:
    error = ValueError("first")
    for count in range(number):
        after = ValueError(count)
        after.__cause__, error = error, after
    return error


def _deep(depth: int) -> BaseException:
    def call(left: int) -> None:
        if left:
            answer(left - 1)
        raise ValueError("deep")

    def answer(left: int) -> None:
        call(left)

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(4 * depth)
    try:
        call(depth)
    except ValueError as error:
        return error
    finally:
        sys.setrecursionlimit(before)
    raise AssertionError


def _attribute(value: Any) -> None:
    with otelsync.pull_request(1) as pull:
        pull.set(a=value)


def _many_attributes(value: Any) -> None:
    with trace.get_tracer("bench").start_as_current_span("many") as span:
        span.set_attributes({f"a{number}": value for number in range(100)})


def _event(value: Any) -> None:
    with otelsync.pull_request(1) as pull:
        pull.event("sync.x", a=value)


def _name(value: Any) -> None:
    with otelsync.stage(value):
        pass


def _span_name(value: Any) -> None:
    trace.get_tracer("bench").start_span(value).end()


def _context(value: Any) -> None:
    with otelsync.sync_context(team=value), otelsync.stage("s"):
        pass


def _exception(value: Any) -> None:
    try:
        with otelsync.repo("acme/api"):
            raise value if isinstance(value, BaseException) else ValueError(value)
    except ValueError:
        pass


def _failure(value: Any) -> None:
    with otelsync.pull_request(1) as pull:
        pull.fail(value)


def _message(value: Any) -> None:
    otelsync.get_logger("bench").warning(value)


def _field(value: Any) -> None:
    otelsync.get_logger("bench").warning("said", a=value)


def _argument(value: Any) -> None:
    logging.getLogger("bench").warning("said %s", value)


def _extra(value: Any) -> None:
    logging.getLogger("bench").warning("said", extra={"a": value})


WAYS: Final[dict[str, Way]] = {
    "attribute": _attribute,
    "100 attributes": _many_attributes,
    "event": _event,
    "stage name": _name,
    "span name": _span_name,
    "sync_context": _context,
    "exception": _exception,
    "fail()": _failure,
    "message": _message,
    "field": _field,
    "argument": _argument,
    "extra": _extra,
}


def measured(directory: Path, **options: Any) -> dict[str, dict[str, tuple[float, float]]]:
    """Milliseconds of the wall clock and of the CPU by value and way; the best of two, as others use the machine."""
    otelsync.configure(home=directory, ship="off", log_level="DEBUG", **options)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, value in values():
        print(name, file=sys.stderr, flush=True)
        found[name] = {way: min(_timed(use, value) for _ in range(2)) for way, use in WAYS.items()}
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    assert not provider.journal.dropped, provider.journal.dropped
    otelsync.shutdown()
    return found


def _timed(use: Way, value: Any) -> tuple[float, float]:
    began, cpu = perf_counter_ns(), process_time_ns()
    use(value)
    return (perf_counter_ns() - began) / 1e6, (process_time_ns() - cpu) / 1e6


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The longest stall of each value, and by which way it came."""
    rows = [["value", "longest, ms", "CPU, ms", "as"]]
    for name, ways in found.items():
        way = max(ways, key=lambda each: ways[each][1])
        rows.append([name, f"{ways[way][0]:.1f}", f"{ways[way][1]:.1f}", way])
    return report.draw(rows)


def main() -> None:
    """Print the table for each form of output, or those that are named."""
    for form in sys.argv[1:] or ("json", "console", "keep"):
        options = {"logging": "keep"} if form == "keep" else {"log_format": form}
        with tempfile.TemporaryDirectory(prefix="otelsync-bench-") as directory, open("/dev/null", "w") as nowhere:  # noqa: PTH123
            print(form, table(measured(Path(directory), log_stream=nowhere, **options)), sep="\n\n", end="\n\n")


if __name__ == "__main__":
    main()
