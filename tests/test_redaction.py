"""Redaction: what is a secret goes, and nothing else."""

from __future__ import annotations

import base64
import dataclasses
import re
import string
from typing import Any

import pytest
import redaction_reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otelsync.bounds import LONGEST_TEXT
from otelsync.redaction import Redactor
from otelsync.secret_names import NAMES
from otelsync.secret_values import REDACTED

REDACTOR = Redactor()
TAIL = "a1B2c3D4" * 8

SECRETS = [
    f"ghp_{TAIL[:36]}",
    f"gho_{TAIL[:36]}",
    f"ghs_{TAIL[:36]}",
    f"github_pat_{TAIL[:22]}_{TAIL[:59]}",
    "v1." + "0123456789abcdef01234567" + "89abcdef01234567",
    f"gsk_{TAIL[:52]}",
    f"sk-proj-{TAIL[:40]}",
    "xoxb-" + "123456789012-abcdefghijkl",
    f"glpat-{TAIL[:20]}",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ASIA" + "IOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dBjftJeZ4CVP-mB92K27uhbUJU1p1r",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----",
]

CREDENTIALS = [
    ("Authorization: Bearer hunter2", "Authorization: Bearer [redacted]"),
    ("authorization: token hunter2, next", "authorization: token [redacted], next"),
    ('{"Authorization": "Basic aHVudGVyOjI="}', '{"Authorization": "Basic [redacted]"}'),
    ("Proxy-Authorization: hunter2", "Proxy-Authorization: [redacted]"),
    (
        "Authorization: AWS4-HMAC-SHA256 Credential=AK/x, SignedHeaders=host, Signature=ab12",
        "Authorization: AWS4-HMAC-SHA256 [redacted]",
    ),
    ("sent Bearer abcdefghijklmnop1 to", "sent Bearer [redacted] to"),
    ("sent Basic " + base64.b64encode(b"hunter:hunter2").decode() + " to", "sent Basic [redacted] to"),
    ("postgresql://sync:hunter2@db:5432/x", "postgresql://sync:[redacted]@db:5432/x"),
    ("amqp://:hunter2@broker//", "amqp://:[redacted]@broker//"),
    ("GET /repos?access_token=hunter2&page=1", "GET /repos?access_token=[redacted]&page=1"),
    ('{"accessToken": "hunter2", "page": 1}', '{"accessToken": "[redacted]", "page": 1}'),
    ('{\\"password\\": \\"hunter2\\"}', '{\\"password\\": \\"[redacted]\\"}'),
    ("DB_PASSWORD=hunter2 make", "DB_PASSWORD=[redacted] make"),
    ("client-secret: 'hunter2'", "client-secret: '[redacted]'"),
    ("PGPASSWORD=hunter2 psql", "PGPASSWORD=[redacted] psql"),
    (repr(repr(repr({"token": "hunter2"}))), repr(repr(repr({"token": "[redacted]"})))),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted]"),
    ('{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG"}', '{"SecretAccessKey": "[redacted]"}'),
    ("{b'Authorization': b'Bearer hunter2'}", "{b'Authorization': b'Bearer [redacted]'}"),
    ("[('Authorization', 'token hunter2'), ('x', 'y')]", "[('Authorization', 'token [redacted]'), ('x', 'y')]"),
    ("{'password': b'hunter2', 'a': 1}", "{'password': b'[redacted]', 'a': 1}"),
    (
        "PUT https://b.s3.amazonaws.com/k?X-Amz-Date=20260101&X-Amz-Signature=ab12cd&X-Amz-Expires=60 failed",
        "PUT https://b.s3.amazonaws.com/k?X-Amz-Date=20260101&X-Amz-Signature=[redacted]&X-Amz-Expires=60 failed",
    ),
    ("https://h/?X-Amz-Credential=me%2F2026%2Fs3", "https://h/?X-Amz-Credential=[redacted]"),
    ("https://h/?X-Amz-Security-Token=IQoJb3JpZ2lu", "https://h/?X-Amz-Security-Token=[redacted]"),
    (
        "https://a/?to=https%3A%2F%2Fh%2F%3FX-Amz-Signature%3Dab12cd",
        "https://a/?to=https%3A%2F%2Fh%2F%3FX-Amz-Signature%3D[redacted]",
    ),
    ("https://h/?X-Goog-Signature=ab12cd", "https://h/?X-Goog-Signature=[redacted]"),
    (
        "https://x.blob.core.windows.net/c?sv=2022&sig=ab%2Bcd%3D&se=1",
        "https://x.blob.core.windows.net/c?sv=2022&sig=[redacted]&se=1",
    ),
    (
        "https://d.cloudfront.net/k?Expires=1&Signature=ab12cd",
        "https://d.cloudfront.net/k?Expires=1&Signature=[redacted]",
    ),
]

