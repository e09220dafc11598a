"""The old data that a paused broker believes when it wakes, until it hears of its successors.

It answers questions from its past: where logs end, what a group has committed, that a member is still one. Whatever
needs the other replicas fails.
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
