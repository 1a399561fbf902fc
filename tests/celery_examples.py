"""The examples that Celery's own source package carries: programs that others wrote, and know nothing of otelsync.

pip fetches the package (BSD-3-Clause) once into ``.cache/`` at the root of the repository; nothing of it is copied into
the repository.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from examples.source_packages import fetch

CACHE = Path(__file__).parents[1] / ".cache"
PACKAGE = "celery==5.7.0"
ARCHIVE = "celery-5.7.0.tar.gz"
SHA256 = "6a5dfcf6662287204f009a02002b9e66c83d4105e47ebabdc7079108772fc6f0"


def unpack(example: str, into: Path) -> Path:
    """Put one of the examples below a directory, as it is, and say where it is."""
    with tarfile.open(fetch(PACKAGE, SHA256, CACHE / ARCHIVE)) as archive:
        begin = f"celery-5.7.0/examples/{example}/"
        members = [member for member in archive.getmembers() if member.name.startswith(begin)]
        assert members, f"there is no {begin}"
        archive.extractall(into, members, filter="data")
    return into / begin
