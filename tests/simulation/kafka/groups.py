"""The group coordinator: KIP-848 membership, offsets, and offsets that a transaction still holds.

Each join and each goodbye makes the group's epoch grow. The first heartbeat after the change makes the assignment of
that epoch, the target; at most one assignment is made in ASSIGNMENT_SECONDS (KIP-1263). A member gets its target step
by step: it gives up partitions, acknowledges that, and gets the partitions that others have given up. The member's
epoch becomes the target's epoch when the member has nothing left to give up. Each partition remembers the epoch at
which its owner got the partition: offsets with an epoch from then on are accepted (KIP-1251).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kio.schema.errors import ErrorCode as E

JOIN, LEAVE = 0, -1
EMPTY_EPOCH = 1  # of a group whose first assignment is still to be made (KIP-1263)
ASSIGNMENT_SECONDS = 1.0  # group.consumer.assignment.interval.ms
NO_GENERATION = -1


@dataclass(slots=True)
class Member:
    id: str
    epoch: int = 0
    #: before the last step
    previous_epoch: int = -1
    #: what it may use, by the epoch at which it got each
    assigned: dict[int, int] = field(default_factory=dict)
    #: what it was told to give up and has not acknowledged
    revoking: set[int] = field(default_factory=set)
    target: frozenset[int] = frozenset()
    last_seen: float = 0.0
    #: when it must have given up what it is told to; None: nothing
    deadline: float | None = None
    rebalance_timeout: float = 30.0


class Committed(NamedTuple):
    """An offset of the group, committed or held by a transaction."""

    offset: int
    metadata: str = ""
    #: the number of its record in the coordinator's log: of two offsets of a partition, the later record stays
    record: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat."""

    error: E
    epoch: int = 0
    #: None: as before
    assignment: frozenset[int] | None = None


