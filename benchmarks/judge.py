"""The judge of the two-table fold's outputs: each is compared with a replay."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from benchmarks.two_tables import (
    PARTITIONS,
    CashRecord,
    PositionRecord,
    backlog,
    decode_trade,
    fold,
    position_key,
    processed,
)
from portfolio_stream.kafka.partitioning import partition_of


class Anomalies(NamedTuple):
    """Differences between the outputs and the replay's. Each output names its trade, so no two are equal."""

    missing: int = 0
    duplicated: int = 0
    wrong: int = 0
    #: number of partitions
    out_of_order: int = 0

    def __str__(self) -> str:
        found = [f"{count:,} {name.replace('_', ' ')}" for name, count in self._asdict().items() if count]
        return ", ".join(found) or "each once, in order, right"


def compare(expected: Mapping[int, list[bytes]], found: Mapping[int, list[bytes]]) -> Anomalies:
    """Compare outputs by partition; those found are in offset order."""
    missing = duplicated = wrong = out_of_order = 0
    for partition, outputs in expected.items():
        right, all_found = set(outputs), found[partition]
        different = dict.fromkeys(all_found)
        missing += len(right - different.keys())
        wrong += len(different.keys() - right)
        duplicated += len(all_found) - len(different)
        kept = [output for output in outputs if output in different]
        out_of_order += kept != [output for output in different if output in right]
    return Anomalies(missing, duplicated, wrong, out_of_order)


@lru_cache(maxsize=4)
def replay(trades: int) -> dict[int, list[bytes]]:
    """Returns the outputs that each partition must have."""
    expected: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    positions: dict[bytes, PositionRecord] = {}
    cash: dict[str, CashRecord] = {}
    for record in backlog(trades):
        trade = decode_trade(record.value or b"")
        partition = partition_of(record.key or b"", PARTITIONS)
        key, owner, outputs = position_key(trade), trade.portfolio_id, expected[partition]
        positions[key], cash[owner] = fold(trade, positions.get(key), cash.get(owner))
        outputs.append(processed(trade, positions[key], cash[owner], partition, len(outputs)))
    return expected
