"""The folder of a report: the names in it, how it is written, and which earlier ones are too many.

Names are made from names that come from outside: they stay where they belong on every file system. What is left of one
is lower-case ASCII letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit. A name that would be the
same as another's, is reserved by Windows, or was cut, gets a digest of the original behind it.

Nobody sees half of a file, or a first report of which files are missing. Nothing is followed or removed that is not
certainly ours: a folder named by a sync id, no link, with our summary in it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryDirectory
from typing import Final

from otelsync.errors import OtelsyncError
from otelsync.journal.segment import make_private

TEXT: Final = "_SYNC_SUMMARY.md"
PAGE: Final = "waterfall.html"
SUMMARY: Final = "summary.json"

_OF_A_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9._-]*\.md", re.ASCII)
"""Names that files of groups have."""
_HEAD: Final = re.compile(rb'\{\s*"format": \d+,\s*"otelsync": "')
"""The beginning of every ``summary.json`` of ours."""
LONGEST: Final = 80
"""Characters of a file's name, without its suffix and digest."""

_SYNC_ID: Final = re.compile(r"\d{12}-SYNC-[0-9A-F]{8}", re.ASCII)
_STRANGE: Final = re.compile(r"[^a-z0-9._-]+")
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin|conout|clock)(\..*)?", re.ASCII)
"""https://learn.microsoft.com/windows/win32/fileio/naming-a-file"""
_DIGEST: Final = re.compile(r"-[0-9a-f]{10}$")
"""The ending that `_with_digest` makes; a name that ends so gets another."""


class ReportError(OtelsyncError):
    """The report cannot be written; the message names the folder and the cause."""


# Names


def folder_name(sync_id: str | None, trace_id: str) -> str:
    """The folder of a run: its sync id, if it has the form of one."""
    if sync_id and _SYNC_ID.fullmatch(sync_id):
        return sync_id
    return _with_digest(_slug(sync_id), sync_id) if sync_id else _slug(trace_id)


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


def _with_digest(slug: str, name: str) -> str:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{slug}-{digest}"


# Writing


def write_folder(folder: Path, files: Mapping[str, Iterable[str]]) -> None:
    """Write `files` into `folder`, which is made (0700) or, if it is there, brought up to date file by file (0600).

    Files of groups that an earlier report has left are removed; what else is there is not ours, and stays.

    Args:
        folder: Where to.
        files: The text of each, in pieces, by name. The last one takes its place last.

    Raises:
        ReportError: The folder cannot be written.
    """
    stale: list[str] = []
    with suppress(OSError):
        stale = _files_of_groups((folder / SUMMARY).read_bytes())
    try:
        make_private(folder.parent)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as staging:
            for name, pieces in files.items():
                _write(Path(staging, name), pieces)
            _move(Path(staging), folder, files)
        for name in set(stale) - set(files):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"cannot write the report {folder}: {error.strerror or error}") from error


def _write(path: Path, pieces: Iterable[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(pieces)


def _move(staging: Path, folder: Path, names: Iterable[str]) -> None:
    try:
        staging.rename(folder)  # also over an empty one
    except OSError:
        if not folder.is_dir():
            raise
        for name in names:
            (staging / name).replace(folder / name)


# Earlier reports


def remove_oldest(directory: Path, keep: int) -> None:
    """Remove all reports in `directory` but the `keep` that were written last; 0 keeps all.

    Files that somebody else has put into a report's folder stay, and the folder with them; so does what cannot be
    removed.
    """
    if keep == 0:
        return
    with suppress(OSError), _opened(directory) as descriptor:
        with os.scandir(descriptor) as entries:
            reports = [(written, entry.name) for entry in entries if (written := _written(descriptor, entry.name))]
        for _, name in sorted(reports, reverse=True)[keep:]:
            with suppress(OSError):
                _remove(descriptor, name)


def _written(directory: int, name: str) -> int:
    """Return when a report was written, in nanoseconds since 1970; 0 if it is none of ours."""
    if not _SYNC_ID.fullmatch(name):
        return 0
    try:
        with _opened(name, directory) as folder, _opened(SUMMARY, folder, os.O_NONBLOCK) as file:
            status = os.fstat(file)
            return status.st_mtime_ns if S_ISREG(status.st_mode) and _HEAD.match(os.read(file, 64)) else 0
    except OSError:
        return 0


def _remove(directory: int, name: str) -> None:
    """The summary goes last: until then a report that is only half removed is known as ours."""
    with _opened(name, directory) as folder:
        with _opened(SUMMARY, folder, os.O_NONBLOCK) as file, open(file, "rb", closefd=False) as summary:
            groups = _files_of_groups(summary.read())
        for ours in (*groups, PAGE, TEXT, SUMMARY):
            with suppress(FileNotFoundError):
                os.unlink(ours, dir_fd=folder)
    os.rmdir(name, dir_fd=directory)


def _files_of_groups(summary: bytes) -> list[str]:
    try:
        names = [group["file"] for group in json.loads(summary)["groups"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and _OF_A_GROUP.fullmatch(name)]


@contextmanager
def _opened(name: str | Path, directory: int | None = None, kind: int = os.O_DIRECTORY) -> Iterator[int]:
    """A directory, by its descriptor; no link to one, if it is in another. `O_NONBLOCK`: a file, no pipe waited for."""
    follows = 0 if directory is None else os.O_NOFOLLOW
    descriptor = os.open(name, os.O_RDONLY | kind | follows, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
