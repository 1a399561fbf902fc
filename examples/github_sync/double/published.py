"""GitHub's own descriptions of its APIs, as npm's octokit packages hold them: the GraphQL schema, the REST description.

npm fetches a package once into ``.cache/`` at the root of the repository, which git ignores; what is there is held
against a pinned hash each time. Both packages are MIT-licensed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parents[3] / ".cache"

_PATIENCE_SECONDS = 300


class NotAvailableError(RuntimeError):
    """A description is not here and could not be fetched, or is not what was pinned; the message says how to fix it."""


@dataclass(frozen=True, slots=True)
class Package:
    """A version of an npm package and the SHA-256 of its tarball; `wanted` is the file in it that matters."""

    name: str
    version: str
    sha256: str
    wanted: str

    @property
    def archive(self) -> str:
        """The name that npm gives the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


GRAPHQL = Package(
    "@octokit/graphql-schema",
    "15.26.1",
    "053e74249dafce2118fd9b7ae499b067d57c5f910c57745699ac45108bc68d1e",
    "package/schema.graphql",
)
REST = Package(
    "@octokit/openapi",
    "23.0.2",
    "71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c",
    "package/generated/api.github.com.json",
)


def graphql_schema(cache: Path = CACHE) -> str:
    """The whole GraphQL schema, in GraphQL's schema language; raises NotAvailableError."""
    return _read(GRAPHQL, cache).decode()


def rest_description(cache: Path = CACHE) -> dict[str, Any]:
    """The whole OpenAPI 3.0 document of the REST API; raises NotAvailableError."""
    found: dict[str, Any] = json.loads(_read(REST, cache))
    return found


def fetch(package: Package, cache: Path = CACHE) -> Path:
    """The verified tarball, fetched by npm if it is not in `cache` yet.

    Raises NotAvailableError when npm is missing or cannot fetch it, or when what is there is not what was pinned.
    """
    archive = cache / package.archive
    if not archive.exists():
        _download(package, archive)
    with archive.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != package.sha256:
        raise NotAvailableError(
            f"{archive} has sha256 {found}, expected {package.sha256}: delete it and run again to fetch it anew"
        )
    return archive


def _read(package: Package, cache: Path) -> bytes:
    with tarfile.open(fetch(package, cache)) as archive:
        # Streamed up to the file: the other members of @octokit/openapi are 600 MB.
        for member in archive:
            if member.name == package.wanted and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                return content.read()
    raise NotAvailableError(f"{package.archive} holds no {package.wanted}")


def _download(package: Package, archive: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotAvailableError(_advice(package, archive, "npm is not installed"))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        # Outside a project of its own, npm would look for one in the folders above.
        command = [npm, "pack", f"{package.name}@{package.version}", "--silent", "--ignore-scripts"]
        try:
            outcome = subprocess.run(
                [*command, "--pack-destination", scratch],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise NotAvailableError(_advice(package, archive, f"no answer in {_PATIENCE_SECONDS} seconds")) from None
        fetched = Path(scratch) / package.archive
        if outcome.returncode != 0 or not fetched.exists():
            reason = (outcome.stderr.strip().splitlines()[:1] or ["npm gave no reason"])[0]
            raise NotAvailableError(_advice(package, archive, reason))
        fetched.replace(archive)


def _advice(package: Package, archive: Path, reason: str) -> str:
    return (
        f"GitHub's published description {package.name} {package.version} could not be fetched: {reason}\n"
        f"npm fetches it once. Run again with npm and access to a package registry, or put {package.archive} from "
        f"another machine into {archive.parent}."
    )
