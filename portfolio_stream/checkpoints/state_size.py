"""How large the state of each partition is, as far as the store tells without reading a row.

An estimate: old versions of a row and deletions count until the database has merged them. An extent over several
partitions, as the memtables are one, is divided evenly among those of them that the store has.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from portfolio_stream.exactly_once.database import Extent
from portfolio_stream.exactly_once.recent import PARTITION_BYTES


class StateSize(NamedTuple):
    rows: int
    bytes: int


def apportioned(extents: Iterable[Extent], held: Collection[int]) -> dict[int, StateSize]:
    """The sizes of the partitions `held`, which are all that the store has."""
    rows, sizes = dict.fromkeys(held, 0.0), dict.fromkeys(held, 0.0)
    for extent in extents:
        first, last = _partition(extent.first), _partition(extent.last)
        inside = [partition for partition in held if first <= partition <= last]
        for partition in inside:
            rows[partition] += extent.rows / len(inside)
            sizes[partition] += extent.bytes / len(inside)
    return {partition: StateSize(round(rows[partition]), round(sizes[partition])) for partition in held}


def _partition(key: bytes) -> int:
    return int.from_bytes(key[:PARTITION_BYTES].ljust(PARTITION_BYTES, b"\0"))
