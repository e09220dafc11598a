"""The programs of src/: the runbook's names for produce, consume and a worker, with the options of what they open."""

import os
import sys
from collections.abc import Sequence

import click

from portfolio_stream.commands.common import SettingType, bootstrap_option
from portfolio_stream.commands.consume import consume as consume_command
from portfolio_stream.commands.produce import produce as produce_command
from portfolio_stream.setting_values import TOPIC
from portfolio_stream.settings import variable


def produce(arguments: Sequence[str]) -> int:
    return _run(produce_command, arguments)


def consume(arguments: Sequence[str]) -> int:
    return _run(consume_command, arguments)


def process(arguments: Sequence[str]) -> int:
    return _run(process_command, arguments)


def _run(command: click.Command, arguments: Sequence[str]) -> int:
    code = command.main(arguments, prog_name=sys.argv[0], standalone_mode=False)
    return code if isinstance(code, int) else 0


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@bootstrap_option
@click.option("--input-topic", type=SettingType(TOPIC), help="Default: PORTFOLIO_INPUT_TOPIC, or portfolio-events.")
@click.option("--output-topic", type=SettingType(TOPIC), help="Default: PORTFOLIO_OUTPUT_TOPIC, or processed-events.")
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF `faust worker`]...")
def process_command(rest: tuple[str, ...], **given: str | None) -> None:
    """Run a worker in place of this process: `faust -A portfolio_stream worker`, with these settings."""
    settings = {variable(name): value for name, value in given.items() if value is not None}
    worker = (sys.executable, "-m", "faust", "-A", "portfolio_stream", "worker", "-l", "info", *rest)
    os.execve(sys.executable, worker, os.environ | settings)
