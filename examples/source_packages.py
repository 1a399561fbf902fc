"""Source packages from PyPI, fetched once by pip and held against a pinned hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path


class NotFetchedError(RuntimeError):
    """pip could not fetch it; the message is pip's reason, in one line."""


class NotAsPinnedError(RuntimeError):
    """What is there has another hash than was pinned; the message says how to fix it."""


def fetch(requirement: str, sha256: str, archive: Path) -> Path:
    """The verified archive, fetched if it is not there yet.

    Args:
        requirement: The package and its version, such as ``celery==5.7.0``.
        sha256: Of the archive, in hexadecimal.
        archive: Where it is, or goes to, under the name that the package index has for it.

    Raises:
        NotFetchedError: It is not there, and pip cannot fetch it.
        NotAsPinnedError: It is not what was pinned.
    """
    if not archive.exists():
        _download(requirement, sha256, archive)
    with archive.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        raise NotAsPinnedError(
            f"{archive} has sha256 {found}, expected {sha256}: delete it and run again to fetch it anew"
        )
    return archive


def _download(requirement: str, sha256: str, archive: Path) -> None:
    """Let pip fetch it; it checks the hash before it runs the package's build step."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        name = requirement.partition("==")[0]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", name, "--require-hashes", "--dest", scratch, "-r", str(requirements)]
        outcome = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        fetched = Path(scratch) / archive.name
        if outcome.returncode != 0 or not fetched.exists():
            raise NotFetchedError((outcome.stderr.strip().splitlines()[-1:] or ["pip gave no reason"])[0])
        fetched.replace(archive)
