"""portfolio-stream verify: is exactly-once true of what stands in Kafka, and of what the workers serve?"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import OutputFormat, bootstrap_option, note, output_option, read_settings, run
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.audit.result import Coverage, Verification
    from portfolio_stream.audit.served import Workers


@click.command()
@click.option(
    "--served",
    type=click.Choice(["sample", "all", "none"]),
    default="sample",
    show_default=True,
    help="How much of what the workers serve to compare: 16 keys a partition, every page of every table, nothing.",
)
@click.option("--web-address", metavar="URL", help="A worker to ask. Default: all that are members of the group.")
@bootstrap_option
@output_option
@click.pass_context
def verify(
    context: click.Context,
    served: "Coverage",
    web_address: str | None,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Replay the source and compare outputs, dead letters, changelog and served values.

    Works on a live system. Exit code 0: exactly-once holds, 1: it is violated, 2: it cannot be verified.
    """
    from portfolio_stream.audit.result import as_json, as_text

    result = run(_verify(read_settings(bootstrap_servers=bootstrap_servers), served, web_address))
    click.echo(as_json(result) if output == "json" else as_text(result))
    context.exit(result.exit_code)


async def _verify(settings: Settings, served: "Coverage", web_address: str | None) -> "Verification":
    from portfolio_stream.audit.verify import verify as audit

    async with _workers(settings, web_address) as find_workers:
        return await audit(settings, note, served, find_workers)


@asynccontextmanager
async def _workers(settings: Settings, web_address: str | None) -> "AsyncIterator[Workers]":
    """The group's members say where they listen; none are found while Kafka does not answer."""
    from aiokafka.errors import KafkaError

    from portfolio_stream.group import open_group

    async with open_group(settings) as (group, _):

        async def find() -> Sequence[str]:
            if web_address is not None:
                return (web_address.rstrip("/"),)
            try:
                return [f"http://{member.worker.address}" for member in await group.members()]
            except (KafkaError, OSError):
                await group.forget()
                return ()

        yield find