INNOCENT = [
    "author",
    "authority",
    "tokenizer",
    "the token was renewed",
    "author: octocat, authority=high, tokenizer: bpe",
    "fix(token): renew it in time",
    "basic end-to-end-testing support",
    "the bearer authentication-middleware",
    "basic internationalization",
    "basic src/api/v1/users",
    "sk-learn-based-classifiers-everywhere",
    "https://github.com/acme/api/pull/4711",
    "git@github.com:acme/api.git",
    "mailto:octocat@example.invalid",
    "http://localhost:8080/a@b",
    "passage",
    "keyboard=qwerty, monkey: 1",
    "secretary: Ann",
    "AKIA and ASIA",
    "significant: design=good, signal=5, sig=x",
    "the signature: def f(a=1), credentials were renewed",
    "https://github.com/search?q=signature&design=1",
    "a sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "before {} after", "x={}", "日本語{}", '"{}"', "https://{}@github.com/acme"])
def test_secrets_go_wherever_they_stand(secret: str, around: str) -> None:
    """A token of a known form is replaced, whatever stands around it, and what stands around it is kept."""
    clean = REDACTOR.redact(around.format(secret))
    assert secret not in clean
    assert REDACTED in clean
    if "=" not in around:
        assert clean == around.format(REDACTED)


@pytest.mark.parametrize(("text", "clean"), CREDENTIALS)
def test_credentials_go_and_their_names_stay(text: str, clean: str) -> None:
    """Of a header, a URL or an assignment only the secret part goes."""
    assert REDACTOR.redact(text) == clean


@pytest.mark.parametrize("text", [clean for _, clean in CREDENTIALS])
def test_redacting_twice_changes_nothing(text: str) -> None:
    """What was redacted is left as it is, as the same object."""
    assert REDACTOR.redact(text) is text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("iban=DE89370400440532013000", "iban=[redacted]"),
        ("{'customer_number': 'x4711'}", "{'customer_number': '[redacted]'}"),
        ('{"customerNumber": "x4711"}', '{"customerNumber": "[redacted]"}'),
        ("GET /a?customer-number=x4711&page=2", "GET /a?customer-number=[redacted]&page=2"),
        ("Customer Number: x4711 is late", "Customer Number: [redacted] is late"),
    ],
)
def test_keys_of_the_user_count_in_text_too(text: str, clean: str) -> None:
    """What stands behind a name of the user's goes, however that is spelled; without it the text is as it was."""
    assert Redactor(keys=["IBAN", "customer_number"]).redact(text) == clean
    assert REDACTOR.redact(text) is text


@pytest.mark.parametrize("text", INNOCENT)
def test_words_that_look_alike_stay(text: str) -> None:
    """Text that only resembles a secret is returned as the very object that came in."""
    assert REDACTOR.redact(text) is text


@given(st.text(alphabet=string.ascii_letters + " \näßé日🎉.,()!?", max_size=200))
def test_text_without_secrets_is_unchanged(text: str) -> None:
    """Prose, whatever its letters, passes as it is."""
    assert REDACTOR.redact(text) is text


@settings(max_examples=50)
@given(st.text(max_size=100), st.text(max_size=100))
def test_redaction_survives_any_text(before: str, after: str) -> None:
    """No text around a secret protects it, and none is an error."""
    secret = SECRETS[0]
    assert secret not in REDACTOR.redact(f"{before} {secret} {after}")


