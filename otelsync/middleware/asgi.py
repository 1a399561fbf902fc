"""ASGI middleware. Source: asgi.readthedocs.io, "HTTP & WebSocket ASGI Message Format"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from otelsync.hooks.harmless import harmless
from otelsync.middleware.request import HEADER, ServedRequest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
_HEADER: Final = HEADER.lower().encode()


class ASGIMiddleware:
    """Serve HTTP requests of an ASGI application with a correlation id; websockets and lifespan pass as they are.

    Args:
        app: The application, such as one of Starlette or FastAPI.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        request = _request(scope) if scope["type"] == "http" else None
        if request is None:
            await self.app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            await send(_answer(request, message) or message)

        token = request.enter()
        try:
            await self.app(scope, receive, send_with_id)
        except BaseException as error:
            request.end(error)
            raise
        else:
            request.end()
        finally:
            request.leave(token)


@harmless
def _request(scope: Message) -> ServedRequest:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return ServedRequest(scope["method"], scope["path"], scope.get("scheme", "http"), headers)


@harmless
def _answer(request: ServedRequest, message: Message) -> Message | None:
    """The message with our header if it begins the response and has none; None where it goes as it is."""
    if message["type"] != "http.response.start":
        return None
    request.status = int(message["status"])
    headers = list(message.get("headers") or ())
    if any(bytes(name).lower() == _HEADER for name, _ in headers):
        return None
    return {**message, "headers": [*headers, (_HEADER, request.correlation_id.encode())]}
