"""Names of files and folders, made from names that come from outside: they stay where they belong on every file system.

What is left of a name is lower-case ASCII letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit. A
name that would be the same as another's, is reserved by Windows, or was cut, gets a digest of the original behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

LONGEST: Final = 80
"""Characters of a file's name, without its suffix and digest."""

_SYNC_ID: Final = re.compile(r"\d{12}-SYNC-[0-9A-F]{8}", re.ASCII)
_STRANGE: Final = re.compile(r"[^a-z0-9._-]+")
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin|conout|clock)(\..*)?", re.ASCII)
"""https://learn.microsoft.com/windows/win32/fileio/naming-a-file"""


def folder_name(sync_id: str | None, trace_id: str) -> str:
    """The folder of a run: its sync id, if it has the form of one."""
    if sync_id and is_sync_id(sync_id):
        return sync_id
    return _with_digest(_slug(sync_id), sync_id) if sync_id else _slug(trace_id)


def is_sync_id(name: str) -> bool:
    """Return whether a name has the form of a sync id."""
    return _SYNC_ID.fullmatch(name) is not None


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file name for each name, all different, also where upper and lower case are the same."""
    slugs = {name: _slug(name) for name in names}
    often = Counter(slugs.values())
    return {
        name: (slug if often[slug] == 1 and _tells(slug, name) else _with_digest(slug, name)) + ".md"
        for name, slug in slugs.items()
    }


def _slug(name: str) -> str:
    slug = _STRANGE.sub("-", name[: 4 * LONGEST].casefold())
    return re.sub(r"\.{2,}", ".", slug)[:LONGEST].strip("._-") or "unnamed"


def _tells(slug: str, name: str) -> bool:
    """Return whether the slug is all there is to a name, as people write them, and may be a file's name."""
    same = re.sub("[/ ]", "-", name).casefold() == slug
    return same and not _RESERVED.fullmatch(slug) and not _DIGEST.search(slug)


_DIGEST: Final = re.compile(r"-[0-9a-f]{10}$")
"""The ending that `_with_digest` makes; a name that ends so gets another."""


def _with_digest(slug: str, name: str) -> str:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{slug}-{digest}"
