"""The C extension against the Python code that it is a short way for: the same bytes, or none."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import itertools
import os
import shlex
import shutil
import string
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from otelsync.journal import native as loaded
from otelsync.journal import writer as writer_module
from otelsync.journal.format import LOG, SPAN
from otelsync.journal.segment import Segment
from otelsync.journal.writer import Journal
from otelsync.levels import INFO
from otelsync.logs.output import Output
from otelsync.logs.path import LogPath
from otelsync.recording.provider import TracerProvider
from otelsync.recording.runtime_context import CURRENT
from otelsync.recording.scope import SyncScope
from otelsync.redaction import Redactor

SOURCE = Path(writer_module.__file__).with_name("_native.c")
COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
NOW = 1_790_000_000_123_456_789
patient = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # sanitizers are slow


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension, freshly compiled; where there is no compiler, there is nothing to test."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no compiler: {COMPILER[0]}")
    library = tmp_path_factory.mktemp("native") / f"_native{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    include = f"-I{sysconfig.get_path('include')}"
    command = [*COMPILER, *WARNINGS, "-O2", "-fPIC", "-shared", include, str(SOURCE), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return library


@pytest.fixture(scope="session")
def native(built: Path) -> ModuleType:
    """The extension: the one that otelsync runs with, else the one that was just compiled."""
    if loaded.native is not None:
        return loaded.native
    spec = importlib.util.spec_from_file_location("otelsync.journal._native", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def journal_class(native: ModuleType) -> type[Journal]:
    """A journal that the extension can write to."""
    if loaded.native is None:
        pytest.skip("otelsync runs without the extension, so that its journals have other files")
    assert issubclass(Journal, native.Place)
    return Journal


class CountingIds(RandomIdGenerator):
    """Ids that two providers draw alike."""

    def __init__(self) -> None:
        self.numbers = itertools.count(0x1111)

    def generate_span_id(self) -> int:
        return next(self.numbers)

    def generate_trace_id(self) -> int:
        return next(self.numbers) << 64 | 7


class Counted:
    """A function of the extension that counts how often it took the call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.taken = self.declined = 0

    def __call__(self, *arguments: object) -> Any:
        result = self.function(*arguments)
        self.declined += result is False
        self.taken += result is not False
        return result


def written(journal: Journal) -> bytes:
    """All that the journal's one file holds."""
    assert journal.path is not None
    assert journal.segment is not None
    return journal.path.read_bytes()[512 : journal.segment.offset]


def file_of(journal: Journal) -> Segment:
    """The file that a journal writes."""
    assert journal.segment is not None
    return journal.segment


def provider_of(journal: Journal, function: Any, redactor: Redactor | None = None) -> TracerProvider:
    """A provider with a given short way, or none."""
    made = TracerProvider(
        journal,
        redactor=redactor,
        resource=Resource({"service.name": "test"}),
        id_generator=CountingIds(),
        shutdown_on_exit=False,
    )
    made.encoders.append_span = function
    return made


words = st.one_of(
    st.text(alphabet=string.ascii_letters + 'äß✓𝄞\ud800\0"\n', max_size=30),
    st.sampled_from(["open", "ghp_" + "a1" * 15, "password=hunter2", "a" * 200, "ä" * 70, "x" * 9000, "K" * 25]),
    st.sampled_from(["https://example.invalid/pulls/1", "https://me:secret1@example.invalid", "Fix the pool " * 3]),
)
values = st.one_of(
    words,
    st.integers(-(2**70), 2**70),
    st.integers(-300, 70_000),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=4),
    st.lists(st.integers(0, 3), max_size=3),
    st.builds(type("Text", (str,), {}), st.sampled_from(["a subclass of str"])),
)
keys = st.sampled_from(
    ["a", "b", "c.d", "sync.repo", "long" * 40, "key-ä", "password", "number", "half \udc80", "event"]
)
attributes = st.dictionaries(keys, values, max_size=7)
scopes = st.one_of(
    st.none(), st.builds(SyncScope, st.dictionaries(st.sampled_from(["sync.repo", "b", "key-ä"]), words, max_size=3))
)
span_calls = st.lists(
    st.tuples(words, st.sampled_from(list(SpanKind)), attributes, attributes, scopes), min_size=1, max_size=5
)


@pytest.fixture(scope="session")
def pairs(journal_class: type[Journal]) -> Iterator[Callable[[], tuple[Journal, Journal]]]:
    """Two journals, afresh for each example: for the extension, and for the reference."""
    with tempfile.TemporaryDirectory() as directory:
        names = (Path(directory) / str(number) for number in itertools.count())
        yield lambda: (journal_class(next(names)), Journal(next(names)))


