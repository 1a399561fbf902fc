"""Rate limits: what responses say of them, when it is worth a warning, waits, and a look ahead."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from recorded import Recorded

import otelsync
from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limit_fields import read_graphql, read_response, seconds_to_wait
from otelsync.stages.rate_limits import RateLimits, attributes_of, fingerprint, forecast, note, observed
from otelsync.stages.waits import retry_wait

NOW = 1_800_000_000.0
TOKEN = "token ghp_" + "a" * 36


def github(remaining: object, *, limit: object = 5000, reset: object = NOW + 600, **more: str) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
        "X-RateLimit-Resource": "core",
        "X-GitHub-Request-Id": "A:B",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def only(headers: Mapping[str, str], status: int = 200) -> RateLimit:
    (limit,) = read_response(status, headers, NOW).limits
    return limit


class TestHeaders:
    def test_github(self) -> None:
        """All five headers, in any case."""
        expected = RateLimit(resource="core", limit=5000, remaining=4987, used=13, reset=NOW + 60)
        told = github(4987, reset=int(NOW + 60), X_RateLimit_Used="13")
        assert only(told) == expected
        assert only({name.lower(): value for name, value in told.items()}) == expected

    def test_groq_and_openai(self) -> None:
        """Two limits, of requests and of tokens, with resets as durations; the tightest is told."""
        observation = read_response(
            200,
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-limit-tokens": "18000",
                "x-ratelimit-remaining-tokens": "897",
                "x-ratelimit-reset-tokens": "760ms",
            },
            NOW,
        )
        requests, tokens = observation.limits
        assert requests == RateLimit(resource="requests", limit=14400, remaining=14370, reset=NOW + 179.56)
        assert tokens == RateLimit(resource="tokens", limit=18000, remaining=897, reset=NOW + 0.76)
        assert observation.tightest is tokens

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            (
                {"RateLimit": '"default";r=50;t=30', "RateLimit-Policy": '"default";q=100;w=60'},
                [RateLimit(resource="default", limit=100, remaining=50, reset=NOW + 30)],
            ),
            (
                {
                    "RateLimit": '"burst";r=1;t=5, "day, or so";r=900',
                    "RateLimit-Policy": '"burst";q=10;w=5,"day, or so";q=1000;w=86400;pk=:cHJvamVjdDE=:',
                },
                [
                    RateLimit(resource="burst", limit=10, remaining=1, reset=NOW + 5),
                    RateLimit(resource="", limit=1000, remaining=900),
                ],
            ),
            ({"RateLimit": "problem;r=0;t=10"}, [RateLimit(resource="problem", remaining=0, reset=NOW + 10)]),
            ({"RateLimit": "limit=100, remaining=50, reset=5"}, [RateLimit(limit=100, remaining=50, reset=NOW + 5)]),
            (
                {"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "50", "RateLimit-Reset": "20"},
                [RateLimit(limit=100, remaining=50, reset=NOW + 20)],
            ),
        ],
    )
    def test_the_ietfs_fields(self, headers: dict[str, str], expected: list[RateLimit]) -> None:
        """The current structured fields, the form before them, and the three headers of the older drafts."""
        assert list(read_response(200, headers, NOW).limits) == expected

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("120", 120.0),
            (" 0 ", 0.0),
            ("1.5", 1.5),
            ("Fri, 15 Jan 2027 08:01:40 GMT", 100.0),
            ("Friday, 15-Jan-27 08:01:40 GMT", 100.0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
            ("", None),
            ("-1", None),
            ("nan", None),
            ("inf", None),
            ("1e3", None),
            ("1" * 31, None),
            ("99999999999", None),
            ("Fri, 15 Jan 9999 08:01:40 GMT", None),
            ("Fri, 99 Foo 2027 08:01:40 GMT", None),
            ("soon, please", None),
            ("٣٣", None),
        ],
    )
    def test_retry_after(self, text: str, seconds: float | None) -> None:
        """Seconds or an HTTP date; a date that has passed is now, and nonsense is nothing."""
        assert seconds_to_wait(text, NOW) == seconds

    @pytest.mark.parametrize("junk", ["-1", "NaN", "1" + "0" * 30, "", "0x10", "many", "\u0665", "1_000", "5000 5000"])
    def test_a_count_that_is_none_is_not_told(self, junk: str) -> None:
        """Limits that cannot be are no limits."""
        assert read_response(200, github(junk, limit=junk), NOW) == Observation()
        assert only(github(7, limit=junk)).limit is None

    @pytest.mark.parametrize("junk", ["-5", "NaN", "1" + "0" * 30, "yesterday", "1e400", "12345678901", "3h3h"])
    def test_a_reset_that_cannot_be_is_not_told(self, junk: str) -> None:
        """Neither in the far future nor in the past; what remains stands all the same."""
        assert only(github(7, reset=junk)) == RateLimit(resource="core", limit=5000, remaining=7)

    def test_a_reset_comes_in_several_forms(self) -> None:
        """Epoch seconds, milliseconds, seconds from now."""
        moments = {
            only(github(7, reset=reset)).reset for reset in (int(NOW + 9), int((NOW + 9) * 1000), "9", "9.0", "9s")
        }
        assert moments == {NOW + 9}

    @pytest.mark.parametrize(
        ("status", "headers", "body", "refused"),
        [
            (200, github(0), b"", ""),
            (403, github(0), b"", "primary"),
            (429, github(0), b"", "primary"),
            (403, github(10), b"", ""),
            (403, github(10, Retry_After="60"), b"", "secondary"),
            (429, github(10), b"", "secondary"),
            (403, github(10), b'{"message":"You have exceeded a secondary rate limit."}', "secondary"),
            (403, github(0), b'{"message":"You have exceeded a secondary rate limit."}', "secondary"),
            (403, {}, b'{"message":"API rate limit exceeded for user ID 1."}', "primary"),
            (403, {}, b"Resource not accessible by integration", ""),
            (429, {}, b"", "primary"),
            (404, github(0), b"", ""),
            (503, {"Retry-After": "3"}, b"", ""),
        ],
    )
    def test_which_limit_refuses(self, status: int, headers: dict[str, str], body: bytes, refused: str) -> None:
        """As GitHub documents it; other services know one kind of limit, and a plain 403 is none."""
        assert read_response(status, headers, NOW, body).refused == refused

    @given(
        st.dictionaries(
            st.sampled_from([*github(1), "RateLimit", "RateLimit-Policy", "Retry-After"]),
            st.text() | st.text(alphabet='";,=:?- 019arqtw\\'),
        )
    )
    @example({"RateLimit": ";"})
    def test_no_header_does_harm(self, headers: dict[str, str]) -> None:
        """Whatever a server sends, figures are whole, not negative and bounded, and moments are near."""
        observation = read_response(429, headers, NOW)
        for limit in observation.limits:
            for figure in (limit.limit, limit.remaining, limit.used):
                assert figure is None or 0 <= figure < 10**12
            assert limit.reset is None or abs(limit.reset - NOW) < 400 * 86_400
            assert 0.0 <= limit.left <= 1.0
        assert observation.retry_after is None or 0 <= observation.retry_after < 400 * 86_400
        assert all(isinstance(value, (int, float, str)) for value in attributes_of(observation).values())

    def test_a_huge_field_is_read_in_bounded_time_and_number(self) -> None:
        """A megabyte of items, quotes or blanks counts as its beginning."""
        for text in ('"a";r=1,' * 100_000, '"' * 1_000_000, " " * 1_000_000, '\\"' * 500_000):
            assert len(read_response(200, {"RateLimit": text, "Retry-After": text}, NOW).limits) <= 8


class TestGraphql:
    def test_the_limit_in_the_data(self) -> None:
        """``rateLimit {...}`` as GitHub answers it."""
        told = {"limit": 5000, "remaining": 4999, "used": 1, "cost": 1, "resetAt": "2027-01-15T08:10:00Z"}
        (limit,) = read_graphql({"data": {"rateLimit": told}}, NOW).limits
        assert limit == RateLimit(resource="graphql", limit=5000, remaining=4999, used=1, reset=NOW + 600)

    @pytest.mark.parametrize(
        "error",
        [{"type": "RATE_LIMITED"}, {"type": "RATE_LIMIT"}, {"extensions": {"code": "graphql_rate_limit"}}],
        ids=str,
    )
    def test_a_refusal_in_the_errors(self, error: dict[str, Any]) -> None:
        """All forms that have been seen, beside other errors."""
        assert read_graphql({"data": None, "errors": [{"type": "NOT_FOUND"}, error]}, NOW).refused == "primary"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["data", "errors", "rateLimit", "limit", "remaining", "resetAt", "type", "extensions", "code"]
                    ),
                    inner,
                    max_size=5,
                )
            ),
        )
    )
    def test_no_body_does_harm(self, body: object) -> None:
        """Whatever JSON it is."""
        for limit in read_graphql(body, NOW).limits:
            assert limit.remaining is None or 0 <= limit.remaining < 10**12


class TestWarnings:
    @staticmethod
    def levels(limits: RateLimits, *remaining: int, at: float = NOW, reset: float = NOW + 600) -> list[str]:
        """What each response with so many calls remaining is worth: ``low``, ``exhausted`` or nothing."""
        said = []
        for number in remaining:
            worse = limits.observe("h", read_response(200, github(number, reset=reset), NOW), now=at)
            said.append(worse[0].level if worse else "")
        return said

    def test_once_a_change(self) -> None:
        """Low and exhausted are said once each, though answers overtake each other."""
        limits = RateLimits(low=0.1)
        assert self.levels(limits, 501, 500, 499, 503, 498, 0, 0, 1) == ["", "low", "", "", "", "exhausted", "", ""]

    def test_another_window_begins_anew(self) -> None:
        """After the reset, by a later reset, and where much remains again."""
        limits = RateLimits(low=0.1)
        assert self.levels(limits, 400) == ["low"]
        assert self.levels(limits, 400, at=NOW + 601, reset=NOW + 1200) == ["low"]
        assert self.levels(limits, 400, at=NOW + 700, reset=NOW + 1203) == [""]
        assert self.levels(limits, 400, at=NOW + 700, reset=NOW + 1900) == ["low"]
        assert self.levels(limits, 5000, 400, at=NOW + 700, reset=NOW + 1900) == ["", "low"]

    def test_limits_are_apart(self) -> None:
        """By host, resource and token."""
        limits = RateLimits(low=0.1)
        said = [
            bool(
                limits.observe(host, read_response(200, {**github(1), "X-RateLimit-Resource": name}, NOW), token=token)
            )
            for host in ("a", "b")
            for name in ("core", "search")
            for token in ("x", "y")
        ]
        assert said == [True] * 8
        assert len(limits.standings()) == 8

    def test_a_refusal_exhausts(self) -> None:
        """Of a secondary limit too, which has no figures; it is said again when the last one's time is over."""
        limits = RateLimits()
        refusal = read_response(403, github(4000, Retry_After="60"), NOW)
        assert [standing.limit.resource for standing in limits.observe("h", refusal, now=NOW)] == ["secondary"]
        assert limits.observe("h", refusal, now=NOW + 10) == []
        assert len(limits.observe("h", refusal, now=NOW + 71)) == 1
        (standing,) = limits.observe("other", read_response(429, {}, NOW), now=NOW)
        assert (standing.level, standing.limit.reset) == ("exhausted", NOW + 60)

    def test_their_number_is_bounded(self) -> None:
        """The one that was not seen for longest goes first."""
        limits = RateLimits(most=10)
        for number in range(100):
            limits.observe(f"host{number}", read_response(200, github(1), NOW))
        assert [standing.host for standing in limits.standings()] == [f"host{number}" for number in range(90, 100)]

    def test_many_threads_say_it_once(self) -> None:
        """One warning, whoever comes first."""
        limits = RateLimits(low=0.1)
        said: list[int] = []

        def work() -> None:
            told = [read_response(200, github(number), NOW) for number in range(400, 200, -1)]
            said.extend(len(limits.observe("h", each, now=NOW)) for each in told)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(said) == 1

    def test_the_threshold_is_a_setting(self, recorded: Recorded, record: Any) -> None:
        """A tenth by default, else what ``rate_limit_low`` says."""
        assert recorded.settings.rate_limit_low == 0.1
        otelsync.shutdown()
        record(rate_limit_low=0.5)
        assert self.levels(RateLimits(), 2500) == ["low"]

    @pytest.mark.parametrize("value", ["1", "-0.1", "nan", "10%", "much"])
    def test_a_threshold_that_is_no_part_is_refused(self, value: str) -> None:
        """A limit that is always low, or never, is a mistake; configure() says so."""
        with pytest.raises(otelsync.ConfigurationError, match=r"parts of the limit from 0 to 0\.99"):
            otelsync.configure(rate_limit_low=value)

    def test_a_warning_is_a_record_of_its_span(self, recorded: Recorded) -> None:
        """It has host, resource, figures and the token's fingerprint; the span has a mark, the API call the figures."""
        reset = int(time.time()) + 600
        with otelsync.api_call("list") as call:
            seen = read_response(200, github(3, reset=reset), time.time())
            note(seen, host="warned.example", token=fingerprint(TOKEN), span=call.span)
        line = recorded.line("sync.rate_limit.low")
        span = recorded.span("sync.api list")
        assert line["level"] == "warning"
        assert (line["trace_id"], line["span_id"]) == (span.trace_id, span.span_id)
        assert (line["host"], line["resource"], line["remaining"], line["limit"]) == ("warned.example", "core", 3, 5000)
        assert line["token_fingerprint"] == fingerprint(TOKEN)
        assert [name for name, _ in span.events] == ["sync.rate_limit.low"]
        limits = {key: value for key, value in span.attributes.items() if key.startswith("sync.rate_limit.")}
        assert limits == {
            "sync.rate_limit.limit": 5000,
            "sync.rate_limit.remaining": 3,
            "sync.rate_limit.reset": reset,
            "sync.rate_limit.resource": "core",
            "sync.rate_limit.host": "warned.example",
            "sync.rate_limit.token_fingerprint": fingerprint(TOKEN),
        }
        assert "ghp_" not in recorded.text

    def test_a_forked_child_can_go_on(self) -> None:
        """A lock that another thread of the parent holds is free in the child."""
        with observed._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if observed.standings() is not None else 1)
        assert os.waitpid(child, 0)[1] == 0


