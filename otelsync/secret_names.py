"""Names of secrets: of fields, headers, options, variables and parameters of addresses. One table for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

NAMES: Final = (
    # Passwords
    *("pass_phrase", "passphrase", "passwd", "password", "password_hash", "pwd"),
    # Keys. "key" alone is none: a table has keys as well.
    *("access_key", "access_key_id", "account_key", "api_key", "app_key", "application_key", "auth_key"),
    *("encryption_key", "functions_key", "license_key", "master_key", "personal_key", "private_key", "secret_key"),
    *("server_key", "shared_access_key", "shared_key", "signing_key", "ssh_key", "storage_key", "subscription_key"),
    *("webhook_key", "x_api_key"),
    # Tokens and what stands for somebody
    *("access_token", "auth_token", "bearer", "refresh_token", "session_token", "token"),
    *("client_secret", "credential", "secret"),
    # Headers (RFC 9110, RFC 6265)
    *("authorization", "cookie", "proxy_authorization", "set_cookie", "x_auth"),
    # Presigned addresses of Amazon, Google and Azure
    *("shared_access_signature", "x_amz_signature", "x_goog_signature", "x_amz_credential", "x_goog_credential"),
)
"""Names of secrets. Plural forms, and forms with a number at the end, are secrets too."""

PARAMETERS: Final = frozenset(
    (
        *("apikey", "appid", "auth", "hapikey", "jwt", "key", "otp", "sessionid", "sid"),
        *("assertion", "clientassertion", "code", "idtoken"),  # OAuth 2.0 and OpenID Connect
        *("awsaccesskeyid", "sig", "signature", "xamzsecuritytoken"),
    )
)
"""Parameters of an address that let whoever has it in, beside the names above."""

_ENDINGS: Final = (
    *("password", "passwd", "passphrase", "apikey", "secretkey", "accesskey", "privatekey"),
    *("token", "clientsecret", "apisecret", "appsecret"),
)
"""Ends of words that were written as one, such as PGPASSWORD and githubtoken."""
_PLACES: Final = frozenset(
    (
        *("page", "next", "prev", "previous", "continuation", "sync", "cursor", "start", "resume", "delta", "skip"),
        *("change", "position", "next_page", "pagination", "paging"),
    )
)
"""Words before "token" that make it a place in a list."""
_QUESTIONS: Final = frozenset(
    (
        *("has", "is", "no", "with", "without", "use", "uses", "need", "needs", "require", "requires", "required"),
        *("missing", "invalid", "expired", "num", "max", "min", "count", "show", "allow", "enable"),
    )
)
"""Words at the beginning that make it a flag or a count."""
_COUNTED: Final = frozenset(
    (
        "cached",
        "completion",
        "input",
        "max",
        "min",
        "num",
        "output",
        "prompt",
        "reasoning",
        "remaining",
        "total",
        "used",
    )
)
"""Words before "tokens" of which there is a number."""
_MANY: Final = 1024
_LONGEST: Final = 128


class SecretNames:
    """Knows which names are those of secrets, in any spelling.

    Args:
        more: Further names.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = frozenset(in_one_spelling(name).replace("_", "") for name in (*NAMES, *more)) - {""}
        self._known: dict[str, bool] = {}
        self._known_parameters: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Return whether a name is a secret's: "author", "tokenizer", "next_page_token" and "has_token" are not."""
        found = self._known.get(name)
        if found is None:
            found = self._is_secret(in_one_spelling(name).split("_"))
            _remember(self._known, name, found)
        return found

    def is_secret_parameter(self, name: str) -> bool:
        """Return the same of a parameter of an address: some are secrets only there."""
        found = self._known_parameters.get(name)
        if found is None:
            found = in_one_spelling(name).replace("_", "") in PARAMETERS or self.is_secret(name)
            _remember(self._known_parameters, name, found)
        return found

    def _is_secret(self, words: list[str]) -> bool:
        while len(words) > 1 and words[-1].isdecimal():
            words = words[:-1]
        last = words[-1].rstrip("0123456789")
        words = [*words[:-1], last or words[-1]]
        for place in range(len(words)):
            joined = "".join(words[place:])
            if joined in self._names:
                return not _is_harmless(words[:place], joined)
            if joined.endswith("s") and joined[:-1] in self._names:
                return not (_is_harmless(words[:place], joined[:-1]) or _are_counted(words[:place], joined))
        return _is_joined_secret(words)


def _remember(known: dict[str, bool], name: str, found: bool) -> None:
    if len(known) >= _MANY:
        known.clear()
    if len(name) <= _LONGEST:
        known[name] = found


def _is_harmless(before: list[str], name: str) -> bool:
    if not before:
        return False
    return before[0] in _QUESTIONS or (name == "token" and before[-1] in _PLACES)


def _are_counted(before: list[str], name: str) -> bool:
    return name == "tokens" and bool(before) and before[-1] in _COUNTED


def _is_joined_secret(words: list[str]) -> bool:
    word = words[-1]
    for ending in _ENDINGS:
        if word.endswith(ending):
            begins = word.removesuffix(ending)
            return not (begins in _PLACES or begins.removeprefix("next") in _PLACES or begins in _QUESTIONS)
    return False


def in_one_spelling(key: str) -> str:
    """One spelling for the names of fields: ``X-Api-Key`` and ``x.apiKey`` are both ``x_api_key``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
