"""Commits one closed transaction, step by step, while the next transaction folds.

1. Offsets: an accepted offset reserves the partition for this member (KIP-447).
2. Records: one request to each leader.
3. EndTxn: from its answer on, the transaction is committed.
4. Store: values, META and changelog positions, together. The store never holds an uncommitted value.

Each step follows only after the step before it has succeeded.
"""

import logging
import time
from collections.abc import Mapping, Sequence

from aiokafka.structs import TopicPartition

from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.protocol import Doubt, MembershipBroken, Refused, StaleEpoch
from portfolio_stream.exactly_once.recent import Written
from portfolio_stream.exactly_once.store import ChangelogPosition, Store
from portfolio_stream.exactly_once.transaction import Share, Transaction
from portfolio_stream.exactly_once.writer import Endings, Writer
from portfolio_stream.observe.events import SlowCommit
from portfolio_stream.observe.ring import Tell
from portfolio_stream.observe.statistics import Laps, Statistics

log = logging.getLogger(__name__)

SLOW_COMMIT_SECONDS = 0.5  # twenty times the budget: an event says which phase took so long
NEWEST_COMMIT_SHARE = 0.2  # of the usual time; one slow commit alone must not make the next events wait as well


class Delivery:
    def __init__(
        self,
        partitions: Partitions,
        statistics: Statistics,
        store: Store,
        writer: Writer,
        membership: Membership,
        *,
        source_topic: str,
        changelog_topic: str,
        changelog_id: str,
        generation: int,
        tell: Tell,
    ) -> None:
        """`partitions` is only read here: a share whose incarnation is over is left out."""
        self._partitions = partitions
        self._statistics = statistics
        self._store = store
        self._writer = writer
        self._member = membership
        self._source_topic = source_topic
        self._changelog_topic = changelog_topic
        self._changelog_id = changelog_id
        self._generation = generation
        #: the offset behind the last record that this process wrote to each partition: no log ends before it
        self.endings: Endings = {}
        self._tell = tell

    async def commit(
        self, transaction: Transaction, shares: Sequence[Share], written: Mapping[int, Written]
    ) -> Mapping[int, int]:
        """Offsets, records, EndTxn, store. `written` has the store's rows. Returns the committed positions.

        Raises whatever ends a step: the engine then drops everything and asks the coordinator for the outcome.
        """
        laps = Laps()
        shares = await self._reserve(transaction, shares)
        if not shares:
            raise Doubt(None, "every partition of the transaction was lost")
        laps.end("reserve")
        made = [(topic, of.records, of.size) for share in shares for topic, of in share.batches.items() if of.records]
        endings = await self._send_records(shares)
        self.endings |= endings
        laps.end("write")
        await self._writer.commit()
        laps.end("end")
        self._count(shares, laps.total)
        for topic, records, size in made:
            self._statistics.work.wrote(topic, records, size)
        now = time.time()
        positions = {
            share.partition: ChangelogPosition(topic_id=self._changelog_id, offset=endings[target], written_at=now)
            for share in shares
            if (target := TopicPartition(self._changelog_topic, share.partition)) in endings
        }
        await self._store.commit({share.partition: written[share.partition] for share in shares}, positions)
        laps.end("store")
        self._note(laps, sum(share.events for share in shares))
        for share in shares:
            committed = self._statistics.committed[share.partition]
            committed.records += share.events
            committed.changelog_bytes += written[share.partition].bytes
        return {share.partition: share.position for share in shares if share.position is not None}

    def _note(self, laps: Laps, events: int) -> None:
        for phase, seconds in laps.seconds.items():
            self._statistics.phase_seconds[phase].observe(seconds)
        if laps.total > SLOW_COMMIT_SECONDS:
            took = {f"{phase}_milliseconds": seconds * 1000 for phase, seconds in laps.seconds.items()}
            self._tell(SlowCommit(events=events, **took))

    async def _send_records(self, shares: Sequence[Share]) -> Endings:
        try:
            return await self._writer.send_records(shares)
        except Refused as refused:
            share = next(share for share in shares if share.partition == refused.partition)
            refused.failure = share.failure(f"the broker refused a record for {refused.topic}", refused)
            raise

    async def _reserve(self, transaction: Transaction, shares: Sequence[Share]) -> Sequence[Share]:
        """The shares whose offsets were accepted, under the epoch of the transaction's opening or a newer one."""
        member = self._member
        epoch = transaction.member_epoch
        while True:
            if transaction.session != member.session:  # the broker would accept the new epoch after a rejoin
                raise MembershipBroken(None, "the membership in which these records were read is over")
            try:
                await self._writer.send_offsets(
                    self._source_topic,
                    shares,
                    member_id=member.member_id,
                    member_epoch=epoch,
                    generation=self._generation,
                )
                return shares
            except StaleEpoch:
                await member.beat()
                shares = [
                    share for share in shares if self._partitions[share.partition].incarnation == share.incarnation
                ]
                kept = member.owned & member.target  # the broker takes the newest epoch for partitions of others too
                lost = [share for share in shares if share.partition not in kept]
                if epoch == member.epoch or lost or not shares:
                    raise
                epoch = member.epoch

    def _count(self, shares: Sequence[Share], seconds: float) -> None:
        now = time.time()
        statistics = self._statistics
        statistics.commits += 1
        statistics.commit_seconds.observe(seconds)
        statistics.usual_commit_seconds += NEWEST_COMMIT_SHARE * (seconds - statistics.usual_commit_seconds)
        for share in shares:
            statistics.events += share.events
            statistics.work.source_bytes += share.source_bytes
            statistics.counts.update(share.counts)
            if share.latest_timestamps:
                statistics.last_timestamps[share.partition] = share.latest_timestamps[-1][0] / 1000
            for stamp, events in share.latest_timestamps:
                statistics.latencies.observe(now - stamp / 1000, events)
        log.debug("committed events=%d milliseconds=%.1f", sum(share.events for share in shares), seconds * 1000)
