"""Secrets in text: known by their look, or by a name before them, and replaced in a time that is linear in the text.

Each pattern begins with a word. Such words are looked for first, at a hundredth of the price of a regular expression,
and a pattern is tried nowhere else. No pattern runs over the same characters from many beginnings.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

from otelsync import secret_quick_test
from otelsync.bounds import MARGIN
from otelsync.secret_forms import FORMS
from otelsync.secret_names import SecretNames, in_one_spelling
from otelsync.secret_values import IS, REDACTED, NamedSecrets

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
        self.takes_any_case = pattern.startswith("(?i)")
        self._pattern = pattern
        self._fix = fix
        self._run = re.compile(run) if run else None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The pattern, made when it is first needed: in most programs none ever is."""
        return re.compile(self._pattern, re.DOTALL | re.ASCII)  # a letter of another alphabet is no part of a word

    def applied(self, text: str, searched: str, word: str, at: int) -> str:
        """`text` with all secrets replaced that begin with `word`, of which the first stands at `at` in `searched`."""
        done, parts = 0, []
        while at >= 0:
            found = self.pattern.match(text, at)
            if found is not None:
                shown = self.replacement(found)
                if shown == found[0]:  # another one may begin in it
                    at = found.end(1) if self._fix is not None else found.end()
                else:
                    parts += [text[done:at], shown]
                    at = done = found.end()
            elif self._run is not None and _begins_a_word(text, at) and (run := self._run.match(text, at)):
                at = max(run.end(), at + 1)
            else:
                at += 1
            at = searched.find(word, at)
        return "".join((*parts, text[done:])) if parts else text

    def replacement(self, found: re.Match[str]) -> str:
        """Return what stands in the place of a match: itself, where it is no secret after all."""
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
_RUNS: Final = {"OpenAI": _WORD, "JSON Web Token": _WORD}
_NO_WORD: Final = ("Telegram", "Terraform", "Azure AD")
"""Those whose forms begin in the middle of a word."""


def _hide_parameter(names: SecretNames) -> Callable[[re.Match[str]], str]:
    def hide(found: re.Match[str]) -> str:
        return f"{found[1]}{REDACTED}" if names.is_secret_parameter(found[2]) else found[0]

    return hide


def _hide_option(names: SecretNames) -> Callable[[re.Match[str]], str]:
    def hide(found: re.Match[str]) -> str:
        return f"{found[1]}{REDACTED}" if names.is_secret(found[2]) else found[0]

    return hide


def _hide_value_of_object(names: SecretNames) -> Callable[[re.Match[str]], str]:
    def hide(found: re.Match[str]) -> str:
        return f"{found[1]}{REDACTED}{found[4]}" if names.is_secret(found[2]) else found[0]

    return hide


_FORMS: Final = (
    *(
        Rule(words, pattern if who in _NO_WORD else rf"\b{pattern}", run=_RUNS.get(who, ""))
        for who, words, pattern in FORMS
    ),
    Rule(
        ("-----BEGIN ",),
        r"-----BEGIN [A-Z ]*+(?<=PRIVATE KEY)(?: BLOCK)?+-----"
        r"(?:.*?-----END [A-Z ]*+(?<=PRIVATE KEY)(?: BLOCK)?+-----|.*+)",
    ),
)


