"""urllib3 sends again and sleeps in between, unseen: here each send and each sleep becomes a span.

requests and what is built on it, such as PyGithub, retry in this way. Sends are seen inside a :class:`Call`; sleeps
inside any span that is recorded.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from urllib3.util.retry import Retry

from otelsync.hooks.harmless import harmless
from otelsync.hooks.patching import Patch
from otelsync.integrations.http import calls
from otelsync.stages import waits
from otelsync.stages.rate_limit_fields import read_response

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse  # urllib3 2; requests before 2.30 comes with 1.26

_users: set[str] = set()
_patches: list[Patch] = []


def show(user: str) -> None:
    """Show sends and sleeps of urllib3 from now on; `user` is who asked for it."""
    if not _users:
        _patches[:] = [Patch(Retry, "sleep"), Patch(Retry, "increment")]
        sleep, increment = _patches
        sleep.put(_visible_sleep(sleep, Retry.sleep))
        increment.put(_visible_increment(increment, Retry.increment))
    _users.add(user)


def hide(user: str) -> None:
    """Put urllib3's own methods back, when nobody else has asked for ours."""
    _users.discard(user)
    if not _users:
        while _patches:
            _patches.pop().undo()


def _visible_sleep(patch: Patch, original: Any) -> Any:
    @functools.wraps(original)
    def sleep(self: Retry, response: BaseHTTPResponse | None = None) -> None:
        wait = _wait_ahead(self, response) if patch.is_on else None
        if wait is None:
            original(self, response)
        else:
            with wait:
                original(self, response)
        call = calls.CURRENT.get()
        if call is not None:
            call.sent_again()

    return sleep


@harmless
def _wait_ahead(retry: Retry, response: BaseHTTPResponse | None) -> Any:
    """The span for the sleep that is coming; None if there will be none, or nobody would see it."""
    if not trace.get_current_span().is_recording() or not is_instrumentation_enabled():
        return None
    seconds = retry.get_retry_after(response) if retry.respect_retry_after_header and response else None
    if not seconds:
        seconds = retry.get_backoff_time()
        retry.get_backoff_time = lambda: seconds  # type: ignore[method-assign]  # it draws jitter anew at each call
    if seconds <= 0:
        return None
    if response is not None and response.status in (403, 429):
        refused = read_response(response.status, response.headers, time.time()).refused
        return waits.rate_limit_wait(seconds, refused or "secondary")  # its body is gone, and it was no other 403
    return waits.retry_wait(seconds, "server" if response is not None else "connection")


def _visible_increment(patch: Patch, original: Any) -> Any:
    @functools.wraps(original)
    def increment(
        self: Retry,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        *rest: Any,
        **named: Any,
    ) -> Retry:
        call = calls.CURRENT.get() if patch.is_on else None
        is_last = True
        try:
            retry: Retry = original(self, method, url, response, error, *rest, **named)
            is_last = False
            return retry
        finally:
            if call is not None:
                status = getattr(response, "status", None)
                call.send_failed(status, getattr(response, "headers", {}), error, is_last=is_last)
                call.sent_again()

    return increment
