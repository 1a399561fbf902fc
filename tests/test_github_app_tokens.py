"""Whose turn it is at GitHub: one request at a time a token, across processes, and none before a limit allows it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import pytest
from brokers import redis_server

from examples.github_sync.answers import (
    Answer,
    GithubError,
    NotFoundError,
    ServerTroubleError,
    UnauthorizedError,
    judge,
)
from examples.github_sync.tokens import (
    MARGIN,
    FileKeeper,
    InstallationToken,
    Keeper,
    LimitError,
    RedisKeeper,
    Standing,
    StaticToken,
    TokenPool,
)

NOW = 1_800_000_000.0


def use(make: Callable[[], Keeper], log: Path, times: int) -> None:
    """Take so many turns, and write down when each began and ended."""
    pool = pool_of_two(make())
    with log.open("a") as file:
        for _ in range(times):
            with pool.turn("core") as turn:
                began = time.monotonic()
                time.sleep(0.002)
                turn.standing.note("core", turn.standing.remaining.get("core", 1000) - 1, time.time() + 3600)
                file.write(f"{turn.token.key} {began} {time.monotonic()}\n")


def pool_of_two(keeper: Keeper) -> TokenPool:
    """Return a pool of two tokens."""
    return TokenPool([StaticToken("one"), StaticToken("two")], keeper)


@pytest.mark.parametrize("kind", ["files", "redis"])
def test_one_request_at_a_time_a_token(kind: str, tmp_path: Path) -> None:
    """Of four processes none uses a token while another does; what one learns the others know."""
    with ExitStack() as closing:
        make: Callable[[], Keeper] = partial(FileKeeper, tmp_path / "tokens")
        if kind == "redis":
            (tmp_path / "redis").mkdir()
            make = partial(RedisKeeper, closing.enter_context(redis_server(tmp_path / "redis")).broker().url)
        logs = [tmp_path / f"log{number}" for number in range(4)]
        processes = [get_context("spawn").Process(target=use, args=(make, log, 50)) for log in logs]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        left = [standing.remaining["core"] for standing in pool_of_two(make()).standings().values()]
    turns = [line.split() for log in logs for line in log.read_text().splitlines()]
    assert len(turns) == 200
    for key in {turn[0] for turn in turns}:
        own = sorted((float(began), float(ended)) for token, began, ended in turns if token == key)
        assert all(ended <= began for (_, ended), (began, _) in pairwise(own))
    assert sum(1000 - each for each in left) == 200  # nothing that was learned is lost


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The system gives up what a process held that was killed in its turn."""
    keeper = FileKeeper(tmp_path)
    pid = os.fork()
    if not pid:
        with TokenPool([StaticToken("one")], keeper).turn("core"):
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    with TokenPool([StaticToken("one")], keeper).turn("core") as turn:
        assert turn.standing == Standing()


def test_a_token_that_has_to_wait_is_passed_over(tmp_path: Path) -> None:
    """The other one goes; where all have to wait, the shortest wait is said."""
    one, two = StaticToken("one"), StaticToken("two")
    keeper = FileKeeper(tmp_path)
    pool = TokenPool([one, two], keeper, clock=lambda: NOW)
    keeper.write(one.key, blocked("core", NOW + 50, "primary"))
    with pool.turn("core") as turn:
        assert turn.token is two
        turn.standing.block("*", NOW + 20, "secondary")
    with pytest.raises(LimitError) as raised, pool.turn("core"):
        pass
    assert (raised.value.kind, raised.value.seconds) == ("secondary", 20)
    with pool.turn("graphql") as turn:  # the primary limit is of one resource alone
        assert turn.token is one


def blocked(resource: str, until: float, kind: str) -> Standing:
    """Return the standing of a token that has to wait."""
    standing = Standing()
    standing.block(resource, until, kind)
    return standing


def test_a_damaged_file_is_as_none(tmp_path: Path) -> None:
    """What cannot be read counts as not known."""
    token = StaticToken("one")
    keeper = FileKeeper(tmp_path)
    for rubbish in (b"", b"{", b"[]", b'{"unknown": 1}', b"\xff\xfe"):
        (tmp_path / f"{token.key}.json").write_bytes(rubbish)
        assert keeper.read(token.key) == Standing()


def test_the_files_tell_no_token(tmp_path: Path) -> None:
    """Neither their names nor what is in them."""
    with TokenPool([StaticToken("ghp_secretsecretsecret")], FileKeeper(tmp_path)).turn("core"):
        pass
    told = " ".join(path.name + path.read_text() for path in tmp_path.iterdir())
    assert "secret" not in told
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.lock")} == {0o600}


