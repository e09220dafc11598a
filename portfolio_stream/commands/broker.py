"""portfolio-stream broker: a real Kafka on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portfolio_stream.commands.common import OutputFormat, note, output_option, print_json, read_settings

if TYPE_CHECKING:
    from portfolio_stream.broker.status import ClusterStatus

F = TypeVar("F", bound=Callable[..., Any])


def data_dir_option(command: F) -> F:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="The brokers' own folder. Default: broker in PORTFOLIO_DATA_DIR, or data/broker.",
    )(command)


def size_options(command: F) -> F:
    count = click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True)
    port = click.option(
        "--port", type=click.IntRange(1, 65_535), default=9092, show_default=True, help="Of the first broker."
    )
    return count(port(data_dir_option(command)))


@click.group()
def broker() -> None:
    """Run an Apache Kafka on this machine."""


@broker.command()
@size_options
def run(data_dir: Path | None, port: int, brokers: str) -> None:
    """Serve in the foreground until stopped."""
    from portfolio_stream.broker import control

    control.run(_folder(data_dir), port, int(brokers), progress=note)


@broker.command()
@size_options
@output_option
def start(data_dir: Path | None, port: int, brokers: str, output: OutputFormat) -> None:
    """Start in the background; returns when it serves."""
    from portfolio_stream.broker import control

    _print(control.start(_folder(data_dir), port, int(brokers), progress=note), output)


@broker.command()
@data_dir_option
@output_option
def stop(data_dir: Path | None, output: OutputFormat) -> None:
    """Stop what runs in the folder."""
    from portfolio_stream.broker import control

    was_running = control.stop(_folder(data_dir))
    if output == "json":
        print_json({"stopped": was_running})
    else:
        click.echo("Stopped." if was_running else "Nothing was running.")


@broker.command()
@data_dir_option
@output_option
@click.pass_context
def status(context: click.Context, data_dir: Path | None, output: OutputFormat) -> None:
    """What runs in the folder; exit code 0 if all brokers serve, 1 if not."""
    from portfolio_stream.broker import control

    found = control.status(_folder(data_dir))
    _print(found, output)
    context.exit(0 if found is not None and found.is_ready else 1)


@broker.command()
@data_dir_option
@output_option
def reset(data_dir: Path | None, output: OutputFormat) -> None:
    """Stop, then delete all topics and their records."""
    from portfolio_stream.broker import control

    was_there = control.reset(_folder(data_dir))
    if output == "json":
        print_json({"deleted": was_there})
    else:
        click.echo("Deleted." if was_there else "There was nothing to delete.")


def _folder(data_dir: Path | None) -> Path:
    return read_settings().data_dir / "broker" if data_dir is None else data_dir


def _print(found: "ClusterStatus | None", output: OutputFormat) -> None:
    if output == "json":
        print_json(None if found is None else _members(found))
    elif found is None:
        click.echo("No broker was ever started there.")
    else:
        click.echo(f"{found.bootstrap_servers} in {found.data_dir}")
        for one in found.brokers:
            state = (
                "not running" if one.pid is None else f"{'ready' if one.is_ready else 'not ready'}, process {one.pid}"
            )
            click.echo(f"  broker {one.node}: {state}, log {one.log}")


def _members(found: "ClusterStatus") -> dict[str, object]:
    return {
        "bootstrap_servers": found.bootstrap_servers,
        "data_dir": str(found.data_dir),
        "cluster_id": found.cluster_id,
        "ready": found.is_ready,
        "brokers": [
            {"node": one.node, "port": one.port, "pid": one.pid, "ready": one.is_ready, "log": str(one.log)}
            for one in found.brokers
        ],
    }
