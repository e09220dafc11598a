"""A worker's side of the checkpoints: what it sees of the engine and of the store, and how it writes its parts."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from portfolio_stream.checkpoints import recorder as module
from portfolio_stream.checkpoints.history import History
from portfolio_stream.checkpoints.looks import CONDITIONS, looks_at
from portfolio_stream.checkpoints.parts import read_part
from portfolio_stream.checkpoints.recorder import Recorder
from portfolio_stream.checkpoints.state_size import StateSize, apportioned
from portfolio_stream.checkpoints.tracker import Condition
from portfolio_stream.exactly_once.database import FIRST_KEY, LAST_KEY, Extent, RocksDatabase
from portfolio_stream.exactly_once.partition_life import TRAITS, PartitionEvent, PartitionState
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.state_memory import DEFAULT
from portfolio_stream.exactly_once.store import Store, prefix_of
from portfolio_stream.observe.statistics import Statistics
from portfolio_stream.settings import Settings

SETTINGS = Settings(bootstrap_servers="127.0.0.1:1", checkpoint_interval=0.1, checkpoint_timeout=1.0)


class Started:
    """The engine's partitions, as `looks_at` sees them."""

    def __init__(self) -> None:
        nothing = SimpleNamespace(resume=lambda *_: None, pause=lambda *_: None)
        self.partitions = Partitions(2, nothing)
        self.membership = SimpleNamespace(is_fresh=True)
        self.ends = {0: 90}

    def end(self, partition: int) -> int | None:
        return self.ends.get(partition)

    def run(self, partition: int, offset: int) -> None:
        self.partitions.happened(PartitionEvent.ASSIGNED, (partition,))
        self.partitions.happened(PartitionEvent.RECOVERED, (partition,), offset=offset)


def test_every_owned_state_has_a_condition() -> None:
    """A state without one would end the recorder."""
    assert {state for state in PartitionState if TRAITS[state].is_owned} == set(CONDITIONS)


def test_a_look_has_what_was_handed_out_and_what_is_committed() -> None:
    """Right after a recovery nothing else was read. What is committed without a fold counts as read, too."""
    started, statistics = Started(), Statistics()
    assert {} == looks_at(started, statistics, {})  # type: ignore[arg-type]
    started.run(0, 40)
    statistics.committed[0].records += 7
    seen = looks_at(started, statistics, {0: StateSize(5, 600)})[0]  # type: ignore[arg-type]
    assert (Condition.READS, 40, 40, 90, 7, 0, 5, 600) == seen
    started.partitions[0].handed_out = 55
    started.partitions.committed({0: 50})
    assert (50, 55) == looks_at(started, statistics, {})[0][1:3]  # type: ignore[arg-type]
    started.partitions.committed({0: 60})
    assert (60, 60) == looks_at(started, statistics, {})[0][1:3]  # type: ignore[arg-type]


def test_without_a_fresh_membership_a_checkpoint_has_no_offset_yet() -> None:
    """What the worker read last would be reached at once: no standstill would ever fail a checkpoint."""
    started = Started()
    started.run(0, 40)
    started.membership.is_fresh = False
    assert (Condition.RECOVERS, 40, None) == looks_at(started, Statistics(), {})[0][:3]  # type: ignore[arg-type]


def test_the_record_that_halts_a_partition_counts_as_read() -> None:
    """It is not committed, so the part stays open. A halt that a recovery found has no such record."""
    started = Started()
    started.run(0, 40)
    halt = Halted(partition=0, offset=41, reason="bad", record=None)
    started.partitions.happened(PartitionEvent.EXHAUSTED, (0,), halt=halt)
    assert (Condition.HALTED, 40, 42) == looks_at(started, Statistics(), {})[0][:3]  # type: ignore[arg-type]
    started.partitions.happened(PartitionEvent.RETRY, (0,))
    assert (Condition.RECOVERS, None, None) == looks_at(started, Statistics(), {})[0][:3]  # type: ignore[arg-type]


def test_extents_are_divided_among_the_partitions_that_the_store_has() -> None:
    """By the keys' partitions; the memtables, which have no bounds, among all."""
    files = [
        Extent(b"\0\0a", b"\0\0z", 10, 100),
        Extent(b"\0\0z", b"\0\3a", 9, 90),
        Extent(b"\xff\xffp", b"\xff\xffq", 3, 30),
    ]
    memtable = Extent(FIRST_KEY, LAST_KEY, 30, 300)
    assert {0: StateSize(23, 230), 2: StateSize(13, 130), 5: StateSize(10, 100)} == apportioned(
        [*files[:1], Extent(b"\0\0z", b"\0\3a", 6, 60), files[2], memtable], (0, 2, 5)
    )
    assert {} == apportioned([*files, memtable], ())


