"""The examples that Celery's own source package carries: programs that others wrote, and know nothing of otelsync.

pip fetches the package (BSD-3-Clause) once into ``.cache/`` at the root of the repository; nothing of it is copied into
the repository.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
PACKAGE = "celery==5.7.0"
ARCHIVE = "celery-5.7.0.tar.gz"
SHA256 = "6a5dfcf6662287204f009a02002b9e66c83d4105e47ebabdc7079108772fc6f0"


def unpack(example: str, into: Path) -> Path:
    """Put one of the examples below a directory, as it is, and say where it is."""
    with tarfile.open(fetch()) as archive:
        begin = f"celery-5.7.0/examples/{example}/"
        members = [member for member in archive.getmembers() if member.name.startswith(begin)]
        assert members, f"there is no {begin}"
        archive.extractall(into, members, filter="data")
    return into / begin


def fetch() -> Path:
    """The verified archive, fetched by pip if it is not in the cache.

    Raises:
        RuntimeError: It cannot be fetched, or is not what was pinned.
    """
    archive = CACHE / ARCHIVE
    if not archive.exists():
        _download(archive)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise RuntimeError(f"{archive} has sha256 {found}, expected {SHA256}: delete it to fetch it anew")
    return archive


def _download(archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "celery", "--require-hashes", "--dest", scratch, "-r", str(requirements)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        fetched = Path(scratch) / ARCHIVE
        if done.returncode != 0 or not fetched.exists():
            raise RuntimeError(f"{PACKAGE} could not be fetched from the package index: {done.stderr[-500:]}")
        fetched.replace(archive)
