"""Time redaction: ``python -m benchmarks.redaction``. Ordinary text, text with a secret, and 1 MB made to hurt."""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter_ns
from typing import Final

import otelsync.journal.native  # noqa: F401  # which has the quick test
from benchmarks import report
from otelsync.redaction import Redactor
from otelsync.secret_forms import FORMS

MEGABYTE: Final = 1_000_000
ROUNDS: Final = 7
ORDINARY: Final = (
    "pr.synced",
    "acme/billing-api",
    "https://api.github.com/repos/acme/api/pulls?state=all&per_page=100&page=2",
    "0123456789abcdef0123456789abcdef01234567",
    "Starting new HTTPS connection (1): api.github.com:443",
)
NAMED: Final = ("the primary key of table repos is 7", "token: renewed in time", "password=hunter2 token=hunter3")
HOSTILE: Final = (
    *("x y ", "a.", "a-", "://", "://a:", "a://b:c", "://@", "\\", "'", "_", "=", ":", "&", "?a=", "--a ", "-u "),
    *("token", "token ", "token=", "token=abc,", "token,'", "password=abc ", 'password="', "key: ", "key=a&", "?key="),
    *("name", '"name": "', '"name": "token", ', "cookie: ", "cookie: a=", "authorization: ", "bearer ", "basic "),
    *("-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaa.", "sk-a", "token" + " " * 50, "token" + "\\" * 20),
    *(words[0] for _, words, _ in FORMS),
)


def _quietest(redactor: Redactor, text: str, calls: int) -> float:
    """Microseconds a call, in the quietest of some rounds."""
    best = 1 << 62
    for _ in range(ROUNDS):
        began = perf_counter_ns()
        for _ in range(calls):
            redactor.redact(text)
        best = min(best, perf_counter_ns() - began)
    return best / calls / 1000


def main() -> int:
    """Print the table; returns the exit status."""
    redactor = Redactor()
    rows = [["text", "us"]]
    rows += [[repr(text)[:60], f"{_quietest(redactor, text, 2000):.2f}"] for text in (*ORDINARY, *NAMED)]
    hostile = {piece: _quietest(redactor, piece * (MEGABYTE // len(piece)), 1) for piece in HOSTILE}
    worst = max(hostile, key=lambda piece: hostile[piece])
    rows.append([f"1 MB of each of {len(hostile)} hostile pieces, median", f"{median(hostile.values()):.0f}"])
    rows.append([f"the worst of them, {worst!r}", f"{hostile[worst]:.0f}"])
    print(report.draw(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
