"""A Kafka of one partition in memory, with a worker on it, that moves whenever the auditor looks at it.

What is not atomic in Kafka is not atomic here: a transaction's records are appended topic by topic, its markers come
later in any order, the group's offset with one of them. So a reader sees a transaction in one topic before it does in
another. Before each look some of these steps are taken, as the seed says.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
from aiokafka import TopicPartition

from portfolio_stream.audit.generation import AuditedGeneration
from portfolio_stream.audit.history import META_KEY, ServedAnswer
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.start import FindStart, Start, first_record
from portfolio_stream.audit.tables import SEPARATOR, show_value
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.write import complete, write_part
from portfolio_stream.settings import Settings
from tests.unit.audit_histories import NOON, TOPIC_ID, encode
from tests.unit.savepoint_world import ID, PlainForm, head

SETTINGS = Settings(input_topic="in", output_topic="out", dlq_topic="dlq", partitions=1, deduplication_window=5)
CHANGELOG = SETTINGS.changelog_topic
WRITTEN = ("out", "dlq", CHANGELOG)
GROUP_OFFSET = "the group's offset"


@dataclass
class AuditedLog:
    records: list[Any] = field(default_factory=list)
    high_watermark: int = 0
    last_stable: int = 0

    def append(self, key: bytes | None, value: bytes | None, timestamp: int = 0, headers: Sequence[Any] = ()) -> None:
        record = SimpleNamespace(
            offset=self.high_watermark, timestamp=timestamp, key=key, value=value, headers=tuple(headers)
        )
        self.records.append(record)
        self.high_watermark += 1

    def mark(self) -> None:
        """A transaction's marker: everything so far is committed."""
        self.high_watermark += 1
        self.last_stable = self.high_watermark

    def trim(self, offset: int) -> None:
        """Delete the records before an offset, as retention does."""
        self.records = [record for record in self.records if record.offset >= offset]

    def clean(self) -> None:
        """What the log cleaner leaves: the newest committed record of each key, and what is not committed yet."""
        newest = {record.key: record for record in self.records if record.offset < self.last_stable}
        self.records = [r for r in self.records if r.offset >= self.last_stable or newest[r.key] is r]


