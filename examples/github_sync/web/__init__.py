"""The page of the progress: what the database says, drawn on the server, and live by server-sent events.

A browser that was closed and opened again sees the same as one that stayed: nothing is kept in the page.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.github_sync import status
from examples.github_sync.database import engine_for
from examples.github_sync.settings import Settings, SettingsError
from examples.github_sync.status import TeamStatus
from examples.github_sync.wiring import pool_for

EVERY: Final = 0.5
"""Seconds between two looks at the database while a page is open."""
ALIVE: Final = 15.0
"""Seconds after which something is sent, so that a proxy does not hang up."""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FOLDER: Final = Path(__file__).parent
_FILES: Final = {"page.css": "text/css", "page.js": "text/javascript"}


def application(settings: Settings) -> Starlette:
    """Return the application."""
    page = _Page(settings)
    return Starlette(
        routes=[
            Route("/", page.index),
            Route("/static/{name}", page.static),
            Route("/teams/{team}", page.team),
            Route("/teams/{team}/status.json", page.as_json),
            Route("/teams/{team}/events", page.events),
        ]
    )


class _Page:
    """The routes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine = engine_for(settings.database_url)
        self._templates = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True)
        self._templates.filters["duration"] = status.duration

    async def index(self, _: Request) -> Response:
        """Go to the only team, or list them."""
        teams = await run_in_threadpool(status.teams, self._engine)
        if len(teams) == 1:
            return RedirectResponse(f"/teams/{teams[0]}")
        return self._html("teams.html.jinja", teams=teams)

    async def static(self, request: Request) -> Response:
        """Return the style sheet or the script."""
        name = request.path_params["name"]
        if name not in _FILES:
            return Response(status_code=404)
        return Response((_FOLDER / name).read_bytes(), media_type=_FILES[name], headers=_HEADERS)

    async def team(self, request: Request) -> Response:
        """Return the page of a team."""
        found = await run_in_threadpool(self._read, request.path_params["team"])
        if not found.repositories:
            return HTMLResponse("no such team", status_code=404, headers=_HEADERS)
        return self._html("team.html.jinja", team=found)

    async def as_json(self, request: Request) -> Response:
        """Return the same for programs."""
        found = await run_in_threadpool(self._read, request.path_params["team"])
        return JSONResponse(found.as_dict(), headers=_HEADERS)

    async def events(self, request: Request) -> Response:
        """Send the inner part of the page whenever it is another one."""
        return StreamingResponse(self._changes(request), media_type="text/event-stream", headers=_HEADERS)

    async def _changes(self, request: Request) -> AsyncIterator[str]:
        shown, quiet = "", 0.0
        with suppress(asyncio.CancelledError):
            while not await request.is_disconnected():
                found = await run_in_threadpool(self._read, request.path_params["team"])
                part = self._templates.get_template("progress.html.jinja").render(team=found)
                quiet += EVERY
                if part != shown:
                    shown, quiet = part, 0.0
                    yield f"data: {json.dumps(part)}\n\n"
                elif quiet >= ALIVE:
                    quiet = 0.0
                    yield ": still here\n\n"
                await asyncio.sleep(EVERY)

    def _read(self, team: str) -> TeamStatus:
        try:
            standings = pool_for(self._settings).standings()
        except SettingsError:
            standings = {}
        return status.read(self._engine, team, standings)

    def _html(self, template: str, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**values), headers=_HEADERS)
