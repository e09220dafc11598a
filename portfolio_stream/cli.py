"""portfolio-stream: every command but the worker.

An error ends with one or two lines on stderr and an exit code, never with a traceback: a bad argument in one line (2),
a PortfolioStreamError as its cause and `Operator action:` (the error's own code). Anything else is a bug: it ends as
CommandFailed, with 2, because Python's own 1 would be the verdict "violated". PYTHONDEVMODE=1 shows its traceback.
A closed pipe ends a command in silence with the code that a shell gives for SIGPIPE, as it ends `git log | head -1`.
"""

import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from portfolio_stream.commands.broker import broker
from portfolio_stream.commands.consume import consume
from portfolio_stream.commands.dlq import dlq
from portfolio_stream.commands.lag import lag
from portfolio_stream.commands.output import note
from portfolio_stream.commands.partitions import partitions
from portfolio_stream.commands.produce import produce
from portfolio_stream.commands.run import run as run_command
from portfolio_stream.commands.tables import tables
from portfolio_stream.commands.topics import topics
from portfolio_stream.commands.verify import verify
from portfolio_stream.errors import CommandFailed, PortfolioStreamError, WorkingDirectoryGone
from portfolio_stream.standard_streams import OutputClosed, install

# what a shell gives for a signal
INTERRUPTED = 128 + signal.SIGINT
CLOSED_PIPE = 128 + signal.SIGPIPE

COMMANDS = (broker, consume, dlq, lag, partitions, produce, run_command, tables, topics, verify)


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
    except BaseException as error:  # noqa: BLE001  a bug has any type; a client that stops may let out CancelledError
        if sys.flags.dev_mode:
            traceback.print_exception(error)
        is_here_gone = isinstance(error, FileNotFoundError) and not _is_here()
        return _end(WorkingDirectoryGone() if is_here_gone else CommandFailed(error))
    return code if isinstance(code, int) else 0


def _is_here() -> bool:
    """Whether the working directory still exists: Python's own imports ask for it."""
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
