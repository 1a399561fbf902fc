"""Calls that PyGithub makes: an API call outside any is one of its own, and its hidden sleeps are visible waits.

The HTTP spans below are those of requests, on which PyGithub is built: switch that integration on as well.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, ClassVar, Final

from github import Consts
from github.Requester import Requester
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from otelsync.hooks.harmless import harmless
from otelsync.hooks.patching import Patch
from otelsync.integrations.http import calls, retry_waits
from otelsync.integrations.http.calls import SPEAKS_GITHUB
from otelsync.integrations.http.routes import github_route
from otelsync.recording.runtime_context import current_scope
from otelsync.stages import waits
from otelsync.stages.kinds import ApiCall, api_call
from otelsync.stages.stage import Stage

_REQUESTS: Final = (
    "requestJsonAndCheck",
    "requestMultipartAndCheck",
    "requestBlobAndCheck",
    "requestMemoryBlobAndCheck",
    "requestJson",
    "requestMultipart",
    "requestBlob",
    "getFile",
    "getStream",
)
"""Methods that begin with a verb and an address; those that this version of PyGithub has not are passed over."""
_GRAPHQL: Final = "graphql_query"


class Instrumentor(BaseInstrumentor):  # type: ignore[misc]  # upstream has no types
    """Switches what this module does on and off."""

    _instance: ClassVar[Instrumentor | None] = None
    _patches: list[Patch]

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the library that it is for."""
        return ("PyGithub >= 2.0",)

    def _instrument(self, **_: Any) -> None:
        self._patches = []
        for name in (*_REQUESTS, _GRAPHQL):
            if name in vars(Requester):
                patch = Patch(Requester, name)
                patch.put(_within_api_call(patch, patch.before, is_graphql=name == _GRAPHQL))
                self._patches.append(patch)
        clock = Patch(import_module("github.Requester"), "time")
        clock.put(_VisibleSleep(clock))
        self._patches.append(clock)
        retry_policy = import_module("github.GithubRetry").GithubRetry
        if hasattr(retry_policy, "get_content"):
            content = Patch(retry_policy, "get_content")
            content.put(staticmethod(_seen_content(content, retry_policy.get_content)))
            self._patches.append(content)
        retry_waits.show("pygithub")

    def _uninstrument(self, **_: Any) -> None:
        retry_waits.hide("pygithub")
        for patch in self._patches:
            patch.undo()


def _within_api_call(patch: Patch, original: Any, *, is_graphql: bool) -> Any:
    """A method of the requester that opens an API call, unless it is made inside one."""

    @functools.wraps(original)
    def request(self: Requester, *args: Any, **kwargs: Any) -> Any:
        if not patch.is_on:
            return original(self, *args, **kwargs)
        before = SPEAKS_GITHUB.get()
        try:
            SPEAKS_GITHUB.set(True)
            stage = _api_call(self, is_graphql, args, kwargs)
            if stage is None:
                return original(self, *args, **kwargs)
            with stage:
                return original(self, *args, **kwargs)
        finally:
            SPEAKS_GITHUB.set(before)

    return request


def _seen_content(patch: Patch, original: Any) -> Any:
    """The body of a refusal, which PyGithub's retry policy reads: it says which limit the refusal is about."""

    @functools.wraps(original)
    def get_content(*args: Any, **kwargs: Any) -> Any:
        content = original(*args, **kwargs)
        call = calls.CURRENT.get() if patch.is_on else None
        if call is not None and isinstance(content, bytes):
            call.refusal_read(content)
        return content

    return get_content


@harmless
def _api_call(requester: Requester, is_graphql: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stage | None:
    """The stage of a call; None inside another."""
    if isinstance(current_scope().stage, ApiCall):
        return None
    if is_graphql:
        return api_call("POST /graphql", kind="graphql")
    given = dict(zip(("verb", "url"), args, strict=False)) | kwargs
    return api_call(f"{given['verb']} {github_route(_path(requester, str(given['url'])))}", kind="rest")


def _path(requester: Requester, url: str) -> str:
    """The path of an address, whole or as it stands behind the API's own."""
    _, scheme, rest = url.partition("://")
    path = "/" + rest.partition("/")[2] if scheme else url
    prefix = str(getattr(requester, "_Requester__prefix", "") or "")
    return path.removeprefix(prefix) if prefix else path


class _VisibleSleep:
    """The ``time`` module as PyGithub's requester sees it, whose sleeps are spans.

    It sleeps between requests to keep its pace, and while GitHub computes what it answers with 202.
    """

    def __init__(self, patch: Patch) -> None:
        self._patch = patch

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep, visibly if a span is current that is recorded."""
        wait = _wait(seconds) if self._patch.is_on else None
        if wait is None:
            time.sleep(seconds)
            return
        with wait:
            time.sleep(seconds)


@harmless
def _wait(seconds: float) -> AbstractContextManager[Stage] | None:
    if not trace.get_current_span().is_recording():
        return None
    return waits.retry_wait(seconds, "processing" if seconds == Consts.PROCESSING_202_WAIT_TIME else "pacing")
