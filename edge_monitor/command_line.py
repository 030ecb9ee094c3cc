"""What both command lines share: commands that load when they are called, and errors that end in one line and a code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from .errors import EdgeMonitorError


class LazyGroup(click.Group):
    """A group whose commands are imported when used, so that ``--help`` costs no Numba and no readers.

    ``lazy`` maps a command's name to ``(module, one-line help)``; the module holds it as ``command``.
    """

    def __init__(self, *args: object, lazy: dict[str, tuple[str, str]], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(self.lazy[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy[name][1]) for name in sorted(self.lazy)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" See '{ctx.command_path} --help'."
            raise click.UsageError(f"no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


def run(group: click.Command, name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit with a documented code: the user's errors in one line, ours with a traceback."""
    try:
        code = group.main(args=arguments, prog_name=name, standalone_mode=False)
    except EdgeMonitorError as error:
        click.echo(f"{name}: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{name}: interrupted; what was written so far is complete", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output has left (`| head`): no error of anyone's. Keep Python from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
