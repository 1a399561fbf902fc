"""Bounds of what a record holds: whatever is given is cut, says so, leaves no part of a secret, and costs no record."""

from __future__ import annotations

import logging
import sys
import traceback
from collections import UserString, deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import Event
from recorded import Recorded
from test_hostile_values import without_pytests_handlers
from test_redaction import SECRETS, TAIL

import otelsync
from otelsync import bounds
from otelsync.bounds import LONGEST_NAME, LONGEST_TEXT, MOST_ITEMS
from otelsync.integrations.http.urls import without_secrets
from otelsync.journal.native import native
from otelsync.otlp import encoding
from otelsync.recording.provider import TracerProvider
from otelsync.recording.span_bytes import encode_events
from otelsync.redaction import Redactor
from otelsync.text.tracebacks import traceback_of

LARGEST = 1_000_000
"""Bytes that no record comes near: UTF-8 takes up to four for a character, and a record holds a few texts."""


def nest(depth: int, width: int) -> Any:
    value: Any = "leaf"
    for _ in range(depth):
        value = [value] * width
    return value


class LongText:
    """An object whose text is long, such as a data frame."""

    def __repr__(self) -> str:
        return "1.5 " * 500_000


VALUES: dict[str, Any] = {
    "text": "words and " * 300_000,
    "one word": "x" * 3_000_000,
    "another alphabet": "日本 " * 800_000,
    "bytes": b"x" * 3_000_000,
    "bytearray": bytearray(3_000_000),
    "integer": 1 << 3_000_000,
    "list": [0] * 300_000,
    "texts": ["some words"] * 100_000,
    "tuple": ("a", "b") * 100_000,
    "set": set(range(100_000)),
    "deque": deque(range(100_000)),
    "range": range(10**9),
    "mapping": dict.fromkeys(map(str, range(100_000)), "x"),
    "numbers as keys": dict.fromkeys(range(100_000), "x"),
    "long key": {"k" * 3_000_000: "v"},
    "deep": nest(50_000, 1),
    "wide and deep": nest(8, 4),
    "user's string": UserString("x" * 200_000),
    "object": LongText(),
}


def _stages(value: Any) -> None:
    with otelsync.pipeline(value), otelsync.sync_context(team=value), otelsync.pull_request(value, title=value) as pull:
        pull.set(found=value)
        pull.event("sync.x", field=value)
        pull.fail(value)


def _spans(value: Any) -> None:
    with trace.get_tracer("app").start_as_current_span(value, attributes={"a": value}) as span:
        span.set_attributes({f"a{number}": value for number in range(20)})
        for _ in range(128):
            span.add_event(value, {"a": value})
            span.add_link(span.get_span_context(), {"a": value})
        span.update_name(value)
        span.set_status(trace.StatusCode.ERROR, str(value) if isinstance(value, str) else "x")


def _exceptions(value: Any) -> None:
    for error in (ValueError(value), KeyError(value), ValueError(value, value), OSError(2, value)):
        try:
            with otelsync.repo("acme/api"):
                raise error
        except Exception:
            logging.getLogger("app").exception("failed")


def _logs(value: Any) -> None:
    log = otelsync.get_logger("app")
    if logging.getLogger().handlers[-1].__class__ is not logging.NullHandler:  # else structlog itself prints it
        log.warning(value)
        log.warning("said", field=value)
        log.warning("said %s", value)
    standard = logging.getLogger("app")
    standard.warning(value)
    standard.warning("said", extra={"field": value})
    standard.warning("said %s of %s", value, 7)
    standard.warning("said %(a)s", {"a": value})


@pytest.mark.parametrize("use", [_stages, _spans, _exceptions, _logs])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("options", [{}, {"logging": "keep"}], ids=["take over", "keep"])
def test_whatever_is_given_the_record_is_small_and_there(
    record: Callable[..., Recorded], use: Callable[[Any], None], value: Any, options: dict[str, Any]
) -> None:
    """No record is dropped, or larger than a fraction of what the journal takes."""
    without_pytests_handlers()
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)
    recorded = record(**options)
    try:
        use(value)
    finally:
        logging.getLogger().removeHandler(silent)
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    assert provider.journal.dropped == {}
    for line in recorded.output.getvalue().splitlines():
        assert len(line) < LARGEST
    texts = [repr(span) for span in recorded.spans] + [repr(line) for line in recorded.logs]
    assert len(texts) >= 1
    assert max(map(len, texts)) < LARGEST


