"""portfolio-stream lag: how far the workers are behind, by partition, and which worker owns each partition."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import (
    LONGEST_WAIT,
    FiniteRange,
    OutputFormat,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import note, print_columns, print_json
from portfolio_stream.kafka.members import RENAME_ONE, STOP_IT, alike_named, namesakes_among, owners_among
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.kafka.group import GroupClient, Offsets
    from portfolio_stream.kafka.members import GroupMember, Owner

COLUMNS = ("PARTITION", "LOG-START", "COMMITTED", "STABLE-END", "LOG-END", "LAG", "OWNER")


@dataclass(frozen=True, slots=True)
class Look:
    """The group at one moment."""

    offsets: "Mapping[int, Offsets]"
    members: "Sequence[GroupMember]"

    @property
    def owners(self) -> "Mapping[int, Owner]":
        """The owner of each partition that a worker owns. The members' client ids name the workers."""
        return owners_among(self.members)

    @property
    def strangers(self) -> "Sequence[GroupMember]":
        """The members whose client id is not that of a worker."""
        return [member for member in self.members if member.worker is None]

    @property
    def lag(self) -> int:
        return sum(offsets.lag for offsets in self.offsets.values())


@click.command()
@click.option(
    "--watch", type=FiniteRange(0.1, LONGEST_WAIT), metavar="SECONDS", help="Look again every SECONDS, for ever."
)
@bootstrap_option
@output_option
def lag(watch: float | None, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Show how far the workers are behind the input topic, by partition, and which worker owns each partition.

    LAG counts from COMMITTED (a group without a committed offset begins at LOG-START) to STABLE-END, the last stable
    offset. Records between STABLE-END and LOG-END (the high watermark) belong to transactions that are still open.
    """
    run(_lag(read_settings(bootstrap_servers=bootstrap_servers), watch, output))


async def _lag(settings: Settings, watch: float | None, output: OutputFormat) -> None:
    import asyncio

    from portfolio_stream.kafka.group import open_group

    async with open_group(settings) as (group, partitions):
        if watch is None:
            _print(settings, await _look(settings, group, partitions), output)
            return
        while True:
            await _print_next(settings, group, partitions, output)
            await asyncio.sleep(watch)


async def _look(settings: Settings, group: "GroupClient", partitions: int) -> Look:
    """Ask Kafka once. Raises GroupMissing if no worker has joined yet."""
    from aiokafka.errors import GroupIdNotFound

    from portfolio_stream.errors import GroupMissing

    try:
        members = await group.members()
    except GroupIdNotFound as error:
        raise GroupMissing(settings.group) from error
    return Look(await group.offsets(range(partitions)), members)


async def _print_next(settings: Settings, group: "GroupClient", partitions: int, output: OutputFormat) -> None:
    """Print one look, or a note if a broker does not answer or the group does not exist yet. The watch goes on."""
    from aiokafka.errors import KafkaError

    from portfolio_stream.errors import GroupMissing

    try:
        look = await _look(settings, group, partitions)
    except GroupMissing as missing:
        note(missing.cause)
        return
    except (KafkaError, OSError) as error:
        note(f"No answer from Kafka ({type(error).__name__}); looking again.")
        await group.forget()
        return
    if output == "text" and sys.stdout.isatty():
        click.clear()  # the command prints no other escape sequence
    _print(settings, look, output)


def _print(settings: Settings, look: Look, output: OutputFormat) -> None:
    if output == "json":
        print_json(_as_json(settings, look))
        return
    owners, strangers = look.owners, look.strangers
    rows = [(partition, *_row(offsets, owners.get(partition))) for partition, offsets in look.offsets.items()]
    print_columns(COLUMNS, [*rows, ("total", "", "", "", "", look.lag, "")])
    for stranger in strangers:
        note(f"The group has a member that is no worker: {stranger}. {STOP_IT}")
    for alike in namesakes_among([member.worker for member in look.members if member.worker is not None]).values():
        note(f"{alike_named(alike)}. {RENAME_ONE}")
    if not owners:
        note(f"The group {settings.group} has no active members.")


def _row(offsets: "Offsets", owner: "Owner | None") -> tuple[object, ...]:
    committed = "-" if offsets.committed is None else offsets.committed
    shown = "-" if owner is None else f"{owner.instance_id}@{owner.address}"
    return offsets.log_start, committed, offsets.last_stable_offset, offsets.high_watermark, offsets.lag, shown


def _as_json(settings: Settings, look: Look) -> dict[str, object]:
    partitions, owners = [], look.owners
    for partition, offsets in look.offsets.items():
        owner = owners.get(partition)
        names = {"worker": owner and owner.instance_id, "address": owner and owner.address}
        partitions.append({"partition": partition, **offsets._asdict(), "lag": offsets.lag, **names})
    strangers = [
        {
            "client_id": stranger.client_id,
            "host": stranger.host,
            "member_id": stranger.member_id,
            "partitions": stranger.partitions,
        }
        for stranger in look.strangers
    ]
    group = {"group": settings.group, "topic": settings.input_topic, "lag": look.lag}
    return {**group, "partitions": partitions, "strangers": strangers}