_PIECES = [re.compile(pattern, re.ASCII | re.DOTALL) for pattern in redaction_reference.PATTERNS]
_SECRET_TEXT = st.one_of([st.from_regex(pattern) for pattern in _PIECES] + [st.sampled_from(SECRETS)])


@settings(max_examples=60, deadline=None)
@given(_SECRET_TEXT, st.text(max_size=8))
@example("passwd',000", "")
def test_the_quick_test_hides_nothing(found: str, before: str) -> None:
    """What the patterns would find, the quick test lets through to them."""
    thorough = Redactor(patterns=["never found: \\A\\Z1"])  # with a pattern of the user's the quick test is left out
    text = before + found
    assert REDACTOR.redact(text) == thorough.redact(text)


_WORDS = (
    "password token secret_key api-key Authorization Bearer basic sk- eyJ ghp_ v1. xoxb- AKIA :// ?sig= x-amz-signature"
)
_ALPHABET = st.sampled_from([*_WORDS.split(), *" =:,\"'\\.@/-_&;}\n"])


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.lists(_ALPHABET, max_size=14).map("".join), st.lists(_SECRET_TEXT, max_size=3).map(" ".join)))
@example("sk-sk-a1B2c3D4e5F6g7H8i9J0")
@example("eyJaaaaaaaa.eyJaaaaaaaa.eyJaaaaaaaa.a")
@example("\u0130 token=abcdef \u0130\u0130 password=abcdef")
def test_looking_for_words_first_finds_what_patterns_alone_would(text: str) -> None:
    """No secret that the plain patterns find is left, and what is taken out beyond them is next to nothing."""
    clean = REDACTOR.redact(text)
    assert redaction_reference.redacted(clean) == clean
    assert clean.count(REDACTED) >= redaction_reference.redacted(text).count(REDACTED)


