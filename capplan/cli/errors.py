"""How errors reach a person: on stderr, without a traceback, with an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Iterator

import click

EXIT_FITS = 0
EXIT_GATE = 1
EXIT_INPUT = 2
EXIT_INTERNAL = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


@contextlib.contextmanager
def reported(ctx: click.Context, *, debug: bool) -> Iterator[None]:
    """Turn what a command raises into a message on stderr and an exit code.

    Parameters
    ----------
    ctx : click.Context
        The group's context; it exits through it.
    debug : bool
        Let the exception through, traceback and all.
    """
    try:
        yield
    except (click.exceptions.Exit, click.ClickException):
        raise
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted", err=True)
        ctx.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        _close_stdout()
        ctx.exit(EXIT_FITS)
    except Exception as error:
        if debug:
            raise
        ctx.exit(_report(error))


def _report(error: Exception) -> int:
    """Say what went wrong; return the exit code."""
    from capplan.errors import CapplanError, InternalError

    if isinstance(error, CapplanError) and not isinstance(error, InternalError):
        click.echo(str(error), err=True)
        return int(getattr(error, "exit_code", EXIT_INPUT))
    if isinstance(error, OSError) and error.filename is not None:
        click.echo(f"{error.filename}: {error.strerror or error}", err=True)
        return EXIT_INPUT
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        click.echo(f"the output cannot be written: {error.strerror}", err=True)
        _close_stdout()  # what is left in it would fail again at exit, with a code of its own
        return EXIT_INPUT
    click.echo(f"capplan failed: {type(error).__name__}: {error}", err=True)
    click.echo(f"    to see where: {_with_debug()}", err=True)
    return EXIT_INTERNAL


def _with_debug() -> str:
    """The command line that was given, with --debug."""
    return shlex.join(["capplan", "--debug", *sys.argv[1:]])


def _close_stdout() -> None:
    """Keep Python from complaining at exit about a pipe whose reader has gone, or a full disk."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
