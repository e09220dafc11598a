"""What a broker that was paused believes when it wakes, until it hears of its successors.

It answers questions from its past: where logs end, what a group has committed, that a member is still one. Whatever
needs the other replicas fails.
"""

from dataclasses import dataclass, field

from tests.simulation.kafka.groups import Group
from tests.simulation.kafka.transactions import Place


@dataclass(slots=True)
class Past:
    #: of what it led: high watermark and last stable offset
    ends: dict[Place, tuple[int, int]] = field(default_factory=dict)
    #: of what it coordinated
    groups: dict[str, Group] = field(default_factory=dict)
    #: when it learns; before it wakes nobody asks it
    until: float = 0.0
