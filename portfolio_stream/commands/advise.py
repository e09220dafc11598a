"""portfolio-stream advise: in words, whether the job is behind, what holds it up, and what would help."""

from collections.abc import Sequence

import click

from portfolio_stream.commands.common import (
    OutputFormat,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import note, print_json_text, print_lines
from portfolio_stream.commands.watcher_client import ask_watcher
from portfolio_stream.settings import Settings

MOST_SAMPLED = 3  # partitions, the hottest ones
SAMPLE_RECORDS = 20_000  # a share of 5 % is exact to 0.3 % of the records


@click.command()
@click.option(
    "--sample",
    type=WholeRange(0, 10_000_000),
    metavar="RECORDS",
    default=SAMPLE_RECORDS,
    show_default=True,
    help="How many of the newest records of a hot partition to read, to name its portfolios. 0: none.",
)
@bootstrap_option
@output_option
def advise(sample: int, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Say whether the job keeps up, what holds it up, whether another worker would help, and what is hot.

    The sentences are made of what the watcher sees, and name their figures. The portfolios of a hot partition come from
    a sample, which this command reads from Kafka; it costs the workers nothing. Nothing is changed. Exit code 2: no
    watcher answers (start one with `portfolio-stream watch`).
    """
    import msgspec

    from portfolio_stream.watch.capacity import hot_partitions

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    watched = run(ask_watcher(settings))
    hot = hot_partitions(watched.figures)[:MOST_SAMPLED] if sample else ()
    sentences = [*watched.advice, *run(_hot_portfolios(settings, hot, sample))]
    if output == "json":
        shown = {"at": watched.at, "advice": sentences, "figures": watched.figures}
        print_json_text(msgspec.json.encode(shown).decode())
    else:
        print_lines(sentences)


async def _hot_portfolios(settings: Settings, partitions: Sequence[int], records: int) -> list[str]:
    """A sentence for each partition. The advice is worth printing without them: a note says why one is missing."""
    from portfolio_stream.errors import PortfolioStreamError
    from portfolio_stream.foreign import printable
    from portfolio_stream.kafka.newest_keys import newest_keys
    from portfolio_stream.watch.hot_portfolios import KeySample, hot_portfolios

    told: list[str] = []
    for partition in partitions:
        try:
            keys = await newest_keys(settings, partition, records)
        except PortfolioStreamError as error:
            note(f"The portfolios of partition {partition} are unknown: {error.cause}")
            return told
        named = {None if key is None else printable(key): count for key, count in keys.items()}
        told.append(hot_portfolios(KeySample(partition, named)))
    return told
