"""WSGI middleware. Source: PEP 3333.

A server iterates the response after the application has returned, so the context is entered for each step, and the
server's own is as before in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from otelsync.hooks.harmless import harmless
from otelsync.middleware.request import HEADER, ServedRequest

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class WSGIMiddleware:
    """Serve requests of a WSGI application with a correlation id.

    Args:
        app: The application, such as one of Flask or Django.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        request = _request(environ)
        if request is None:
            return self.app(environ, start_response)

        def start_with_id(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            answer = _answer(request, status, headers)
            return start_response(status, headers if answer is None else answer, *exc_info)

        token = request.enter()
        try:
            body = self.app(environ, start_with_id)
            if isinstance(body, (list, tuple)):  # nothing of the application runs later
                request.end()
                return body
        except BaseException as error:
            request.end(error)
            raise
        finally:
            request.leave(token)
        return _Body(body, request)


class _Body:
    """A response whose every step runs in its request's context."""

    def __init__(self, body: Iterable[bytes], request: ServedRequest) -> None:
        self._body = body
        self._parts: Iterator[bytes] | None = None
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = self._request.enter()
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)
        except StopIteration:
            self._request.end()
            raise
        except BaseException as error:
            self._request.end(error)
            raise
        finally:
            self._request.leave(token)

    def close(self) -> None:
        """Close the application's response, as the server does at the end of each request."""
        token = self._request.enter()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._request.end(error)
            raise
        else:
            self._request.end()
        finally:
            self._request.leave(token)


@harmless
def _request(environ: Environ) -> ServedRequest:
    headers = {
        key[5:].replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_") and isinstance(value, str)
    }
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return ServedRequest(environ["REQUEST_METHOD"], path, environ.get("wsgi.url_scheme", "http"), headers)


@harmless
def _answer(request: ServedRequest, status: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]] | None:
    """The headers with ours; None where they have one of that name."""
    request.status = int(status[:3])
    if any(name.lower() == HEADER.lower() for name, _ in headers):
        return None
    return [*headers, (HEADER, request.correlation_id)]
