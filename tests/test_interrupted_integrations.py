"""Instrumented libraries in the middle of whose calls something of the host's comes, or a fault of ours.

Each call is interrupted at every point inside our integrations. What a signal handler raises, or another thread sends,
reaches the program; a fault of ours never does, and the answer or the result is the library's own. After either
nothing of the call is current, and each request that went out, and each task that ran, has its span, once.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import github
import httpx
import pytest
import requests
from foreign_hosts import Answer, Listener, listening
from interruptions import FaultOfOursError, Faults, Interrupted, Places, Struck
from recorded import Recorded
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

import otelsync
from otelsync.integrations.http import calls
from otelsync.integrations.httpx import Instrumentor as HttpxInstrumentor
from otelsync.integrations.pygithub import Instrumentor as PyGithubInstrumentor
from otelsync.integrations.requests import Instrumentor as RequestsInstrumentor
from otelsync.recording.runtime_context import CURRENT
from otelsync.shipping.ledger import read_ledger

INTEGRATIONS = Path(otelsync.__file__).parent / "integrations"
PATIENCE = 60
WRAPPERS = frozenset(
    (
        "GuardedPropagator.inject",
        "Call.sends",
        "Redirects.__init__",
        "Sends.__init__",
        "_complete",  # as Session.send does it
        "_followed",
        "_within_api_call.<locals>.request",
        "_knowing_the_policy.<locals>.is_retry",
        "_sending.<locals>.send",
        "_sending_async.<locals>.send",
        "_sending_once_each.<locals>.send",
        "_sent",
        "_then_async.<locals>.both",
        "_visible_increment.<locals>.increment",
        "_visible_sleep.<locals>.sleep",
        "_wait_ahead.<locals>.<lambda>",
    )
)
"""Functions of ours that the libraries call in place of their own."""


@pytest.fixture
def struck() -> Iterator[Struck]:
    """Signals that come where they are told to."""
    struck = Struck()
    before = signal.signal(signal.SIGUSR1, struck.handle)
    yield struck
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A host on loopback."""
    monkeypatch.setenv("no_proxy", "*")
    with listening() as running:
        yield running


@pytest.fixture
def _on(recorded: Recorded) -> Iterator[None]:
    assert recorded
    RequestsInstrumentor().instrument()
    HttpxInstrumentor().instrument()
    PyGithubInstrumentor().instrument()
    yield
    PyGithubInstrumentor().uninstrument()
    HttpxInstrumentor().uninstrument()
    RequestsInstrumentor().uninstrument()


# HTTP

LIMITED = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "1", "X-RateLimit-Resource": "core"}
ANSWERS: dict[str, tuple[Answer, ...]] = {
    "plain": (Answer(200, LIMITED),),
    "redirected": (Answer(302, {"Location": "/landed"}, b""),),
    "refused": (Answer(403, {**LIMITED, "Retry-After": "0"}, b"secondary rate limit"),),
    "repeated": (Answer(503, {"Retry-After": "0"}), Answer(200)),
    "graphql": (Answer(200, LIMITED, b'{"data": {"rateLimit": {"remaining": 7, "limit": 9, "cost": 1}}}'),),
}
"""The first answers of a request's path, by how it goes."""

Send = Callable[[str], Any]


def _with_requests() -> tuple[Send, Callable[[], None]]:
    session = requests.Session()
    retry = Retry(total=2, status_forcelist=[503], allowed_methods=None, backoff_factor=0.001)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    headers = {"Authorization": "token x"}
    return lambda url: session.get(url, headers=headers, timeout=PATIENCE), session.close


def _with_httpx() -> tuple[Send, Callable[[], None]]:
    client = httpx.Client(follow_redirects=True, trust_env=False, verify=False, timeout=PATIENCE)
    return lambda url: client.get(url, headers={"Authorization": "token x"}), client.close


def _with_async_httpx() -> tuple[Send, Callable[[], None]]:
    async def get(url: str) -> httpx.Response:
        async with httpx.AsyncClient(follow_redirects=True, trust_env=False, verify=False, timeout=PATIENCE) as client:
            return await client.get(url)

    return lambda url: asyncio.run(get(url)), lambda: None


def _with_pygithub() -> tuple[Send, Callable[[], None]]:
    def get(url: str) -> SimpleNamespace:
        host, _, path = url.removeprefix("http://").partition("/")
        with closing(github.Github(base_url=f"http://{host}", seconds_between_requests=None)) as client:
            _, data = client.requester.requestJsonAndCheck("GET", f"/{path}")
        return SimpleNamespace(status_code=200, content=data["data"], history=())

    return get, lambda: None


