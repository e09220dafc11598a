"""The partitions that repeat outputs, and how far each of them is: outputs never double.

1. `begin` takes over what META says, at each recovery. So a crash, a drop or a rebalance loses no place.
2. A share of such a partition gathers what its fold appends (`gathered`). `compared` compares that at the close of the
   transaction, before anything is sent.
3. `advance` follows when the share's META is encoded. A share that is dropped instead leaves the place as it was.
4. A difference is a failure of the share (`failures`): its records are folded again in smaller slices, until the record
   stands alone whose outputs differ. Its partition then halts.
5. The readers of output topics are opened for the first partition that repeats, and closed after the last one.
"""

import time
from collections.abc import Collection, Mapping
from typing import Any

from portfolio_stream.errors import OutputDiffers, OutputUnreadable
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.repeat import (
    NOTHING,
    Compared,
    Gathered,
    GivenRecord,
    OutputSpan,
    Repeat,
    difference,
    is_same,
)
from portfolio_stream.exactly_once.standing_outputs import OUTPUT_FETCH, StandingOutputs
from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.exactly_once.turn import Turn
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.kafka.reach import bootstrapped
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import Tell

COMPARED_AT_ONCE = 512  # records; some 0.3 ms between two looks at the clock
READ_SECONDS = 10.0  # for all outputs of one transaction: a broker that is away for longer is a doubt
MISSING_SECONDS = 15.0  # as recovery.AGREEMENT_SECONDS: a leader that was paused may not know the source's end yet