class AuditWorld:
    """Stands for the Reader and the admin client of an audit, too."""

    def __init__(self, seed: int, events: int) -> None:
        self.random = Random(seed)
        self.logs = {topic: AuditedLog() for topic in ("in", *WRITTEN)}
        self.committed: int | None = None
        self.metadata = ""
        #: whether nothing happens when the auditor looks
        self.is_still = False
        self.generation = AuditedGeneration(number=1, changelog_topic=CHANGELOG)
        #: the worker's state: what it folded, and what it serves
        self.replay = SourceReplay(0, 1, "in", SETTINGS.deduplication_window)
        self.served: list[tuple[int, dict[bytes, Any]]] = [(0, {})]
        #: change(topic, key, value) of each record that is written: what to write instead, none to lose it
        self.change: Callable[[str, bytes | None, bytes | None], list[tuple[bytes | None, bytes | None]]] = (
            lambda _topic, key, value: [(key, value)]
        )
        self._steps: deque[Callable[[], None]] = deque()
        self._unsent = deque(self._event(at) for at in range(events))
        #: by topic: the offsets of the effects that the worker compares before it writes again
        self.repeat: dict[str, tuple[int, int]] = {}

    # -- what happens

    def tick(self) -> bool:
        """The next small step; False: there is none."""
        if not self._steps:
            if not self._unsent and self.replay.position >= self.logs["in"].last_stable:
                return False
            self._begin()
        self._steps.popleft()()
        return True

    def finish(self) -> None:
        while self.tick():
            pass

    @property
    def changelog(self) -> str:
        return self.generation.changelog_topic

    def _begin(self) -> None:
        """Some records come, and a transaction takes all that there are, or some if the worker repeats."""
        source = self.logs["in"]
        for _ in range(min(len(self._unsent), self.random.randrange(1, 6))):
            source.append(*self._unsent.popleft())
        source.mark()
        records = [record for record in source.records if record.offset >= self.replay.position]
        taken = records[: self.random.randrange(1, 8)] if self.repeat else records
        self.replay.feed(taken)
        self.replay.position = source.last_stable if len(taken) == len(records) else taken[-1].offset + 1
        position, state = self.replay.position, dict(self.replay.values)
        topics = ("out", "dlq", self.changelog)  # META is the last one: it says what is left to repeat
        writes = [(topic, self._writes(topic)) for topic in topics]
        marks = [topic for topic in topics if topic not in self.repeat] + [GROUP_OFFSET]
        self.random.shuffle(writes)
        self.random.shuffle(marks)
        self._steps.extend(lambda topic=topic, found=found: self._append(topic, found) for topic, found in writes)
        self._steps.extend(lambda topic=topic: self._mark(topic, position) for topic in marks)
        self._steps.append(lambda: self.served.append((position, state)))
        if self.random.random() < 0.2:
            self._steps.append(lambda: self.replay.position)  # nothing, for a while

    def _writes(self, topic: str) -> list[tuple[Any, ...]]:
        replay = self.replay
        if topic == self.changelog:
            values = {key: replay.values.get(key) for key in replay.before}
            replay.before.clear()
            return [*((key, None if value is None else encode(value)) for key, value in values.items()), self.meta()]
        effects = replay.outputs if topic == "out" else replay.dead_letters
        found = [(effect.key, effect.value, effect.timestamp, effect.headers) for effect in effects.values()]
        effects.clear()
        return self._repeated(topic, found)

    def _repeated(self, topic: str, given: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Pass over the effects that stand already, whatever they are. Returns those that do not."""
        if topic not in self.repeat:
            return given
        following, until = self.repeat.pop(topic)
        standing = [r.offset for r in self.logs[topic].records if following <= r.offset < until]
        if len(given) < len(standing):
            self.repeat[topic] = (standing[len(given)], until)
        return given[len(standing) :]

    def _append(self, topic: str, records: list[tuple[Any, ...]]) -> None:
        for key, value, *rest in records:
            for changed in self.change(topic, key, value):
                self.logs[topic].append(*changed, *rest)

    def _mark(self, topic: str, position: int) -> None:
        if topic == GROUP_OFFSET:
            self.committed = position
        else:
            self.logs[topic].mark()

    def meta(self, **change: Any) -> tuple[bytes, bytes]:
        meta = {
            "topic_id": TOPIC_ID,
            "offset": self.replay.position,
            "partitions": 1,
            "fold": SETTINGS.fold_signature,
            "version": 1,
            "repeat": dict(self.repeat) or None,
        }
        return META_KEY, msgspec.msgpack.encode(meta | change)

    def _event(self, at: int) -> tuple[bytes, bytes, int]:
        """Accepted ones, and here and there a duplicate or what is no event."""
        name, who = self.random.choice([at, at, at, max(0, at - 3)]), self.random.choice("AB")
        value = f'{{"event_id":"e-{name}","type":"cash","portfolio_id":"{who}","occurred_at":"2026-11-23T04:30:00Z"'
        value += f',"amount":"{1 + name}","currency":"USD"}}'
        return who.encode(), b"nothing" if at and self.random.random() < 0.1 else value.encode(), NOON + at

    def settle(self) -> None:
        """End the open transaction: the state is that of the group's offset."""
        while self._steps:
            self.tick()

    async def savepoint(self, objects: Objects, name: str = ID, **change: Any) -> Manifest:
        """Write a savepoint of the settled state. `change` replaces fields of its part, or its `rows`."""
        rows = {key: encode(value) for key, value in self.replay.values.items()}
        part = {
            "offset": self.replay.position,
            "changelog_topic_id": TOPIC_ID,
            "changelog_offset": self.logs[CHANGELOG].high_watermark,
            "outputs": {topic: self.logs[topic].high_watermark for topic in ("out", "dlq")},
            "fold": SETTINGS.fold_signature,
            "rows": sorted(rows.items()),
        }
        fields: Any = part | change
        await write_part(objects, savepoint=name, partition=0, form=PlainForm(), **fields)
        return await complete(objects, head(name, partitions=1))

    def switch(self, start: Start) -> None:
        """Make the next generation, whose state is `start`, and switch to it."""
        self.settle()
        number = self.generation.number + 1
        generation = AuditedGeneration(number=number, changelog_topic=f"{CHANGELOG}-g{number}", parent=number - 1)
        self.repeat = {
            topic: (following, self.logs[topic].high_watermark)
            for topic, following in start.effects.items()
            if following < self.logs[topic].high_watermark
        }
        self.replay = SourceReplay(0, 1, "in", SETTINGS.deduplication_window)
        self.replay.begin(start)
        self.replay.before.clear()
        log = self.logs[generation.changelog_topic] = AuditedLog()
        for key, value in start.values.items():
            log.append(key, encode(value))
        log.append(*self.meta())
        log.last_stable = log.high_watermark  # no transaction writes it: nobody reads it yet
        self.committed, self.metadata, self.generation = start.offset, f"generation={number}", generation
        self.served.append((start.offset, dict(start.values)))

    def start(self) -> Start:
        """The settled state, as a savepoint would have it."""
        effects = {topic: self.repeat.get(topic, (self.logs[topic].high_watermark, 0))[0] for topic in ("out", "dlq")}
        return Start(offset=self.replay.position, effects=effects, values=dict(self.replay.values))

    # -- what the auditor asks

    def audit(self, find_start: FindStart = first_record) -> PartitionAudit:
        reader: Any = self
        return PartitionAudit(SETTINGS, reader, reader, 0, 1, self.generation, find_start)

    def _move(self, steps: int = 8) -> None:
        for _ in range(0 if self.is_still else self.random.randrange(steps)):
            self.tick()

    async def stable_end(self, topic: str, partition: int) -> int:
        self._move()
        log = self.logs[topic]
        high_watermark = log.high_watermark
        while log.last_stable < high_watermark:
            assert self.tick()
        return log.last_stable

    async def ends(self, topic: str, partitions: int) -> Mapping[int, int]:
        self._move()
        return {0: self.logs[topic].last_stable}

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[Any], None]:
        self._move()
        assert end <= self.logs[topic].last_stable
        found = [record for record in self.logs[topic].records if start <= record.offset < end]
        size = self.random.randrange(1, 50)
        for at in range(0, len(found), size):
            yield found[at : at + size]
            self._move()

    async def list_consumer_group_offsets(self, group: str, partitions: Sequence[TopicPartition]) -> dict[Any, Any]:
        self._move(2)
        if self.committed is None:
            return {}
        return {at: SimpleNamespace(offset=self.committed, metadata=self.metadata) for at in partitions}

    def answer(self, key: bytes, **change: Any) -> ServedAnswer:
        """What the worker serves of a key now."""
        offset, state = self.served[-1]
        found = {key: show_value(key, state[key])} if key in state else {}
        parts = {"worker": "w1", "partition": 0, "found_partition": 0, "offset": offset, "found": found}
        return ServedAnswer(**(parts | {"lower": key, "upper": key + SEPARATOR} | change))
