"""What a heartbeat tells the group coordinator, and what the coordinator has told the worker: values, no I/O.

1. The coordinator tells a new target once, when the target changes. It repeats the target only to a heartbeat with all
   fields (isFullRequest in Kafka's GroupMetadataManager).
2. So a heartbeat with all fields follows each request without an answer: the lost answer may have held a new target. A
   heartbeat with all fields is also sent every ANNOUNCE_SECONDS: a request that arrives late may have changed the
   target, and nobody received its answer.
3. A request names the target's partitions among the owned ones. The engine may begin with a partition of the target
   while the request is under way. The coordinator gives a partition that the request does not name to another member
   at once, without a revocation.
4. The coordinator waits for an acknowledgement of each new target, even if the owned partitions stay the same.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import NamedTuple

from portfolio_stream.exactly_once.membership_life import HeartbeatKind, MembershipEvent

ANNOUNCE_SECONDS = 5.0  # between two requests with all fields


class Content(IntEnum):
    """How much a request carries. A larger content includes a smaller one."""

    NOTHING = 0  # the member id and its epoch alone
    OWNED = 1  # the owned partitions
    EVERYTHING = 2  # all fields


class Owes(Enum):
    """What the worker must tell the coordinator after an event."""

    NOTHING = "nothing new"
    SAME = "the content of the last request, again"
    EVERYTHING = "all fields"


#: what each event adds to the content of the next request
OWES: Mapping[MembershipEvent, Owes] = {
    MembershipEvent.JOIN_ACCEPTED: Owes.NOTHING,
    MembershipEvent.JOIN_UNKNOWN: Owes.EVERYTHING,
    MembershipEvent.JOIN_FENCED: Owes.EVERYTHING,
    MembershipEvent.HEARTBEAT_ACCEPTED: Owes.NOTHING,
    MembershipEvent.EXPELLED: Owes.EVERYTHING,
    MembershipEvent.GOODBYE_ANSWERED: Owes.EVERYTHING,
    MembershipEvent.MOVED: Owes.SAME,
    MembershipEvent.LOADING: Owes.SAME,
    MembershipEvent.FAILED: Owes.EVERYTHING,
    MembershipEvent.UNANSWERED: Owes.EVERYTHING,
    MembershipEvent.IDENTITY_CONFIRMED: Owes.NOTHING,
    MembershipEvent.IDENTITY_LOST: Owes.NOTHING,
    MembershipEvent.LEAVE_ASKED: Owes.NOTHING,
    MembershipEvent.REMAIN_ASKED: Owes.NOTHING,
}


def content_of(beat: HeartbeatKind, owed: Content, seconds: float) -> Content:
    """What the next request carries, `seconds` after the last request with all fields."""
    if beat is HeartbeatKind.JOIN or seconds > ANNOUNCE_SECONDS:
        return Content.EVERYTHING
    return owed


def owed_after(event: MembershipEvent, owed: Content, carried: Content) -> Content:
    """What the worker owes the coordinator after `event`, which met a request with the content `carried`."""
    added = {Owes.NOTHING: Content.NOTHING, Owes.SAME: carried, Owes.EVERYTHING: Content.EVERYTHING}
    return max(owed, added[OWES[event]])


class Assignment(NamedTuple):
    """The partitions of a member."""

    #: the partitions that the coordinator wants the worker to own
    target: frozenset[int] = frozenset()
    #: the partitions that the worker owns, as the engine has said
    owned: frozenset[int] = frozenset()
    #: the engine has answered the newest target
    is_acknowledged: bool = True

    @property
    def named(self) -> frozenset[int]:
        """The partitions that a request names as owned."""
        return self.owned | self.target

    def retargeted(self, target: frozenset[int]) -> "Assignment":
        return self if target == self.target else Assignment(target, self.owned, is_acknowledged=False)

    def acknowledged(self, owned: frozenset[int]) -> "Assignment":
        return Assignment(self.target, owned)
