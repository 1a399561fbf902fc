"""Snapshots of what a process has one of and belongs to the program: hooks, filters, handlers, limits, descriptors.

Run as a program, it takes one before and one after otelsync has recorded everything that it can, and prints what
differs as JSON: ``python host_state.py [plain | keep | run]``.
"""

from __future__ import annotations

import asyncio
import builtins
import decimal
import faulthandler
import gc
import json
import locale
import logging
import os
import random
import re
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

MODES = ("plain", "keep", "run")


def snapshot() -> dict[str, object]:
    """Everything by name, as values that are equal where nothing has changed."""
    return {**_hooks(), **_logging(), **_process(), **_interpreter()}


def difference(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    """What was changed, added or removed, with both values."""
    changed: dict[str, object] = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old.keys() | new.keys():
                if old.get(key) != new.get(key):
                    changed[f"{name}: {key}"] = (repr(old.get(key)), repr(new.get(key)))
        elif old != new:
            changed[name] = (repr(old)[:2000], repr(new)[:2000])
    return changed


def _comparable(state: dict[str, object]) -> dict[str, str]:
    """The same as text, for comparison with another process."""
    return {name: re.sub(r" at 0x[0-9a-f]+", "", repr(value)) for name, value in state.items()}


def _hooks() -> dict[str, object]:
    return {
        "sys hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook),
        "threading.excepthook": threading.excepthook,
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "trace functions": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "hooks of asyncio": (sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()),
        "event loop policy": type(asyncio.get_event_loop_policy()),
        "importers": (tuple(sys.meta_path), tuple(sys.path_hooks), tuple(sys.path)),
        "signal handlers": {number: signal.getsignal(number) for number in _signals()},
        "timers": (signal.getitimer(signal.ITIMER_REAL), signal.getitimer(signal.ITIMER_PROF)),
        "methods of Thread": _functions(threading.Thread),
        "builtins": {name: value for name, value in vars(builtins).items() if name != "_"},
    }


def _logging() -> dict[str, object]:
    root = logging.getLogger()
    known = dict(logging.Logger.manager.loggerDict)
    known.pop("opentelemetry.attributes", None)
    sdk_warnings = logging.getLogger("opentelemetry.attributes")
    loggers = {name: logger for name, logger in known.items() if isinstance(logger, logging.Logger)}
    return {
        "logging.raiseExceptions": logging.raiseExceptions,
        "logging.lastResort": (logging.lastResort, logging.lastResort and logging.lastResort.level),
        "logging's classes": (
            logging.getLoggerClass(),
            logging.getLogRecordFactory(),
        ),
        "logging.disable": logging.root.manager.disable,
        "level names": [logging.getLevelName(level) for level in range(61)],
        "root logger": (tuple(root.handlers), tuple(root.filters), root.level, root.disabled, root.propagate),
        "methods of Logger": _functions(logging.Logger),
        "methods of Handler": _functions(logging.Handler),
        # A library that was imported has loggers of its own: they change nothing.
        "loggers": {name: state for name, each in loggers.items() if (state := _state(each)) != _UNTOUCHED},
        SDK_WARNINGS: _state(sdk_warnings),
        "captured warnings": warnings.showwarning,
        "warnings filters": {repr(each): True for each in warnings.filters if "urllib3" not in repr(each)},
    }


SDK_WARNINGS = "logger of the SDK's warnings"
_UNTOUCHED = (logging.NOTSET, False, True, (), ())


def _state(logger: logging.Logger) -> tuple[object, ...]:
    is_ours = logger.name.partition(".")[0] == "otelsync"  # those have a filter of ours, as no others may
    filters = tuple(each for each in logger.filters if not (is_ours and type(each).__module__.startswith("otelsync.")))
    return (logger.level, logger.disabled, logger.propagate, tuple(logger.handlers), filters)


def _process() -> dict[str, object]:
    umask = os.umask(0o077)
    os.umask(umask)
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "umask": umask,
        "working directory": os.getcwd(),  # noqa: PTH109  # it may be gone
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "time zone": time.tzname,
        "process group": (os.getpgid(0), os.getsid(0), os.nice(0)),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "descriptors": sorted(_descriptors()),
    }


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # a Path would keep it open
        try:
            yield f"{name} {os.readlink(f'/proc/self/fd/{name}')}"  # noqa: PTH115
        except OSError:  # that of the listing itself
            continue


def _interpreter() -> dict[str, object]:
    return {
        "garbage collector": (
            gc.get_threshold(),
            gc.isenabled(),
            gc.get_debug(),
            tuple(gc.callbacks),
        ),
        "interpreter's limits": (sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()),
        "random": random.getstate(),
        "socket timeout": socket.getdefaulttimeout(),
        "stack size of threads": threading.stack_size(),
        "decimal": repr(decimal.getcontext()),
        "faulthandler": faulthandler.is_enabled(),
    }


def _signals() -> list[int]:
    return [int(number) for number in signal.valid_signals()]


def _functions(owner: type) -> dict[str, Any]:
    return {name: value for name, value in vars(owner).items() if callable(value)}


def _record(mode: str) -> None:
    """Use otelsync as a program does that uses all of it."""
    import otelsync

    if mode != "run":
        otelsync.configure(service_name="host", logging=mode if mode == "keep" else None, log_stream=sys.stderr)
        otelsync.instrument("requests")
    log = logging.getLogger("app")
    with otelsync.pipeline("p") as run, otelsync.sync_context(team=7):
        for number in range(3):
            with otelsync.pull_request(number) as pull:
                pull.set(action="created")
                log.warning("pull request %d", number)
        with otelsync.retry_wait(0.001, "server"):
            pass
        run.phase("second")
        try:
            with otelsync.repo("acme/api"):
                raise ValueError("not today")
        except ValueError:
            log.exception("failed")
        thread = threading.Thread(target=otelsync.propagate(log.error), args=("in a thread",))
        thread.start()
        thread.join()
    otelsync.get_logger("app").info("done")


def main(mode: str) -> None:
    """Record in one of `MODES`, and print what has changed."""
    import requests  # noqa: F401  # what the program imports itself is its own

    random.seed(7)
    before = snapshot()
    _record(mode)
    import otelsync

    while_recording = difference(before, snapshot())
    if mode != "run":
        otelsync.uninstrument()
        otelsync.shutdown()
    after = difference(before, snapshot())
    print("\n" + json.dumps({"before": _comparable(before), "while": while_recording, "after": after}))


if __name__ == "__main__":
    main(sys.argv[1])
