"""``otelsync _complete``: what may stand in the place of a word, for the scripts of `otelsync completion`."""

from __future__ import annotations

from contextlib import suppress

import click
from click.shell_completion import ShellComplete


@click.command(name="_complete", hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """A proposal a line, with a tab and a remark behind it. The last of WORDS is the one to be completed.

    Whatever goes wrong, the shell gets no proposals: nobody wants a traceback for a key.
    """
    from otelsync.cli import main

    proposals = []
    with suppress(Exception):
        proposals = ShellComplete(main, {}, "otelsync", "").get_completions([*words[:-1]], words[-1] if words else "")
    for each in proposals:
        if each.type == "plain":  # files are the shell's own business
            click.echo(f"{each.value}\t{(each.help or '').splitlines()[0] if each.help else ''}")
