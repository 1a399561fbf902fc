"""The parts put together as the settings say."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import urlsplit

from .github_api import GithubApi
from .patience import Patience
from .settings import Settings, SettingsError
from .tokens import FileKeeper, InstallationToken, Keeper, LimitError, RedisKeeper, StaticToken, Token, TokenPool


def github_for(settings: Settings, put_back: Callable[[LimitError], NoReturn] | None = None) -> GithubApi:
    """Return GitHub as the settings say. `put_back` is called where a limit asks for a long wait; see GithubApi."""
    _reach_loopback_directly(settings.api_url)
    return GithubApi(
        settings.api_url,
        pool_for(settings),
        longest_wait=settings.longest_wait,
        put_back=put_back,
        patience=Patience(secondary_backoff=settings.secondary_backoff),
    )


def pool_for(settings: Settings) -> TokenPool:
    """Return the tokens; raises SettingsError where there is none."""
    tokens: list[Token] = [StaticToken(text) for text in settings.tokens]
    if settings.app_installation and settings.app_jwt:
        tokens.append(InstallationToken(settings.api_url, settings.app_installation, settings.app_jwt))
    if not tokens:
        raise SettingsError("GITHUB_TOKEN, GITHUB_TOKENS or GITHUB_APP_INSTALLATION with GITHUB_APP_JWT must be set")
    return TokenPool(tokens, keeper_for(settings))


def keeper_for(settings: Settings) -> Keeper:
    """Return who keeps locks and standings: Redis where that is the broker, else files."""
    if settings.broker_url.startswith("redis"):
        return RedisKeeper(settings.broker_url)
    return FileKeeper(settings.home / "tokens")


def _reach_loopback_directly(url: str) -> None:
    """Keep requests from sending loopback's traffic to a proxy of the environment; others it handles as ever."""
    host = urlsplit(url).hostname or ""
    if host in ("127.0.0.1", "localhost", "::1"):
        exceptions = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
        if host not in exceptions.split(","):
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{exceptions},{host}".strip(",")
