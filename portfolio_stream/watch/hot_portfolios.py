"""Which portfolios make a partition hot: a sentence about a sample of its newest records.

Workers do not count events by portfolio. Whoever asks reads the sample from Kafka, so asking costs the workers nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from portfolio_stream.watch.words import counted, listed, percent

SHOWN_PORTFOLIOS = 3
OUTSTANDING_SHARE = 0.05  # of a partition: without a portfolio of that much, none makes it hot


class KeySample(NamedTuple):
    """The newest committed records of one partition, by key. A record without a key counts as None."""

    partition: int
    records: Mapping[str | None, int]


def hot_portfolios(sample: KeySample) -> str:
    total = sum(sample.records.values())
    of = f"the last {counted(total, 'event')} of partition {sample.partition}"
    if not total:
        return f"Partition {sample.partition} has no events to sample."
    ranked = sorted(sample.records.items(), key=lambda item: (-item[1], item[0] or ""))
    hot = [(name, count) for name, count in ranked[:SHOWN_PORTFOLIOS] if count >= OUTSTANDING_SHARE * total]
    if not hot:
        (largest, count), portfolios = ranked[0], counted(len(ranked), "portfolio")
        return (
            f"No portfolio stands out among {portfolios} in {of}: {_shown(largest)} has most, {percent(count / total)}."
        )
    return f"Of {of}, {listed([f'{percent(count / total)} are of {_shown(name)}' for name, count in hot])}."


def _shown(name: str | None) -> str:
    return "no portfolio" if name is None else name
