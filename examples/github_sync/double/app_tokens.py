"""Tokens of a GitHub App's installations: given for an hour, refused afterwards."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from .messages import DOCS, Answer, Request, error, ok
from .rate_limit import Quota

_PATH = re.compile(r"/app/installations/(?P<installation>\d{1,18})/access_tokens")
_PREFIX = "ghs_"
_PERMISSIONS = {"contents": "read", "issues": "read", "metadata": "read", "pull_requests": "read"}


class AppTokens:
    """Gives tokens and remembers until when each is good; `seconds` is how long."""

    def __init__(self, seconds: float = 3600.0, clock: Callable[[], float] = time.time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._given: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def account(self, token: str) -> str | None:
        """Whose limits a token draws from: the installation's, or its own; None for one that is not good any more."""
        if not token.startswith(_PREFIX):
            return token
        with self._lock:
            installation, until = self._given.get(token, ("", 0.0))
        return f"installation {installation}" if self._clock() < until else None

    def give(self, request: Request, quota: Quota) -> Answer | None:
        """The answer to a request for a token, or None where the request is for something else."""
        match = _PATH.fullmatch(request.path)
        if match is None or request.method != "POST":
            return None
        wrong = self._wrong(request.token)
        if wrong:
            return error(401, wrong, docs=DOCS)
        token, until = _PREFIX + secrets.token_hex(18), self._clock() + self._seconds
        with self._lock:
            self._given[token] = (match["installation"], until)
        expires = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        content = {"token": token, "expires_at": expires, "permissions": _PERMISSIONS, "repository_selection": "all"}
        return ok(content, request, quota, status=201)

    def _wrong(self, token: str) -> str | None:
        """What is wrong with the App's own token, a JSON Web Token, its signature apart; None: nothing."""
        parts = token.split(".")
        try:
            claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
            expires = float(claims["exp"])
        except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
            return "A JSON web token could not be decoded"
        if expires <= self._clock():
            return "'Expiration time' claim ('exp') must be a numeric value representing the future time"
        return None