class Repeats:
    def __init__(self, kafka: Connections, partitions: Partitions, tell: Tell) -> None:
        """`partitions` is only read here."""
        self._kafka = kafka
        self._partitions = partitions
        self._tell = tell
        #: by partition
        self._left: dict[int, Repeat] = {}
        self._decided: dict[int, frozenset[int]] = {}
        #: by topic
        self._standing: dict[str, StandingOutputs] = {}
        #: monotonic seconds, by partition: since when its source is at the end, although outputs are left
        self._ended: dict[int, float] = {}

    # -- what the engine may know

    def gathered(self, partition: int) -> dict[str, Gathered]:
        """Where a new share of the partition gathers what its fold appends, by the topics that it repeats."""
        left = self._left.get(partition)
        return {} if left is None else {topic: Gathered() for topic in left}

    def decided(self, partition: int) -> frozenset[int]:
        """Source offsets, not committed yet, of records that an operator has moved to the dead letters before."""
        ahead = self._decided.get(partition)
        if ahead is None:
            return frozenset()
        committed = self._partitions[partition].committed or 0
        ahead = frozenset(offset for offset in ahead if offset >= committed)
        self._keep(partition, self._left.get(partition), ahead)
        return ahead

    def left(self) -> dict[int, int]:
        """At most how many outputs are left to compare, by partition. Markers and aborted records count, too."""
        owned = self._partitions.owned
        return {
            partition: sum(span.until - span.next for span in repeat.values())
            for partition, repeat in sorted(self._left.items())
            if partition in owned
        }

    # -- the life of a repeat

    async def begin(self, partition: int, repeat: Repeat | None, decided: frozenset[int]) -> None:
        """The partition goes on from its recovered offset, and repeats what META says.

        Raises KafkaConnectionError.
        """
        self._ended.pop(partition, None)
        self._keep(partition, repeat, decided)
        if repeat is None:
            return
        for topic, span in repeat.items():
            await self._open(topic)
            self._standing[topic].aim(partition, span.next, anew=True)
        outputs = sum(span.until - span.next for span in repeat.values())
        self._tell(told.RepeatBegan(partition=partition, outputs=outputs))

    def _keep(self, partition: int, repeat: Repeat | None, decided: frozenset[int]) -> None:
        for known, new in ((self._left, repeat), (self._decided, decided)):
            if new:
                known[partition] = new  # type: ignore[assignment]
            else:
                known.pop(partition, None)

    async def _open(self, topic: str) -> None:
        if topic in self._standing:
            return
        reader = self._kafka.reader(topic, len(self._partitions), OUTPUT_FETCH)
        try:
            await bootstrapped(reader.start)
        except BaseException:
            await reader.stop()
            raise
        self._standing[topic] = StandingOutputs(topic, reader)

    async def compared(self, share: Share, deadline: float) -> Compared:
        """Compare what the share's fold gave with the outputs that stand.

        Raises OutputDiffers and OutputUnreadable, which belong to the share, a Doubt and a KafkaError.
        """
        left = self._left.get(share.partition)
        if left is None and not share.gathered:
            return NOTHING
        still: dict[str, OutputSpan] = {}
        surplus: dict[str, list[GivenRecord]] = {}
        turn = Turn()
        for topic, span in (left or {}).items():
            given = share.gathered[topic].records if topic in share.gathered else []
            standing = self._standing[topic]
            standing.aim(share.partition, span.next)
            at = 0
            while has_more := await standing.has_more(share.partition, span.until, deadline):
                if at == len(given):
                    break
                records = standing.take(share.partition, span.until, min(COMPARED_AT_ONCE, len(given) - at))
                for record in records:
                    if not is_same(given[at], record):
                        raise self._differing(share, topic, given[at], record)
                    at += 1
                span = span._replace(next=records[-1].offset + 1)
                await turn.give()
            if has_more:
                still[topic] = span
            if at < len(given):
                surplus[topic] = given[at:]
        for topic, gathered in share.gathered.items():  # the share was opened before the repeat of a topic ended
            if topic not in (left or {}) and gathered.records:
                surplus[topic] = gathered.records
        return Compared(still or None, surplus)

    def _differing(self, share: Share, topic: str, given: GivenRecord, record: Any) -> OutputDiffers:
        assert share.position is not None  # noqa: S101  no share without a position is closed
        first = share.position - 1 if share.first is None else share.first.offset
        fields = difference(given, record)
        return OutputDiffers(topic, share.partition, record.offset, (first, share.position - 1), fields)

    def advance(self, partition: int, left: Repeat | None) -> None:
        """The META that is being committed says `left`."""
        before = self._left.get(partition)
        self._keep(partition, left, self._decided.get(partition, frozenset()))
        self._ended.pop(partition, None)
        if before is not None and left is None:
            self._tell(told.RepeatEnded(partition=partition))

    # -- between two transactions, now and then

    async def look(self, at_end: Collection[int]) -> Mapping[int, str]:
        """Returns why partitions cannot go on: their source is at its end, and outputs stand that nothing gave.

        `at_end` are the partitions of which every source record is committed. Raises a Doubt, and a KafkaError.
        """
        missing: dict[int, str] = {}
        for partition in self._left.keys() & set(at_end):
            try:
                await self._forget_markers(partition)
            except OutputUnreadable as error:
                missing[partition] = error.cause.rstrip(".")
                continue
            since = self._ended.setdefault(partition, time.monotonic())
            if partition in self._left and time.monotonic() - since >= MISSING_SECONDS:
                places = [f"{topic}-{partition}@{span.next}" for topic, span in self._left[partition].items()]
                missing[partition] = (
                    f"every source record is folded, but the fold has not given the outputs that stand from "
                    f"{', '.join(sorted(places))} on"
                )
        for partition in self._ended.keys() - set(at_end):
            del self._ended[partition]
        return missing

    async def _forget_markers(self, partition: int) -> None:
        """Leave out topics that have only markers and aborted records left. No share may have told so yet."""
        left = self._left[partition]
        still = {}
        for topic, span in left.items():
            self._standing[topic].aim(partition, span.next)
            if await self._standing[topic].has_more(partition, span.until, time.monotonic() + READ_SECONDS):
                still[topic] = span
        if still != left:
            self.advance(partition, still or None)

    async def tidy(self) -> None:
        """Forget partitions that this worker no longer owns, and read only what is left. Without readers: no work."""
        if not self._standing:
            return
        for partition in (self._left.keys() | self._decided.keys()) - self._partitions.owned:
            self._keep(partition, None, frozenset())
        for topic, standing in self._standing.items():
            standing.keep({partition for partition, left in self._left.items() if topic in left})
        if not self._left:
            await self.close()

    async def close(self) -> None:
        """Stop the readers."""
        standing, self._standing = self._standing, {}
        for one in standing.values():
            await one.stop()