def play(provider: TracerProvider, calls: list[Any]) -> None:
    """Make spans below one another; the second time round, all names and keys are known."""
    tracer = provider.get_tracer("test")
    for _ in range(2):
        parent: Span = tracer.start_span("root", start_time=NOW)
        for name, kind, first, then, scope in calls:
            span: Any = tracer.start_span(name, set_span_in_context(parent), kind, first, start_time=NOW)
            span.scope = scope
            for key, value in then.items():
                span.set_attribute(key, value)
            span.end(NOW)
            parent = span
        parent.end(NOW)


@pytest.mark.filterwarnings("ignore")
@patient
@given(calls=span_calls, redactor=st.sampled_from([None, Redactor(), Redactor(keys=["number"])]))
def test_spans_are_the_same(native: ModuleType, pairs: Any, calls: list[Any], redactor: Redactor | None) -> None:
    """Whatever a span holds, the journal's bytes are those of the Python code."""
    fast, slow = pairs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: NOW)
        for journal, function in ((fast, native.append_span), (slow, None)):
            play(provider_of(journal, function, redactor), calls)
    assert written(fast) == written(slow)
    fast.close()
    slow.close()


def log_all(path: LogPath, span: Span, records: list[Any]) -> None:
    """Log records; the second time round, all events and keys are known."""
    for event, fields in records * 2:
        path.emit(INFO, "test", event, fields, span)


@pytest.mark.filterwarnings("ignore")
@patient
@given(
    records=st.lists(st.tuples(words, attributes), min_size=1, max_size=4),
    scope=scopes,
    now=st.integers(NOW - 10**17, NOW + 10**17),
    is_journalled=st.booleans(),
)
def test_log_records_are_the_same(
    native: ModuleType, pairs: Any, records: list[Any], scope: SyncScope | None, now: int, is_journalled: bool
) -> None:
    """Whatever a record holds, its line and its bytes in the journal are those of the Python code."""
    fast, slow = pairs()
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: now)
        for journal, functions in ((fast, (native.append_span, native.write_log)), (slow, (None, None))):
            with tempfile.TemporaryFile() as stream:
                output = Output(stream)
                path = LogPath(service="test", level=0, output=output, redactor=Redactor())
                path._write_log = functions[1]
                provider = provider_of(journal, functions[0], Redactor())
                if is_journalled:
                    path.journal_to(provider)
                span: Any = provider.get_tracer("test").start_span("root", start_time=now)
                span.scope = scope
                log_all(path, span, records)
                stream.seek(0)
                lines.append(stream.read())
    assert lines[0] == lines[1]
    if is_journalled:
        assert written(fast) == written(slow)
    fast.close()
    slow.close()


