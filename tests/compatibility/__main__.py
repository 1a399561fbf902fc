"""Run test suites of others with otelsync in place: ``make test-suites``, or ``python tests/compatibility NAME...``.

The suites come from the source distributions on PyPI, in the versions that are installed here. A test that fails must
stand in the table of ``docs/compatibility.md``, with the reason, or fail without otelsync too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "suites"
LISTED = re.compile(r"^\| (?P<suite>\w+) \| `(?P<test>[^`]+)` \|", re.MULTILINE)


@dataclass(frozen=True)
class Suite:
    """A suite: the distribution that has it, where it lies there, and how otelsync is put in place."""

    distribution: str
    tests: str = "tests"
    in_place: str = ""
    """What takes the place of the tested class; empty: the whole suite runs under ``otelsync run``."""
    arguments: tuple[str, ...] = ()


SUITES = {
    "sdk": Suite("opentelemetry-sdk", "tests/trace", "sdk"),
    "celery": Suite("opentelemetry-instrumentation-celery", in_place="celery"),
    "requests": Suite("opentelemetry-instrumentation-requests", in_place="requests"),
    "httpx": Suite("opentelemetry-instrumentation-httpx", in_place="httpx"),
    "structlog": Suite("structlog"),
    "celery_itself": Suite("celery", "t/unit", arguments=("-n", "2", "--timeout", "120")),
}


def unpacked(distribution: str) -> Path:
    """The source of a distribution, in the version that is installed; it is fetched once."""
    name = f"{distribution.replace('-', '_')}-{version(distribution)}"
    if not (CACHE / name).exists():
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", distribution]
        subprocess.run([*fetch, "--dest", str(CACHE), f"{distribution}=={version(distribution)}"], check=True)
        with tarfile.open(
            next(CACHE.glob(f"{distribution.replace('-', '[-_]')}-{version(distribution)}.tar.gz"))
        ) as tar:
            tar.extractall(CACHE, filter="data")
    return CACHE / name


def failures(suite: Suite, tests: list[str], *, is_in_place: bool) -> list[str]:
    """Run tests of a suite, and return the ids of those that failed."""
    told = CACHE / "failed.json"
    told.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))},
        "PYTHONPATH": str(HERE),
        "FAILED_TESTS": str(told),
        "IN_PLACE": suite.in_place if is_in_place else "",
        "OTELSYNC_HOME": str(CACHE / "home"),
        "OTELSYNC_REPORTS": "off",
        "C_FORCE_ROOT": "1",  # else Celery's tests fail where root runs them
    }
    plugins = ["-p", "in_place", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:otelsync"]
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "-W", "ignore", "--tb=short"]
    command += [*plugins, *suite.arguments, *tests]
    if is_in_place and not suite.in_place:
        command = [sys.executable, "-m", "otelsync.cli", "run", *command]
    ended = subprocess.run(command, cwd=unpacked(suite.distribution), env=environment, check=False)
    if not told.exists():
        sys.exit(f"pytest ended with {ended.returncode} and said nothing of the tests of {suite.distribution}")
    found: list[str] = json.loads(told.read_text())
    return found


def is_listed(name: str, test: str) -> bool:
    """Return whether ``docs/compatibility.md`` has a test among those that fail for a reason."""
    rows = LISTED.finditer((ROOT / "docs" / "compatibility.md").read_text())
    return any(row["suite"] == name and fnmatchcase(test, f"*::{row['test']}*") for row in rows)


def check(name: str) -> list[str]:
    """Run a suite, and return what failed because of otelsync and is not listed."""
    suite = SUITES[name]
    failed = failures(suite, [suite.tests], is_in_place=True)
    unlisted = [test for test in failed if not is_listed(name, test)]
    anyway = failures(suite, unlisted, is_in_place=False) if unlisted else []
    print(
        f"{name}: {len(failed)} failed, {len(failed) - len(unlisted)} of them as listed, {len(anyway)} without otelsync"
    )
    return [test for test in unlisted if test not in anyway]


def main() -> None:
    """Run the suites that are named, or all; exit status 1 if something failed because of otelsync."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found = [f"{name}: {test}" for name in sys.argv[1:] or SUITES for test in check(name)]
    sys.exit("\n".join(["fails because of otelsync, and is not in docs/compatibility.md:", *found]) if found else 0)


main()