_HEADERS: Final = (
    # `Authorization: Bearer x`, `"authorization": "token x"`; the scheme stays, the credentials go.
    Rule(
        ("authorization",),
        rf"(?i)(\bauthorization\b{IS}(?:b(?=[\"']))?+(?:\\{{0,16}}+[\"'])?+"
        r"(?:(?:bearer|basic|bot|token|digest|negotiate|aws4-hmac-sha256)\s++)?+)"
        r"(?!\[redacted\])[^\s\"',;}]++(?:[\"']?+,\s*+[a-z]++=[\"']?+[^\s\"',;}]++)*+",
        REDACTED,
    ),
    Rule(("bearer",), r"(?i)\b(bearer\s++)(?=[a-z._~+/-]*+[0-9])[a-z0-9._~+/-]{16,}+=*+", REDACTED),
    # `Cookie: a=b; c=d`, to the end of the line, or of the text in quotes
    Rule(
        ("cookie",),
        r"(?i)(\b(?:set-)?+cookie2?+(?:\\{0,16}+[\"'])?+\s*+[:=,]\s*+(?:b(?=[\"']))?+(?:\\{0,16}+[\"'])?+)"
        r"(?!\[redacted\])[^\s=;,\"'\\]{1,256}+=[^\n\"'\\]*+",
        REDACTED,
    ),
)
_ADDRESSES: Final = (
    # `scheme://user:password@host`; bounded, since a hostile text could make it quadratic. The password may hold
    # what should have been encoded; a port and a path are no password.
    Rule(
        ("://",),
        r"(?i)((?<=[a-z0-9+.-])://[^\s/:@\"'?#]{0,256}+:)(?!\[redacted\]@|\d{1,5}+(?:[/?#\s\"']|\Z))"
        r"[^\s\"'<>]{1,1024}(?<=[^\s])@(?=[a-z0-9\[.-])",
        REDACTED + "@",
    ),
    Rule(
        ("://",),
        r"(?i)((?<=[a-z0-9+.-])://)(?=[a-z_.~-]*+[0-9])[a-z0-9_.~-]{20,256}+@",
        REDACTED + "@",
    ),
    Rule(("basic",), r"(?i)\b(basic\s++)([a-z0-9+/]{14,}+={0,2}+)", _hide_basic),
)


def _keyed(names: SecretNames) -> tuple[Rule | NamedSecrets, ...]:
    """Return the rules of secrets with something before them, in the order in which they are applied."""
    return (
        *_HEADERS,
        NamedSecrets(names),
        # `?key=x`: some names are secrets in addresses alone
        Rule(("?", "&", ";"), rf"(?i)([?&;]([a-z][a-z0-9_.\[\]-]{{1,63}}+)=){_VALUE}", _hide_parameter(names)),
        # What lets whoever has a presigned URL in, also if that URL is a parameter of another one
        Rule(
            ("x-amz-", "x-goog-"),
            rf"(?i)((?:(?<![a-z0-9])|(?<=%3f)|(?<=%26))x-(?:amz|goog)-(?:signature|credential|security-token)"
            rf"(?:%3d|{IS})(?:\\{{0,16}}+[\"'])?+){_VALUE}",
            REDACTED,
        ),
        # `{"name": "password", "value": "x"}`
        Rule(
            ("name", "key"),
            r"(?i)(\b(?:name|key)\\{0,16}+[\"']\s*+:\s*+\\{0,16}+[\"']([a-z0-9_. -]{1,64}+)\\{0,16}+[\"']\s*+,\s*+"
            r"\\{0,16}+[\"']value\\{0,16}+[\"']\s*+:\s*+(\\{0,16}+[\"']))(?!\[redacted\])[^\"'\\]{1,4096}+()",
            _hide_value_of_object(names),
        ),
        # `--token x`, `curl -u me:x`
        Rule(
            ("--",),
            r"(?i)(--([a-z][a-z0-9-]{1,40}+)\s++[\"']?+)(?!\[redacted\])[^\s\"'-][^\s\"']{2,}+",
            _hide_option(names),
        ),
        Rule(("-u ",), r"((?<!\S)-u ++[\"']?+[^\s:\"']{1,256}+:)(?!\[redacted\])[^\s\"']{3,}+", REDACTED),
        *_ADDRESSES,
    )


_SHORTEST: Final = 20
"""Characters in the shortest secret that is known by its look alone, not by a name and ``=``, ``:`` or ``,`` before."""

_TOKEN: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"  # characters of one
_BEGINS: Final = re.compile(r"\b(?:eyJ|sk-)", re.ASCII)
_IS_NEXT: Final = re.compile(r"(?i)\b(?:basic|bearer)\s+\Z", re.ASCII)


def suspicious(text: str) -> bool:
    """Return whether `text` could hold a secret: the quick test that lets almost every string pass.

    Whatever a rule above matches holds one of these; searches for a word cost a tenth of one for a pattern. The C
    extension has the same words (``suspicious`` in ``_native.c``).
    """
    low = text.lower()
    return (
        "token" in low
        or "key" in low
        or "pass" in low
        or "pwd" in low
        or "secret" in low
        or "credential" in low
        or "uthorization" in low
        or "bearer" in low
        or "basic" in low
        or "cookie" in low
        or ("=" in low and _has_parameter(low))
        or ("://" in low and "@" in low)
        or ("sig" in low and ("=" in low or "%" in low or ":" in low or "," in low))
        or _has_form(low, text)
    )


