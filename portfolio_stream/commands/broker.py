"""portfolio-stream broker: a real Kafka on this machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portfolio_stream.commands import common
from portfolio_stream.commands.common import (
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
)
from portfolio_stream.commands.output import note, print_json, print_line
from portfolio_stream.setting_values import FOLDER
from portfolio_stream.settings import Security, Settings

if TYPE_CHECKING:
    from portfolio_stream.broker.status import ClusterStatus
    from portfolio_stream.kafka.health import KafkaHealth

F = TypeVar("F", bound=Callable[..., Any])


def data_dir_option(command: F) -> F:
    return click.option(
        "--data-dir",
        type=SettingType(FOLDER),
        metavar="DIRECTORY",
        help="The brokers' folder. Default: the folder broker in PORTFOLIO_DATA_DIR, or data/broker.",
    )(command)


def size_options(command: F) -> F:
    count = click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True)
    port = click.option(
        "--port", type=WholeRange(1, 65_535), default=9092, show_default=True, help="Port of the first broker."
    )
    return count(port(data_dir_option(command)))


@click.group()
def broker() -> None:
    """Run an Apache Kafka on this machine."""


@broker.command()
@size_options
def run(data_dir: Path | None, port: int, brokers: str) -> None:
    """Run Kafka in the foreground until it is stopped."""
    from portfolio_stream.broker import control

    control.run(_folder(data_dir), port, int(brokers), progress=note, logs=_logs())


@broker.command()
@size_options
@output_option
def start(data_dir: Path | None, port: int, brokers: str, output: OutputFormat) -> None:
    """Start Kafka in the background. Returns when it serves."""
    from portfolio_stream.broker import control
    from portfolio_stream.commands.broker_status import print_status

    status = control.start(_folder(data_dir), port, int(brokers), progress=note, logs=_logs())
    print_status(status, None, output)


@broker.command()
@data_dir_option
@output_option
def stop(data_dir: Path | None, output: OutputFormat) -> None:
    """Stop the folder's brokers."""
    from portfolio_stream.broker import control

    was_running = control.stop(_folder(data_dir))
    if output == "json":
        print_json({"stopped": was_running})
    else:
        print_line("Stopped." if was_running else "No broker was running.")


@broker.command()
@data_dir_option
@bootstrap_option
@output_option
@click.pass_context
def status(context: click.Context, data_dir: Path | None, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Show processes, controller, leaders, and the partitions that lack copies.

    Shows the folder's brokers, or with --bootstrap-servers any Kafka cluster. Exit code 0 if all is well, else 1.
    """
    if bootstrap_servers is not None and data_dir is not None:
        raise click.UsageError("Give --data-dir or --bootstrap-servers, not both.")
    from portfolio_stream.commands.broker_status import print_status

    if bootstrap_servers is not None:
        health = common.run(_look(read_settings(bootstrap_servers=bootstrap_servers)))
        print_status(None, health, output)
        context.exit(0 if health.is_healthy else 1)
    found, answer = _local(_folder(data_dir))
    print_status(found, answer, output)
    is_well = found is not None and found.is_ready and answer is not None and answer.is_healthy
    context.exit(0 if is_well else 1)


@broker.command()
@data_dir_option
@output_option
def reset(data_dir: Path | None, output: OutputFormat) -> None:
    """Stop the folder's brokers and delete all their topics and records."""
    from portfolio_stream.broker import control

    was_there = control.reset(_folder(data_dir))
    if output == "json":
        print_json({"deleted": was_there})
    else:
        print_line("Deleted." if was_there else "There was nothing to delete.")


def _folder(data_dir: Path | None) -> Path:
    return read_settings().data_dir / "broker" if data_dir is None else data_dir


def _logs() -> Path | None:
    log_dir = read_settings().log_dir
    return None if log_dir is None else log_dir / "kafka"


def _local(folder: Path) -> "tuple[ClusterStatus | None, KafkaHealth | None]":
    """Returns the processes of the folder's cluster, and the cluster's health if a broker answers."""
    from portfolio_stream.broker import control
    from portfolio_stream.errors import BrokerUnreachable

    found = control.status(folder)
    if found is None or not found.is_running:
        return found, None
    try:
        settings = read_settings(bootstrap_servers=found.bootstrap_servers)
        return found, common.run(_look(replace(settings, security=Security())))
    except BrokerUnreachable:
        return found, None


async def _look(settings: Settings) -> "KafkaHealth":
    from portfolio_stream.kafka.health import look

    return await look(settings)
