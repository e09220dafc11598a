"""portfolio-stream consume: print the committed records of a topic."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    SettingType,
    WholeRange,
    as_text,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import compact_json, note, print_bytes, print_lines
from portfolio_stream.foreign import printable
from portfolio_stream.setting_values import TOPIC
from portfolio_stream.settings import Settings

RECORDS = 1_000  # records that are printed together


@click.command()
@click.option("--topic", type=SettingType(TOPIC), help="Default: the output topic.")
@click.option("--from-beginning", is_flag=True, help="Also print the records already there. Default: only new records.")
@click.option("--max-messages", type=WholeRange(min=1), help="End after so many records. Default: go on until stopped.")
@bootstrap_option
@output_option
def consume(
    topic: str | None,
    from_beginning: bool,
    max_messages: int | None,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Print a topic's committed records, one per line.

    The line is the record's value. With -o json it is the whole record. On a terminal, control characters in a value
    are shown as escapes. A pipe or a file gets the value's bytes unchanged.
    """
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    run(_consume(settings, topic or settings.output_topic, from_beginning, max_messages, output))


async def _consume(
    settings: Settings, topic: str, from_beginning: bool, max_messages: int | None, output: OutputFormat
) -> None:
    is_raw = output == "text" and not sys.stdout.isatty()
    line = _json_line if output == "json" else _text_line
    left = max_messages
    async with aclosing(_committed(settings, topic, from_beginning)) as batches:
        async for records in batches:
            shown = records if left is None else records[:left]
            if is_raw:
                print_bytes(b"".join((record.value or b"") + b"\n" for record in shown))
            else:
                print_lines(map(line, shown))
            if left is not None:
                left -= len(shown)
                if not left:
                    return


async def _committed(settings: Settings, topic: str, from_beginning: bool) -> AsyncGenerator[list[Any], None]:
    """Yields the topic's committed records, a list at a time. Skips an unreadable batch and names it on stderr."""
    from aiokafka import TopicPartition

    from portfolio_stream.kafka.admin import admin_client, partition_count
    from portfolio_stream.kafka.batch_consumer import Piece, Reading, batch_consumer
    from portfolio_stream.kafka.client import client_options, connected

    async with admin_client(settings) as admin:
        partitions = await partition_count(admin, topic)
    consumer = batch_consumer(Reading(RECORDS), **client_options(settings), isolation_level="read_committed")
    async with connected(settings, consumer):
        assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        await (consumer.seek_to_beginning() if from_beginning else consumer.seek_to_end())
        while True:
            # the time-out changes nothing: getmany returns as soon as records come, and the loop asks again
            for (piece,) in (await consumer.getmany(timeout_ms=1_000, max_records=1)).values():
                if isinstance(piece, Piece):
                    yield piece.records
                else:
                    note(f"Passed over: {piece}.")


def _text_line(record: Any) -> str:
    return printable(record.value or b"")


def _json_line(record: Any) -> str:
    from portfolio_stream.kafka.header_names import bytes_of

    shown = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **as_text("key", record.key),
        **as_text("value", record.value),
        "headers": [{**as_text("name", bytes_of(name)), **as_text("value", value)} for name, value in record.headers],
    }
    return compact_json(shown)