def _has_form(low: str, text: str) -> bool:
    """Return whether `text` could hold a token that is known by its look."""
    return (
        ("_" in low and _has_underscored(low))
        or ("-" in low and _has_dashed(low))
        or ("." in low and _has_dotted(low, text))
        or "akia" in low
        or "asia" in low
        or "abia" in low
        or "acca" in low
        or "aiza" in low
        or "atatt3" in low
        or "atctt3" in low
        or "atbb" in low
        or "dapi" in low
        or ":aa" in low
        or "8q~" in low
        or "1//0" in low
        or "hooks.slack" in low
    )


def _has_parameter(low: str) -> bool:
    """Return whether there is a name that is a secret in addresses alone, and is none of the words above."""
    return (
        "appid=" in low
        or "auth=" in low
        or "code=" in low
        or "jwt=" in low
        or "otp=" in low
        or "sid=" in low
        or "sessionid=" in low
        or "session_id=" in low
        or "assertion=" in low
    )


def _has_underscored(low: str) -> bool:
    return (
        "ghp_" in low
        or "gho_" in low
        or "ghu_" in low
        or "ghs_" in low
        or "ghr_" in low
        or "github_pat_" in low
        or "gsk_" in low
        or "k_live_" in low
        or "k_test_" in low
        or "whsec_" in low
        or "npm_" in low
        or "hf_" in low
        or "_v1_" in low
        or "shpat_" in low
        or "shpca_" in low
        or "shppa_" in low
        or "shpss_" in low
        or "lin_" in low
        or "sntry" in low
        or "dckr_" in low
        or "ntn_" in low
        or "figd_" in low
        or "figo_" in low
        or "sbp_" in low
        or "secret_" in low
        or "glsa_" in low
        or "glc_" in low
    )


def _has_dashed(low: str) -> bool:
    return (
        "sk-" in low
        or "xox" in low
        or "xapp-" in low
        or "xwfp-" in low
        or "glpat-" in low
        or "gldt-" in low
        or "glrt-" in low
        or "glptt-" in low
        or "glft-" in low
        or "glimt-" in low
        or "glagent-" in low
        or "glcbt-" in low
        or "gloas-" in low
        or "glsoat-" in low
        or "glffct-" in low
        or "gocspx-" in low
        or "pypi-" in low
        or "pat-na" in low
        or "pat-eu" in low
        or "pat-ap" in low
        or "nrak-" in low
        or "nrii-" in low
        or "nrjs-" in low
        or "pmak-" in low
        or "key-" in low
        or "-----begin" in low
        or "-u " in low
    )


def _has_dotted(low: str, text: str) -> bool:
    return (
        "eyj" in low
        or "v1." in low
        or "hvs." in low
        or "hvb." in low
        or "hvr." in low
        or "ya29." in low
        or "SG." in text
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
        keys = tuple(keys)
        self._custom = [re.compile(pattern) for pattern in patterns]
        named = [_named(key) for key in keys if in_one_spelling(key)]
        self.names = SecretNames(keys)
        self._keyed = (*_keyed(self.names), *named)
        self.is_standard = not self._custom and not named
        """True if no more patterns are known than those above."""
        self._shortest = 0 if self._custom else _SHORTEST
        # with patterns of the user's, any text may hold a secret
        self._suspicious: Callable[[str], bool] = suspicious if self.is_standard else lambda _: True

    @property
    def rules(self) -> tuple[Rule | NamedSecrets, ...]:
        """All rules, in the order in which they are applied."""
        return (*_FORMS, *self._keyed)

    def removed(self, text: str) -> str:
        """`text` with every secret in it replaced; `text` itself if it holds none."""
        if len(text) < self._shortest and not (":" in text or "=" in text or "," in text or "%" in text or "-" in text):
            return text
        if self.is_standard and secret_quick_test.quick_test is not None and secret_quick_test.quick_test(text):
            return text
        if not self._suspicious(text):
            return text
        clean, low = text, _lower(text)
        for rule in self.rules if _has_form(low, text) else self._keyed:
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
    return Rule((words[0],), rf"(?i)((?<![a-z0-9]){name}{IS}(?:\\{{0,16}}+[\"'])?+){_VALUE}", REDACTED)


def _lower(text: str) -> str:
    """`text` in lower case and as long as it is: the dotted capital I is the one letter that becomes longer."""
    return text.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i").lower()