def test_what_was_cut_says_so(recorded: Recorded) -> None:
    """The beginning stands, and the number of what there was."""
    with otelsync.stage("n" * 5_000) as stage:
        stage.set(text="x" * 1_000_000, items=list(range(50_000)), number=1 << 100_000, raw=b"x" * 1_000_000)
    otelsync.get_logger().info("e" * 1_000_000, **{"k" * 1_000: 1})
    (span,) = recorded.spans
    assert span.name == "sync.stage " + "n" * (LONGEST_NAME) + "... (5,000 characters, cut)"
    assert span.attributes["text"] == "x" * LONGEST_TEXT + "... (1,000,000 characters, cut)"
    items = span.attributes["items"]
    assert items[-1] == "... (50,000 items, cut)"
    assert MOST_ITEMS - 10 < len(items) <= MOST_ITEMS + 1
    assert span.attributes["number"] == "<int of 100,001 bits>"
    assert str(span.attributes["raw"]).endswith(", cut)")
    (line,) = recorded.lines
    assert line["event"] == "e" * LONGEST_TEXT + "... (1,000,000 characters, cut)"
    assert line["k" * 256 + "... (1,000 characters, cut)"] == 1


def test_a_record_with_very_many_fields_has_the_first(recorded: Recorded) -> None:
    """A note stands for the others; so it does for the attributes of an event."""
    otelsync.get_logger().info("said", **dict.fromkeys(map(str, range(20_000)), "x"))
    with otelsync.stage("s"):
        trace.get_current_span().add_event("e", dict.fromkeys(map(str, range(20_000)), "x"))
    said = next(line for line in recorded.logs if line.event == "said")
    assert (said.attributes["0"], said.attributes["..."]) == ("x", "... (20,000 attributes, cut)")
    assert recorded.line("said")["..."] == "... (20,000 attributes, cut)"
    assert len(said.attributes) <= MOST_ITEMS + 1


SHORT_LIMIT = 60


@pytest.mark.parametrize("secret", [*SECRETS, "password=hunter2hunter2", "postgresql://sync:hunter2hunter2@db/x"])
def test_no_part_of_a_secret_is_left_at_a_cut(secret: str) -> None:
    """Wherever the cut falls: before, in or behind it."""
    redactor = Redactor()
    hidden = secret.rpartition("=")[2] if "=" in secret else secret.rpartition("sync:")[2].partition("@")[0]
    for longest in range(90, 100 + len(secret) + 10, 5):
        clean = redactor.shorten("b " * 50 + secret + " after" * 1_000, longest)
        assert not any(hidden[:n] in clean for n in range(6, len(hidden) + 1)), longest


LONG = "a1B2c3D4e5F6" * 2_000


@pytest.mark.parametrize(
    "secret",
    [
        f"eyJhbGciOiJIUzI1NiJ9{LONG}.{LONG}.{LONG}",
        f"sk-{'abcdef' * 4_000}1",
        f"Bearer {LONG}",
        "Basic " + "YTpi" * 6_000,
        f"password={LONG}",
        f"ghp_{LONG}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{LONG}\n-----END RSA PRIVATE KEY-----",
    ],
    ids=lambda secret: secret[:10],
)
def test_a_secret_that_is_longer_than_what_is_shown(secret: str) -> None:
    """Nothing of it is shown, though its end, which would tell what it is, is never seen."""
    redactor = Redactor()
    start = secret.index("=") + 1 if "=" in secret else min(8, len(secret))
    for longest in (20, 200, 5_000):
        clean = redactor.shorten("before " + secret + " after", longest)
        assert secret[start : start + 12] not in clean


