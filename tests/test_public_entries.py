"""Every public entry, found by walking, with values whose every special method raises: nothing reaches the host.

What is wrong at definition raises all the same, as documented: an option of ``configure()``, a catalogue, a decorator
that cannot work, ``dispatch()``.
"""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from recorded import Recorded

import otelsync
from otelsync.logs.root_logger import RecordHandler
from otelsync.shipping.ledger import read_ledger
from otelsync.stages.stage import Stage


class UserError(Exception):
    """Comes out of a value of the program."""


def _raising(name: str) -> Callable[..., Any]:
    def method(*_: object, **__: object) -> Any:
        raise UserError(name)

    return method


_SPECIAL = (
    *("__str__", "__repr__", "__eq__", "__ne__", "__hash__", "__bool__", "__len__", "__format__", "__bytes__"),
    *("__iter__", "__next__", "__contains__", "__getitem__", "__call__", "__int__", "__float__", "__index__"),
    *("__lt__", "__le__", "__gt__", "__ge__", "__add__", "__radd__", "__mod__", "__rmod__", "__round__", "__getattr__"),
    *("__copy__", "__deepcopy__", "__reduce_ex__", "__fspath__", "__enter__", "__exit__", "__complex__", "__neg__"),
)
Hostile = type("Hostile", (), {name: _raising(name) for name in _SPECIAL})
"""A class of values that can do nothing but be there."""


def _class(base: type, *names: str) -> Callable[[], Any]:
    return type(f"Hostile{base.__name__.title()}", (base,), {name: _raising(name) for name in names})


_KINDS: dict[str, Callable[[], Any]] = {
    "hostile": Hostile,
    "str": _class(str, "__str__", "__repr__", "__eq__", "__format__", "__hash__"),
    "int": _class(int, "__str__", "__repr__", "__index__", "__int__"),
    "dict": _class(dict, "__iter__", "items", "keys", "__len__", "__repr__"),
    "list": lambda: [Hostile()],
    "error": _class(Exception, "__str__", "__repr__"),
    "none": lambda: None,
    "nan": lambda: float("nan"),
}
_STAGES = ("api_call", "batch", "group", "item", "pipeline", "pull_request", "repo", "stage", "timed_operation")
_WAITS = ("rate_limit_wait", "retry_wait")
_NOT_WALKED = {
    "Catalogue": "a wrong declaration is an error at import",
    "ConfigurationError": "an exception",
    "DispatchError": "an exception",
    "OtelsyncError": "an exception",
    "RunNotFoundError": "an exception",
    "StoreError": "an exception",
    "__version__": "a text",
    "configure": "a wrong option raises",
    "setup_logging": "a wrong option raises",
    "node": "decorates only; see test_nodes.py",
    "tool": "decorates only; see test_nodes.py",
    "extract": "walked in test_middleware.py",
    "inject": "walked in test_middleware.py",
    "executor": "what is no executor raises",
    "propagate": "what cannot be called raises",
    "instrument": "an unknown library raises",
    "uninstrument": "an unknown library raises",
    "flush": "takes seconds",
    "shutdown": "takes seconds",
    "get_logger": "walked below",
    "sync_context": "walked below",
}
_NOT_FOR_CALLERS = {
    *("again", "as_part", "begin_collecting", "by_hand", "expect", "failures_of", "figures", "finish_despite"),
    *("finish_dispatched", "hand_over", "make_good", "outcome_of_parts", "remember_failure", "resume", "suspend"),
    *(
        "take_action",
        "take_figures",
        "take_neutral_item",
        "take_part",
        "take_totals",
        "tally",
        "tell_counted",
        "totals",
    ),
    "dispatch",  # it raises what its documentation says
}
"""Methods of stages that otelsync itself calls; a new one is walked until it stands here."""


def test_the_walk_misses_nothing() -> None:
    """Whatever is public is walked, or has a reason not to be."""
    assert {*_STAGES, *_WAITS, *_NOT_WALKED} == set(otelsync.__all__)


@pytest.fixture
def bare() -> Iterator[None]:
    """No handlers of pytest, which raise what a message raises."""
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [each for each in before if not type(each).__module__.startswith("_pytest")]
    yield
    root.handlers[:] = before


_USUAL = {"kind": "order", "name": "n", "key": 1, "operation": "o", "number": 1, "size": 1, "seconds": 1, "reason": "r"}


