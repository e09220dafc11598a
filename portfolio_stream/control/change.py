"""Changes the control topic: decides on the newest values, and writes the decision in one Kafka transaction.

1. InitProducerId with the transactional id `GROUP-control` fences every other writer: what an older one has open can
   never be committed any more.
2. The topic is read to its end. No other decision can come in between. A broker that has just woken may name an end
   that is too low. So the decision is committed only if every record before its own was read when it was made.
3. `decide` gets these values and returns records, or raises the refusal. Everything is written in one transaction,
   with the group's offsets if the decision switches to another generation.
4. A switch is committed only if the group has no member after its offsets were reserved. Kafka takes offsets without a
   member id also from a group with members. A worker that joined before the reservation is seen here. One that joins
   later gets no stable offset until the switch is decided, and then sees the new generation (KIP-447).
5. A writer that was fenced, or that does not know how its transaction ended, begins again at 1. So `decide` must see by
   itself whether its own decision is there already.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition

from portfolio_stream.control.log import PARTITION, ControlLog
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Confirm, ControlChange, encode
from portfolio_stream.errors import ControlUnavailable, GroupNotEmpty, PortfolioStreamError, Superseded, cause_of
from portfolio_stream.exactly_once.protocol import AFTER_RECORDS_ALONE, Doubt, TransactionStep
from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.member_lookup import MemberLookup
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.observe.events import WorkerEvent

#: the longest wait for a decision: an outage of a broker, or many writers that fence each other
DECISION_SECONDS = 60.0
PAUSE_SECONDS = (0.01, 0.3)  # before another try: writers that fence each other must not keep step

Decide = Callable[[ControlState], ControlChange | None]
AsyncDecide = Callable[[ControlState], Awaitable[ControlChange | None]]


class ControlWriter:
    def __init__(self, client: Client, log: ControlLog, *, group: str, topic: str, source_topic: str) -> None:
        self._client = client
        self._log = log
        self._group = group
        self._topic = topic
        self._source_topic = source_topic
        self._lock = asyncio.Lock()

    async def change(self, decide: Decide | AsyncDecide) -> ControlState:
        """Have `decide` decide on the newest values. Returns the values with the decision.

        `decide` returns None if nothing is to be written. It may be called again, after a try whose outcome is unknown.
        What `decide` raises comes out, and nothing is written. Raises ControlUnavailable, and for a decision with
        offsets GroupNotEmpty.
        """
        async with self._lock:
            deadline = time.monotonic() + DECISION_SECONDS
            while True:
                try:
                    end = await self._try(decide)
                    return await self._log.read_to_end(at_least=end)
                except (Doubt, Superseded, *LOST, kafka_errors.KafkaError) as error:
                    if time.monotonic() > deadline:
                        raise ControlUnavailable(self._topic, cause_of(error)) from error
                    await self._client.force_metadata_update()
                    await asyncio.sleep(random.uniform(*PAUSE_SECONDS))

    async def _try(self, decide: Decide | AsyncDecide) -> int:
        """Decide once. Returns the offset behind the decision's records; 0 if there are none."""
        transactional_id = f"{self._group}-control"
        coordinators = Coordinators(self._client, self._group, transactional_id)
        writer = Writer(
            self._client,
            coordinators,
            group=self._group,
            transactional_id=transactional_id,
            tell=_unheard,
            extra_transitions=AFTER_RECORDS_ALONE,
        )
        await writer.start()
        state = await self._log.read_to_end()
        changes = self._log.changes
        decided = decide(state)
        if isinstance(decided, Awaitable):
            decided = await decided
        if decided is None:
            return 0
        if decided.offsets:
            await writer.send_offsets(
                self._source_topic,
                [_positioned(partition, offset) for partition, offset in sorted(decided.offsets.items())],
                member_id="",
                member_epoch=-1,
                generation=decided.generation,
            )
            await self._require_empty_group(writer, coordinators)
            if decided.confirm is not None:
                await self._require_confirmed(writer, decided.confirm)
        endings = await writer.send_records([self._records(decided)])
        end = endings.get(TopicPartition(self._topic, PARTITION))
        if end is not None:
            await self._log.read_up_to(end - len(decided.records))
        if end is None or self._log.changes != changes:  # by this read, or by another task's meanwhile
            raise Doubt(TransactionStep.PRODUCE, "the decision was made on older values")
        await writer.commit()
        return end

    async def _require_empty_group(self, writer: Writer, coordinators: Coordinators) -> None:
        """Raises GroupNotEmpty, after an abort, if a worker may hold partitions under older offsets.

        The coordinator that took the offsets is asked: another one may know the members of an earlier moment.
        """
        lookup = MemberLookup(self._client, coordinators, group=self._group, topic=self._source_topic)
        try:
            members = await lookup.members()
        except kafka_errors.GroupIdNotFound:
            members = ()
        if members:
            await writer.settle()
            raise GroupNotEmpty([str(member) for member in members])

    async def _require_confirmed(self, writer: Writer, confirm: Confirm) -> None:
        """Raises what `confirm` raises, after an abort."""
        try:
            await confirm()
        except PortfolioStreamError:
            await writer.settle()
            raise

    def _records(self, decided: ControlChange) -> Share:
        share = Share(0, 0)
        append = share.appender(self._topic)
        now = int(time.time() * 1000)
        for key, value in decided.records.items():
            append(now, key.encode(), None if value is None else encode(value), ())
        return share


def _unheard(event: WorkerEvent, cause: BaseException | None = None) -> None:
    """That a decision was fenced by another one is no news: it is made again."""


def _positioned(partition: int, offset: int) -> Share:
    share = Share(partition, 0)
    share.position = offset
    return share