class Group:
    def __init__(self, clock: Callable[[], float], partitions: int, session_seconds: float) -> None:
        self._clock = clock
        self._partitions = partitions
        self._session_seconds = session_seconds
        self.epoch = EMPTY_EPOCH
        #: of the newest assignment, and when it was made
        self._target_epoch = EMPTY_EPOCH
        self._assigned_at = -ASSIGNMENT_SECONDS
        self.members: dict[str, Member] = {}
        self.offsets: dict[int, Committed] = {}
        #: offsets that transactions hold, by producer id
        self.pending: dict[int, dict[int, Committed]] = {}
        self._records = 0
        #: as Kafka 4.0: an older epoch stamps nothing (before KIP-1251), an assignment is made for each who comes or
        #: goes (before KIP-1263), and who joins under a name that is in use is fenced (KAFKA-19233)
        self.is_4_0 = False

    # -- membership

    def beat(
        self, member_id: str, epoch: int, owned: Collection[int] | None, rebalance_timeout: float | None = None
    ) -> Beat:
        """`rebalance_timeout` is in a request that carries all fields."""
        now = self._clock()
        member = self.members.get(member_id)
        if epoch == LEAVE:
            if member is None:
                return Beat(E.unknown_member_id)
            self._remove(member)
            return Beat(E.none, LEAVE)
        if member is None:
            if epoch != JOIN:
                return Beat(E.unknown_member_id)
            member = self.members[member_id] = Member(member_id)
            self.epoch += 1
        elif (epoch != JOIN or self.is_4_0) and not self._is_valid(member, epoch, owned):
            return Beat(E.fenced_member_epoch)
        member.last_seen = now
        if rebalance_timeout is not None:
            member.rebalance_timeout = rebalance_timeout
        if self.epoch > self._target_epoch and (self.is_4_0 or now >= self._assigned_at + ASSIGNMENT_SECONDS):
            self._assign()
            self._target_epoch, self._assigned_at = self.epoch, now
        before = set(member.assigned)
        self._reconcile(member, () if epoch == JOIN else owned, now)
        is_full = epoch == JOIN or (owned is not None and rebalance_timeout is not None)
        is_told = is_full or set(member.assigned) != before
        return Beat(E.none, member.epoch, frozenset(member.assigned) if is_told else None)

    def _is_valid(self, member: Member, epoch: int, owned: Collection[int] | None) -> bool:
        if epoch == member.epoch:
            return True
        is_lost_reply = epoch == member.previous_epoch and owned is not None and set(owned) <= member.assigned.keys()
        return epoch < member.epoch and is_lost_reply

    def _reconcile(self, member: Member, owned: Collection[int] | None, now: float) -> None:
        epoch = member.epoch
        if member.revoking:
            if owned is None or member.revoking & set(owned):
                return
            member.revoking.clear()
            member.deadline = None
            epoch += 1  # there may be more to give up by now
        elif member.epoch == self._target_epoch and member.target <= member.assigned.keys():
            return
        member.previous_epoch = member.epoch
        excess = member.assigned.keys() - member.target
        if excess and (owned is None or excess & set(owned)):
            for partition in excess:
                del member.assigned[partition]
            member.epoch = epoch
            member.revoking = set(excess)
            member.deadline = now + member.rebalance_timeout
            return
        for partition in excess:
            del member.assigned[partition]
        member.epoch = self._target_epoch
        taken = {
            p for other in self.members.values() if other is not member for p in (*other.assigned, *other.revoking)
        }
        for partition in sorted(member.target - member.assigned.keys() - taken):
            member.assigned[partition] = self._target_epoch

    def held_by(self, member_id: str) -> frozenset[int]:
        """The partitions that no other member can get now."""
        member = self.members.get(member_id)
        return frozenset() if member is None else frozenset((*member.assigned, *member.revoking))

    def _remove(self, member: Member) -> None:
        del self.members[member.id]
        self.epoch += 1

    def _assign(self) -> None:
        """Uniform, and as little moves as possible."""
        names = sorted(self.members)
        least, more = divmod(self._partitions, len(names))
        left = set(range(self._partitions))
        kept: dict[str, list[int]] = {}
        by_size = sorted(names, key=lambda name: (-len(self.members[name].target), name))
        quota = {name: least + (index < more) for index, name in enumerate(by_size)}
        for name in by_size:
            kept[name] = [p for p in sorted(self.members[name].target) if p in left][: quota[name]]
            left -= set(kept[name])
        for name in by_size:
            given = sorted(left)[: quota[name] - len(kept[name])]
            left -= set(given)
            self.members[name].target = frozenset([*kept[name], *given])

    def resize(self, partitions: int) -> None:
        """Its topic was deleted, or made again: what was committed was of the other one."""
        self._partitions = partitions
        self.offsets.clear()
        self.pending.clear()
        self.epoch += 1

    def expire(self) -> None:
        now = self._clock()
        for member in list(self.members.values()):
            is_late = member.deadline is not None and now > member.deadline
            if is_late or now - member.last_seen > self._session_seconds:
                self._remove(member)

    def loaded(self) -> None:
        """A new coordinator knows nothing of when members were seen last."""
        for member in self.members.values():
            member.last_seen = self._clock()

    def copied(self) -> "Group":
        """What a coordinator that is cut off from the others goes on believing."""
        other = Group(self._clock, self._partitions, self._session_seconds)
        other.epoch, other._target_epoch, other._assigned_at = self.epoch, self._target_epoch, self._assigned_at
        other.members = {name: replace(member, assigned=dict(member.assigned)) for name, member in self.members.items()}
        other.offsets = dict(self.offsets)
        other.pending = {producer_id: dict(held) for producer_id, held in self.pending.items()}
        other._records = self._records
        return other

    # -- offsets

    def check_stamp(self, member_id: str, epoch: int, partitions: Collection[int]) -> E:
        """Whether this member may commit offsets with this epoch."""
        if epoch == NO_GENERATION and not member_id:
            return E.none
        member = self.members.get(member_id)
        if member is None:
            return E.unknown_member_id
        if epoch == member.epoch:
            return E.none
        if epoch < 0 or epoch > member.epoch or self.is_4_0:
            return E.illegal_generation
        got = member.assigned
        return E.none if all(p in got and got[p] <= epoch for p in partitions) else E.illegal_generation

    def check_reader(self, member_id: str | None, epoch: int) -> E:
        if not member_id or epoch < 0:
            return E.none
        member = self.members.get(member_id)
        if member is None:
            return E.unknown_member_id
        return E.none if member.epoch == epoch else E.stale_member_epoch

    def commit(self, partition: int, offset: int, metadata: str = "") -> None:
        """Somebody commits an offset outside of any transaction."""
        self.offsets[partition] = self._written(offset, metadata)

    def hold(self, producer_id: int, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Keep offsets, with their metadata, for a transaction that has not ended."""
        held = self.pending.setdefault(producer_id, {})
        for partition, (offset, metadata) in offsets.items():
            held[partition] = self._written(offset, metadata)

    def end_transaction(self, producer_id: int, *, is_committed: bool) -> None:
        """The later record stays, whichever transaction ends last: OffsetMetadataManager.replayEndTransactionMarker."""
        held = self.pending.pop(producer_id, {})
        if not is_committed:
            return
        for partition, committed in held.items():
            known = self.offsets.get(partition)
            if known is None or committed.record > known.record:
                self.offsets[partition] = committed

    def is_unstable(self, partition: int) -> bool:
        return any(partition in held for held in self.pending.values())

    def _written(self, offset: int, metadata: str) -> Committed:
        self._records += 1
        return Committed(offset, metadata, self._records)
