"""portfolio-stream offsets: move the group's offsets, and the state with them."""

from typing import Any

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.job_client import dry_run_option, yes_option

WAYS = "--to-earliest, --to-offset, --to-time and --by"


class PartitionOffset(click.ParamType):
    """A partition and an offset: P:N."""

    name = "P:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        from portfolio_stream.jobs.asked_offsets import place

        try:
            return place(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class MomentType(click.ParamType):
    """A moment in milliseconds since 1970, from text like 2026-11-29T20:00:00Z."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from portfolio_stream.jobs.asked_offsets import moment

        try:
            return moment(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


@click.group()
def offsets() -> None:
    """Move the group's offsets, and the state with them.

    The records from the new offsets on are folded again. Outputs that exist are compared and not written again:
    nothing is applied twice. Exit codes: 0 done, 1 not done, 2 bad arguments.
    """


@offsets.command()
@click.option("--to-earliest", is_flag=True, help="Every partition: from the source's start.")
@click.option("--to-offset", type=PartitionOffset(), multiple=True, help="Partition P: from offset N. Repeatable.")
@click.option("--to-time", type=MomentType(), help="Every partition: from its first record that is not older (UTC).")
@click.option("--by", type=WholeRange(max=-1), metavar="-N", help="Every partition: N records back.")
@click.option("--stay-stopped", is_flag=True, help="Leave the job stopped; `job start` runs it.")
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def reset(
    to_earliest: bool,
    to_offset: tuple[tuple[int, int], ...],
    to_time: int | None,
    by: int | None,
    stay_stopped: bool,
    dry_run: bool,
    yes: bool,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Move the offsets back. The base of a partition is the newest savepoint at or before its new offset.

    Without such a savepoint, and if the source is whole, the base is the empty state at offset 0. Shows a preview and
    asks. `generations rollback` takes a reset back.
    """
    from portfolio_stream.commands.switching import switch
    from portfolio_stream.jobs.asked_offsets import reset_to

    try:
        wanted = reset_to(to_earliest=to_earliest, places=to_offset, to_time_ms=to_time, by=by, names=WAYS)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(switch(settings, wanted, output, dry_run=dry_run, yes=yes, stays_stopped=stay_stopped))


@offsets.command()
@dry_run_option
@yes_option
@bootstrap_option
@output_option
def adopt(dry_run: bool, yes: bool, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Take over what `kafka-consumer-groups --reset-offsets` did, with the state.

    A partition whose offset was moved back is reset to it. One whose offset was moved forward goes on from its state:
    no record is ever skipped.
    """
    from portfolio_stream.commands.switching import switch
    from portfolio_stream.control.values import OperationKind
    from portfolio_stream.jobs.gathering import Wanted

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(switch(settings, Wanted(OperationKind.ADOPT), output, dry_run=dry_run, yes=yes))
