"""Instrumented libraries in the middle of whose calls something of the host's comes, or a fault of ours.

Each call is interrupted at every point inside our integrations. What a signal handler raises, or another thread sends,
reaches the program; a fault of ours never does, and the answer or the result is the library's own. After either
nothing of the call is current, and each request that went out, and each task that ran, has its span, once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import github
import httpx
import pytest
import requests
from celery import Celery, signals
from celery.app import trace as task_tracing
from celery.app.log import Logging
from celery.exceptions import Ignore
from celery_here import make_app
from foreign_hosts import Answer, Listener, listening
from interruptions import FaultOfOursError, Faults, Interrupted, Places, Struck
from recorded import Recorded
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

import otelsync
from otelsync.integrations.celery.continuation import RUN
from otelsync.integrations.celery.publishing import PUBLISH
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
        "_Traced.__call__",
        "_Traced._has_response",
        "_Traced._sent_quietly",
        "Redirects.__init__",
        "Sends.__init__",
        "Publish.__init__",
        "Publisher._begin",
        "Publisher.wrap.<locals>.sent",
        "Runner._begin",
        "Runner._visible.<locals>.trace_task",
        "Runner.wrap_builder.<locals>.build",
        "_complete",  # as Session.send does it
        "_followed",
        "_appending_format.<locals>.format_with_ids",
        "_within_api_call.<locals>.request",
        "_knowing_the_policy.<locals>.is_retry",
        "_sending.<locals>.send",
        "_sending_async.<locals>.send",
        "_sending_once_each.<locals>.send",
        "_sent",
        "_then_async.<locals>.both",
        "_visible_increment.<locals>.increment",
        "_visible_sleep.<locals>.sleep",
        "continuing.<locals>.marked",
        "on_before_publish",
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


def _dropped(recorded: Recorded) -> int:
    return sum(counts.total() for counts in map(Counter, read_ledger(recorded.journal).dropped.values()))


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
    assert not _dropped(recorded)


# Celery


@pytest.fixture
def app(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app whose tasks are run here, one by one.

    Celery's logging counts as not set up, whatever another test has done: logging itself swallows what comes in it.
    """
    assert recorded
    monkeypatch.setattr(Logging, "_setup", False)
    otelsync.instrument("celery")
    with make_app(task_store_eager_result=False) as app:
        yield app
    otelsync.uninstrument("celery")


class Tasks:
    """Tasks that are published or run, each under an id of its own.

    Args:
        how: ``publish``, or the name of the task that is run.
    """

    def __init__(self, app: Celery, how: str) -> None:
        self._app = app
        self._how = how
        self._numbers = itertools.count(1)
        self.bodies: list[str] = []
        self.id = ""
        self.result: Any = None
        self.raised: BaseException | None = None

        @app.task(name="here", shared=False)
        def here(task_id: str) -> None:
            self.bodies.append(task_id)

        @app.task(name="gone", shared=False)
        def gone(task_id: str) -> None:
            self.bodies.append(task_id)
            raise Ignore

        signals.after_task_publish.connect(self._sent)
        self._span_ids = itertools.count(random.getrandbits(60))

    def __call__(self) -> None:
        """Publish or run the next one."""
        self.id = f"task-{next(self._numbers):032}"
        self.result = self.raised = None
        try:
            self.result = getattr(self, f"_{self._how}")()
        except (Interrupted, FaultOfOursError) as error:
            self.raised = error

    def _sent(self, headers: dict[str, Any], **_: Any) -> None:
        self.bodies.append(headers["id"])

    @property
    def is_told(self) -> bool:
        """Return whether the latest one was told of what interrupted it."""
        return isinstance(self.raised, Interrupted) or self.result == ("ExceptionInfo", "FAILURE")

    def _publish(self) -> Any:
        return self._app.tasks["here"].apply_async((self.id,), task_id=self.id).id == self.id

    def _run(self, name: str = "here", *args: str, **request: Any) -> Any:
        task = self._app.tasks[name]
        if not isinstance(getattr(task, "__trace__", None), FunctionType):
            task.__trace__ = task_tracing.build_tracer(name, task, app=self._app)
        info = {"exchange": "", "routing_key": "q", "priority": 0, "redelivered": False}
        given = {"id": self.id, "task": name, "hostname": "w@host", "delivery_info": info, **request}
        retval, failed, *_ = task.__trace__(self.id, args or (self.id,), {}, given)
        return type(retval).__name__, getattr(failed, "state", None)

    def _like_most(self) -> Any:
        """Run one whose ids the main process has decided."""
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        return self._run(traceparent=parent, correlation_id=self.id, otelsync_run_span=f"{next(self._span_ids):016x}")

    def _fail(self) -> Any:
        return self._run("gone")

    def _eager(self) -> Any:
        return self._app.tasks["here"].apply((self.id,), task_id=self.id).state


each_kind = pytest.mark.parametrize("how", ["publish", "run", "like_most", "fail", "eager"])


def _nothing_of_celery_is_left() -> list[str]:
    left = []
    if PUBLISH.get() is not None:
        left.append("a publish")
        PUBLISH.set(None)
    if RUN.get() is not None:
        left.append("a run")
        RUN.set(None)
    return left


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@each_kind
def test_an_interrupted_task(recorded: Recorded, struck: Struck, app: Celery, how: str) -> None:
    """The signal's exception reaches the caller, or ends the task; each task that ran has one span."""
    tasks, wrong, points = Tasks(app, how), list[str](), dict[str, str]()
    with otelsync.repo("acme/api") as repo:
        for _ in range(3):
            tasks()
        places = Places(INTEGRATIONS, do=struck.strike, ends=False)
        for point in places.visit(tasks, lambda: setattr(struck, "raised", 0)):
            points[tasks.id] = point
            wrong += [f"{what} is left {point}" for what in _left_behind(repo) + _nothing_of_celery_is_left()]
            if struck.raised and not tasks.is_told and "at the beginning of on_before_publish" not in point:
                wrong.append(f"swallowed {point}")
    assert not wrong, "\n".join(sorted(set(wrong)))
    _spans_are_those_of_tasks(recorded, tasks, points)


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
@each_kind
def test_a_task_in_which_we_fail(recorded: Recorded, app: Celery, how: str) -> None:
    """Its result is its own, and it has one span."""
    tasks, wrong, points = Tasks(app, how), list[str](), dict[str, str]()
    with otelsync.repo("acme/api") as repo:
        for _ in range(3):
            tasks()
        expected = tasks.result
        for point in Faults(INTEGRATIONS, wrappers=WRAPPERS).visit(tasks):
            points[tasks.id] = point
            wrong += [f"{what} is left {point}" for what in _left_behind(repo) + _nothing_of_celery_is_left()]
            if tasks.raised is not None or tasks.result != expected:
                wrong.append(f"{tasks.raised!r} {tasks.result} {point}")
    assert not wrong, "\n".join(sorted(set(wrong)))
    _spans_are_those_of_tasks(recorded, tasks, points)


def _spans_are_those_of_tasks(recorded: Recorded, tasks: Tasks, points: dict[str, str]) -> None:
    spans = [node for node in recorded.spans if node.name.startswith(("run/", "apply_async/"))]
    named = Counter(str(node.attributes.get("messaging.message.id", "")) for node in spans)
    assert [f"doubled {point}" for task_id, point in points.items() if named[task_id] > 1] == []
    lost = [point for task_id, point in points.items() if task_id in tasks.bodies and not named[task_id]]
    dropped = _dropped(recorded)
    assert len(lost) <= named[""] + dropped, "\n".join(lost)  # a publish that is interrupted early does not know its id
