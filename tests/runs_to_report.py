"""Runs for reports, in a store that was filled as any other, with fixed ids and times (milliseconds)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from stored import SYNC_ID, TRACE, batch, log, pairs, span, store

PIPELINE = "sync.pipeline nightly"
BEFORE_TRACE = "0badcafe" + "0" * 24
BEFORE_SYNC = "202508012027-SYNC-0BADCAFE"

HOSTILE = (
    "../../etc/passwd",
    "CON",
    ".",
    "..",
    "n" * 300,
    "Acme/Api",
    "acme/api",
    "acme-api",
    "\x1b[31mred\x1b]0;title\x07",
    "<script>document.title='PWNED'</script>",
    '"><img src=x onerror="document.title=\'PWNED\'">',
    "| a | table |\n|---|---|\n# heading",
    "[link](javascript:alert(1)) `code` *stars* <b>",
    "\u202egnp.exe",
    "&lt;b&gt; &#60;",
    "a\x00b",
    "http://evil.example/ www.evil.example",
    "---",
    "_SYNC_SUMMARY",
    "summary.json",
    "Ünïcödé/ßß",
    "x" * 1_000_000,
)
"""Names of repos, titles and messages that mean harm."""


def nightly(*, sync: str = SYNC_ID, trace: str = TRACE, failed: bool = True, offset: float = 0) -> list[bytes]:
    """Two repos, a page each; a rate limit, a retry, a database and a language model; one pull request fails."""
    seen = {"sync__pipeline": "nightly", "team_id": 7}

    def one(name: str, own: int, parent: int, start: float, end: float, **rest: object) -> bytes:
        attributes = {**seen, **rest}
        return span(name, own, parent, offset + start, offset + end, sync=sync, trace=trace, **attributes)  # type: ignore[arg-type]

    api = {"sync__repo": "acme/api", "customer": "ACME"}
    web = {"sync__repo": "acme/web", "customer": "ACME"}
    message = "ValueError: no title" if failed else None
    return [
        one("GET", 0x30, 0x10, 20, 60, kind=3, error="502", error__type="502", **api),
        one("sync.rate_limit.wait", 0x31, 0x10, 60, 160, **api, **_wait("primary", 0.08)),
        one("SELECT", 0x32, 0x101, 205, 225, kind=3, db__system__name="postgresql", **api),
        one("sync.pr", 0x101, 0x10, 200, 230, vcs__change__id="1", sync__action="created", **api),
        one(
            "sync.pr",
            0x102,
            0x10,
            230,
            240,
            error=message,
            vcs__change__id="2",
            sync__action="failed" if failed else "created",
            **api,
            **({"error__type": "ValueError"} if failed else {}),
        ),
        one(
            "sync.api list_pull_requests",
            0x10,
            2,
            10,
            300,
            sync__api__attempts=2,
            sync__rate_limit__limit=5000,
            sync__rate_limit__remaining=4321,
            sync__rate_limit__reset=1_754_170_020,
            **_items(created=1 if failed else 2, failed=int(failed)),
            **api,
        ),
        one(
            "sync.repo acme/api",
            2,
            1,
            0,
            400,
            sync__outcome="partial" if failed else "success",
            **_items(created=1 if failed else 2, failed=int(failed)),
            **api,
        ),
        one("sync.pr", 0x201, 3, 410, 420, vcs__change__id="3", sync__action="skipped", **web),
        one("sync.repo acme/web", 3, 1, 400, 500, sync__outcome="success", **_items(skipped=1), **web),
        one("chat", 0x40, 4, 510, 590, kind=3, gen_ai__operation__name="chat"),
        one("sync.stage llm_batch", 4, 1, 500, 600, sync__outcome="success"),
        one(
            PIPELINE,
            1,
            0,
            0,
            1000,
            sync__outcome="partial" if failed else "success",
            **_items(created=1 if failed else 2, skipped=1, failed=int(failed)),
        ),
    ]


def nightly_logs() -> list[bytes]:
    """What the run logged."""
    repo = "acme/api"
    return [
        log("sync.pipeline.started", 1, 0),
        log("sync.api.retry", 0x10, 60, reason="server", sync__repo=repo),
        log("sync.pr.failed", 0x102, 240, level="ERROR", severity=17, id="pr-007", error="no title", sync__repo=repo),
    ]


def reported(path: Path) -> Path:
    """A store with the run, and the one before it."""
    day = 86_400_000
    before = nightly(sync=BEFORE_SYNC, trace=BEFORE_TRACE, failed=False, offset=-day)
    return store(path, batch(*before), batch(*nightly(), logs=nightly_logs()))


def hostile(path: Path) -> Path:
    """A store with a run whose repos, titles and errors are `HOSTILE`."""
    return store(
        path, batch(*_hostile(), logs=[log(text[:5000], 1, 5, level="ERROR", severity=17) for text in HOSTILE])
    )


def _hostile() -> Iterator[bytes]:
    for number, text in enumerate(HOSTILE):
        repo, pr = 0x1000 + number, 0x2000 + number
        start = number * 10
        yield span(
            "sync.pr",
            pr,
            repo,
            start,
            start + 5,
            error=text,
            sync__repo=text,
            vcs__change__id=text[:50],
            vcs__change__title=text,
            error__type=text[:200],
            sync__action="failed",
        )
        yield span(f"sync.repo {text}", repo, 1, start, start + 8, sync__outcome="partial", sync__repo=text)
    yield span(PIPELINE, 1, 0, 0, 1000, sync__outcome="partial", sync__pipeline="nightly\n# <b>", note=HOSTILE[9])


def orders() -> list[bytes]:
    """Two customers: orders with sub-items, batches, a wait, unknown actions; one raises an exception that passes."""

    def one(name: str, own: int, parent: int, start: float, end: float, **rest: object) -> bytes:
        return span(name, own, parent, start, end, sync__pipeline="orders", **rest)  # type: ignore[arg-type]

    def order(own: int, parent: int, at: float, **rest: object) -> bytes:
        return one("sync.order", own, parent, at, at + 5, sync__item__kind="order", sync__item__id=f"{own:x}", **rest)

    greyson: dict[str, Any] = {"sync__customer": "GREYSON"}
    peloton: dict[str, Any] = {"sync__customer": "PELOTON"}
    board = {**greyson, "sync__board": "men"}
    late: dict[str, Any] = {
        "error": "TimeoutError: no answer in 30 s",
        "error__type": "TimeoutError",
        "sync__outcome": "failure",
    }
    stack = 'Traceback (most recent call last):\n  File "sync.py", line 7, in send\nTimeoutError: no answer in 30 s\n'
    return [
        order(0x101, 0x11, 12, sync__action="created", sync__item__title="Shirts", **board),
        order(0x102, 0x11, 18, sync__action="creatd", **board),
        order(0x103, 0x11, 24, **board),
        one("sync.subitem", 0x104, 0x11, 29, 30, sync__item__id="s1", sync__action="created", **board),
        one("sync.batch orders", 0x11, 0x10, 11, 40, sync__batch__size=4, sync__outcome="success", **board),
        order(
            0x105,
            0x12,
            45,
            sync__action="failed",
            error="ValueError: no label",
            error__type="ValueError",
            sync__part__key="aa",
            **board,
        ),
        one("sync.batch orders", 0x12, 0x10, 41, 55, sync__batch__size=1, sync__outcome="failure", **_ALL, **board),
        one("sync.stage cool_down", 0x13, 0x10, 56, 66, sync__stage__kind="waiting", sync__outcome="success", **board),
        one("sync.board men", 0x10, 2, 10, 90, sync__outcome="partial", **greyson),
        one("sync.customer GREYSON", 2, 1, 5, 95, sync__outcome="partial", sync__group__kind="customer"),
        span(
            "sync.api send",
            0x20,
            3,
            101,
            110,
            **late,
            **peloton,
            sync__part__key="bb",
            events=[
                Span.Event(
                    name="exception",
                    attributes=pairs({"exception__type": "TimeoutError", "exception__stacktrace": stack}),
                )
            ],
        ),
        one("sync.customer PELOTON", 3, 1, 100, 120, **late, sync__error__passed=True, sync__part__key="cc"),
        one(
            "sync.pipeline orders",
            1,
            0,
            0,
            200,
            sync__outcome="partial",
            sync__items__fetched=5,
            sync__items__created=2,
            sync__items__failed=1,
            sync__items__creatd=1,
        ),
    ]


_ALL: dict[str, Any] = {"error": "its only part failed", "sync__parts": 1, "sync__parts__failed": 1}


def _items(**counts: int) -> dict[str, int]:
    items = {f"sync__items__{name}": count for name, count in counts.items() if count}
    return {"sync__items__fetched": sum(counts.values()), **items}


def _wait(kind: str, planned: float) -> dict[str, str | float]:
    return {"sync__rate_limit__kind": kind, "sync__rate_limit__planned_seconds": planned}
