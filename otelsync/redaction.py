"""Secrets never leave the process: what looks like one is replaced before anything is rendered or journalled."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Final

from otelsync.hooks.host_errors import hand_back

REDACTED: Final = "[redacted]"
CIRCULAR: Final = "[circular]"
TOO_DEEP: Final = "[too deep]"
_DEEPEST: Final = 32
_MANY: Final = 1024
_SHORT: Final = 128

SECRET_KEYS: Final = (
    *("access_key", "api_key", "api_keys", "private_key", "secret_key", "x_api_key"),
    *("access_token", "auth_token", "refresh_token", "session_token", "token"),
    *("passphrase", "passwd", "password", "passwords", "pwd"),
    *("client_secret", "credential", "credentials", "secret", "secrets"),
    *("authorization", "cookie", "cookies", "proxy_authorization", "set_cookie"),
    *("x_amz_signature", "x_goog_signature"),
)
"""A field whose name is one of these, or ends in a separator and one of these, is a secret whatever it holds."""

SECRET_PATTERNS: Final = (
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub's tokens; github.blog, "Behind GitHub's new authentication token formats"
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bv1\.[0-9a-f]{40}\b",  # GitHub's older installation tokens
    r"\bgsk_[A-Za-z0-9]{20,}",  # Groq
    r"\bsk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",  # OpenAI and its followers, but not sk-learn-and-its-followers
    r"\bxox[abeoprs]-[A-Za-z0-9-]{15,}",  # Slack
    r"\bglpat-[A-Za-z0-9_-]{16,}",  # GitLab
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS access key ids
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+",  # JSON Web Tokens
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)",
)
"""Patterns of secrets, wherever they stand."""

_QUOTE: Final = r"\\{0,16}+[\"']"
"""Behind backslashes where one text was shown inside another."""
_IS: Final = rf"(?:(?:{_QUOTE})?+\s*[:=]|{_QUOTE}\s*,)\s*(?:b(?={_QUOTE}))?+(?:{_QUOTE})?+"
"""Text between a name and its value, in text and in Python's repr of a dict, a pair or bytes."""
_VALUE: Final = r"(?!\[redacted\])[^\s\"'&,;}\\]{3,}"

_KEYED: Final = (
    # `Authorization: Bearer x`, `"authorization": "token x"`; the scheme stays, the credentials go.
    (
        rf"(?ai)(\bauthorization\b{_IS}(?:(?:bearer|basic|token|digest|negotiate|aws4-hmac-sha256)\s+)?+)"
        r"(?!\[redacted\])[^\s\"',;}]+(?:[\"']?,\s*[a-z]+=[\"']?[^\s\"',;}]+)*",
        r"\1" + REDACTED,
    ),
    (r"(?ai)\b(bearer\s+)(?=[a-z._~+/-]*[0-9])[a-z0-9._~+/-]{16,}=*", r"\1" + REDACTED),
    # `password=x`, `?access_token=x&`, `"client_secret": "x"`, `"accessToken": "x"`
    (
        r"(?ai)((?:password|passwd|passphrase|(?:(?<![a-z0-9])|access|auth|refresh|session|client|private|secret|api)"
        rf"(?:secret|token|(?:api|access|secret|private)[_-]?key))\b{_IS}){_VALUE}",
        r"\1" + REDACTED,
    ),
    # What lets whoever has a presigned URL in, also if that URL is a parameter of another one
    (
        rf"(?ai)((?:(?:(?<![a-z0-9])|%3f|%26)x-(?:amz|goog)-(?:signature|credential)(?:%3d|{_IS})|[?&](?:sig|signature)=)){_VALUE}",
        r"\1" + REDACTED,
    ),
    # `scheme://user:password@host`; bounded, since a hostile text could make it quadratic
    (
        r"(?ai)\b([a-z][a-z0-9+.-]{0,30}://[^\s/:@\"']{0,256}:)(?!\[redacted\]@)[^\s/@\"']{1,1024}@",
        r"\1" + REDACTED + "@",
    ),
)
_BASIC: Final = re.compile(r"(?ai)\b(basic\s+)([a-z0-9+/]{14,}={0,2})")

_SHORTEST: Final = 20
"""Characters in the shortest secret that is known by its look alone, not by a name and ``=``, ``:`` or ``,`` before."""