@pytest.mark.parametrize("variable", ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_limits_of_the_environment_hold_and_tear_no_secret(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A value is no longer than the limit says, and what it cuts was free of secrets before."""
    monkeypatch.setenv(variable, str(SHORT_LIMIT))
    recorded = record()
    secret = f"ghp_{TAIL[:36]}"
    with otelsync.stage("s") as stage:
        stage.set(text="x" * (SHORT_LIMIT - 20) + " " + secret, items=["x" * 50 + " " + secret], long="y" * 100_000)
    (span,) = recorded.spans
    assert secret[:10] not in repr(span)
    assert max(len(str(span.attributes[key])) for key in ("text", "long")) <= SHORT_LIMIT


@pytest.mark.parametrize(
    "variable", ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT"]
)
@pytest.mark.parametrize("limit", [SHORT_LIMIT, 200])
@pytest.mark.parametrize("options", [{}, {"logging": "keep"}], ids=["take over", "keep"])
def test_limits_of_the_environment_hold_for_log_records(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, variable: str, limit: int, options: dict[str, Any]
) -> None:
    """Of any length that the fields have together; a note stands where the limit has room for it."""
    monkeypatch.setenv(variable, str(limit))
    recorded = record(**options)
    secret = f"ghp_{TAIL[:36]}"
    text = "x" * (limit - 20) + " " + secret
    logging.getLogger("app").warning("said", extra={"text": text, "long": "y" * 100_000, "few": "z" * limit})
    said = next(line for line in recorded.logs if line.event == "said")
    assert secret[:10] not in repr(said)
    assert max(len(str(said.attributes[key])) for key in ("text", "long", "few")) <= limit
    assert str(said.attributes["long"]).endswith("(100,000 characters, cut)") == (limit == 200)


@pytest.mark.parametrize("value", ["", "-1", "many", "99999999999"])
def test_a_limit_that_is_none_changes_nothing(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Ours holds."""
    monkeypatch.setenv("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", value)
    recorded = record()
    otelsync.get_logger().info("said", text="x" * 100_000)
    assert recorded.lines[-1]["text"] == "x" * LONGEST_TEXT + "... (100,000 characters, cut)"


def test_events_that_are_too_much_keep_their_names(recorded: Recorded) -> None:
    """The first have what they hold; of the others it is known how much that was."""
    with otelsync.stage("s"):
        for number in range(100):
            trace.get_current_span().add_event(f"e{number}", {"a": "x" * 10_000, "b": number})
    (span,) = recorded.spans
    assert [name for name, _ in span.events] == [f"e{number}" for number in range(100)]
    assert len(span.events[0][1]["a"]) == 10_000
    assert span.events[-1][1] == {}
    events = [Event("e", {"a": "x" * 10_000, "b": 1}) for _ in range(100)]
    encoded = Span.FromString(b"".join(encode_events(events, encoding.AttributeEncoder(0x1A), str))).events
    assert [event.dropped_attributes_count for event in (encoded[0], encoded[-1])] == [0, 2]


def test_a_long_traceback_keeps_its_end() -> None:
    """Above all the last calls and the message, and the first ones; it says that something is left out between them."""

    def fall(depth: int) -> None:
        try:
            if depth:
                fall(depth - 1)
        finally:
            raise ValueError(f"{depth} " + "n" * 3_000)

    with pytest.raises(ValueError, match="10 nnn") as caught:
        fall(10)
    text = traceback_of(caught.value)
    assert len(text) <= LONGEST_TEXT
    assert text.startswith("Traceback (most recent call last):")
    assert "characters in all, cut)" in text
    assert text.rstrip().endswith("10 " + "n" * 3_000)


def test_a_long_address_is_cut_before_its_password_could_be_torn() -> None:
    """What may be the first half of a password is no part of what is recorded."""
    assert "hunter" not in without_secrets("https://me:" + "hunter2" * 5_000 + "@example.com/x")
    assert len(without_secrets("https://example.com/" + "x" * 10**6)) < 10_000


_FIELDS = st.dictionaries(
    st.one_of(st.text(max_size=5), st.text("k", min_size=250, max_size=260), st.integers()),
    st.one_of(
        *(st.text(max_size=5), st.text("日x", min_size=4_000, max_size=8_200), st.integers(-(2**70), 2**70)),
        *(st.floats(), st.booleans(), st.none(), st.binary(max_size=2), st.lists(st.none(), max_size=1)),
    ),
    max_size=4,
)


@given(_FIELDS)
def test_the_extension_says_little_of_the_same(fields: dict[Any, Any]) -> None:
    """What needs no care is the same with and without the extension."""
    if native is not None:
        assert native.is_little(fields) == encoding._is_little_in_python(fields)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def _caused() -> BaseException:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as caught:
        caught.add_note("a note")
        return caught


@pytest.mark.parametrize(
    "error",
    [raised(ValueError("x")), ValueError("never raised"), _caused(), ExceptionGroup("g", [OSError(2, "no")])],
    ids=["raised", "never raised", "caused", "group"],
)
def test_a_traceback_is_that_of_python(error: BaseException) -> None:
    """As long as it is not very long."""
    assert traceback_of(error) == "".join(traceback.format_exception(error))


def test_a_very_long_chain_of_exceptions_ends(recorded: Recorded) -> None:
    """The latest are shown."""
    assert recorded
    error: BaseException = ValueError("first")
    for number in range(5_000):
        after = ValueError(f"number {number}")
        after.__cause__, error = error, after
    text = traceback_of(error)
    assert "number 4999" in text
    assert "exceptions before, cut" in text
    assert len(text) < 5_000


def test_a_very_deep_traceback_has_both_ends() -> None:
    """Where it began, and where it arose; functions that call each other are not folded by Python."""

    def odd(left: int) -> None:
        even(left)

    def even(left: int) -> None:
        if not left:
            raise ValueError("at the bottom")
        odd(left - 1)

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(6_000)
    try:
        odd(2_000)
    except ValueError as error:
        text = traceback_of(error)
    finally:
        sys.setrecursionlimit(before)
    assert "in test_a_very_deep_traceback_has_both_ends" in text
    assert "frames, cut)" in text
    assert 'raise ValueError("at the bottom")' in text
    assert text.endswith("ValueError: at the bottom\n")
    assert len(text) < 20_000


def test_text_of_ordinary_values_is_theirs() -> None:
    """Only what is very long has an outline."""
    for value in (None, 7, 1.5, [1, "a"], {"a": (1, 2)}, {1}, b"x", ValueError("no"), KeyError("k"), OSError(2, "no")):
        assert bounds.shown(value) == str(value)
        assert bounds.is_light(value)
    assert bounds.shown([[0] * 10_000, "b"]).startswith("list(list(0, 0,")
    assert bounds.first_words("some words here", 9) == "some ... (15 characters, cut)"
