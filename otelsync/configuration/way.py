"""The way of what is recorded: by the journal where that works and is wanted, else by the SDK's own exporters."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelsync.configuration.journal_place import whose
from otelsync.errors import ConfigurationError
from otelsync.journal.spool import is_needed
from otelsync.settings import Settings

if TYPE_CHECKING:
    from otelsync.otlp.options import OtlpEndpoint

OFF: Final = "OTELSYNC_JOURNAL is off"
_FOR_NOW: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.EEXIST)
)
"""Errors that pass: a journal tries again, and counts what it has dropped."""
_LOST: Final = (
    "what a process has not sent when it is killed; the local store, and with it list, show, logs, report, ps and "
    "ledger; metrics and folding; the end of a dispatched pipeline, which ends with its block"
)
"""The price of the standard way."""


def why_not_by_journal(settings: Settings) -> str:
    """Return why the standard way is in force; empty where it is the journal's.

    Raises:
        ConfigurationError: A journal is asked for on a system where there can be none.
    """
    if settings.journalling == "off":
        return OFF
    missing = _missing_here()
    if missing and settings.journalling == "on":
        raise ConfigurationError("journalling", "on", f"{missing}; leave it at auto, or set it to off")
    if settings.journalling == "on":
        return ""
    if (here := cannot_have_one_here()) or is_needed(settings.journal, settings.journal_spool):
        return here
    return cannot_write(settings.journal)


def cannot_have_one_here() -> str:
    """Return why this system has no journals; empty if it can have some."""
    return _missing_here() or ("" if sys.platform == "linux" else f"journals are for Linux, and this is {sys.platform}")


def explained(why: str, endpoints: Sequence[OtlpEndpoint]) -> str:
    """Return in words what it means that the standard way is in force, where records go, and what is lost."""
    if not endpoints:
        return (
            f"there is no journal, as {why}, and no OTLP endpoint is set: spans and log records are sent nowhere and "
            "kept nowhere; logging goes on, with ids"
        )
    places = ", ".join(f"{endpoint.signal} to {endpoint.place}" for endpoint in endpoints)
    return f"there is no journal, as {why}: the SDK's own exporters send {places}. By that you lose: {_LOST}"


def fix(why: str, endpoints: Sequence[OtlpEndpoint]) -> str:
    """Return what to do about it."""
    fixes = [] if endpoints else ["set OTEL_EXPORTER_OTLP_ENDPOINT"]
    if "cannot be written" in why:
        fixes.append("set OTELSYNC_HOME to a directory that can be written, or OTELSYNC_JOURNAL=off if this is meant")
    elif why != OFF:
        fixes.append("set OTELSYNC_JOURNAL=off, so that it is clear that this is meant")
    return "; ".join(fixes)


def _missing_here() -> str:
    modules = [name for name in ("fcntl", "mmap") if not _is_there(name)]
    calls = [f"os.{name}" for name in ("fork", "register_at_fork") if not hasattr(os, name)]
    lacking = ", ".join((*modules, *calls))
    return f"this system ({sys.platform}) has no {lacking}" if lacking else ""


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # it is in place, without a spec, or hidden
        return sys.modules.get(module) is not None


def cannot_write(directory: Path) -> str:
    """Return why no file can be made in a directory, or where it would be made; empty if one can be, or may be soon."""
    place = directory
    while True:
        try:
            draft = place / f".otelsync-{os.getpid()}-{os.urandom(4).hex()}"
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            draft.unlink(missing_ok=True)
            return ""
        except FileNotFoundError as error:
            if place == place.parent or place.is_dir():  # /proc says so of itself
                return _said(directory, error)
            place = place.parent
        except OSError as error:
            return "" if error.errno in _FOR_NOW else _said(directory, error)


def _said(directory: Path, error: OSError) -> str:
    return f"{directory} cannot be written ({error.strerror or error}{whose(directory)})"
