"""How a command ends: an exception becomes one or two lines on stderr and an exit code, never a traceback.

- A bad argument prints one line; exit code 2.
- A PortfolioStreamError prints its cause and an `Operator action:`; the exit code is the error's.
- Any other exception is a bug. It is reported as CommandFailed; exit code 2, because 1 would mean "violated".
  PYTHONDEVMODE=1 also shows the traceback.
- A closed pipe ends the command in silence with a shell's exit code for SIGPIPE, as in `git log | head -1`.
"""

import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from portfolio_stream.commands.output import note
from portfolio_stream.errors import CommandFailed, PortfolioStreamError, WorkingDirectoryGone
from portfolio_stream.standard_streams import OutputClosed

# a shell's exit codes for the signals
INTERRUPTED = 128 + signal.SIGINT
CLOSED_PIPE = 128 + signal.SIGPIPE


def exit_code_of(command: Callable[[], object], name: str) -> int:
    """Run a command to its end. Returns its exit code: the command's value if that is a whole number, else 0."""
    try:
        code = command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputClosed:
        return CLOSED_PIPE
    except PortfolioStreamError as error:
        return _end(error)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  a bug can have any type; a client that stops may raise CancelledError
        of_click = _exit_code_of_click(error, name)
        if of_click is not None:
            return of_click
        if sys.flags.dev_mode:
            traceback.print_exception(error)
        is_here_gone = isinstance(error, FileNotFoundError) and not _is_here()
        return _end(WorkingDirectoryGone() if is_here_gone else CommandFailed(error))
    return code if isinstance(code, int) else 0


def _exit_code_of_click(error: BaseException, name: str) -> int | None:
    """Print what click found wrong with the arguments. Returns None if the error is not click's.

    A launcher's function that does without click starts in half the time, so click is not imported for its sake.
    """
    if "click" not in sys.modules:
        return None
    import click

    if isinstance(error, click.Abort):
        return INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if not isinstance(error, click.UsageError):
        return None
    path = name if error.ctx is None else error.ctx.command_path
    text = error.format_message().replace("\n\t", " ")  # click writes the choices of a missing option in lines
    note(f"Error: {text} (see `{path} --help`)")
    return error.exit_code


def _is_here() -> bool:
    """Whether the working directory still exists. Without it, even Python's imports fail."""
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def _end(error: PortfolioStreamError) -> int:
    note(f"Error: {error.cause}")
    note(f"Operator action: {error.action}")
    return error.exit_code