def test_it_takes_what_is_usual(native: ModuleType, journal_class: type[Journal], tmp_path: Path) -> None:
    """Usual spans and records go the short way from the second on."""
    spans, records = Counted(native.append_span), Counted(native.write_log)
    journal = journal_class(tmp_path)
    provider = provider_of(journal, spans, Redactor())
    with (tmp_path / "log").open("ab") as stream:
        path = LogPath(service="test", level=0, output=Output(stream), redactor=Redactor())
        path._write_log = records
        path.journal_to(provider)
        for _ in range(20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(time, "time_ns", lambda: NOW)
                span = provider.get_tracer("test").start_span("sync.pr", start_time=NOW)
            span.set_attributes({"title": "Fix leak 17 in the connection pool", "page": 1, "new": True, "share": 0.5})
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(time, "time_ns", lambda: NOW)
                path.emit(INFO, "test", "sync.pr.synced", {"number": 1, "author": None}, span)
                span.end(NOW)
    journal.close()
    assert spans.taken >= 18
    assert records.taken >= 17


@patient
@given(data=st.binary(max_size=600), seed=st.integers(0, 2**32 - 1))
def test_checksums_are_those_of_zlib(native: ModuleType, data: bytes, seed: int) -> None:
    """The checksum of anything, continued from anything, is zlib's."""
    assert native.crc32(data, seed) == zlib.crc32(data, seed)


THOROUGH = Redactor(patterns=["never found: \\A\\Z1"])
"""With a pattern of the user's, no text passes by a quick test."""

pieces = st.one_of(
    st.sampled_from(["gh", "ghp_", "_", "-", ".", ":", "=", "://", "@", "token", "Key", "PASS", "secret", "bearer"]),
    st.sampled_from(["Authorization", "basic", "AKIA", "asia", "eyJ", "v1.", "sk-", "xox", "glpat-", "-----BEGIN "]),
    st.sampled_from(["sig", "%", ",", "credential", "x-amz-signature", "passwd", "'", "secret',"]),
    st.sampled_from(["gsk_", "github_pat_", "\u212aey", "\u0130", "K", "a", " ", "fix the pool", "x" * 20, "ä", "\0"]),
)


@settings(patient, max_examples=1000)
@given(text=st.lists(pieces, max_size=12).map("".join))
def test_what_it_clears_holds_no_secret(native: ModuleType, text: str) -> None:
    """A string that the extension lets pass holds nothing that any pattern finds."""
    if native.clears(text):
        assert THOROUGH.redact(text) is text


@pytest.mark.parametrize(
    "text",
    ["Fix leak 17 in the connection pool", "https://example.invalid/acme/api/pulls/4711", "größer als zuvor " * 2],
)
def test_it_clears_ordinary_strings(native: ModuleType, text: str) -> None:
    """Titles and addresses need no second look."""
    assert native.clears(text)


JUNK: list[Any] = [
    None,
    object(),
    -1,
    2**70,
    True,
    0.5,
    "",
    "text",
    b"",
    b"\0" * 20_000,
    [],
    {},
    {1: 2},
    frozenset("a"),
]


def span_arguments(journal: Journal) -> list[Any]:
    """Arguments of append_span that it takes."""
    known = {"a": b"\n\x01a"}
    return [journal, known, True, SPAN, 0, b"head", b"12345678", b"name", NOW, NOW, b"", frozenset(), {"a": 1}]


def log_arguments(journal: Journal | None, fd: int) -> list[Any]:
    """Arguments of write_log that it takes."""
    known = {"a": b"\n\x01a"}
    first = [journal, known, True, 0, fd, NOW, b'Z","trace_id":"', b"otlp", b"00" * 16, b"trace", b"12345678"]
    return [*first, b'",', b"", {"b"}, {"a": 1}, b'{"a":1}\n']


@pytest.fixture
def open_journal(journal_class: type[Journal], tmp_path: Path) -> Iterator[Journal]:
    """A journal with a scope, a file, and no wish to look at it."""
    journal = journal_class(tmp_path)
    journal.scope(journal.resource(b"\n\x00"), b"\n\x00")
    journal.append(SPAN, 0, b"\x12\x00")
    file_of(journal).next_look = 2**62
    yield journal
    journal.close()


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: type(junk).__name__)
def test_junk_is_declined(native: ModuleType, open_journal: Journal, tmp_path: Path, junk: Any) -> None:
    """An argument of any other type or size is declined or does no harm; what is declined leaves no trace."""
    with (tmp_path / "log").open("ab") as stream:
        calls = [
            (native.append_span, span_arguments(open_journal)),
            (native.write_log, log_arguments(open_journal, stream.fileno())),
        ]
        for function, arguments in calls:
            assert function(*arguments) is True
            for place in range(len(arguments)):
                if place == 4 and function is native.write_log and junk is True:
                    continue  # a descriptor that is another's
                before = file_of(open_journal).offset, (tmp_path / "log").stat().st_size
                if function(*arguments[:place], junk, *arguments[place + 1 :]) is False:
                    assert (file_of(open_journal).offset, (tmp_path / "log").stat().st_size) == before
        for function, arguments in calls:
            with pytest.raises(TypeError, match="arguments wanted"):
                function(*arguments[1:])


def test_it_declines_where_the_journal_must_look(native: ModuleType, open_journal: Journal) -> None:
    """Time for a look, an unknown scope, a full file, no file: all are the Python code's business."""
    arguments = span_arguments(open_journal)
    segment = file_of(open_journal)
    assert native.append_span(*arguments) is True
    assert native.append_span(*arguments[:4], segment.known_scopes, *arguments[5:]) is False
    segment.next_look = 0
    assert native.append_span(*arguments) is False
    segment.next_look = 2**62
    segment.known_scopes, scopes_known = 0, segment.known_scopes
    assert native.append_span(*arguments) is False
    segment.known_scopes = scopes_known
    for nothing in (None, 1, b"bytes"):
        open_journal.segment = nothing  # type: ignore[assignment]
        assert native.append_span(*arguments) is False
    open_journal.segment = segment
    while native.append_span(*arguments):
        pass
    assert segment.size - segment.offset < 100
    assert segment.append(SPAN, 0, bytes(100)) is False


def test_a_released_file_is_declined(open_journal: Journal, native: ModuleType) -> None:
    """An append to a file that was unmapped writes nothing, whatever it is asked for."""
    segment = file_of(open_journal)
    arguments = span_arguments(open_journal)
    assert native.append_span(*arguments) is True
    segment.release()
    segment.release()
    assert native.append_span(*arguments) is False
    assert segment.append(SPAN, 0, b"12") is segment.define(SPAN, 0, b"12") is segment.take([(SPAN, 0, b"1")]) is False
    assert segment.holds(SPAN, 0, b"12") is False
    segment.store(72, 1)
    with pytest.raises(ValueError, match="nothing to go on from"):
        segment.continue_from(segment)
    open_journal.segment = None


