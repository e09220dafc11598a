"""The simulated log against a plain list of records, each with the outcome of its transaction."""

from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode as E

from tests.simulation.kafka.log import Log, Produced

PRODUCERS, KEYS = 3, 4
STEPS = 120


@dataclass
class Plain:
    """A record, or a marker (None for its key)."""

    key: bytes | None
    value: bytes | None
    producer: int = -1
    #: whether the transaction is committed; None: not decided yet
    is_committed: bool | None = True


class Both:
    """Does the same to a log and to a list."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.log = Log(UUID(int=1))
        self.plain: list[Plain] = []
        self.epochs = [0] * PRODUCERS
        self.sequences = [0] * PRODUCERS

    def _records(self) -> list[tuple[bytes, bytes | None]]:
        count = self.random.randint(1, 4)
        return [
            (b"%d" % self.random.randrange(KEYS), None if self.random.random() < 0.2 else b"%d" % len(self.plain))
            for _ in range(count)
        ]

    def produce(self) -> None:
        producer, records = self.random.randrange(PRODUCERS), self._records()
        found: list[tuple[int, int, bytes | None, bytes | None, Any]] = [
            (number, 1, key, value, ()) for number, (key, value) in enumerate(records)
        ]
        produced = Produced(producer, self.epochs[producer], self.sequences[producer], True, found, 100)
        assert (E.none, -1) == self.log.check(produced)
        base = len(self.plain)
        assert base == self.log.append(produced).base
        assert (E.none, base) == self.log.check(produced)  # a resend
        self.sequences[producer] += len(records)
        self.plain += [Plain(key, value, producer, None) for key, value in records]

    def produce_plainly(self) -> None:
        records = self._records()
        self.log.append_plain([(1, key, value) for key, value in records])
        self.plain += [Plain(key, value) for key, value in records]

    def end(self) -> None:
        producer, is_committed = self.random.randrange(PRODUCERS), self.random.random() < 0.6
        self.epochs[producer] += 1
        self.sequences[producer] = 0
        self.log.end_transaction(producer, self.epochs[producer], is_committed=is_committed)
        for record in self.plain:
            if record.producer == producer and record.is_committed is None:
                record.is_committed = is_committed
        self.plain.append(Plain(None, None))

    @property
    def stable(self) -> int:
        return next((at for at, record in enumerate(self.plain) if record.is_committed is None), len(self.plain))

    def committed(self, start: int = 0) -> list[tuple[int, bytes, bytes | None]]:
        """The records before the last stable offset."""
        return [
            (at, record.key, record.value)
            for at, record in enumerate(self.plain[: self.stable])
            if at >= start and record.is_committed and record.key is not None
        ]

    def read(
        self, start: int = 0, most_bytes: int = 1 << 30
    ) -> tuple[list[tuple[int, bytes | None, bytes | None]], int]:
        found, position = self.log.read(start, self.log.last_stable_offset, most_bytes)
        assert [] not in found
        return [(record.offset, record.key, record.value) for batch in found for record in batch], position


@pytest.fixture(params=range(30))
def both(request: pytest.FixtureRequest) -> Both:
    made = Both(Random(request.param))
    for _ in range(STEPS):
        made.random.choice((made.produce, made.produce, made.produce_plainly, made.end))()
    return made


def test_readers_see_what_is_committed(both: Both) -> None:
    """A reader may begin anywhere and read pieces of any size, up to the first open transaction."""
    assert (len(both.plain), both.stable) == (both.log.end, both.log.last_stable_offset)
    for start in range(both.stable + 1):
        assert (both.committed(start), both.stable) == both.read(start)
    found, position = [], 0
    while position < both.stable:
        records, following = both.read(position, both.random.randint(1, 400))
        assert following > position
        found += records
        position = following
    assert both.committed() == found


def test_compaction_keeps_the_last_of_each_key(both: Both) -> None:
    """The last value of each key stays at its offset. No record appears, and the end and open records stay."""
    before = both.committed()
    both.log.compact(0.0, 10.0)
    after, position = both.read()
    assert set(after) <= set(before) and after == sorted(after)
    assert {key: (at, value) for at, key, value in before} == {key: (at, value) for at, key, value in after}
    assert (len(both.plain), both.stable, both.stable) == (both.log.end, both.log.last_stable_offset, position)
    for producer in range(PRODUCERS):  # a later outcome shows as if nothing had been compacted
        both.epochs[producer] += 1
        both.log.end_transaction(producer, both.epochs[producer], is_committed=True)
        for record in both.plain:
            if record.producer == producer and record.is_committed is None:
                record.is_committed = True
        both.plain.append(Plain(None, None))
    assert {key: (at, value) for at, key, value in both.committed()} == {
        key: (at, value) for at, key, value in both.read()[0]
    }


def test_a_tombstone_stays_for_a_while(both: Both) -> None:
    """A tombstone goes some time after the first pass that cleans it. All other records stay."""
    for now in (0.0, 9.0):
        both.log.compact(now, 10.0)
    before, _ = both.read()
    active = both.log.batches[-1].base
    both.log.compact(10.0, 10.0)
    assert [r for r in before if r[2] is not None or r[0] >= active] == both.read()[0]


def test_what_is_trimmed_is_gone(both: Both) -> None:
    """Records before the new start are gone and later records stay, wherever in a batch the log begins."""
    start = both.random.randrange(both.stable + 1)
    both.log.trim(start)
    assert (start, both.committed(start)) == (both.log.start, both.read(start)[0])


def test_an_epoch_is_fenced_by_the_next(both: Both) -> None:
    """Sequences begin again with each epoch, and leave no gap."""
    both.end()
    produced: list[tuple[int, int, bytes | None, bytes | None, Any]] = [(0, 1, b"k", b"v", ())]
    for producer in range(PRODUCERS):
        epoch = both.epochs[producer]
        assert not both.log.is_fenced(producer, epoch)
        assert both.log.is_fenced(producer, epoch - 1) == (epoch > 0)
        gap = Produced(producer, epoch, both.sequences[producer] + 1, True, produced, 1)
        assert E.out_of_order_sequence_number is both.log.check(gap)[0]