class TestObservations:
    def test_a_limit_is_told_again_when_a_tenth_of_it_has_changed(self, recorded: Recorded) -> None:
        """At first sight, with another size, and where a tenth is gone or has come back; not with each response."""
        limits = RateLimits()
        for remaining in (4999, 4998, 4600, 4490, 4489, 4000, 3980, 4999):
            limits.observe("h", read_response(200, github(remaining), NOW), now=NOW)
        limits.observe("h", read_response(200, github(900, limit=1000), NOW), now=NOW)
        limits.observe("h", read_response(200, github(899, limit=1000), NOW), now=NOW)
        told = [line for line in recorded.lines if line["event"] == "sync.rate_limit.observed"]
        assert [line["remaining"] for line in told] == [4999, 4490, 3980, 4999, 900]
        assert {(line["level"], line["id"], line["host"], line["resource"]) for line in told} == {
            ("info", "rl-001", "h", "core")
        }

    def test_what_is_warned_of_is_not_told_twice(self, recorded: Recorded) -> None:
        """A response that makes a limit low or exhausted is a warning, and nothing else."""
        limits = RateLimits()
        for remaining in (400, 399, 0):
            limits.observe("h", read_response(200, github(remaining), NOW), now=NOW)
        assert [line["event"] for line in recorded.lines] == ["sync.rate_limit.low", "sync.rate_limit.exhausted"]

    def test_what_is_remembered_is_bounded(self) -> None:
        """With the limit that is forgotten goes what was told of it."""
        limits = RateLimits(most=2)
        for host in "abc":
            limits.observe(host, read_response(200, github(5), NOW), now=NOW)
        assert len(limits._told) == len(limits.standings()) == 2


