"""Copies the committed state of several partitions at one moment (`CopyState`), while nothing is folded.

1. `prepare` writes the recent rows to files while the engine goes on, so that the copy finds little that is new.
2. At the boundary: commit what is open. From here on the store has every committed row of this worker's partitions.
3. Ask where the output topics end. This worker is the only one that writes to these partitions, and it writes nothing
   now: so each end is exact. An end before this worker's last record is an old leader's, and is asked for again.
4. Have the group coordinator confirm the membership, after the ends. Another worker may own the partitions of a worker
   that stood still, and may have written to their outputs: such a copy would not fit to its ends.
5. Have the transaction coordinator confirm the identity, after the ends too. A second process with a copy of this
   worker's folder is a member under the same id.
6. Copy the database, and pause the partitions if the operator wants that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import StateNotCopied
from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.operations import CopiedPartition, CopyState, StateCopy
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.repeat import repeat_of
from portfolio_stream.kafka.offset_lookup import LATEST, MemberEpoch, group_offsets, log_offsets
from portfolio_stream.kafka.reach import LOST

ANSWER_SECONDS = 1.0  # of the brokers, for all ends and the membership: nothing is folded meanwhile
RETRY_SECONDS = 0.05  # after a moved leader or coordinator

#: see Doubts.settle_writer
SettleWriter = Callable[[], Awaitable[bool]]
#: by output topic, the end of each partition
Ends = Mapping[str, Mapping[int, int]]


class StateCopying:
    def __init__(self, equipment: Equipment, boundary: Boundary, settle_writer: SettleWriter) -> None:
        self._configuration = equipment.configuration
        self._client = equipment.client
        self._coordinators = equipment.coordinators
        self._source = equipment.source
        self._changelog_id = equipment.changelog_id
        self._commits = equipment.commits
        self._member = equipment.membership
        self._partitions = equipment.partitions
        self._store = equipment.store
        self._boundary = boundary
        self._settle_writer = settle_writer

    async def prepare(self, asked: CopyState) -> None:
        """Do what needs no boundary. Raises StoreFailed and StateNotCopied.

        The first time may take half a second. The second time has only the rows of that half second to write, and so
        the boundary has only those of some milliseconds.
        """
        if asked.partitions.isdisjoint(self._partitions.served):
            return
        for _ in range(2):
            await self._store.prepare_copy(asked.folder)

    async def copy(self, asked: CopyState) -> StateCopy:
        """Call this between two transactions, when every slice is settled. Raises StateNotCopied and Superseded."""
        await self._boundary.commit()
        served = sorted(asked.partitions & self._partitions.served)
        left_out = {p: self._partitions[p].state.value for p in asked.partitions.difference(served)}
        ends = await self._ends(served, asked.folder) if served else {}
        if ends is None:
            return StateCopy(asked.folder, {}, left_out | dict.fromkeys(served, "perhaps another worker's"))
        if served and not await self._settle_writer():
            raise StateNotCopied(asked.folder, "the worker stops")
        parts = {partition: self._copied(partition, ends) for partition in served}
        if parts:
            await self._store.copy(asked.folder)
            if asked.pauses:
                self._partitions.happened(PartitionEvent.PAUSE, served)
        return StateCopy(asked.folder, parts, left_out)

    def _copied(self, partition: int, ends: Ends) -> CopiedPartition:
        meta, committed = self._store.meta(partition), self._partitions[partition].committed
        offset = committed if meta is None else meta.offset
        assert offset is not None  # noqa: S101  a partition that is served has been recovered
        outputs = {topic: found[partition] for topic, found in ends.items()}
        if meta is not None:  # behind these outputs stand those of later records, which the fold has still to repeat
            outputs |= {topic: span.next for topic, span in (repeat_of(meta.repeat) or {}).items()}
        position = self._store.position(partition)
        return CopiedPartition(
            offset=offset,
            changelog_topic_id=self._changelog_id,
            changelog_offset=0 if position is None else position.offset,
            outputs=outputs,
            fold=self._configuration.fold if meta is None else meta.fold,
        )

    async def _ends(self, partitions: Collection[int], folder: Path) -> Ends | None:
        """Where the partitions of the output topics end; None if another worker may own the partitions.

        Raises StateNotCopied if the brokers do not say so in ANSWER_SECONDS.
        """
        reason = "the brokers did not answer"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    try:
                        ends = await self._ask_ends(partitions)
                        if not all(len(found) == len(partitions) for found in ends.values()):
                            reason = "an output topic has a partition without a leader"
                        elif self._are_old(ends):
                            reason = "a broker that has just woken named an end from before this worker's last records"
                        else:
                            return ends if await self._is_member(partitions) else None
                    except (*LOST, kafka_errors.KafkaError) as error:
                        reason = f"a broker did not answer: {type(error).__name__}"
                        self._coordinators.forget()
                    await asyncio.sleep(RETRY_SECONDS)
                    await self._client.force_metadata_update()
        except TimeoutError:
            raise StateNotCopied(folder, reason) from None

    def _are_old(self, ends: Ends) -> bool:
        """A leader that was paused names the end that it knew, until it hears of its successor."""
        return any(
            end < self._commits.least_end(topic, partition)
            for topic, found in ends.items()
            for partition, end in found.items()
        )

    async def _ask_ends(self, partitions: Collection[int]) -> Ends:
        topics = self._configuration.output_topics
        asked = (log_offsets(self._client, topic, partitions, LATEST) for topic in topics)
        return dict(zip(topics, await asyncio.gather(*asked), strict=True))

    async def _is_member(self, partitions: Collection[int]) -> bool:
        """The coordinator knows this member under its epoch now: no other worker has had its partitions."""
        while True:
            session, member = self._member.session, MemberEpoch(self._member.member_id, self._member.epoch)
            group, topic = self._configuration.group, self._source.name
            node = await self._coordinators.group()
            if await group_offsets(self._client, node, group, topic, partitions, is_stable=False, member=member):
                return session == self._member.session
            if member == MemberEpoch(self._member.member_id, self._member.epoch):
                return False  # else a heartbeat has brought a newer epoch meanwhile