@pytest.mark.parametrize(
    "junk",
    [
        *(junk for junk in JUNK if not isinstance(junk, bytes)),
        [],
        [1],
        [(1, 2)],
        [(99, 0, b"")],
        [(3, 2**17, b"")],
        [(3, 0, "text")],
    ],
)
def test_a_file_takes_no_junk(open_journal: Journal, junk: Any) -> None:
    """A method of a file that is given anything else than a record raises, or writes nothing."""
    segment = file_of(open_journal)
    before = segment.offset
    for call in (
        lambda: segment.append(junk, junk, junk),
        lambda: segment.define(SPAN, 0, junk),
        lambda: segment.take(junk),
        lambda: segment.holds(junk, 0, b""),
        lambda: segment.store(junk, 1),
        lambda: segment.continue_from(junk),
        lambda: segment.recorded(junk),
        lambda: type(segment).__mro__[1].__init__(segment, junk, junk, junk, junk),  # type: ignore[misc]
    ):
        with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
            call()
    assert segment.offset == before


def test_what_the_descriptor_does_not_take_comes_back(native: ModuleType, open_journal: Journal) -> None:
    """A pipe that is full, and a descriptor that is closed: the rest of the line is returned."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    arguments = log_arguments(open_journal, writing)
    rest: bool | bytes = True
    taken = 0
    while rest is True:
        taken += 1
        rest = native.write_log(*arguments)
    os.close(reading)
    os.close(writing)
    line = native.write_log(*log_arguments(open_journal, writing))
    assert isinstance(rest, bytes)
    assert line.startswith(b'{"timestamp":"2026-')
    assert line.endswith(rest)
    assert file_of(open_journal).recorded(LOG) == taken + 1


def test_threads_share_the_journal(native: ModuleType, journal_class: type[Journal], tmp_path: Path) -> None:
    """Threads that record at once, through several files, leave every record whole and once."""
    journal = journal_class(tmp_path)
    provider = provider_of(journal, native.append_span)
    tracer = provider.get_tracer("test")

    def work(worker: int) -> None:
        for number in range(2000):
            span = tracer.start_span("sync.pr", start_time=NOW)
            span.set_attribute("number", worker * 10_000 + number)
            span.set_attribute("padding", "x" * 100)
            span.end()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert journal.dropped == {}
    from trace_tree import spans_in_journal

    numbers = sorted(node.attributes["number"] for node in spans_in_journal(tmp_path))
    assert numbers == [worker * 10_000 + number for worker in range(4) for number in range(2000)]


def test_nothing_is_leaked(native: ModuleType, open_journal: Journal, tmp_path: Path) -> None:
    """However often it is called, taken or declined, no object stays behind."""
    with (tmp_path / "log").open("ab") as stream:
        spans, records = span_arguments(open_journal), log_arguments(None, stream.fileno())
        declined = [*spans[:-1], {"a": 1, "b": object()}]

        def call(times: int) -> int:
            for _ in range(times):
                native.append_span(*spans)
                native.append_span(*declined)
                native.write_log(*records)
                native.plain_copy({"a": 1})
                native.plain_copy({"a": None})
            return sys.getallocatedblocks()

        before = call(200)
        assert call(2000) - before < 200


@patient
@given(given_attributes=st.dictionaries(st.one_of(keys, st.just(""), st.integers()), values, max_size=4))
def test_plain_attributes_are_copied(native: ModuleType, given_attributes: dict[Any, Any]) -> None:
    """The extension tells plain attributes from others as the Python code does."""
    from otelsync.recording.span import _plain_copy_in_python

    copy = native.plain_copy(given_attributes)
    expected = _plain_copy_in_python(given_attributes)
    assert str(copy) == str(expected)
    assert copy is not given_attributes


@pytest.mark.parametrize(("value", "is_forced"), [("1", True), ("", False), ("0", False)])
def test_the_environment_forces_pure_python(value: str, is_forced: bool) -> None:
    """``OTELSYNC_PURE_PYTHON=1`` leaves the extension unused."""
    code = "from otelsync.journal.native import native; print(native is None)"
    environment = {**os.environ, "OTELSYNC_PURE_PYTHON": value}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    has_none = importlib.util.find_spec("otelsync.journal._native") is None
    assert result.stdout.strip() == str(is_forced or has_none)
    assert not CURRENT.get()  # an empty context, where a test has set one back