class TestFingerprint:
    def test_it_tells_tokens_apart_and_tells_none(self) -> None:
        """The scheme is no part of it; nothing has none."""
        assert fingerprint(TOKEN) == fingerprint("Bearer " + TOKEN.split()[1])
        assert fingerprint(TOKEN) != fingerprint(TOKEN + "b")
        assert len(fingerprint(TOKEN)) == 8
        assert fingerprint("") == fingerprint("  ") == ""

    def test_a_short_secret_cannot_be_found_by_trying(self) -> None:
        """Its fingerprint is salted, and another in each process."""
        here = fingerprint("Basic YTpi")
        code = "from otelsync.stages.rate_limits import fingerprint; print(fingerprint('Basic YTpi'), end='')"
        there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert len(here) == len(there) == 8
        assert here != there


class TestWaits:
    def test_a_wait_is_a_span_and_is_summed(self, recorded: Recorded) -> None:
        """Planned and actual seconds on the wait, their sum on API call, repo and pipeline, an event at INFO."""
        with otelsync.pipeline("p"), otelsync.repo("acme/api"):
            with otelsync.api_call("list"), otelsync.rate_limit_wait(0.02, kind="secondary"):
                pass
            with otelsync.pull_request(1), otelsync.rate_limit_wait(30):
                pass
            with retry_wait(1, "server"):
                pass
        assert (
            recorded.tree("sync.rate_limit.kind", "sync.rate_limit.planned_seconds", "sync.retry.reason")
            == """
sync.pipeline p             [success]
  sync.repo acme/api        [success]
    sync.api list           [success]
      sync.rate_limit.wait  [success] kind=secondary planned_seconds=0.02
    sync.pr
      sync.rate_limit.wait  [success] kind=primary planned_seconds=30.0
    sync.retry.wait         [success] reason=server"""
        )
        waits = [span for span in recorded.spans if span.name == "sync.rate_limit.wait"]
        actual = [span.attributes["sync.rate_limit.actual_seconds"] for span in waits]
        summed = {span.name: span.attributes.get("sync.rate_limit.waited_seconds") for span in recorded.spans}
        assert summed["sync.api list"] == pytest.approx(actual[0], abs=0.002)
        assert summed["sync.repo acme/api"] == pytest.approx(sum(actual), abs=0.002)
        assert summed["sync.pipeline p"] == summed["sync.repo acme/api"]
        events = [line for line in recorded.lines if line["event"] == "sync.rate_limit.waiting"]
        assert [(line["level"], line["kind"], line["planned_seconds"]) for line in events] == [
            ("info", "secondary", 0.02),
            ("info", "primary", 30.0),
        ]
        assert [line["span_id"] for line in events] == [span.span_id for span in waits]

    def test_waits_of_one_run_do_not_count_for_the_next(self, recorded: Recorded) -> None:
        """A stage that is entered again begins at nothing."""
        stage = otelsync.pipeline("p")
        with stage, otelsync.rate_limit_wait(1):
            pass
        with stage:
            pass
        first, second = [span for span in recorded.spans if span.name == "sync.pipeline p"]
        assert "sync.rate_limit.waited_seconds" in first.attributes
        assert "sync.rate_limit.waited_seconds" not in second.attributes

    def test_an_exception_ends_the_wait(self, recorded: Recorded) -> None:
        """It passes unchanged, and the seconds count up to it."""
        with pytest.raises(KeyboardInterrupt), otelsync.pipeline("p"), otelsync.rate_limit_wait(60):
            raise KeyboardInterrupt
        assert recorded.span("sync.rate_limit.wait").attributes["sync.outcome"] == "cancelled"
        assert "sync.rate_limit.waited_seconds" in recorded.span("sync.pipeline p").attributes

    @pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 10**400, "soon", None], ids=str)
    def test_what_is_no_time_is_nought(self, recorded: Recorded, seconds: Any) -> None:
        """Telemetry does not judge the arguments of the program that it watches."""
        with otelsync.rate_limit_wait(seconds):
            pass
        assert recorded.span("sync.rate_limit.wait").attributes["sync.rate_limit.planned_seconds"] == 0.0

    def test_outside_any_configuration_it_does_nothing(self) -> None:
        """The block runs."""
        with otelsync.rate_limit_wait(1):
            ran = True
        assert ran