def test_rocksdb_tells_its_size(tmp_path: Path) -> None:
    """Rows in files, and rows in memory; of the latter RocksDB does not know the bytes."""
    database = RocksDatabase(tmp_path / "store", DEFAULT)
    for partition, rows in ((0, 300), (1, 100)):
        database.write([(prefix_of(partition) + b"t\0%d" % row, os.urandom(200)) for row in range(rows)])
        database.flush()
    sizes = apportioned(database.extents(), (0, 1))
    assert {0: 300, 1: 100} == {partition: size.rows for partition, size in sizes.items()}
    assert 60_000 < sizes[0].bytes < 90_000
    database.write([(prefix_of(0) + b"t\0new%d" % row, b"x") for row in range(4)])
    assert 404 == sum(size.rows for size in apportioned(database.extents(), (0, 1)).values())
    database.close()


async def test_a_store_tells_its_size_until_it_is_closed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    await store.write([(prefix_of(0) + b"t\0%d" % row, b"x") for row in range(5)], {})
    assert {0: 5} == {partition: size.rows for partition, size in apportioned(await store.extents(), (0,)).items()}
    store.close()
    assert [] == await store.extents()


# --- writing ---


class FakeKafka:
    """Producers of one topic; each takes as many records as `takes` says, and then fails."""

    def __init__(self, takes: list[int]) -> None:
        self.takes = takes
        self.made = 0
        self.records: list[tuple[bytes, bytes]] = []
        self.is_hanging = False

    def producer(self, **options: Any) -> "FakeKafka":
        assert options["enable_idempotence"]
        self.made += 1
        self.left = self.takes.pop(0) if self.takes else 1_000
        return self

    async def send(self, topic: str, value: bytes, key: bytes, partition: int) -> "asyncio.Future[None]":
        assert ("portfolio-stream-checkpoints", 0) == (topic, partition)
        answer = asyncio.get_running_loop().create_future()
        if self.is_hanging:
            return answer
        if self.left == 0:
            answer.set_exception(KafkaConnectionError("away"))
            return answer
        self.left -= 1
        self.records.append((key, value))
        answer.set_result(None)
        return answer


class AsIs:
    def __init__(self, _settings: Settings, client: FakeKafka) -> None:
        self.client = client

    async def __aenter__(self) -> FakeKafka:
        return self.client

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.fixture
async def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[FakeKafka], Recorder]]:
    """Starts a recorder of a worker that owns partition 0, which is idle."""
    started, store, made = Started(), Store(tmp_path / "store"), []
    started.run(0, 40)
    engine: Any = SimpleNamespace(
        identity=SimpleNamespace(instance_id="w1"), started=started, statistics=Statistics(), partition_count=2,
        store=store,
    )  # fmt: skip
    monkeypatch.setattr(module, "connected", AsIs)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "Follower", lambda *_: SimpleNamespace(start=lambda: None, stop=_nothing))

    def start(kafka: FakeKafka) -> Recorder:
        monkeypatch.setattr(module, "AIOKafkaProducer", kafka.producer)
        recorder = Recorder(engine, SETTINGS, History())
        made.append(recorder)
        recorder.start()
        return recorder

    yield start
    for recorder in made:
        await recorder.stop()
    store.close()


async def _nothing() -> None:
    pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what the recorder's own tasks do
            await asyncio.sleep(0.01)


async def test_each_checkpoint_is_told_once(recording: Callable[[FakeKafka], Recorder]) -> None:
    kafka = FakeKafka([])
    recording(kafka)
    await until(lambda: len(kafka.records) >= 3)
    parts = [read_part(key, value) for key, value in kafka.records]
    assert [("COMPLETED", 0, 40, "w1")] * len(parts) == [
        part and (part.status, part.partition, part.offset, part.worker) for part in parts
    ]
    ids = [part.checkpoint for part in parts if part is not None]
    assert sorted(set(ids)) == ids
    assert 1 == kafka.made


async def test_a_write_that_fails_is_tried_again(recording: Callable[[FakeKafka], Recorder]) -> None:
    """By another producer, and nothing is lost."""
    kafka = FakeKafka([0, 1, 0, 0])
    recording(kafka)
    await until(lambda: len(kafka.records) >= 4)
    ids = [part.checkpoint for key, value in kafka.records if (part := read_part(key, value))]
    assert list(range(ids[0], ids[0] + len(set(ids)))) == sorted(set(ids))
    assert kafka.made >= 4


async def test_a_broker_that_does_not_answer_delays_no_stop(
    recording: Callable[[FakeKafka], Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits meanwhile is bounded: the newest part of each key."""
    kafka = FakeKafka([])
    kafka.is_hanging = True
    recorder = recording(kafka)
    await until(lambda: len(recorder.waiting) >= 3)
    began = asyncio.get_running_loop().time()
    await recorder.stop()
    assert asyncio.get_running_loop().time() - began < 1.0