def _suspicious(text: str) -> bool:
    """Return whether `text` could hold a secret: the quick test that lets almost every string pass.

    Whatever a pattern above matches holds one of these; twenty searches for a word cost a tenth of one for a pattern.
    """
    low = text.lower()
    return (
        ("_" in low and ("gh" in low or "github_pat_" in low or "gsk_" in low))
        or ("-" in low and ("sk-" in low or "xox" in low or "glpat-" in low or "-----begin" in low))
        or ("." in low and ("eyj" in low or "v1." in low))
        or ("://" in low and "@" in low)
        or ("sig" in low and ("=" in low or "%" in low or ":" in low or "," in low))
        or "credential" in low
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
        keys: Further names of secrets, of fields and before ``=`` or ``:`` in text.
        patterns: Further regular expressions of secrets.

    Raises:
        re.error: A pattern is not a regular expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        keys = tuple(keys)
        self._keys = frozenset(_normal(key).replace("_", "") for key in (*SECRET_KEYS, *keys))
        self._known: dict[str, bool] = {}
        self._custom = [re.compile(pattern) for pattern in patterns]
        # ASCII: a letter of another alphabet right before a token makes it no part of a word
        self._plain = re.compile("|".join(f"(?:{pattern})" for pattern in SECRET_PATTERNS), re.DOTALL | re.ASCII)
        further = [_named(key) for key in keys if _normal(key)]
        self._keyed = [(re.compile(pattern), fix) for pattern, fix in (*_KEYED, *further)]
        self.is_standard = not self._custom and not further
        """True if it knows no more patterns than those above."""
        self._shortest = 0 if self._custom else _SHORTEST
        # with patterns of the user's, any text may hold a secret
        self._suspicious: Callable[[str], bool] = _suspicious if self.is_standard else lambda _: True

    def is_secret_key(self, key: str) -> bool:
        """Return whether a field of this name is a secret; "author", "authority" and "tokenizer" are not."""
        is_secret = self._known.get(key)
        if is_secret is None:
            words = _normal(key).split("_")
            is_secret = any("".join(words[i:]) in self._keys for i in range(len(words)))
            if len(self._known) >= _MANY:
                self._known.clear()
            if len(key) <= _SHORT:
                self._known[key] = is_secret
        return is_secret

    def redact(self, text: str) -> str:
        """`text` with every secret in it replaced; `text` itself if it holds none."""
        if len(text) < self._shortest and ":" not in text and "=" not in text and "," not in text:
            return text
        if not self._suspicious(text):
            return text
        clean = self._plain.sub(REDACTED, text)
        for pattern, fix in self._keyed:
            clean = pattern.sub(fix, clean)
        clean = _BASIC.sub(_hide_basic, clean)
        for pattern in self._custom:
            clean = pattern.sub(REDACTED, clean)
        return text if clean == text else clean

    def redact_value(self, key: str, value: object) -> object:
        """The value of a field with every secret in it replaced, at any depth; `value` itself if it holds none.

        Numbers are no secrets, whatever they are called: ``max_tokens=4096``. What contains itself, or is nested
        deeper than 32 levels, ends there. Never raises: what cannot be read is replaced.
        """
        try:
            return self._clean(_text(key), value, ())
        except Exception as error:
            hand_back(error)
            return f"[a {type(value).__name__} that raises {type(error).__name__}]"

    def _clean(self, key: str, value: object, around: tuple[int, ...]) -> object:
        """Clean `value`, which stands under `key` in the containers whose ids are `around`."""
        if value is None or isinstance(value, (int, float)):
            return value
        if self.is_secret_key(key):
            return value if isinstance(value, str) and value in ("", REDACTED) else REDACTED
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, bytes):
            clean = self.redact(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            return value if clean == value else clean
        if id(value) in around:
            return CIRCULAR
        if len(around) == _DEEPEST:
            return TOO_DEEP
        return self._clean_inside(value, (*around, id(value)))

    def _clean_inside(self, value: object, around: tuple[int, ...]) -> object:
        if is_dataclass(value) and not isinstance(value, type):
            value_fields = {field.name: getattr(value, field.name, None) for field in fields(value)}
            pairs = {k: self._clean(k, v, around) for k, v in value_fields.items()}
            return value if all(pairs[k] is v for k, v in value_fields.items()) else pairs
        if isinstance(value, Mapping):
            pairs = {k: self._clean(_text(k), v, around) for k, v in value.items()}
            return value if all(pairs[k] is v for k, v in value.items()) else pairs
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, bytes)):
            second = self._clean(_text(value[0]), value[1], around)  # a header
            first = self._clean("", value[0], around)
            return value if first is value[0] and second is value[1] else (first, second)
        if isinstance(value, (list, tuple, set, frozenset)):
            items = [self._clean("", v, around) for v in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        text = str(value)  # an exception, a URL: it is rendered so
        clean = self.redact(text)
        return value if clean is text else clean


def _named(key: str) -> tuple[str, str]:
    """The pattern of a user's secret in text: its name, in any spelling, and what it is."""
    name = r"[\W_]?".join(re.escape(word) for word in _normal(key).split("_"))
    return rf"(?ai)((?<![a-z0-9]){name}{_IS}){_VALUE}", r"\1" + REDACTED


def _hide_basic(found: re.Match[str]) -> str:
    """Credentials are base64 with a colon in it (RFC 7617); other words after "basic" are just words."""
    encoded = found[2].rstrip("=")
    try:
        is_secret = ":" in base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        is_secret = False
    return found[1] + REDACTED if is_secret else found[0]


def _text(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _normal(key: str) -> str:
    """One spelling for the names of fields: ``X-Api-Key`` and ``x.apiKey`` are both ``x_api_key``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
