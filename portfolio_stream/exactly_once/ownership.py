"""Follows the group: takes what the coordinator gives, and gives back what the coordinator wants back.

A partition is given back only after everything that was read of it is settled.
"""

import asyncio
import time

from portfolio_stream.errors import TopicMisconfigured
from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.folding import Folding
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.protocol import Doubt, MembershipBroken
from portfolio_stream.exactly_once.recovery_task import RecoveryTask
from portfolio_stream.observe import events as told

REVOCATION_SECONDS = 10.0  # then the revoked partitions' share is dropped: others wait for the partitions


class Ownership:
    def __init__(self, equipment: Equipment, boundary: Boundary, folding: Folding, recovery_task: RecoveryTask) -> None:
        self._source = equipment.source
        self._member = equipment.membership
        self._partitions = equipment.partitions
        self._tell = equipment.tell
        self._commits = equipment.commits
        self._boundary = boundary
        self._folding = folding
        self._recovery_task = recovery_task
        self._standbys = equipment.standbys

    def target(self) -> frozenset[int]:
        """The partitions that the coordinator wants this worker to own.

        Raises TopicMisconfigured when the topic has more partitions than at the start: keys hash to others then.
        """
        target, count = self._member.target, len(self._partitions)
        if target and max(target) >= count:
            raise TopicMisconfigured(self._source.name, "partition count", f"{max(target) + 1} or more", str(count))
        return target

    async def follow(self) -> None:
        """Own exactly the target. Raises MembershipBroken when this worker was expelled."""
        self._require_session("expelled")
        target, owned = self.target(), self._partitions.owned
        gone, new = owned - target, target - owned
        if gone:
            await self.revoke(gone)
            self._require_session("expelled during a revocation")  # the acknowledgement belongs to the old membership
        if new:
            async with self._standbys.given_up(new):
                self._require_session("expelled while standbys were given up")
                self._partitions.happened(PartitionEvent.ASSIGNED, new)
        self._member.acknowledge(self._partitions.owned)
        if new:
            self._recovery_task.recover(new)

    def _require_session(self, reason: str) -> None:
        if self._member.session != self._commits.session:
            raise MembershipBroken(None, reason)

    async def revoke(self, gone: frozenset[int]) -> None:
        """Commit what was read of the partitions `gone`, then let go of them. Raises Doubt if that takes too long."""
        started = time.perf_counter()
        must_recover = bool(self._partitions.recovering & gone)  # the recovery that runs would decide them, too
        self._partitions.happened(PartitionEvent.REVOKED, gone)
        if must_recover:
            self._recovery_task.end()
        await self._folding.settle()
        try:
            async with asyncio.timeout(REVOCATION_SECONDS):
                await self._boundary.commit()
        except TimeoutError:
            raise Doubt(None, "a revocation could not be committed in time") from None
        self.release(gone)
        if must_recover and self._partitions.recovering:
            self._recovery_task.recover(self._partitions.recovering)
        took = (time.perf_counter() - started) * 1000
        self._tell(told.PartitionsRevoked(partitions=tuple(sorted(gone)), milliseconds=took))

    def release(self, gone: frozenset[int]) -> None:
        """Let go of partitions, of which everything is settled."""
        self._partitions.happened(PartitionEvent.RELEASED, gone)
        self._commits.discard(gone)