HOSTILE = [
    *("x y ", "a.", "a-", "basic ", "bearer ", "://", "://a:", "a://b:c", "://@", "\\", "'", ".", "_", "=", ":", "api"),
    *("sk-", "sk-a", "a sk- ", "eyJ", "eyJ-", "eyJaaaaaaaa.", "eyJaaaaaaaa.-", "ghp_", "ghp_aaaaaaaaaaaaaaaaaaa "),
    *("v1.", "xoxb-", "glpat-", "AKIA", "-----BEGIN ", "-----BEGIN PRIVATE KEY ", "-----END ", "authorization"),
    *("authorization ", "authorization:a,", "Authorization: a=b,", "token", "token ", "secret", "api_key "),
    *("password=abc ", "token=abc,", "X-Amz-Signature", "x-amz-signature%3d", "sig=", "&sig=", "x-goog-credential"),
    *("token,'", "日本token", "\u0130key", '{"key": "value", "n": 1} ', "+ token = get()\n", 'ghp_ token"\\ '),
    *("token" + "\\" * 20 + '"', "token" + " " * 50),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_no_quadratic_time(piece: str) -> None:
    """Texts that are built to make patterns backtrack are done in time; a quadratic pattern would take minutes."""
    for text in (piece * (LONGEST_TEXT // len(piece)), "token " + piece * 1_000_000, piece * 20_000 + " ://@ token"):
        assert len(REDACTOR.redact(text)) <= 2 * LONGEST_TEXT


def spellings(key: str) -> list[str]:
    words = key.split("_")
    camel = words[0] + "".join(word.capitalize() for word in words[1:])
    pascal = "".join(word.capitalize() for word in words)
    return [key, key.upper(), key.replace("_", "-"), key.replace("_", " "), camel, pascal, "".join(words)]


@pytest.mark.parametrize("key", NAMES)
def test_keys_are_known_in_any_spelling(key: str) -> None:
    """A secret's name is known in snake, kebab, camel and upper case, and at the end of a longer one."""
    for spelling in spellings(key):
        assert REDACTOR.is_secret_key(spelling), spelling
        for longer in (
            f"github_{spelling}",
            f"http.request.header.{spelling}",
            f"X-{spelling}",
            f"headers[{spelling}]",
        ):
            assert REDACTOR.is_secret_key(longer), longer


@pytest.mark.parametrize(
    "key",
    [
        "author",
        "authority",
        "tokenizer",
        "token_count",
        "secretary",
        "keyword",
        "compass",
        "pwdx",
        "key",
        "",
        "__",
        ".",
    ],
)
def test_other_keys_stay(key: str) -> None:
    """Names that only contain a secret's name are no secrets."""
    assert not REDACTOR.is_secret_key(key)
    assert REDACTOR.redact_value(key, "value") == "value"


def test_nested_fields_are_redacted() -> None:
    """Secrets go at any depth, by name and by look, and what holds none is the same object as before."""
    clean = {"a": [1, "b", {"c": ("d", None)}], "max_tokens": 4096}
    assert REDACTOR.redact_value("x", clean) is clean
    dirty = {"headers": {"Authorization": "x", "Accept": "json"}, "list": ["a", SECRETS[0]], "set": {SECRETS[0]}}
    assert REDACTOR.redact_value("x", dirty) == {
        "headers": {"Authorization": REDACTED, "Accept": "json"},
        "list": ["a", REDACTED],
        "set": [REDACTED],
    }
    assert dirty["list"] == ["a", SECRETS[0]]


def test_headers_as_pairs_and_bytes_are_redacted() -> None:
    """Headers in the form of pairs, and of bytes, are headers."""
    assert REDACTOR.redact_value("headers", [("Cookie", "a"), (b"authorization", b"hunter2"), ("Accept", "b")]) == [
        ("Cookie", REDACTED),
        (b"authorization", REDACTED),
        ("Accept", "b"),
    ]
    assert REDACTOR.redact_value("body", SECRETS[0].encode()) == REDACTED.encode()
    assert REDACTOR.redact_value("body", b"\xff" + SECRETS[0].encode()) == b"\xff" + REDACTED.encode()


@dataclasses.dataclass
class Account:
    user: str
    password: str = dataclasses.field(repr=False)


def test_objects_are_redacted_as_they_are_rendered() -> None:
    """An exception, or any object, whose text holds a secret becomes that text without it; a dataclass its fields."""
    error = ValueError(f"refused {SECRETS[0]}")
    assert REDACTOR.redact_value("error", error) == "refused [redacted]"
    innocent = ValueError("refused")
    assert REDACTOR.redact_value("error", innocent) is innocent
    assert REDACTOR.redact_value("account", Account("ann", "hunter2")) == {"user": "ann", "password": REDACTED}


def test_hostile_values_harm_nobody() -> None:
    """What is circular, endless in depth or raises when it is looked at is replaced, and raises nothing."""
    circle: dict[str, Any] = {"fine": 1}
    circle["self"] = circle
    assert REDACTOR.redact_value("x", circle) == {"fine": 1, "self": "[circular]"}
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "[too deep]" in str(REDACTOR.redact_value("x", deep))

    class Raises:
        def __str__(self) -> str:
            raise KeyboardError

        def __eq__(self, other: object) -> bool:
            raise KeyboardError

        __hash__ = None  # type: ignore[assignment]

    class KeyboardError(Exception):
        pass

    assert REDACTOR.redact_value("x", Raises()) == "[a Raises that raises KeyboardError]"
    assert REDACTOR.redact_value("password", Raises()) == REDACTED


def test_numbers_are_no_secrets() -> None:
    """Counts, flags and empty values stay, whatever they are called."""
    for value in (4096, 0.5, True, None, ""):
        assert REDACTOR.redact_value("token", value) is value


def test_users_add_keys_and_patterns() -> None:
    """Further names and patterns work beside ours; each pattern stands for itself, flags and groups included."""
    redactor = Redactor(["customer_name"], ["(?i)acme-(\\d)\\1", "(\\w)\\1\\1!"])
    assert redactor.redact_value("customerName", "Ann") == REDACTED
    assert redactor.redact("ACME-11 acme-12 aaa! abc!") == "[redacted] acme-12 [redacted] abc!"
    assert redactor.redact(SECRETS[0]) == REDACTED
