"""portfolio-stream: all commands except the worker (`faust`).

commands/ending.py says how a command ends: with which lines and which exit code.
"""

from collections.abc import Sequence

import click

from portfolio_stream import hide_hypothesis
from portfolio_stream.commands.advise import advise
from portfolio_stream.commands.alerts import alerts
from portfolio_stream.commands.broker import broker
from portfolio_stream.commands.checkpoints import checkpoints
from portfolio_stream.commands.cluster import cluster
from portfolio_stream.commands.consume import consume
from portfolio_stream.commands.debug import debug
from portfolio_stream.commands.dlq import dlq
from portfolio_stream.commands.doctor import doctor
from portfolio_stream.commands.ending import exit_code_of
from portfolio_stream.commands.flink import flink
from portfolio_stream.commands.gameday import gameday
from portfolio_stream.commands.generations import generations
from portfolio_stream.commands.incident import incident
from portfolio_stream.commands.job import job
from portfolio_stream.commands.lag import lag
from portfolio_stream.commands.monitor import monitor
from portfolio_stream.commands.offsets import offsets
from portfolio_stream.commands.partitions import partitions
from portfolio_stream.commands.produce import produce
from portfolio_stream.commands.run import run as run_command
from portfolio_stream.commands.savepoint import savepoint
from portfolio_stream.commands.shell import shell
from portfolio_stream.commands.slo import slo
from portfolio_stream.commands.tables import tables
from portfolio_stream.commands.topics import topics
from portfolio_stream.commands.verify import verify
from portfolio_stream.commands.watch import watch
from portfolio_stream.savepoints.objects import end_process
from portfolio_stream.standard_streams import install

COMMANDS = (
    advise,
    alerts,
    broker,
    checkpoints,
    cluster,
    consume,
    debug,
    dlq,
    doctor,
    flink,
    gameday,
    generations,
    incident,
    job,
    lag,
    monitor,
    offsets,
    partitions,
    produce,
    run_command,
    savepoint,
    shell,
    slo,
    tables,
    topics,
    verify,
    watch,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="portfolio-stream")
def portfolio_stream() -> None:
    """Exactly-once stream processing of portfolio events. The worker is `faust -A portfolio_stream worker`."""


for _command in COMMANDS:
    portfolio_stream.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    name = "portfolio-stream"
    return exit_code_of(lambda: portfolio_stream.main(arguments, prog_name=name, standalone_mode=False), name)


def main() -> None:
    hide_hypothesis()
    install(drops_output=False)
    end_process(run())
