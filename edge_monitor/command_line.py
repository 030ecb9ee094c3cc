"""What both command lines share: commands that load when called, errors in one line and a code, the terminal."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .errors import EdgeMonitorError

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130  #: exit code after Ctrl-C, as shells have it (128 + SIGINT)
READER_LEFT = 141  #: exit code when the reader of our output has left, as in `| head` (128 + SIGPIPE)


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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # No error of anyone's, but the work is not done either. Keep Python from flushing into the pipe again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return READER_LEFT

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
        code = 2
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            error.show()
        else:
            click.echo(usage_error(error, name), err=True)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
        click.echo(f"{name}: interrupted; what was written so far is complete", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def usage_error(error: click.ClickException, name: str) -> str:
    """What was wrong with the command line, and where to read on, in one line."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else name
    message = " ".join(error.format_message().split()).rstrip(".")
    if ". " in message or message.endswith("?"):  # it says itself how to mend it
        return f"{path}: {message}"
    return f"{path}: {message[:1].lower()}{message[1:]}; see '{path} --help'"


class PatientInterrupt:
    """Holds the first Ctrl-C back until ``check`` is called, between two steps; a second one comes at once.

    So what is being written, a record or a line, is written whole. Only for the main thread.
    """

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> PatientInterrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if it was asked for."""
        if self._asked:
            raise KeyboardInterrupt


def console(*, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal (or COLUMNS); 160 columns in a pipe or file."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, which means something else here

    stream = sys.stderr if stderr else sys.stdout
    return Terminal(stderr=stderr, width=None if stream.isatty() or "COLUMNS" in os.environ else 160)