Client = Callable[[], tuple[Send, Callable[[], None]]]
WAYS: list[tuple[Client, str]] = [
    *((_with_requests, way) for way in ANSWERS),
    *((_with_httpx, way) for way in ("plain", "redirected", "graphql")),
    (_with_async_httpx, "plain"),
    (_with_pygithub, "graphql"),
]
each_way = pytest.mark.parametrize(
    ("client", "way"), WAYS, ids=[f"{client.__name__[6:]}-{way}" for client, way in WAYS]
)


class Calls:
    """Calls of a client, each to a path of its own."""

    def __init__(self, listener: Listener, send: Send, way: str) -> None:
        self._listener = listener
        self._send = send
        self._way = way
        self._numbers = itertools.count(1)
        self.path = ""
        self.response: Any = None
        self.raised: BaseException | None = None

    def __call__(self) -> None:
        """Make the next one."""
        self.path = f"/{self._way}/{next(self._numbers)}"
        self._listener.answers[self.path] = list(ANSWERS[self._way])
        self.response = self.raised = None
        try:
            self.response = self._send(self._listener.url + self.path)
        except (Interrupted, FaultOfOursError) as error:
            self.raised = error


def _paths(recorded: Recorded, listener: Listener) -> Counter[str]:
    urls = (str(node.attributes.get("url.full", "")) for node in recorded.spans)
    return Counter(url.removeprefix(listener.url) for url in urls if url)


def _left_behind(repo: Any) -> list[str]:
    """Return what of a call is still current, and make the stage around it current again."""
    left = []
    if CURRENT.get() is not repo.span:
        left.append("another context")
        CURRENT.set(repo.span)
    if calls.CURRENT.get() is not None:
        left.append("a call")
        calls.CURRENT.set(None)
    return left


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("_on")
@each_way
def test_an_interrupted_call(recorded: Recorded, struck: Struck, listener: Listener, client: Client, way: str) -> None:
    """The signal's exception reaches the program, and whatever was sent has a span for each send."""
    send, close = client()
    call, wrong = Calls(listener, send, way), list[str]()
    points: dict[str, str] = {}
    with otelsync.repo("acme/api") as repo:
        for _ in range(3):
            call()
        places = Places(INTEGRATIONS, do=struck.strike, ends=False)
        for point in places.visit(call, lambda: setattr(struck, "raised", 0)):
            points[call.path] = point
            wrong += [f"{what} is left {point}" for what in _left_behind(repo)]
            if struck.raised and not isinstance(call.raised, Interrupted):
                wrong.append(f"swallowed {point}")
    close()
    assert not wrong, "\n".join(sorted(set(wrong)))
    _spans_are_those_that_were_sent(recorded, listener, points)


@pytest.mark.usefixtures("_on")
@each_way
def test_a_call_in_which_we_fail(recorded: Recorded, listener: Listener, client: Client, way: str) -> None:
    """The answer is the library's own, and each send has its span."""
    send, close = client()
    call, wrong = Calls(listener, send, way), list[str]()
    points: dict[str, str] = {}
    with otelsync.repo("acme/api") as repo:
        for _ in range(3):
            call()
        expected = call.response.status_code, call.response.content, len(call.response.history)
        for point in Faults(INTEGRATIONS, wrappers=WRAPPERS).visit(call):
            points[call.path] = point
            wrong += [f"{what} is left {point}" for what in _left_behind(repo)]
            if call.raised is not None:
                wrong.append(f"raised {point}")
            elif expected != (call.response.status_code, call.response.content, len(call.response.history)):
                wrong.append(f"another answer {point}")
    close()
    assert not wrong, "\n".join(sorted(set(wrong)))
    _spans_are_those_that_were_sent(recorded, listener, points)


def _spans_are_those_that_were_sent(recorded: Recorded, listener: Listener, points: dict[str, str]) -> None:
    sent, spans = Counter(listener.paths), _paths(recorded, listener)
    most = spans[next(iter(spans))]  # of the first call, which was not interrupted
    assert [f"lost {point}" for path, point in points.items() if sent[path] and not spans[path]] == []
    assert [f"doubled {point}" for path, point in points.items() if spans[path] > most] == []
    assert all(not account.dropped for account in read_ledger(recorded.journal).accounts)
