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
_known: set[type[Retry]] = set()
"""Classes of policies whose own ``increment`` is replaced, if they have one."""


def show(user: str) -> None:
    """Show sends and sleeps of urllib3 from now on; `user` is who asked for it."""
    if not _users:
        _patches[:] = [Patch(Retry, "sleep"), Patch(Retry, "increment"), Patch(Retry, "is_retry")]
        sleep, increment, is_retry = _patches
        sleep.put(_visible_sleep(sleep, Retry.sleep))
        increment.put(_visible_increment(increment, Retry.increment))
        is_retry.put(_knowing_the_policy(is_retry, Retry.is_retry))
    _users.add(user)


def hide(user: str) -> None:
    """Put urllib3's own methods back, when nobody else has asked for ours."""
    _users.discard(user)
    if not _users:
        while _patches:
            _patches.pop().undo()
        _known.clear()


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
    call = calls.CURRENT.get()
    if response is not None and call is not None and call.refused:
        return waits.rate_limit_wait(seconds, call.refused)
    if response is not None and call is None:
        refused = read_response(response.status, response.headers, time.time()).refused
        if refused:
            return waits.rate_limit_wait(seconds, refused)
    return waits.retry_wait(seconds, "server" if response is not None else "connection")


def _knowing_the_policy(patch: Patch, original: Any) -> Any:
    """``is_retry``, which is asked before ``increment``: a policy may have one of its own, which raises."""

    @functools.wraps(original)
    def is_retry(self: Retry, *args: Any, **kwargs: Any) -> Any:
        if patch.is_on and type(self) not in _known:
            _get_to_know(type(self))
        return original(self, *args, **kwargs)

    return is_retry


@harmless
def _get_to_know(policy: type[Retry]) -> None:
    _known.add(policy)
    for each in policy.__mro__[: policy.__mro__.index(Retry)]:
        if "increment" in vars(each) and each not in _known - {policy}:
            _known.add(each)
            patch = Patch(each, "increment")
            patch.put(_visible_increment(patch, patch.before))
            _patches.append(patch)


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
        if call is None or call.is_failing:
            return original(self, method, url, response, error, *rest, **named)  # type: ignore[no-any-return]
        call.is_failing = is_last = True
        try:
            retry: Retry = original(self, method, url, response, error, *rest, **named)
            is_last = False
            return retry
        finally:
            call.is_failing = False
            status = getattr(response, "status", None)
            call.send_failed(status, getattr(response, "headers", {}), error, is_last=is_last)

    return increment
