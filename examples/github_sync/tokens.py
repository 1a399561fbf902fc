"""Tokens of GitHub's: who may send now, and with which one.

GitHub wants one request at a time a token. The lock that sees to it, and what is known of each token's limits, are
shared by all processes: by files in the home of one host, or by Redis where that is the broker. So no process sends
what another has learned to be too early.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

import requests

import otelsync

EARLY: Final = 300.0
"""Seconds before the end of an app's token at which another is asked for."""
MARGIN: Final = 1.0
"""Seconds that are waited beyond a reset: it is told in whole seconds, and clocks differ."""
LOCKED_FOR: Final = 120.0
"""Seconds after which Redis gives up the lock of a process that has died. Longer than any request may take."""
_POLL: Final = 0.02


class LimitError(Exception):
    """All tokens have to wait: for `seconds`, as a limit of that `kind` says (``primary`` or ``secondary``)."""

    def __init__(self, kind: str, seconds: float) -> None:
        super().__init__(kind, seconds)
        self.kind, self.seconds = kind, seconds

    def __str__(self) -> str:
        return f"the {self.kind} rate limit holds for {self.seconds:.0f} s more"


@dataclass(slots=True)
class Standing:
    """What is known of a token: by resource what is left, and until when nothing may be sent (epoch seconds)."""

    remaining: dict[str, int] = field(default_factory=dict)
    resets: dict[str, float] = field(default_factory=dict)
    blocked: dict[str, float] = field(default_factory=dict)
    """Until when a resource, or with ``*`` all of them, may not be asked."""
    kinds: dict[str, str] = field(default_factory=dict)
    refusals: int = 0
    """Refusals for a secondary limit in a row."""

    def wait(self, resource: str, now: float) -> tuple[float, str]:
        """Return for how many seconds nothing of a resource may be asked, and for which kind of limit."""
        until, kind = max((self.blocked.get(name, 0.0), self.kinds.get(name, "")) for name in (resource, "*"))
        return max(0.0, until - now), kind

    def left(self, resource: str, now: float) -> int:
        """Return how much is left of a resource; a window that is over, or was never seen, counts as full."""
        if self.resets.get(resource, 0.0) <= now:
            return 1 << 30
        return self.remaining.get(resource, 1 << 30)

    def note(self, resource: str, remaining: int, reset: float) -> None:
        """Take note of what a response said; nothing left means that nothing may be asked until the reset."""
        self.remaining[resource], self.resets[resource] = remaining, reset
        if remaining <= 0:
            self.block(resource, reset + MARGIN, "primary")

    def block(self, resource: str, until: float, kind: str) -> None:
        """Ask nothing more of a resource (``*``: of any) until then."""
        if until > self.blocked.get(resource, 0.0):
            self.blocked[resource], self.kinds[resource] = until, kind