def _makers(value: Callable[[], Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every stage that can be made, with a hostile value in each place."""
    for name in (*_STAGES, *_WAITS):
        make = getattr(otelsync, name)
        places = [
            each.name
            for each in inspect.signature(make).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        for place in places:
            yield f"{name}({place}=)", partial(make, *(value() if each == place else _USUAL[each] for each in places))
        if name not in _WAITS:
            usual = [_USUAL[each] for each in places]
            yield f"{name}(**)", partial(make, *usual, given=value(), action=value(), attempt=value())


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("kind", _KINDS)
def test_no_stage_raises(record: Callable[..., Recorded], bare: None, kind: str, log_format: str) -> None:  # noqa: ARG001
    """Neither its making, nor its block, nor any public method or property of its handle."""
    recorded = record(log_format=log_format, log_level="DEBUG")
    value = _KINDS[kind]
    raised: list[str] = []
    for what, make in _makers(value):
        try:
            with make() as stage:
                _call_everything(stage, value, what, raised)
        except Exception as error:
            raised.append(f"{what}: {error!r}")
    assert raised == []
    assert recorded.spans
    assert not any(read_ledger(recorded.journal).dropped.values())


def _call_everything(stage: Stage, value: Callable[[], Any], what: str, raised: list[str]) -> None:
    for name, member in inspect.getmembers_static(type(stage)):
        if name.startswith("_") or name in _NOT_FOR_CALLERS or name.isupper():
            continue
        try:
            if isinstance(member, property):
                getattr(stage, name)
            elif inspect.isfunction(member) and member.__doc__:
                _call(getattr(stage, name), value)
        except Exception as error:
            raised.append(f"{what}.{name}: {error!r}")


def _call(method: Callable[..., Any], value: Callable[[], Any]) -> None:
    parameters = [each for each in inspect.signature(method).parameters.values() if each.kind != each.VAR_POSITIONAL]
    named = {each.name for each in parameters if each.kind == each.VAR_KEYWORD}
    given = [value() for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    method(*given, **({"given": value(), "action": value(), "created": value()} if named else {}))


@pytest.mark.parametrize("kind", _KINDS)
def test_no_tracker_raises(recorded: Recorded, bare: None, kind: str) -> None:  # noqa: ARG001
    """Progress counts what it can, and goes on."""
    value = _KINDS[kind]
    with otelsync.repo("acme/api") as repo:
        tracker = repo.track([value(), value()], total=value())
        assert len(list(tracker)) == 2
        by_hand: Any = repo.track(total=value())
        by_hand.total = value()
        by_hand.advance(value())
        _ = by_hand.percent, by_hand.eta, by_hand.total, by_hand.done
    assert recorded.span("sync.repo acme/api")


@pytest.mark.parametrize("log_format", ["json", "console", "keep"])
@pytest.mark.parametrize("kind", _KINDS)
def test_no_log_call_raises(record: Callable[..., Recorded], bare: None, kind: str, log_format: str) -> None:  # noqa: ARG001
    """Whatever is the event, an argument, a field or bound to it, inside a stage that is bound to it as well."""
    kept = {"logging": "keep"} if log_format == "keep" else {"log_format": log_format}
    recorded = record(log_level="DEBUG", **kept)
    value = _KINDS[kind]
    own = otelsync.get_logger("app", bound=value()) if log_format != "keep" else None
    with otelsync.sync_context(team=value(), **{"": value()}), otelsync.stage("s"):
        for log in ("debug", "info", "warning", "error", "critical", "exception"):
            if own is not None:
                call = getattr(own, log)
                call(value())
                call("%s of %s", value(), value())
                call("said", field=value(), exc_info=value(), stack_info=value())
            standard = getattr(logging.getLogger("app"), log)
            standard("said", extra={"field": value(), "": value(), "nested": {"a": value(), 4: [value()]}})
        RecordHandler().emit(logging.makeLogRecord({"msg": "made by hand", "levelno": 30, "exc_info": value()}))
    assert recorded.logs
    assert not any(read_ledger(recorded.journal).dropped.values())


@pytest.mark.parametrize("kind", _KINDS)
def test_no_plain_span_raises(recorded: Recorded, bare: None, kind: str) -> None:  # noqa: ARG001
    """Nor does a span of OpenTelemetry's own interface, however it is begun and whatever it is given."""
    value = _KINDS[kind]
    tracer = trace.get_tracer("app")
    for start in (tracer.start_as_current_span, tracer.start_span):
        for around in (None, otelsync.stage("s")):
            if around is not None:
                around.__enter__()
            span: Any
            with start("a", attributes={"a": value(), "b": 1}, start_time=value()) as span:
                span.set_attribute("c", value())
                span.set_attributes({"d": value(), "e": [value()]})
                span.add_event("f", {"g": value()}, timestamp=value())
                span.update_name(value())
                span.record_exception(ValueError(value()), {"h": value()})
                span.set_status(trace.StatusCode.ERROR)
                _ = span.name, span.attributes, span.events
            if around is not None:
                around.__exit__(None, None, None)
    assert len(recorded.spans) >= 4
    assert not any(read_ledger(recorded.journal).dropped.values())


_FIRST_USES = """
import sys, threading
sys.setswitchinterval(1e-6)
import otelsync
otelsync.configure(service_name="x", home=sys.argv[1], ship="off", log_level="DEBUG", log_stream=open("/dev/null", "w"))
failed, gate = [], threading.Barrier(6)
def use(what):
    gate.wait()
    try:
        what()
    except BaseException as error:
        failed.append(repr(error))
def track():
    with otelsync.repo("a/b") as repo:
        for _ in repo.track([1, 2]):
            pass
def limit():
    with otelsync.rate_limit_wait(1):
        pass
def retry():
    with otelsync.retry_wait(1, "server"):
        pass
def log():
    import structlog
    structlog.contextvars.bind_contextvars(a=1)
    otelsync.get_logger("x").info("said")
def hand():
    otelsync.propagate(len)([])
def switch():
    otelsync.instrument("requests")
uses = [track, limit, retry, log, hand, switch]
threads = [threading.Thread(target=use, args=(each,)) for each in uses]
for each in threads: each.start()
for each in threads: each.join(120)
print(failed)
"""


def test_first_uses_in_many_threads(tmp_path: Path) -> None:
    """What is loaded when it is first used may be first used in several threads at once."""
    command = [sys.executable, "-c", _FIRST_USES]
    running = [
        subprocess.Popen([*command, str(tmp_path / str(number))], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    assert [each.communicate(timeout=120)[0].strip() for each in running] == ["[]"] * 4
