"""A started engine on a real store, between fakes of a reader, a membership, a writer and a recovery."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition

from portfolio_stream.exactly_once.commits import Commits
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.failures import Suspicion
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.protocol import Refused
from portfolio_stream.exactly_once.recovery import Halted, Ready, Source
from portfolio_stream.exactly_once.repeats import Repeats
from portfolio_stream.exactly_once.signals import Signals
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.standby import Standbys
from portfolio_stream.exactly_once.started_engine import StartedEngine
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.views import Views
from portfolio_stream.kafka.reader import FetchLimits
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.observe.statistics import Statistics

NUMBERS: TableDefinition[int] = TableDefinition(
    name="numbers", encode=lambda value: b"%d" % value, decode=lambda data: int(data)
)
CONFIGURATION = Configuration(group="g", source_topic="in", changelog_topic="log", output_topics=("out",), fold="f")


def records(first: int, count: int) -> list[Any]:
    return [MemoryRecord(offset, 1, b"k", b"v") for offset in range(first, first + count)]


class Reader:
    """Which partitions are read, and from where each reading began."""

    def __init__(self) -> None:
        self.reading: dict[int, int] = {}
        #: every resumption: partition, offset
        self.resumed: list[tuple[int, int]] = []
        #: fetch positions, where they differ from the start of the reading
        self.positions: dict[int, int] = {}
        self.fetched: Mapping[int, list[list[Any]]] = {}
        #: partitions of which Kafka has more records
        self.behind: set[int] = set()
        #: a fetch that finds nothing waits until it is woken
        self.waits = False
        self._woken = asyncio.Event()

    def resume(self, partition: int, offset: int) -> None:
        self.reading[partition] = offset
        self.resumed.append((partition, offset))
        self.positions.pop(partition, None)

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.reading.pop(partition, None)

    def wake(self) -> None:
        self._woken.set()

    def pace(self, seconds: float) -> None: ...

    async def fetch(self, timeout_ms: int) -> Mapping[int, list[list[Any]]]:
        if self.waits and not self.fetched:
            await self._woken.wait()
        self._woken.clear()
        fetched, self.fetched = self.fetched, {}
        for partition, batches in fetched.items():
            self.positions[partition] = batches[-1][-1].offset + 1
        return fetched

    async def position(self, partition: int) -> int:
        return self.positions.get(partition, self.reading.get(partition, 0))

    def take_decode_seconds(self) -> float:
        return 0.0

    def has_buffered(self, partition: int) -> bool:
        return False

    def is_behind(self, partitions: Iterable[int]) -> bool:
        return not self.behind.isdisjoint(partitions)


class Member:
    def __init__(self, partitions: int) -> None:
        self.session, self.epoch, self.member_id = 0, 1, "m"
        self.target = frozenset(range(partitions))
        self.acknowledged: list[frozenset[int]] = []
        self.identity: list[object] = []

    def own(self, session: int) -> None:
        self.identity.append(session)

    def disown(self) -> None:
        self.identity.append("another's")

    def acknowledge(self, owned: frozenset[int]) -> None:
        self.acknowledged.append(owned)

    async def leave(self) -> None: ...


class Coordinators:
    async def group(self) -> int:
        return 0

    def forget(self) -> None: ...


class Client:
    async def force_metadata_update(self) -> None: ...


class Sent:
    """A writer that notes which offsets were committed, and refuses some records."""

    def __init__(self) -> None:
        #: next offset by partition
        self.committed: dict[int, int] = {}
        #: the shares whose records were sent, in order
        self.sent: list[Any] = []
        #: the offset of the record that is refused, by partition
        self.refused: dict[int, int] = {}
        #: a commit waits for this
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.last_end = 0.0
        self._shares: Any = ()

    async def send_offsets(
        self, topic: str, shares: Any, *, member_id: str, member_epoch: int, generation: int
    ) -> None:
        self._shares = shares

    async def send_records(self, shares: Any) -> dict[TopicPartition, int]:
        for share in shares:
            offset = self.refused.get(share.partition)
            if offset is not None and share.first.offset <= offset < share.position:
                raise Refused("out", share.partition, "MESSAGE_TOO_LARGE")
        self.sent.extend(shares)
        return {}

    async def commit(self) -> None:
        await self.may_commit.wait()
        self.committed.update({share.partition: share.position for share in self._shares})

    async def settle(self) -> None: ...


class RecoversAt:
    """Recovery that finds every partition at one offset."""

    def __init__(self, offset: int, *, lacks_group_offset: bool = False) -> None:
        self._offset = offset
        self._lacks_group_offset = lacks_group_offset

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready | Halted]:
        for partition in partitions:
            yield Ready(
                partition=partition, offset=self._offset, replayed=0, lacks_group_offset=self._lacks_group_offset
            )


class RecoversCommitted(RecoversAt):
    """Recovery that finds every partition where the writer has committed it."""

    def __init__(self, committed: Mapping[int, int]) -> None:
        self._committed = committed

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready | Halted]:
        for partition in partitions:
            yield Ready(partition=partition, offset=self._committed[partition], replayed=0)


class Outputs:
    """Output topics of which only the committed records are read, and a connection to them."""

    def __init__(self) -> None:
        #: committed records, by topic and partition; the other offsets below the log's end are markers
        self.logs: dict[tuple[str, int], list[Any]] = {}
        #: ends of logs that have markers behind their last record
        self.ends: dict[tuple[str, int], int] = {}
        #: readers that are open, by topic
        self.readers: dict[str, OutputReader] = {}
        #: raised once by a fetch
        self.errors: list[Exception] = []

    def reader(self, topic: str, partitions: int, limits: FetchLimits) -> "OutputReader":
        return OutputReader(self, topic)

    def end(self, place: tuple[str, int]) -> int:
        log = self.logs.get(place, [])
        return max(self.ends.get(place, 0), log[-1].offset + 1 if log else 0)


class OutputReader:
    """A fetch gives at most three records of each partition that is read."""

    def __init__(self, outputs: Outputs, topic: str) -> None:
        self._outputs, self._topic = outputs, topic
        self.positions: dict[int, int] = {}
        self.reading: set[int] = set()

    async def start(self) -> None:
        self._outputs.readers[self._topic] = self

    async def stop(self) -> None:
        self._outputs.readers.pop(self._topic, None)

    def resume(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset
        self.reading.add(partition)

    def pause(self, partitions: Iterable[int]) -> None:
        self.reading.difference_update(partitions)

    async def position(self, partition: int) -> int:
        return self.positions[partition]

    async def fetch(self, timeout_ms: int) -> Mapping[int, list[list[Any]]]:
        await asyncio.sleep(0)
        if self._outputs.errors:
            raise self._outputs.errors.pop(0)
        found = {}
        for partition in sorted(self.reading):
            place = (self._topic, partition)
            log = self._outputs.logs.get(place, [])
            records = [record for record in log if record.offset >= self.positions[partition]][:3]
            self.positions[partition] = records[-1].offset + 1 if records else self._outputs.end(place)
            if records:
                found[partition] = [records]
        return found


class Recovers:
    """A recovery that does what a test puts into `finds`."""

    def __init__(self) -> None:
        self.finds: Any = RecoversAt(0)

    def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready | Halted]:
        return self.finds.recover(partitions, taken_over)  # type: ignore[no-any-return]


class Stage(StartedEngine):
    """A started engine with its fakes at hand."""

    def __init__(self, store: Store, offsets: Mapping[int, int], *, can_move: bool) -> None:
        self.store = store
        self.reader = Reader()
        self.member = Member(len(offsets))
        self.sent = Sent()
        self.recovery = Recovers()
        self.outputs = Outputs()
        self.statistics = Statistics()
        self.events = EventRing()
        #: what the app does to write a dead letter
        self.write_dead_letter: Any = None
        source = Source(name="in", topic_id=UUID(int=5), partitions=len(offsets))
        partitions: Any = Partitions(len(offsets), self.reader, self.statistics.kafka)
        views = Views(store, {NUMBERS.name: NUMBERS}, store.memory.views)
        signals = Signals(self.reader.wake)
        fakes: Any = SimpleNamespace(writer=self.sent, membership=self.member, group=None)
        fakes.outputs = self.outputs
        repeats = Repeats(fakes.outputs, partitions, self.events.tell)
        made = Commits(
            CONFIGURATION,
            partitions,
            views,
            self.statistics,
            store,
            fakes.writer,
            fakes.membership,
            repeats,
            source=source,
            changelog_id="c",
            wake_engine=signals.wake,
            tell=self.events.tell,
        )
        standbys = Standbys(None, fakes.group, fakes.membership, partitions, store, copies=0)
        equipment: Any = {
            "configuration": CONFIGURATION, "client": Client(), "coordinators": Coordinators(), "source": source,
            "changelog_id": "c",
            "reader": self.reader, "writer": self.sent, "membership": self.member, "recovery": self.recovery,
            "store": store, "partitions": partitions, "views": views, "commits": made, "statistics": self.statistics,
            "signals": signals, "tell": self.events.tell, "standbys": standbys, "repeats": repeats,
            "write_dead_letter": self._write_dead_letter if can_move else None,
        }  # fmt: skip
        super().__init__(Equipment(**equipment))
        self.partitions.happened(PartitionEvent.ASSIGNED, tuple(offsets))
        for partition, offset in offsets.items():
            self.partitions.happened(PartitionEvent.RECOVERED, (partition,), offset=offset)
        self.reader.resumed.clear()

    def _write_dead_letter(self, piece: Slice) -> None:
        self.write_dead_letter(piece)

    def suspicion(self, partition: int) -> Suspicion:
        """What is known of the partition's failures."""
        known = self.partitions[partition].suspicion
        assert known is not None
        return known

    def committed(self, partition: int) -> int | None:
        return self.partitions[partition].committed


def staged(store: Store, offsets: Mapping[int, int] | None = None, *, can_move: bool = True) -> Stage:
    """An engine that owns and runs the partitions of `offsets`; else 0 and 1, at the offsets 10 and 20.

    `can_move`: the app says how a record becomes a dead letter.
    """
    return Stage(store, {0: 10, 1: 20} if offsets is None else offsets, can_move=can_move)
