"""portfolio-stream: all commands except the worker (`faust`).

An error prints one or two lines on stderr and gives an exit code, never a traceback:

- A bad argument prints one line; exit code 2.
- A PortfolioStreamError prints its cause and an `Operator action:`; the exit code is the error's.
- Any other exception is a bug. It is reported as CommandFailed; exit code 2, because 1 would mean "violated".
  PYTHONDEVMODE=1 also shows the traceback.
- A closed pipe ends the command in silence with a shell's exit code for SIGPIPE, as in `git log | head -1`.
"""

import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from portfolio_stream.commands.broker import broker
from portfolio_stream.commands.checkpoints import checkpoints
from portfolio_stream.commands.consume import consume
from portfolio_stream.commands.debug import debug
from portfolio_stream.commands.dlq import dlq
from portfolio_stream.commands.doctor import doctor
from portfolio_stream.commands.generations import generations
from portfolio_stream.commands.job import job
from portfolio_stream.commands.lag import lag
from portfolio_stream.commands.offsets import offsets
from portfolio_stream.commands.output import note
from portfolio_stream.commands.partitions import partitions
from portfolio_stream.commands.produce import produce
from portfolio_stream.commands.run import run as run_command
from portfolio_stream.commands.savepoint import savepoint
from portfolio_stream.commands.tables import tables
from portfolio_stream.commands.topics import topics
from portfolio_stream.commands.verify import verify
from portfolio_stream.errors import CommandFailed, PortfolioStreamError, WorkingDirectoryGone
from portfolio_stream.standard_streams import OutputClosed, install

# a shell's exit codes for the signals
INTERRUPTED = 128 + signal.SIGINT
CLOSED_PIPE = 128 + signal.SIGPIPE

COMMANDS = (
    broker,
    checkpoints,
    consume,
    debug,
    dlq,
    doctor,
    generations,
    job,
    lag,
    offsets,
    partitions,
    produce,
    run_command,
    savepoint,
    tables,
    topics,
    verify,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="portfolio-stream")
def portfolio_stream() -> None:
    """Exactly-once stream processing of portfolio events. The worker is `faust -A portfolio_stream worker`."""


for _command in COMMANDS:
    portfolio_stream.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        code = portfolio_stream.main(arguments, prog_name="portfolio-stream", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        path = "portfolio-stream" if error.ctx is None else error.ctx.command_path
        note(f"Error: {error.format_message()} (see `{path} --help`)")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OutputClosed:
        return CLOSED_PIPE
    except PortfolioStreamError as error:
        return _end(error)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  a bug can have any type; a client that stops may raise CancelledError
        if sys.flags.dev_mode:
            traceback.print_exception(error)
        is_here_gone = isinstance(error, FileNotFoundError) and not _is_here()
        return _end(WorkingDirectoryGone() if is_here_gone else CommandFailed(error))
    return code if isinstance(code, int) else 0


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


def main() -> None:
    install(drops_output=False)
    sys.exit(run())
