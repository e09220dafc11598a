"""portfolio-stream broker: a real Kafka on this machine."""

from collections.abc import Callable, Mapping
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
from portfolio_stream.setting_values import FOLDER, PORT
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
    count = click.option("--brokers", type=click.Choice(["1", "3"]), help="Default: as at their last start, or 1.")
    port = click.option(
        "--port",
        type=WholeRange(1, 65_535),
        help="Port of the first broker. Default: as at its last start, or 9092.",
    )
    jmx = click.option(
        "--jmx-port",
        type=SettingType(PORT),
        metavar="PORT",
        help="Port of the first broker's JMX (Java's monitoring), on loopback. Default: PORTFOLIO_JMX_PORT, or closed.",
    )
    return count(port(jmx(data_dir_option(command))))


def one_option(command: F) -> F:
    return click.option(
        "--broker", "node", type=WholeRange(0, 2), metavar="N", help="Only this broker of three: 0, 1 or 2."
    )(command)


@click.group()
def broker() -> None:
    """Run an Apache Kafka on this machine."""


@broker.command()
@size_options
def run(data_dir: Path | None, **size: Any) -> None:
    """Run Kafka in the foreground until it is stopped."""
    from portfolio_stream.broker import control
    from portfolio_stream.commands.service_manager import tell_ready

    control.run(_folder(data_dir), progress=note, serves=tell_ready, **_start(size))


@broker.command()
@size_options
@one_option
@output_option
def start(data_dir: Path | None, node: int | None, output: OutputFormat, **size: Any) -> None:
    """Start Kafka in the background. Returns when it serves."""
    from portfolio_stream.broker import control
    from portfolio_stream.commands.broker_status import print_status

    folder = _folder(data_dir)
    if node is None:
        print_status(control.start(folder, progress=note, **_start(size)), None, output)
    else:
        _check_alone(size)
        print_status(control.start_one(folder, node, progress=note), None, output)


@broker.command()
@size_options
@one_option
@output_option
def restart(data_dir: Path | None, node: int | None, output: OutputFormat, **size: Any) -> None:
    """Stop the folder's brokers, and start all of them again. Returns when they serve."""
    from portfolio_stream.broker import control
    from portfolio_stream.commands.broker_status import print_status

    folder = _folder(data_dir)
    if node is None:
        print_status(control.restart(folder, progress=note, **_start(size)), None, output)
    else:
        _check_alone(size)
        control.stop_one(folder, node)
        print_status(control.start_one(folder, node, progress=note), None, output)


@broker.command()
@click.argument("node", type=WholeRange(0, 2), metavar="BROKER")
@data_dir_option
@output_option
def rebuild(node: int, data_dir: Path | None, output: OutputFormat) -> None:
    """Delete the data of broker 0, 1 or 2 of three, and let it copy its partitions from the others.

    Refuses, and changes nothing, if a partition of that broker has no copy in sync on another broker.
    """
    from portfolio_stream.broker import control
    from portfolio_stream.commands.broker_status import print_status
    from portfolio_stream.errors import RebuildRefused

    folder = _folder(data_dir)
    _, health = _local(folder)
    if health is None:
        raise RebuildRefused(folder, node, "no broker answers")
    alone = [one for one in health.partitions if node in one.replicas and not set(one.in_sync) - {node}]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise RebuildRefused(folder, node, f"it has the only copy of {alone[0].topic}-{alone[0].partition}{more}")
    print_status(control.rebuild(folder, node, progress=note), None, output)


@broker.command()
@data_dir_option
@one_option
@output_option
def stop(data_dir: Path | None, node: int | None, output: OutputFormat) -> None:
    """Stop the folder's brokers."""
    from portfolio_stream.broker import control

    folder = _folder(data_dir)
    was_running = control.stop(folder) if node is None else control.stop_one(folder, node)
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


def is_serving() -> bool:
    """Whether all brokers of the default folder serve."""
    from portfolio_stream.broker import control

    found = control.status(_folder(None))
    return found is not None and found.is_ready


def _folder(data_dir: Path | None) -> Path:
    return read_settings().data_dir / "broker" if data_dir is None else data_dir


def _start(size: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `control.start`, from the options and the settings."""
    settings = read_settings(jmx_port=size["jmx_port"])
    return {
        "port": size["port"],
        "brokers": None if size["brokers"] is None else int(size["brokers"]),
        "logs": None if settings.log_dir is None else settings.log_dir / "kafka",
        "jmx_port": settings.jmx_port,
        "jmx_exporter_port": settings.jmx_exporter_port,
    }


def _check_alone(size: Mapping[str, Any]) -> None:
    """A broker that starts alone has the ports of its cluster."""
    for name, value in size.items():
        if value is not None:
            raise click.UsageError(f"Give --broker or --{name.replace('_', '-')}, not both.")


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
