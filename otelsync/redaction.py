"""Secrets never leave the process: what looks like one is replaced before anything is rendered or journalled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

REDACTED: Final = "[redacted]"

SECRET_KEYS: Final = (
    "access_key",
    "access_token",
    "api_key",
    "apikey",
    "auth_token",
    "authorization",
    "client_secret",
    "cookie",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "proxy_authorization",
    "pwd",
    "refresh_token",
    "secret",
    "secret_key",
    "session_token",
    "set_cookie",
    "token",
    "x_api_key",
)
"""A field whose name is one of these, or ends in ``_`` or ``.`` and one of these, is a secret whatever it holds."""

SECRET_PATTERNS: Final = (
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub's tokens; github.blog, "Behind GitHub's new authentication token formats"
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bv1\.[0-9a-f]{40}\b",  # GitHub's older installation tokens
    r"\bgsk_[A-Za-z0-9]{20,}",  # Groq
    r"\bsk-[A-Za-z0-9_-]{20,}",  # OpenAI and its followers
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"\bglpat-[A-Za-z0-9_-]{16,}",  # GitLab
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS access key ids
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+",  # JSON Web Tokens
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)",
)
"""What is a secret wherever it stands."""

_KEYED: Final = (
    # `Authorization: Bearer x`, `"authorization": "token x"`; the scheme stays, the credentials go.
    (
        r"(?i)(\b(?:proxy-)?authorization\b[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest)\s+)?)"
        r"(?!\[redacted\])[^\s\"',;}]+",
        r"\1" + REDACTED,
    ),
    (r"(?i)\b(bearer|basic)(\s+)(?=[A-Za-z0-9._~+/=-]*[0-9._~+/=-])[A-Za-z0-9._~+/=-]{16,}", r"\1\2" + REDACTED),
    # `password=x`, `?access_token=x&`, `"client_secret": "x"`
    (
        r"(?i)(\b(?:[a-z0-9]+[_-])*(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|"
        r"secret[_-]?key|private[_-]?key)\b[\"']?\s*[:=]\s*[\"']?)(?!\[redacted\])[^\s\"'&,;}]{3,}",
        r"\1" + REDACTED,
    ),
    # `scheme://user:password@host`
    (r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@\"']*:)(?!\[redacted\]@)[^\s/@\"']+@", r"\1" + REDACTED + "@"),
)

_SHORTEST: Final = 20
"""Characters in the shortest secret that is known by its look alone, and not by a name, ``=`` or ``:`` before it."""


def _suspicious(text: str) -> bool:
    """Whether `text` could hold a secret: the quick test that lets almost every string pass.

    Whatever a pattern above matches holds one of these; twenty searches for a word cost a tenth of one for a pattern.
    """
    if len(text) < _SHORTEST and ":" not in text and "=" not in text:
        return False
    low = text.lower()
    return (
        ("_" in low and ("gh" in low or "gsk_" in low))
        or ("-" in low and ("sk-" in low or "xox" in low or "glpat-" in low or "-----begin" in low))
        or ("." in low and ("eyj" in low or "v1." in low))
        or ("://" in low and "@" in low)
        or "token" in low
        or "key" in low
        or "pass" in low
        or "secret" in low
        or "uthorization" in low
        or "bearer" in low
        or "basic" in low
        or "akia" in low
        or "asia" in low
    )


class Redactor:
    """Takes secrets out of strings and names the fields that hold nothing else.

    Args:
        keys: Further names of fields that are secrets.
        patterns: Further regular expressions of secrets.

    Raises:
        re.error: A pattern is not a regular expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._keys = frozenset(_normal(key) for key in (*SECRET_KEYS, *keys))
        custom = tuple(patterns)
        self._plain = re.compile("|".join(f"(?:{pattern})" for pattern in (*SECRET_PATTERNS, *custom)), re.DOTALL)
        self._keyed = [(re.compile(pattern), mend) for pattern, mend in _KEYED]
        self._suspicious: Callable[[str], bool] = _suspicious
        if custom:
            self._suspicious = lambda _: True

    def is_secret_key(self, key: str) -> bool:
        """Whether a field of this name is a secret; "author", "authority" and "tokenizer" are not."""
        name = _normal(key)
        if name in self._keys:
            return True
        parts = re.split(r"[_.]", name)
        return any("_".join(parts[i:]) in self._keys for i in range(1, len(parts)))

    def redact(self, text: str) -> str:
        """`text` with every secret in it replaced; `text` itself if it holds none."""
        if not self._suspicious(text):
            return text
        clean = self._plain.sub(REDACTED, text)
        for pattern, mend in self._keyed:
            clean = pattern.sub(mend, clean)
        return text if clean == text else clean

    def redact_value(self, key: str, value: object) -> object:
        """The value of a field with every secret in it replaced, at any depth; `value` itself if it holds none.

        Numbers are no secrets, whatever they are called: ``max_tokens=4096``.
        """
        if value is None or isinstance(value, (int, float)):
            return value
        if self.is_secret_key(key):
            return value if value in ("", REDACTED) else REDACTED
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, bytes):
            clean = self.redact(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            return value if clean == value else clean
        if isinstance(value, Mapping):
            pairs = {k: self.redact_value(str(k), v) for k, v in value.items()}
            return value if all(pairs[k] is v for k, v in value.items()) else pairs
        if isinstance(value, (list, tuple, set, frozenset)):
            items = [self.redact_value("", v) for v in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        return value


def _normal(key: str) -> str:
    """One spelling for the names of fields: ``X-Api-Key`` and ``xApiKey`` are both ``x_api_key``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()