class Keeper(Protocol):
    """Keeps locks and standings for all processes."""

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Hold the lock of a token for the length of the block; waits for it."""

    def read(self, key: str) -> Standing:
        """Return what is known of a token."""

    def write(self, key: str, standing: Standing) -> None:
        """Keep it; the caller holds the lock."""


class FileKeeper:
    """Keeps them in a directory, for the processes of one host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock. The system gives up that of a process that dies."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with otelsync.stage("sync.token.wait", kind="waiting"):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self, key: str) -> Standing:
        """Return what is known of a token; nothing, where the file cannot be read."""
        try:
            return Standing(**json.loads((self._directory / f"{key}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return Standing()

    def write(self, key: str, standing: Standing) -> None:
        """Replace the file, in one step."""
        path = self._directory / f"{key}.json"
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(standing)))
        beside.replace(path)


class RedisKeeper:
    """Keeps them in Redis, for the processes of all hosts."""

    def __init__(self, url: str) -> None:
        import redis

        self._redis = redis.Redis.from_url(url)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock; Redis gives up that of a process that has died."""
        lock = self._redis.lock(f"github-sync:lock:{key}", timeout=LOCKED_FOR, sleep=_POLL)
        if not lock.acquire(blocking=False):
            with otelsync.stage("sync.token.wait", kind="waiting"):
                lock.acquire(blocking=True)
        try:
            yield
        finally:
            if lock.owned():
                lock.release()

    def read(self, key: str) -> Standing:
        """Return what is known of a token."""
        text: Any = self._redis.get(f"github-sync:token:{key}")
        try:
            return Standing(**json.loads(text)) if text else Standing()
        except (ValueError, TypeError):
            return Standing()

    def write(self, key: str, standing: Standing) -> None:
        """Keep it for a day."""
        self._redis.set(f"github-sync:token:{key}", json.dumps(asdict(standing)), ex=86_400)


class Token(Protocol):
    """A token, or what gives one."""

    key: str
    """Names it in locks and standings; tells nothing of the token itself."""

    def text(self) -> str:
        """Return the token to be sent."""

    def refresh(self) -> bool:
        """Ask for another, after this one was refused; False if there is none."""


class StaticToken:
    """A token that somebody has made by hand."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.key = blake2b(token.encode(), digest_size=8).hexdigest()

    def text(self) -> str:
        """Return it."""
        return self._token

    def refresh(self) -> bool:
        """Return False: nobody else can make another."""
        return False


class InstallationToken:
    """The token of an app's installation, which lives for an hour: another is asked for before it ends."""

    def __init__(self, api_url: str, installation: str, jwt: str, clock: Callable[[], float] = time.time) -> None:
        self._url = f"{api_url}/app/installations/{installation}/access_tokens"
        self._jwt = jwt
        self._clock = clock
        self._token, self._ends = "", 0.0
        self.key = f"installation-{blake2b(installation.encode(), digest_size=8).hexdigest()}"

    def text(self) -> str:
        """Return a token that holds for some minutes more; raises requests.RequestException."""
        if self._clock() >= self._ends - EARLY:
            self._ask()
        return self._token

    def refresh(self) -> bool:
        """Ask for another."""
        self._ask()
        return True

    def _ask(self) -> None:
        with otelsync.api_call("create_installation_token", kind="rest"):
            headers = {"Authorization": f"Bearer {self._jwt}", "Accept": "application/vnd.github+json"}
            answer = requests.post(self._url, headers=headers, timeout=30)
            answer.raise_for_status()
        said = answer.json()
        self._token = str(said["token"])
        self._ends = datetime.fromisoformat(str(said["expires_at"]).replace("Z", "+00:00")).timestamp()


class Turn:
    """A token's turn: nobody else sends with it meanwhile."""

    def __init__(self, token: Token, standing: Standing, resource: str) -> None:
        self.token, self.standing, self.resource = token, standing, resource


class TokenPool:
    """The tokens of a sync. The one with most left goes first."""

    def __init__(self, tokens: Sequence[Token], keeper: Keeper, clock: Callable[[], float] = time.time) -> None:
        if not tokens:
            raise ValueError("there is no token; GITHUB_TOKEN or GITHUB_TOKENS says one")
        self._tokens = list(tokens)
        self._keeper = keeper
        self._clock = clock

    @contextmanager
    def turn(self, resource: str) -> Iterator[Turn]:
        """Take the turn of a token that may ask for a resource now; what the turn learns is kept. Raises LimitError.

        Whoever asks waits for a token that others use, and never for a limit.
        """
        while True:
            token = self._choose(resource)
            with self._keeper.lock(token.key):
                standing = self._keeper.read(token.key)
                if standing.wait(resource, self._clock())[0] > 0:
                    continue  # somebody has learned something while this one waited
                try:
                    yield Turn(token, standing, resource)
                finally:
                    self._keeper.write(token.key, standing)
                return

    def standings(self) -> dict[str, Standing]:
        """Return what is known of each token, by key."""
        return {token.key: self._keeper.read(token.key) for token in self._tokens}

    def _choose(self, resource: str) -> Token:
        now = self._clock()
        standings = [(self._keeper.read(token.key), token) for token in self._tokens]
        free = [
            (standing.left(resource, now), token)
            for standing, token in standings
            if not standing.wait(resource, now)[0]
        ]
        if free:
            return max(free, key=lambda pair: pair[0])[1]
        seconds, kind = min(standing.wait(resource, now) for standing, _ in standings)
        raise LimitError(kind, seconds)
