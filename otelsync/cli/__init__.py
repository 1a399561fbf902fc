"""The command line: one module a command, loaded when it is called, because every import is time that a user waits."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from otelsync.errors import ConfigurationError, OtelsyncError
from otelsync.hooks.own_process import ignore_warnings_of_the_program
from otelsync.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: Final = {
    "run": "Run a program, record it, and ship what it records.",
    "list": "The runs in the local store, latest first.",
    "show": "The waterfall of a run.",
    "logs": "The log records of a run.",
    "ps": "The runs in flight, and what each is at.",
    "watch": "The runs in flight, kept up to date.",
    "report": "The report of a run, as a folder of files.",
    "ledger": "What became of every record.",
    "ship": "Ship what is recorded, until stopped.",
    "events": "The catalogue of log events, and whether code keeps to it.",
    "verbosity": "Which log records running programs let through.",
    "doctor": "What is wrong on the way of telemetry, and how to fix it.",
    "completion": "A script that lets a shell complete commands and sync ids.",
}
_HIDDEN: Final = {"_complete": "complete"}
"""Modules of commands for scripts of ours."""


class _Commands(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*COMMANDS]  # here `list` is a module of this package, once it is loaded

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = cmd_name if cmd_name in COMMANDS else _HIDDEN.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"otelsync.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that is mistyped, say which one may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            alike = get_close_matches(args[0], COMMANDS, n=1)
            if not alike:
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {alike[0]!r}?", ctx) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Propose commands, without loading them, and options."""
        from click.shell_completion import CompletionItem

        commands = [CompletionItem(name, help=what) for name, what in COMMANDS.items() if name.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **named: Any) -> Any:
        """Run a command. Without arguments it is the process's own command line, and the process is ours."""
        if args is None:
            ignore_warnings_of_the_program()
        return super().main(args, *rest, **named)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an expected error becomes one line, a reader that has gone is no error."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes once more when it ends, and would complain then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except ConfigurationError as error:
            raise _WrongSetting(str(error)) from error
        except OtelsyncError as error:
            raise _Failure(str(error)) from error
        return result


class _Failure(click.ClickException):
    """An expected error, as one line."""

    def show(self, file: Any = None) -> None:  # noqa: ARG002
        click.echo(f"otelsync: {self.message}", err=True)


class _WrongSetting(_Failure):
    exit_code = 2


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otelsync")
def main() -> None:
    """Look at what sync jobs have recorded, and ship it."""
