"""Redaction as one regular expression after another would do it, on the whole text: the reference for its quick way."""

from __future__ import annotations

import base64
import re
from typing import Final

REDACTED: Final = "[redacted]"

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

PLAIN: Final = re.compile("|".join(f"(?:{pattern})" for pattern in SECRET_PATTERNS), re.DOTALL | re.ASCII)
KEYED: Final = [(re.compile(pattern), fix) for pattern, fix in _KEYED]


def redacted(text: str) -> str:
    """`text` with every secret in it replaced."""
    clean = PLAIN.sub(REDACTED, text)
    for pattern, fix in KEYED:
        clean = pattern.sub(fix, clean)
    return _BASIC.sub(_hide_basic, clean)


def _hide_basic(found: re.Match[str]) -> str:
    """Credentials are base64 with a colon in it (RFC 7617); other words after "basic" are just words."""
    encoded = found[2].rstrip("=")
    try:
        is_secret = ":" in base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        is_secret = False
    return found[1] + REDACTED if is_secret else found[0]
