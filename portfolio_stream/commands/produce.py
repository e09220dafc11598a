"""portfolio-stream produce: send generated events, a file's events, or market prices to a topic.

A record's timestamp is the time at which it is sent, so that latencies can be measured. With --start-time it is the
generator's time instead, so that a second run makes the same topic bit for bit. If that time is more than a day ago and
a broker is lost, a batch may be written twice (`portfolio_stream.load.producer` says why). The fold recognises the
second copy's events as duplicates.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portfolio_stream.commands.common import (
    FiniteRange,
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import note, print_json, print_line
from portfolio_stream.setting_values import TOPIC
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.load.events import Generated
    from portfolio_stream.load.producer import BatchedTopic

PROGRESS_SECONDS = 1.0
SHARE = FiniteRange(0.0, 1.0)
FASTEST = 1e9  # records a second; far above what any machine can send


@dataclass(frozen=True, kw_only=True, slots=True)
class ProduceOrder:
    """The options of `produce`, with their defaults."""

    topic: str
    rate: float
    events: int | None
    seed: int
    #: milliseconds since 1970; None: now, and each record's timestamp is the time at which it is sent
    start_time: int | None
    portfolios: int
    symbols: int
    duplicates: float
    invalid: float
    file: Path | None
    #: send market prices instead of events
    prices: bool


def _milliseconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    from portfolio_stream.records.times import normal_form

    if value is None:
        return None
    normal = normal_form(value)
    if normal is None:
        raise click.BadParameter(f"{value!r} is not an RFC 3339 time, such as 2026-11-23T04:30:00Z.")
    return round(datetime.fromisoformat(normal).timestamp() * 1000)


F = TypeVar("F", bound=Callable[..., Any])

_EVENT_OPTIONS = (
    click.option(
        "--events", type=WholeRange(min=1), help="Stop after this many. Default: at the file's end, or Ctrl-C."
    ),
    click.option(
        "--rate",
        type=FiniteRange(0.0, FASTEST),
        default=1000.0,
        show_default=True,
        help="Records per second; 0: unlimited.",
    ),
    click.option(
        "--from-file",
        type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path),
        help="Send this file's events instead: one JSON object per line, sent unchanged; - for standard input.",
    ),
    click.option("--seed", type=WholeRange(), default=0, show_default=True, help="Seed of the generated events."),
    click.option("--portfolios", type=WholeRange(1, 99_999_999), default=1_000, show_default=True),
    click.option("--symbols", type=WholeRange(1, 9_999), default=50, show_default=True),
    click.option("--duplicates", type=SHARE, default=0.0, show_default=True, help="Share of exact repetitions."),
    click.option("--invalid", type=SHARE, default=0.0, show_default=True, help="Share that must be rejected."),
)


def event_options(command: F) -> F:
    """The options that `produce` and `run` share."""
    for option in reversed(_EVENT_OPTIONS):
        command = option(command)
    return command


def check_shares(duplicates: float, invalid: float) -> None:
    if duplicates + invalid > 1:
        raise click.BadParameter("--duplicates and --invalid together exceed 1.")


@click.command()
@click.option("--topic", type=SettingType(TOPIC), help="Default: the input topic; with --prices, the prices topic.")
@click.option("--prices", is_flag=True, help="Send market prices instead of events.")
@event_options
@click.option(
    "--start-time", callback=_milliseconds, metavar="TIME", help="Time of the first event, RFC 3339. Default: now."
)
@bootstrap_option
@output_option
@click.pass_context
def produce(
    context: click.Context,
    /,
    topic: str | None,
    prices: bool,
    rate: float,
    events: int | None,
    seed: int,
    start_time: int | None,
    portfolios: int,
    symbols: int,
    duplicates: float,
    invalid: float,
    from_file: Path | None,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Send events, or prices. Equal seed, start time and mixture give equal bytes."""
    check_shares(duplicates, invalid)
    if prices:
        _refuse_event_options(context)
    settings = read_settings(bootstrap_servers=bootstrap_servers)
    order = ProduceOrder(
        topic=topic or (settings.prices_topic if prices else settings.input_topic),
        rate=rate,
        events=events,
        seed=seed,
        start_time=start_time,
        portfolios=portfolios,
        symbols=symbols,
        duplicates=duplicates,
        invalid=invalid,
        file=from_file,
        prices=prices,
    )
    sent, seconds = run(_produce(settings, order))
    if output == "json":
        print_json({"topic": order.topic, "events": sent, "seconds": round(seconds, 3)})
    else:
        what = "prices" if prices else "events"
        print_line(f"Produced {sent:,} {what} to {order.topic} in {seconds:.1f} s ({sent / seconds:,.0f}/s).")


def _refuse_event_options(context: click.Context) -> None:
    for name in ("portfolios", "duplicates", "invalid", "from_file"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.BadParameter(f"--{name.replace('_', '-')} goes with events, not with --prices.")


async def _produce(settings: Settings, order: ProduceOrder) -> tuple[int, float]:
    """Returns how many records were sent and acknowledged, and the seconds that took. Raises ProduceStopped."""
    import asyncio

    from portfolio_stream.errors import PortfolioStreamError, ProduceStopped
    from portfolio_stream.kafka.admin import admin_client, partition_count
    from portfolio_stream.kafka.client import connected
    from portfolio_stream.load import producer

    async with admin_client(settings) as admin:
        partitions = await partition_count(admin, order.topic)
    with ExitStack() as files:
        records = _records(order, partitions, files)
        if order.start_time is None:
            records = stamped(records)
        client = producer.make_producer(settings)
        batches = producer.BatchedTopic(client, order.topic, partitions)
        try:
            async with connected(settings, client):
                return await _send(batches, records, order.rate)
        except PortfolioStreamError as error:
            batches.abandon()
            raise ProduceStopped(batches.acknowledged, error) from error
        except asyncio.CancelledError:  # Ctrl-C
            batches.abandon()
            note(f"Stopped after {batches.acknowledged:,} records that Kafka acknowledged.")
            raise


async def _send(batches: "BatchedTopic", records: "Iterable[Generated]", rate: float) -> tuple[int, float]:
    from portfolio_stream.load.producer import produce

    start = reported = time.monotonic()
    sent = 0
    async for sent in produce(batches, records, rate):
        now = time.monotonic()
        if now - reported >= PROGRESS_SECONDS:
            reported = now
            note(f"{sent:,} records sent, {sent / (now - start):,.0f}/s")
    return sent, max(time.monotonic() - start, 1e-9)


def stamped(records: "Iterable[Generated]") -> "Iterator[Generated]":
    """Give each record the current time as its timestamp when the record is taken for sending."""
    for record in records:
        yield record._replace(timestamp=_now())


def _now() -> int:
    return time.time_ns() // 1_000_000


def _records(order: ProduceOrder, partitions: int, files: ExitStack) -> "Iterable[Generated]":
    from itertools import islice

    from portfolio_stream.load.event_file import open_events, read_events
    from portfolio_stream.load.events import Mixture, generate
    from portfolio_stream.load.prices import generate_prices

    start_time = _now() if order.start_time is None else order.start_time
    if order.file is not None:
        file = files.enter_context(open_events(order.file))
        return islice(read_events(order.file, file, start_time), order.events)
    mixture = Mixture(
        seed=order.seed,
        start_time=start_time,
        portfolios=order.portfolios,
        symbols=order.symbols,
        duplicates=order.duplicates,
        invalid=order.invalid,
        partitions=partitions,
    )
    return islice(generate_prices(mixture), order.events) if order.prices else generate(mixture, order.events)
