"""A corpus of secrets and of innocents that look like them. No line of this file holds a token as a whole."""

from __future__ import annotations

import base64
import json
from typing import Final
from urllib.parse import quote

LETTERS: Final = "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ"
HEX: Final = "0123456789abcdef"


def of(letters: str, length: int) -> str:
    return (letters * (length // len(letters) + 1))[:length]


VALUE: Final = "Zq7" + "vR2xPlw9"
"""A secret that is known by its name alone."""
LONG: Final = "Zq7" + of(LETTERS, 40)

TOKENS: Final = (
    *(f"gh{kind}_{of(LETTERS, 36)}" for kind in "pousr"),
    "github_" + f"pat_{of(LETTERS, 22)}_{of(LETTERS, 59)}",
    "v1." + of(HEX, 40),
    *(f"{kind}-{of(LETTERS, 20)}" for kind in ("glpat", "gldt", "glrt", "glptt", "glft", "glimt", "glcbt", "glsoat")),
    *(f"xox{kind}-{of('1234567890', 12)}-{of(LETTERS, 24)}" for kind in "abprs"),
    "xapp-" + f"1-A0123-{of('1234567890', 12)}-{of(HEX, 64)}",
    "https://hooks.slack" + f".com/services/T0123ABCD/B0123ABCD/{of(LETTERS, 24)}",
    *(f"{kind}_{mode}_{of(LETTERS, 24)}" for kind in ("sk", "rk") for mode in ("live", "test")),
    "whsec_" + of(LETTERS, 32),
    "AI" + f"za{of(LETTERS, 35)}",
    "ya29." + of(LETTERS, 60),
    "GOCSPX-" + of(LETTERS, 28),
    "1//" + f"0{of(LETTERS, 40)}",
    *(f"{kind}{of('ABCDEFGH234567', 16)}" for kind in ("AKIA", "ASIA", "ABIA", "ACCA")),
    "SG." + f"{of(LETTERS, 22)}.{of(LETTERS, 43)}",
    "npm_" + of(LETTERS, 36),
    "pypi-" + f"AgE{of(LETTERS, 60)}",
    "hf_" + of(LETTERS, 34),
    *(f"{kind}_v1_{of(HEX, 64)}" for kind in ("dop", "doo", "dor")),
    *(f"{kind}_{of(HEX, 32)}" for kind in ("shpat", "shpca", "shppa", "shpss")),
    "lin_api_" + of(LETTERS, 40),
    "ATATT" + f"3{of(LETTERS, 80)}",
    "ATBB" + of(LETTERS, 32),
    "pat-na1-" + "01234567-89ab-cdef-0123-456789abcdef",
    "gsk_" + of(LETTERS, 52),
    "sk-" + f"proj-{of(LETTERS, 48)}",
    "sk-" + f"ant-api03-{of(LETTERS, 80)}",
    "1234567890" + f":AA{of(LETTERS, 33)}",
    "key-" + of(HEX, 32),
    "NRAK-" + of("ABCDEF0123456789", 27),
    "sntrys_" + of(LETTERS, 60),
    "hvs." + of(LETTERS, 40),
    "dckr_pat_" + of(LETTERS, 27),
    "dapi" + of(HEX, 32),
    "ntn_" + of(LETTERS, 44),
    "figd_" + of(LETTERS, 40),
    "PMAK-" + f"{of(HEX, 24)}-{of(HEX, 34)}",
    "sbp_" + of(HEX, 40),
    "glsa_" + f"{of(LETTERS, 32)}_{of(HEX, 8)}",
    "abc8Q" + f"~{of(LETTERS, 34)}",
    "eyJhbGciOiJIUzI1NiJ9." + f"{base64.urlsafe_b64encode(b'x' * 42).decode()}.{of(LETTERS, 43)}",
    "-----BEGIN RSA " + f"PRIVATE KEY-----\n{of(LETTERS, 64)}\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN " + f"PRIVATE KEY-----\\n{of(LETTERS, 64)}\\n-----END PRIVATE KEY-----\\n",
    "-----BEGIN OPENSSH " + f"PRIVATE KEY-----\n{of(LETTERS, 64)}",
)
"""Known by their look."""

NAMED: Final = (
    # Names in any spelling, before = and :
    *(f"{name}={VALUE}" for name in ("password", "PASSWORD", "db_password", "PGPASSWORD", "userPassword", "password1")),
    *(f"{name}={VALUE}" for name in ("passwd", "passphrase", "pwd", "token", "token_2", "githubToken", "GITHUBTOKEN")),
    *(f"{name}: {VALUE}" for name in ("api_key", "apiKey", "X-API-Key", "apikey", "API key", "api-keys", "app_key")),
    *(f"{name}: {VALUE}" for name in ("secret", "client_secret", "clientSecret", "secrets", "AWS_SECRET_ACCESS_KEY")),
    *(f"{name} = {VALUE}" for name in ("access_token", "refreshToken", "id_token", "bearer_token", "auth-token")),
    *(
        f"{name} = {VALUE}"
        for name in ("private_key", "encryption_key", "signing_key", "subscription-key", "credential")
    ),
    f"AccountName=x;AccountKey={VALUE};EndpointSuffix=core",
    f"PRIVATE-TOKEN: {VALUE}",
    f"X-Shopify-Access-Token: {VALUE}",
    f"Ocp-Apim-Subscription-Key: {VALUE}",
    f"DD-APPLICATION-KEY: {VALUE}",
    # Headers
    f"Authorization: Bearer {VALUE}",
    f"Authorization: {VALUE}",
    f"authorization: token {VALUE}",
    f"Authorization: Bot {VALUE}",
    "Authorization: Basic " + base64.b64encode(f"me:{VALUE}".encode()).decode(),
    f"Proxy-Authorization: Basic {VALUE}",
    f"Cookie: _session={VALUE}; theme=dark",
    f"Set-Cookie: sid={VALUE}; Path=/; HttpOnly",
    f"{{'Cookie': 'a=b; c={VALUE}'}}",
    f"sent Bearer {LONG} to the API",
    # Structures as text
    json.dumps({"password": VALUE}),
    json.dumps({"accessToken": VALUE, "page": 1}),
    json.dumps(json.dumps({"password": VALUE})),
    json.dumps({"name": "password", "value": VALUE}),
    json.dumps({"key": "API_TOKEN", "value": VALUE}),
    repr({"token": VALUE}),
    repr({b"token": VALUE.encode()}),
    repr(("token", VALUE)),
    repr([("api_key", VALUE), ("page", "2")]),
    repr(["password", VALUE]),
    repr(repr({"token": VALUE})),
    f'password="{VALUE} with spaces, commas; and = signs"',
    f"password='{VALUE} it\\'s'",
    f'{{"password": "{VALUE} \\" quoted"}}',
    f'<input name="password" value="x"> password="{VALUE}"',
    f"password => '{VALUE}'",
    f"config.token := {VALUE}",
    f"password%3D{VALUE}%26page%3D2",
    # Addresses
    *(
        f"https://api.example.com/v1?{name}={VALUE}&page=2"
        for name in ("key", "apikey", "auth", "code", "sig", "appid")
    ),
    *(f"https://api.example.com/v1?page=2&{name}={VALUE}" for name in ("access_token", "private_token", "jwt", "otp")),
    *(
        f"https://api.example.com/v1?{name}={VALUE}"
        for name in ("hapikey", "sessionid", "client_assertion", "api_token")
    ),
    f"https://bucket.s3.amazonaws.com/x?X-Amz-Signature={VALUE}&X-Amz-Credential={VALUE}",
    f"https://x.blob.core.windows.net/c?sv=2024&sig={quote(VALUE)}",
    f"https://a.example/?next={quote(f'https://b.example/?X-Amz-Signature={VALUE}', safe='')}",
    f"401 Client Error: Unauthorized for url: https://api.trello.com/1/boards?key={VALUE}&q=1",
    f"postgresql://sync:{VALUE}@db:5432/x",
    f"postgresql://sync:{VALUE}@x/y@db:5432/x",
    f"postgresql://sync:p@:{VALUE}/@db.internal/x",
    f"redis://:{VALUE}@cache:6379/0",
    f"amqp://guest:{VALUE}@broker//",
    f"mongodb+srv://me:{VALUE}@cluster0.example.net/db?retryWrites=true",
    f"https://{LONG}@github.com/acme/api.git",
    f"https://x-access-token:{VALUE}@github.com/acme/api",
    # Commands
    f"github-sync --token {VALUE} --repo acme/api",
    f"github-sync --api-key={VALUE}",
    f"curl -u me:{VALUE} https://api.example.com",
    f"curl -H 'PRIVATE-TOKEN: {VALUE}' https://gitlab.example",
    f"export GITHUB_TOKEN={VALUE}",
    f"MYSQL_PASSWORD='{VALUE}' mysql -u root",
)
"""Known by what stands before them: the secret is `VALUE` or `LONG`, or encodes one."""

SECRETS: Final = (*TOKENS, *NAMED)

INNOCENT: Final = (
    # No values
    *("token=None", "password: null", "password=''", 'token=""', "secret: undefined", "api_key=nil", "token: false"),
    *(
        "token=$GITHUB_TOKEN",
        "token=${GITHUB_TOKEN}",
        "password=<password>",
        "token={token}",
        "password=%s",
        "token=***",
    ),
    *("password: required", "token: expired", "{'password': 'missing'}", "secret=[redacted]", "password=%(password)s"),
    # Names that only look like those of secrets
    *(
        "next_page_token=CAUQAA",
        "nextPageToken: CAUQAAabc",
        "page_token=abc123def",
        "pageToken=abc",
        "sync_token=CPDAlvWDx70C",
    ),
    *("continuation_token: eHl6MTIz", "nextSyncToken=CPDAlvWDx70CEPDAlvWDx70CGAU", "cursor_token=abcdef"),
    *("has_token=yes", "is_token_valid=true", "no_password=1", "token_count=7", "max_tokens=4096", "total_tokens=1200"),
    *(
        "prompt_tokens: 812",
        "tokens=500",
        "token_type=bearer",
        "token_expires_at=2026-11-27",
        "password_changed_at=2026",
    ),
    *(
        "tokenizer=cl100k",
        "tokenize: true",
        "author=octocat",
        "authority=high",
        "authored_by: octocat",
        "authors: a, b",
    ),
    *("secretary: Ann", "secret santa", "secrets of the sea", "keyboard=qwerty", "monkey: george", "turkey=istanbul"),
    *("key=repo", "primary_key=7", "foreign_key: repo_id", "cache_key=acme/api:42", "sort_key=updated", "keys: a, b"),
    *("partition_key=2026", "key: value", "passage: 3", "passed=12", "passes: 4", "bypass=true", "compass: north"),
    *(
        "pwd=/home/bob",
        "PWD=/srv/app",
        "oldpwd: /tmp",
        "cookiecutter=yes",
        "cookies were accepted",
        "cookie: chocolate",
    ),
    *("significant=yes", "signal=15", "design: good", "signature: def f(a=1)", "sig=x", "assignee=octocat"),
    # Prose
    "the token: see docs",
    "token: renewed in time",
    "password must not be empty",
    "the password is too short",
    "secret: see the vault for it",
    "fix(token): renew it in time",
    "a bearer of bad news",
    "the bearer authentication-middleware",
    "basic end-to-end-testing support",
    "basic src/api/v1/users",
    "credentials were renewed",
    "Bearer realm",
    "key: see above",
    "The API key was rotated yesterday.",
    "no api key was found",
    # Identifiers
    of(HEX, 40),
    of(HEX, 64),
    f"sha256:{of(HEX, 64)}",
    "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    f"trace_id={of(HEX, 32)} span_id={of(HEX, 16)}",
    f"00-{of(HEX, 32)}-{of(HEX, 16)}-01",
    "202611271830-SYNC-FC83A3BF",
    f"commit {of(HEX, 40)} (HEAD -> main)",
    "MDQ6VXNlcjU4MzIzMQ==",
    "Y3Vyc29yOnYyOpHOABCDEFGH",
    f"data:image/png;base64,{base64.b64encode(of(LETTERS, 60).encode()).decode()}",
    "etag: W/" + f'"{of(HEX, 40)}"',
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "arn:aws:iam::123456789012:role/sync",
    "sk-learn-based-classifiers-everywhere",
    "pat-on-the-back",
    "xoxo, the team",
    "glasses-and-gloves",
    "hf_radio",
    "npm_config_cache=/root/.npm",
    "ghost_writer",
    "msg.id=7",
    "v1.2.3",
    "v1.0.0-rc.1+build.5",
    "asiatic and akiakikii",
    "00:AA:BB:CC:DD:EE",
    # Addresses
    "https://github.com/acme/api/pull/4711",
    "https://api.github.com/repos/acme/api/pulls?state=all&per_page=100&page=2",
    "https://api.example.com/v1/items?sort=updated&direction=desc",
    "https://github.com/search?q=signature&design=1",
    "https://example.com/?postcode=1234&country=de",
    "https://example.com/?encode=utf-8&author=octocat",
    "git@github.com:acme/api.git",
    "ssh://git@github.com/acme/api.git",
    "mailto:octocat@example.invalid",
    "http://localhost:8080/a@b",
    "http://127.0.0.1:4318/v1/traces?email=a@b.example",
    "https://medium.com/@octocat/a-story",
    "postgresql://db:5432/x",
    "redis://cache:6379/0",
    "file:///srv/app/key.py",
    "https://docs.github.com/en/rest/authentication/keeping-your-api-credentials-secure",
    # Code, logs, data
    "def get_token(self) -> str:",
    "tests/test_token.py::test_renewal PASSED",
    "KeyError: 'repo'",
    "for key, value in items:",
    "{'key': 'value', 'n': 1}",
    '{"id": 1, "key": "ABC-123", "summary": "Fix the login"}',
    "['id', 'token', 'name']",
    "SELECT key, value FROM settings WHERE key = 'theme'",
    "Max retries exceeded with url: /repos/acme/api (Caused by ResponseError('too many 403 error responses'))",
    "Starting new HTTPS connection (1): api.github.com:443",
    "rate limit core: 1,200 of 5,000 left",
    "X-RateLimit-Limit: 5000",
    "Content-Type: application/json; charset=utf-8",
    "Accept: application/vnd.github+json",
    "User-Agent: otelsync/0.1 (key in hand)",
    "Link: <https://api.github.com/repositories/1/pulls?page=2>; rel=next",
    "-u origin main",
    "--verbose --repo acme/api",
    "--page 2 --per-page 100",
    "git push -u origin main",
    "C:\\Users\\bob\\keys",
    "12:30:45.123456",
    "name=value&other=thing",
    "a=b; c=d",
    "hash=abc, size=7",
    "id=4711 state=open",
    "Grüße, 日本語, 🎉",
    "percent: 50%, done=5/10",
    "state: open -> closed",
    "session: 4711, user: octocat",
    "code=200, text=OK",
    "exit code: 3",
    "auth: ok",
    "oauth2 flow finished",
    "jwt decoding is slow",
    "otp: the Open Telecom Platform",
    "sid the sloth",
    "license: MIT",
    "ssn=none",
    "private: true",
    "public_key=ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA octocat@host",
    "api: rest",
    "access: granted",
    "refresh: 30s",
    "client: httpx",
    "webhook: delivered",
    "shared: yes",
    "master: main",
)
"""Text that holds no secret, and has to stay as it is."""


def hidden_in(text: str) -> tuple[str, ...]:
    """Return what must be left of none of the channels, of a text of `SECRETS`."""
    if text in TOKENS:
        body = text.replace("\n", "").replace("\\n", "")
        return (of(LETTERS, 64),) if "PRIVATE KEY" in text else (body[-16:],)
    return tuple(each for each in (VALUE, LONG, base64.b64encode(f"me:{VALUE}".encode()).decode()) if each in text)
