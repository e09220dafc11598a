"""The old data that a paused broker believes when it wakes, until it hears of its successors.

The broker answers from its old data: where logs end, what a group has committed, who is a member. Requests that need
the other replicas fail.
"""

from dataclasses import dataclass, field

from tests.simulation.kafka.groups import Group
from tests.simulation.kafka.transactions import Place


@dataclass(slots=True)
class Past:
    #: high watermark and last stable offset of the partitions that the broker led
    ends: dict[Place, tuple[int, int]] = field(default_factory=dict)
    #: the groups that the broker coordinated
    groups: dict[str, Group] = field(default_factory=dict)
    #: when the broker hears of its successors; before it wakes, nobody asks it
    until: float = 0.0
