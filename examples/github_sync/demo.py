"""The demo of the whole: a GitHub-shaped server, workers, an onboarding with trouble on the way, and its trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .double import process

ROOT: Final = Path(__file__).parents[2]
HOME: Final = ROOT / ".demo"
TEAM: Final = "acme"
REPOSITORIES: Final = 5
PULLS: Final = 120
HIDDEN: Final = "acme/identity-api"
"""A repository that the token may not see."""
_DOUBLE: Final = (
    *("--no-recordings", "--asked-schema", "--graphql"),
    *("--repos", str(REPOSITORIES), "--pulls", str(PULLS), "--hours", "14,30,9,60,20"),
)
_FAULTS: Final = (
    "primary=4@/graphql/acme/search-api",
    "502@/graphql/acme/billing-api",
    "slow=0.6@/graphql/acme/checkout-api",
    "secondary=2@/graphql/acme/catalog-api",
)
_APP: Final = [sys.executable, "-m", "examples.github_sync"]
_OTELSYNC: Final = [sys.executable, "-m", "otelsync.cli"]
_PATIENCE: Final = 60.0
_OWN: Final = ("github.db*", "*.log", "queue", "control", "done", "results", "tokens", "locks", "otelsync", "reports")
"""What the demo writes in its home, and removes when it begins again."""


def run(home: Path = HOME) -> int:
    """Run the demo with everything that it writes in `home`; the exit status is 0 where it went as it should."""
    _make_empty(home)
    arguments = [*_DOUBLE, "--condition", f"{HIDDEN}=hidden", "--log", str(home / "double.log")]
    for fault in _FAULTS:
        arguments += ["--fault", fault]
    began = time.monotonic()
    _say("A server on loopback answers as GitHub and Groq do. It will refuse, stumble and dawdle on the way.")
    try:
        with process.started(arguments) as double:
            environment = _environment(home, double.url)
            _say("A worker of two processes: github-sync worker -c 2, which is `otelsync run celery ... worker -c 2`")
            with _worker(home, environment):
                _say(f"An onboarding of {REPOSITORIES} repositories: github-sync sync {TEAM} OWNER/NAME...\n")
                status = _run([*_APP, "sync", TEAM, *sorted(double.repositories)], environment)
                _say(f"\nThe last 30 days are there. The rest of the year: github-sync status {TEAM} --follow\n")
                rest = _run([*_APP, "status", TEAM, "--follow"], environment)
    except process.DoubleFailedError as error:
        print(error, file=sys.stderr)
        return 1
    _show(home, environment)
    took = time.monotonic() - began
    _say(f"\nAll of it took {took:.0f} s. It is partial on purpose: the token may not see {HIDDEN}.")
    return 0 if (status, rest) == (2, 2) else 1


def _make_empty(home: Path) -> None:
    home.mkdir(parents=True, mode=0o700, exist_ok=True)
    for path in (found for pattern in _OWN for found in home.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _environment(home: Path, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GROQ_", "SYNC_"))}
    return {
        **kept,
        "GITHUB_SYNC_HOME": str(home),
        "GITHUB_API_URL": url,
        "GITHUB_TOKENS": "demo-token",
        "GROQ_BASE_URL": url,
        "GROQ_API_KEY": "demo-key",
        "OTELSYNC_HOME": str(home / "otelsync"),
        "OTELSYNC_STORE": "on",
        "OTELSYNC_REPORTS_DIR": str(home / "reports"),
        "SYNC_LONGEST_WAIT": "2.5",
    }


@contextmanager
def _worker(home: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (
        (home / "worker.log").open("w") as log,
        subprocess.Popen([*_APP, "worker", "-c", "2"], stdout=log, stderr=log, env=environment, cwd=ROOT) as worker,
    ):
        try:
            yield
        finally:
            worker.terminate()
            try:
                worker.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()


def _show(home: Path, environment: Mapping[str, str]) -> None:
    """Show the waterfall, then where everything is and how to go on from here."""
    print(flush=True)
    _run([*_OTELSYNC, "show"], environment)
    print("\nreport")
    for report in sorted((home / "reports").glob("*/_SYNC_SUMMARY.md")):
        print(f"  {_short(report)}\n  {_short(report.with_name('waterfall.html'))}")
    print("\nlogs")
    print(f"  {_short(home / 'worker.log')}; the command's is github-sync.log there, the server's double.log")
    print("\nlook further, in this directory")
    print("  . .venv/bin/activate; alias github-sync='python -m examples.github_sync'")
    print(f"  export GITHUB_SYNC_HOME={_short(home)} OTELSYNC_HOME={_short(home / 'otelsync')}")
    print("  otelsync logs --level ERROR    # what failed; each line ends with the id of its span")
    print("  otelsync show --all            # every span")
    print(f"  github-sync status {TEAM}")
    print("  github-sync web                # the page of the progress, at http://127.0.0.1:8000")
    print("docs/github-sync.md goes on from there.", flush=True)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


def _say(what: str) -> None:
    print(what, flush=True)


def _short(path: Path) -> Path:
    """Return the path as one would type it here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
