"""Secrets in text: known by their look, or by a name before them, and replaced in a time that is linear in the text.

Each pattern begins with a word. Such words are looked for first, at a hundredth of the price of a regular expression,
and a pattern is tried nowhere else. No pattern runs over the same characters from many beginnings.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from typing import Final

from otelsync.bounds import MARGIN

REDACTED: Final = "[redacted]"

_QUOTE: Final = r"\\{0,16}+[\"']"
"""Behind backslashes where one text was shown inside another."""
_IS: Final = rf"(?:(?:{_QUOTE})?+\s*+[:=]|{_QUOTE}\s*+,)\s*+(?:b(?={_QUOTE}))?+(?:{_QUOTE})?+"
"""Text between a name and its value, in text and in Python's repr of a dict, a pair or bytes."""
_VALUE: Final = r"(?!\[redacted\])[^\s\"'&,;}\\]{3,}+"


class Rule:
    """A pattern of secrets, and the words that it begins with.

    Args:
        words: In lower case where the pattern takes letters of any case.
        pattern: It matches from the beginning of such a word.
        fix: Stands for what was found behind the first group; None: all of it goes.
        run: Characters that later beginnings inside of a failed match share, in vain.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        pattern: str,
        fix: str | Callable[[re.Match[str]], str] | None = None,
        run: str = "",
    ) -> None:
        self.words = words
        self.pattern = re.compile(pattern, re.DOTALL | re.ASCII)  # a letter of another alphabet is no part of a word
        self.takes_any_case = bool(self.pattern.flags & re.IGNORECASE)
        self._fix = fix
        self._run = re.compile(run) if run else None

    def applied(self, text: str, searched: str, word: str, at: int) -> str:
        """`text` with all secrets replaced that begin with `word`, of which the first stands at `at` in `searched`."""
        done, parts = 0, []
        while at >= 0:
            found = self.pattern.match(text, at)
            if found is not None:
                parts += [text[done:at], self._replacement(found)]
                at = done = found.end()
            elif self._run is not None and _begins_a_word(text, at) and (run := self._run.match(text, at)):
                at = max(run.end(), at + 1)
            else:
                at += 1
            at = searched.find(word, at)
        return "".join((*parts, text[done:])) if parts else text

    def _replacement(self, found: re.Match[str]) -> str:
        if self._fix is None:
            return REDACTED
        return f"{found[1]}{self._fix}" if isinstance(self._fix, str) else self._fix(found)


def _begins_a_word(text: str, at: int) -> bool:
    before = text[at - 1] if at else " "
    return not (before.isascii() and (before.isalnum() or before == "_"))


def _hide_basic(found: re.Match[str]) -> str:
    """Credentials are base64 with a colon in it (RFC 7617); other words after "basic" are just words."""
    encoded = found[2].rstrip("=")
    try:
        is_secret = ":" in base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        is_secret = False
    return found[1] + REDACTED if is_secret else found[0]


_WORD: Final = "[A-Za-z0-9_-]*+"
_JOINED: Final = "(?<=access)|(?<=auth)|(?<=refresh)|(?<=session)|(?<=client)|(?<=private)|(?<=secret)|(?<=api)"

_RULES: Final = (
    # GitHub's tokens; github.blog, "Behind GitHub's new authentication token formats"
    Rule(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{20,}+"),
    Rule(("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{20,}+"),
    Rule(("v1.",), r"\bv1\.[0-9a-f]{40}\b"),  # GitHub's older installation tokens
    Rule(("gsk_",), r"\bgsk_[A-Za-z0-9]{20,}+"),  # Groq
    # OpenAI and its followers, but not sk-learn-and-its-followers
    Rule(("sk-",), r"\bsk-(?=[A-Za-z_-]*+[0-9])[A-Za-z0-9_-]{20,}+", run=_WORD),
    Rule(("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{15,}+"),  # Slack
    Rule(("glpat-",), r"\bglpat-[A-Za-z0-9_-]{16,}+"),  # GitLab
    Rule(("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),  # AWS access key ids
    # JSON Web Tokens
    Rule(("eyJ",), r"\beyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]++", run=_WORD),
    Rule(
        ("-----BEGIN ",),
        r"-----BEGIN [A-Z ]*+(?<=PRIVATE KEY)-----(?:.*?-----END [A-Z ]*+(?<=PRIVATE KEY)-----|.*+)",
    ),
    # `Authorization: Bearer x`, `"authorization": "token x"`; the scheme stays, the credentials go.
    Rule(
        ("authorization",),
        rf"(?i)(\bauthorization\b{_IS}(?:(?:bearer|basic|token|digest|negotiate|aws4-hmac-sha256)\s++)?+)"
        r"(?!\[redacted\])[^\s\"',;}]++(?:[\"']?+,\s*+[a-z]++=[\"']?+[^\s\"',;}]++)*+",
        REDACTED,
    ),
    Rule(("bearer",), r"(?i)\b(bearer\s++)(?=[a-z._~+/-]*+[0-9])[a-z0-9._~+/-]{16,}+=*+", REDACTED),
    # `password=x`, `?access_token=x&`, `"client_secret": "x"`, `"accessToken": "x"`
    Rule(("passw", "passphrase"), rf"(?i)((?:password|passwd|passphrase)\b{_IS}){_VALUE}", REDACTED),
    Rule(
        ("secret", "token", "api", "access", "private"),
        rf"(?i)((?:(?<![a-z0-9])|{_JOINED})(?:secret|token|(?:api|access|secret|private)[_-]?+key)\b{_IS}){_VALUE}",
        REDACTED,
    ),
    # What lets whoever has a presigned URL in, also if that URL is a parameter of another one
    Rule(
        ("x-amz-", "x-goog-"),
        rf"(?i)((?:(?<![a-z0-9])|(?<=%3f)|(?<=%26))x-(?:amz|goog)-(?:signature|credential)(?:%3d|{_IS})){_VALUE}",
        REDACTED,
    ),
    Rule(("?sig", "&sig"), rf"(?i)([?&](?:sig|signature)=){_VALUE}", REDACTED),
    # `scheme://user:password@host`; bounded, since a hostile text could make it quadratic
    Rule(
        ("://",),
        r"(?i)((?<=[a-z0-9+.-])://[^\s/:@\"']{0,256}+:)(?!\[redacted\]@)[^\s/@\"']{1,1024}+@",
        REDACTED + "@",
    ),
    Rule(("basic",), r"(?i)\b(basic\s++)([a-z0-9+/]{14,}+={0,2}+)", _hide_basic),
)

_SHORTEST: Final = 20
"""Characters in the shortest secret that is known by its look alone, not by a name and ``=``, ``:`` or ``,`` before."""

_TOKEN: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"  # characters of one
_BEGINS: Final = re.compile(r"\b(?:eyJ|sk-)", re.ASCII)
_IS_NEXT: Final = re.compile(r"(?i)\b(?:basic|bearer)\s+\Z", re.ASCII)


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


class SecretsInText:
    """Takes secrets out of text.

    Args:
        keys: Further names of secrets before ``=`` or ``:``.
        patterns: Further regular expressions of secrets.

    Raises:
        re.error: A pattern is not a regular expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._custom = [re.compile(pattern) for pattern in patterns]
        named = [_named(key) for key in keys if in_one_spelling(key)]
        self._rules = (*_RULES, *named)
        self.is_standard = not self._custom and not named
        """True if no more patterns are known than those above."""
        self._shortest = 0 if self._custom else _SHORTEST
        # with patterns of the user's, any text may hold a secret
        self._suspicious: Callable[[str], bool] = _suspicious if self.is_standard else lambda _: True

    def removed(self, text: str) -> str:
        """`text` with every secret in it replaced; `text` itself if it holds none."""
        if len(text) < self._shortest and ":" not in text and "=" not in text and "," not in text:
            return text
        if not self._suspicious(text):
            return text
        clean, low = text, _lower(text)
        for rule in self._rules:
            for word in rule.words:
                searched = low if rule.takes_any_case else clean
                at = searched.find(word)
                if at >= 0 and (changed := rule.applied(clean, searched, word, at)) is not clean:
                    clean, low = changed, _lower(changed)
        for pattern in self._custom:
            clean = pattern.sub(REDACTED, clean)
        return text if clean == text else clean

    def removed_before(self, text: str, longest: int) -> str:
        """The first `longest` characters of a longer text, with every secret replaced that begins there.

        What ends within `MARGIN` characters behind them is known as a whole; of the secrets that have no bound, what
        may be one is replaced up to the end.
        """
        if len(text) <= longest + MARGIN:
            return self.removed(text)[:longest]
        clean = self.removed(text[: longest + MARGIN])
        run = len(clean.rstrip(_TOKEN))
        if len(clean) - run > MARGIN:
            begins = _BEGINS.search(clean, run)
            if begins is not None:
                return clean[: begins.start()] + REDACTED
            if _IS_NEXT.search(clean[max(0, run - MARGIN) : run]):
                return clean[:run] + REDACTED
        return clean[: max(0, min(longest, len(clean) - MARGIN))]


def _named(key: str) -> Rule:
    """The rule for a user's secret in text: its name, in any spelling, and what it is."""
    words = in_one_spelling(key).split("_")
    name = r"[\W_]?+".join(re.escape(word) for word in words)
    return Rule((words[0],), rf"(?i)((?<![a-z0-9]){name}{_IS}){_VALUE}", REDACTED)


def in_one_spelling(key: str) -> str:
    """One spelling for the names of fields: ``X-Api-Key`` and ``x.apiKey`` are both ``x_api_key``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _lower(text: str) -> str:
    """`text` in lower case and as long as it is: the dotted capital I is the one letter that becomes longer."""
    return text.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i").lower()
