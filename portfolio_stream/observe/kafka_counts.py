"""How often Kafka changed what this worker owns, refused it, or was asked again. All of these counts only grow."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

#: the group gave a partition to this worker; the worker gave a partition back; another worker got it before that
PartitionMove = Literal["assigned", "revoked", "lost"]
MOVES: tuple[PartitionMove, ...] = get_args(PartitionMove)


@dataclass(slots=True)
class KafkaCounts:
    #: requests of transactions that were sent again, by step and error
    retries: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: transactions that were begun, and that the coordinator has aborted
    aborts: int = 0
    #: requests that Kafka refused because another producer epoch or another member epoch counts
    fencings: int = 0
    #: how often the group's coordinator wanted this worker to own other partitions
    rebalances: int = 0
    #: how often the group's coordinator ended this worker's membership
    expulsions: int = 0
    #: partitions that this worker got and gave up: assigned - revoked - lost = owned
    moves: Counter[PartitionMove] = field(default_factory=Counter)