def test_an_installation_token_is_asked_for_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another is asked for some minutes before, and when it was refused."""
    asked: list[float] = []
    now = [NOW]

    class Said:
        """GitHub's answer."""

        def raise_for_status(self) -> None:
            """Do nothing."""

        def json(self) -> dict[str, str]:
            """Return a token that holds for an hour."""
            asked.append(now[0])
            ends = datetime.fromtimestamp(now[0], UTC) + timedelta(hours=1)
            return {"token": f"ghs_{len(asked)}", "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}

    monkeypatch.setattr("examples.github_sync.tokens.requests.post", lambda *_, **__: Said())
    token = InstallationToken("http://127.0.0.1", "7", "jwt", clock=lambda: now[0])
    assert token.text() == token.text() == "ghs_1"
    now[0] += 3200
    assert token.text() == "ghs_1"
    now[0] += 200
    assert token.text() == "ghs_2"
    assert token.refresh()
    assert token.text() == "ghs_3"


LIMITED = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 90), "x-ratelimit-resource": "core"}
LEFT = LIMITED | {"x-ratelimit-remaining": "4000"}
SECONDARY = '{"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}'
PRIMARY = '{"message": "API rate limit exceeded for user ID 7."}'
GRAPHQL = '{"data": null, "errors": [{"type": "%s", "message": "API rate limit exceeded"}]}'
BY_CODE = '{"errors": [{"message": "limit", "extensions": {"code": "graphql_rate_limit"}}]}'
WRONG = (
    '{"data": null, "errors": [{"message": "Something went wrong while executing your query. It may be a timeout."}]}'
)
PARTIAL = '{"data": {"repository": {"a": 1}}, "errors": [{"type": "FORBIDDEN", "message": "no"}]}'
NOT_THERE = '{"data": {"repository": null}, "errors": [{"type": "NOT_FOUND", "message": "no"}]}'


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "seconds"),
    [
        (403, LIMITED, PRIMARY, "primary", 90 + MARGIN),
        (429, LIMITED, PRIMARY, "primary", 90 + MARGIN),
        (403, LIMITED | {"retry-after": "7"}, PRIMARY, "primary", 7),
        (403, LEFT, SECONDARY, "secondary", 60),
        (429, LEFT, SECONDARY, "secondary", 60),
        (429, {}, "", "secondary", 60),
        (403, LEFT | {"retry-after": "30"}, SECONDARY, "secondary", 30),
        (429, LIMITED | {"gh-limited-by": "x"}, SECONDARY, "secondary", 60),
        (200, LIMITED, GRAPHQL % "RATE_LIMITED", "primary", 90 + MARGIN),
        (200, LEFT, GRAPHQL % "RATE_LIMIT", "primary", 90 + MARGIN),
        (200, LIMITED, BY_CODE, "primary", 90 + MARGIN),
        (200, {}, GRAPHQL % "RATE_LIMITED", "secondary", 60),
        (200, LEFT, '{"errors": [{"message": "You have exceeded a secondary rate limit."}]}', "secondary", 60),
        (403, LEFT, '{"errors": [{"message": "You have exceeded a secondary rate limit."}]}', "secondary", 60),
    ],
)
def test_a_refusal_for_a_limit_says_which_and_for_how_long(
    status: int, headers: dict[str, str], body: str, kind: str, seconds: float
) -> None:
    """All of GitHub's forms are read."""
    refusal = judge(Answer.of(status, headers, body), StaticToken("one"), NOW, 60.0)
    assert isinstance(refusal, LimitError)
    assert (refusal.kind, refusal.seconds) == (kind, seconds)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, '{"data": {"repository": {"a": 1}}}', None),
        (200, "[]", None),
        (304, "", None),
        (200, PARTIAL, None),
        (200, NOT_THERE, NotFoundError),
        (200, WRONG, ServerTroubleError),
        (502, WRONG, ServerTroubleError),
        (502, "<html>", ServerTroubleError),
        (200, '{"data": {"repository"', ServerTroubleError),
        (200, "", ServerTroubleError),
        (200, '{"data": null, "errors": [{"type": "MAX_NODE_LIMIT_EXCEEDED", "message": "m"}]}', ServerTroubleError),
        (404, '{"message": "Not Found"}', NotFoundError),
        (451, '{"message": "Blocked"}', NotFoundError),
        (401, '{"message": "Bad credentials"}', UnauthorizedError),
        (403, '{"message": "Resource not accessible by integration"}', GithubError),
        (422, "[1]", GithubError),
        (200, '{"errors": "rubbish"}', GithubError),
        (200, '{"errors": [1, null, {"type": {}}]}', GithubError),
    ],
)
def test_another_answer_is_what_it_is(status: int, body: str, expected: type[Exception] | None) -> None:
    """Errors are told apart, whatever their body."""
    refusal = judge(Answer.of(status, {"x-ratelimit-remaining": "9"}, body), StaticToken("one"), NOW, 60.0)
    assert (type(refusal) if refusal is not None else None) is expected
