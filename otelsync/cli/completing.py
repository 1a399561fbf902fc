"""Completion of sync ids: those of the local store. It is quick, changes nothing and never fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_MOST: Final = 50
_PLAIN: Final = re.compile(r"[0-9A-Za-z_.-]{1,60}")
"""Text that a shell takes as it stands: it puts a proposal on the command line without quotes."""


def sync_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Return the sync ids that begin so, the latest first, with their pipelines."""
    from click.shell_completion import CompletionItem

    from otelsync.settings import Settings
    from otelsync.store.sync_ids import begin_with
    from otelsync.text.printable import printable

    home = ctx.params.get("home")
    settings = Settings.from_environment(home=Path(home) if home else None)
    found = begin_with(settings.store_file, incomplete, _MOST)
    plain = (each for each in found if _PLAIN.fullmatch(each[0]))
    return [CompletionItem(sync_id, help=printable(pipeline, 40)) for sync_id, pipeline in plain]
