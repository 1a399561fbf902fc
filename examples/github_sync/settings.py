"""Settings of the application, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GITHUB_API = "https://api.github.com"
GROQ_API = "https://api.groq.com"


class SettingsError(ValueError):
    """A variable of the environment that cannot be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment may say; each field names its variable."""

    home: Path = Path(".github-sync")
    """``GITHUB_SYNC_HOME``: the default database, the queue of the default broker, locks of tokens."""
    database_url: str = ""
    """``GITHUB_SYNC_DATABASE_URL``, of SQLAlchemy; default: SQLite in the home."""
    broker_url: str = ""
    """``CELERY_BROKER_URL``; default: directories in the home."""
    result_backend: str = ""
    """``CELERY_RESULT_BACKEND``; default: Redis where that is the broker, else files in the home."""
    api_url: str = GITHUB_API
    """``GITHUB_API_URL``"""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """``GITHUB_TOKENS``, separated by commas, or ``GITHUB_TOKEN``."""
    app_installation: str = ""
    """``GITHUB_APP_INSTALLATION``: the installation whose tokens are asked for with ``GITHUB_APP_JWT``."""
    app_jwt: str = field(default="", repr=False)
    """``GITHUB_APP_JWT``"""
    groq_url: str = GROQ_API
    """``GROQ_BASE_URL``"""
    groq_key: str = field(default="", repr=False)
    """``GROQ_API_KEY``; without one pull requests are looked at by patterns, and wait for the model."""
    groq_deadline: float = 600.0
    """``SYNC_LLM_DEADLINE``: seconds that a run waits for a batch, before a later task takes it up."""
    history_months: int = 12
    """``SYNC_HISTORY_MONTHS``"""
    recent_days: int = 30
    """``SYNC_RECENT_DAYS``: how far back the first phase goes."""
    llm_batch_size: int = 100
    """``SYNC_LLM_BATCH_SIZE``: pull requests in a batch."""
    page_size: int = 50
    """``SYNC_PAGE_SIZE``: pull requests in a page, at most; errors of the server make it smaller for a while."""
    longest_wait: float = 5.0
    """``SYNC_LONGEST_WAIT``: seconds that a worker waits for a limit itself; longer ones wait in the broker."""

    secondary_backoff: float = 60.0
    """``SYNC_SECONDARY_BACKOFF``: seconds to wait for a secondary limit that names no time; they double."""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment; raises SettingsError."""

        def text(name: str, default: str = "") -> str:
            return variables.get(name, "").strip() or default

        home = Path(text("GITHUB_SYNC_HOME", ".github-sync")).absolute()
        broker = text("CELERY_BROKER_URL", "filesystem://localhost")
        results = broker if broker.startswith("redis") else f"file://{home / 'results'}"
        tokens = text("GITHUB_TOKENS") or text("GITHUB_TOKEN")
        return cls(
            home=home,
            database_url=text("GITHUB_SYNC_DATABASE_URL", f"sqlite:///{home / 'github.db'}"),
            broker_url=broker,
            result_backend=text("CELERY_RESULT_BACKEND", results),
            api_url=text("GITHUB_API_URL", GITHUB_API).rstrip("/"),
            tokens=tuple(dict.fromkeys(part.strip() for part in tokens.split(",") if part.strip())),
            app_installation=text("GITHUB_APP_INSTALLATION"),
            app_jwt=text("GITHUB_APP_JWT"),
            groq_url=text("GROQ_BASE_URL", GROQ_API).rstrip("/"),
            groq_key=text("GROQ_API_KEY"),
            groq_deadline=_number(variables, "SYNC_LLM_DEADLINE", 600.0, least=0.0),
            history_months=int(_number(variables, "SYNC_HISTORY_MONTHS", 12, least=1)),
            recent_days=int(_number(variables, "SYNC_RECENT_DAYS", 30, least=1)),
            llm_batch_size=int(_number(variables, "SYNC_LLM_BATCH_SIZE", 100, least=1)),
            page_size=min(int(_number(variables, "SYNC_PAGE_SIZE", 50, least=1)), 100),
            secondary_backoff=_number(variables, "SYNC_SECONDARY_BACKOFF", 60.0, least=1.0),
            longest_wait=_number(variables, "SYNC_LONGEST_WAIT", 5.0, least=0.0),
        )


def _number(variables: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    text = variables.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number < 1e9:
        raise SettingsError(f"{name}={text!r} is no number of at least {least:g}; leave it out for {default:g}")
    return number