class TestForecast:
    LIMIT = RateLimit(limit=5000, remaining=1000, reset=NOW + 600)

    def test_what_remains_suffices(self) -> None:
        """For less work than remains, and for work so slow that the reset comes first."""
        assert not forecast(self.LIMIT, calls=1000, per_second=100, now=NOW)
        assert not forecast(self.LIMIT, calls=9000, per_second=1, now=NOW)
        assert not forecast(RateLimit(), calls=10**9, per_second=100, now=NOW)
        assert not forecast(self.LIMIT, calls=9000, per_second=100, now=NOW + 600)

    def test_when_it_is_exhausted(self) -> None:
        """After what remains, at the given rate; then it is the wait until the reset, and the rest of the work."""
        ahead = forecast(self.LIMIT, calls=3000, per_second=10, now=NOW)
        assert (ahead.exhausted_at, ahead.wait_seconds, ahead.calls_left) == (NOW + 100, 500.0, 2000)

    def test_it_is_exhausted_already(self) -> None:
        """The wait begins now."""
        ahead = forecast(RateLimit(remaining=0, reset=NOW + 5), calls=1, per_second=0, now=NOW)
        assert (ahead.exhausted_at, ahead.wait_seconds, ahead.calls_left) == (NOW, 5.0, 1)

    @given(
        remaining=st.integers(0, 10_000),
        calls=st.integers(0, 10_000),
        per_second=st.floats(0, 1e6),
        ahead=st.floats(-100, 10_000),
    )
    def test_it_never_promises_what_is_not_there(
        self, remaining: int, calls: int, per_second: float, ahead: float
    ) -> None:
        """Where it foresees exhaustion, that lies between now and the reset, with work left to do."""
        seen = forecast(RateLimit(remaining=remaining, reset=NOW + ahead), calls=calls, per_second=per_second, now=NOW)
        if seen:
            assert seen.exhausted_at is not None
            assert NOW <= seen.exhausted_at <= NOW + ahead
            assert seen.wait_seconds >= 0
            assert seen.calls_left == calls - remaining > 0
