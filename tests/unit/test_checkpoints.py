"""Checkpoints with statistics: when they begin, how parts end, and what the fold of all workers' parts shows."""

from collections.abc import Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.checkpoints.history import AHEAD_SECONDS, GRACE_SECONDS, Checkpoint, History, spread
from portfolio_stream.checkpoints.parts import SLOTS, CheckpointPart, encode, read_part
from portfolio_stream.checkpoints.tracker import (
    ENDED,
    PENDING_SECONDS,
    STATUS,
    TARDY,
    TRANSITIONS,
    Condition,
    Instant,
    PartEvent,
    PartitionLook,
    PartState,
    Tracker,
)

INTERVAL, TIMEOUT = 10.0, 60.0
BEGAN = 1_000.0  # UNIX seconds; a multiple of the interval
FIRST = 101  # the id of the checkpoint that begins at BEGAN + INTERVAL
PARTITIONS = 2


def look(
    committed: int | None,
    read: int | None = None,
    *,
    condition: Condition = Condition.READS,
    end: int | None = None,
    records: int = 0,
    changelog_bytes: int = 0,
) -> PartitionLook:
    return PartitionLook(condition, committed, committed if read is None else read, end, records, changelog_bytes)


RECOVERING = PartitionLook(Condition.RECOVERS, None, None, None, 0, 0)


class Stage:
    """Workers with one clock, and the topic that all of them write and follow."""

    def __init__(self, *names: str, partitions: int = PARTITIONS) -> None:
        self.partitions = partitions
        self.now = BEGAN
        self.history = History(lambda: self.now)
        self.topic: list[CheckpointPart] = []
        self.trackers = {name: Tracker(name, INTERVAL, TIMEOUT) for name in names}
        for tracker in self.trackers.values():  # the first look begins nothing
            tracker.step(Instant(self.now, self.now), {}, partitions, {})

    def at(self, seconds: float, *, wall: float = 0.0, **looks: Mapping[int, PartitionLook]) -> list[CheckpointPart]:
        """Every named worker looks `seconds` after BEGAN; its clock is `wall` seconds ahead. Returns what they told."""
        self.now = BEGAN + seconds
        told = []
        for name, seen in looks.items():
            moment = Instant(self.now + wall, self.now)
            told += self.trackers[name].step(moment, seen, self.partitions, self.history.recent())
        self.apply(*told)
        return told

    def apply(self, *parts: CheckpointPart) -> None:
        self.topic += parts
        self.history.apply([record(part) for part in parts])

    def checkpoint(self, number: int = FIRST) -> Checkpoint | None:
        return next((one for one in self.history.checkpoints() if one.id == number), None)

    def status(self, number: int = FIRST) -> str | None:
        found = self.checkpoint(number)
        return None if found is None else found.status

    def reasons(self, number: int = FIRST) -> dict[int, str]:
        found = self.checkpoint(number)
        return {} if found is None else {failure.partition: failure.reason for failure in found.failures}


def record(part: CheckpointPart) -> Any:
    return SimpleNamespace(key=part.key, value=encode(part), offset=0)


def part(checkpoint: int = FIRST, partition: int = 0, **other: Any) -> CheckpointPart:
    values = {
        "checkpoint": checkpoint,
        "triggered": round(checkpoint * INTERVAL * 1000),
        "partitions": PARTITIONS,
        "timeout_seconds": TIMEOUT,
        "partition": partition,
        "worker": "w1",
        "status": "COMPLETED",
        "seconds": 0.1,
    } | other
    return CheckpointPart(**values)


# --- the tables ---


@pytest.mark.parametrize(("state", "event"), list(product(PartState, PartEvent)))
def test_every_pair_of_a_state_and_an_event_is_decided(state: PartState, event: PartEvent) -> None:
    """An ended part never changes, and an open part goes forward only."""
    follows = TRANSITIONS.get((state, event))
    assert (follows is None) == (
        state in ENDED or (state, event) in {(PartState.BLIND, PartEvent.REACHED), (PartState.WAITING, PartEvent.AIMED)}
    )
    assert follows is None or list(PartState).index(follows) > list(PartState).index(state)


def test_the_tables_have_every_state_and_condition() -> None:
    """A part is told by its state, and fails for the condition of its partition."""
    assert set(PartState) == set(STATUS)
    assert {"COMPLETED", "FAILED"} == {STATUS[state] for state in ENDED}
    assert set(Condition) == set(TARDY)


# --- when checkpoints begin ---


def test_a_checkpoint_begins_at_each_multiple_of_the_interval() -> None:
    """All workers give it the same id and time. The interval in which a worker starts has begun without that worker."""
    stage = Stage("w1", "w2")
    assert [] == stage.at(9.9, w1={0: look(5)}, w2={1: look(7)})
    told = stage.at(10.0, w1={0: look(5)}, w2={1: look(7)})
    assert [(FIRST, 1_010_000, 0, 5), (FIRST, 1_010_000, 1, 7)] == [
        (one.checkpoint, one.triggered, one.partition, one.offset) for one in told
    ]
    assert [] == stage.at(19.9, w1={0: look(5)}, w2={1: look(7)})
    assert {FIRST + 1} == {one.checkpoint for one in stage.at(20.1, w1={0: look(5)}, w2={1: look(7)})}


def test_no_checkpoint_is_triggered_while_no_worker_has_a_partition() -> None:
    """As of a stopped job: the history has a gap, and no failed checkpoints."""
    stage = Stage("w1")
    stage.at(10.0, w1={})
    stage.at(100.0, w1={})
    assert [] == stage.history.checkpoints()


@pytest.mark.parametrize("back", [1.0, 15.0, INTERVAL * (SLOTS - 2)])
def test_a_clock_that_is_put_back_begins_no_checkpoint_twice(back: float) -> None:
    stage = Stage("w1", partitions=1)
    told = [*stage.at(10.0, w1={0: look(5)}), *stage.at(11.0, wall=-back, w1={0: look(5)})]
    told += stage.at(12.0, w1={0: look(5)})
    assert [FIRST] == [one.checkpoint for one in told]


def test_a_clock_that_was_far_ahead_does_not_end_the_statistics() -> None:
    """After the clock is corrected, the ids follow it again; nobody's history takes the wrong ones."""
    stage = Stage("w1", partitions=1)
    ahead = INTERVAL * SLOTS * 3
    assert 1 == len(stage.at(10.0, wall=ahead, w1={0: look(5)}))
    assert [] == stage.history.checkpoints()
    assert 1 == stage.history.ignored
    assert [FIRST + 1] == [one.checkpoint for one in stage.at(20.0, w1={0: look(5)})]
    assert "COMPLETED" == stage.status(FIRST + 1)


def test_a_clock_that_is_put_forward_skips_checkpoints() -> None:
    """A part's duration is monotonic time: a jump does not lengthen it."""
    stage = Stage("w1", partitions=1)
    stage.at(10.0, w1={0: look(5, read=8)})
    (told,) = stage.at(10.3, wall=30.0, w1={0: look(8)})[:1]
    assert (FIRST, 0.3) == (told.checkpoint, told.seconds)


# --- how parts end ---


def test_a_part_is_complete_when_all_that_was_read_at_the_trigger_is_committed() -> None:
    """What was read later does not matter. Bytes and records are those since the last complete part."""
    stage = Stage("w1", partitions=1)
    assert [] == stage.at(10.0, w1={0: look(5, read=9, records=5, changelog_bytes=500)})
    assert [] == stage.at(10.05, w1={0: look(8, read=12, records=8, changelog_bytes=800)})
    (done,) = stage.at(10.1, w1={0: look(9, read=20, records=9, changelog_bytes=900)})
    assert ("COMPLETED", 9, 0.1, 9, 900, None) == (
        done.status, done.offset, done.seconds, done.records, done.changelog_bytes, done.reason
    )  # fmt: skip
    (done,) = stage.at(20.0, w1={0: look(20, records=20, changelog_bytes=2_000)})
    assert (11, 1_100) == (done.records, done.changelog_bytes)
    assert ["COMPLETED", "COMPLETED"] == [one.status for one in stage.history.checkpoints()]


def test_a_part_that_takes_long_is_told_once_as_in_progress() -> None:
    """So the others see the checkpoint, and the offset from which a successor goes on."""
    stage = Stage("w1", partitions=1)
    seen = {0: look(5, read=9)}
    stage.at(10.0, w1=seen)
    assert [] == stage.at(10.0 + PENDING_SECONDS - 0.1, w1=seen)
    (told,) = stage.at(10.0 + PENDING_SECONDS, w1=seen)
    assert ("IN_PROGRESS", 9, "late") == (told.status, told.offset, told.reason)
    assert [] == stage.at(15.0, w1=seen)
    assert "IN_PROGRESS" == stage.status()


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (look(5, read=9), "late"),
        (RECOVERING, "recovering"),
        (look(5, read=6, condition=Condition.HALTED), "halted"),
        (look(5, read=6, condition=Condition.PAUSED), "paused"),
    ],
)
def test_a_part_fails_at_the_time_out_with_its_reason(seen: PartitionLook, reason: str) -> None:
    """The checkpoint names the partition. The other partition's part stays complete."""
    stage = Stage("w1")
    for seconds in (10.0, 12.0, 10.0 + TIMEOUT, 10.1 + TIMEOUT):
        stage.at(seconds, w1={0: seen, 1: look(3)})
    found = stage.checkpoint()
    assert found is not None
    assert ("FAILED", {0: reason}, 1, None) == (
        found.status, stage.reasons(), found.completed_partitions, found.seconds
    )  # fmt: skip


def test_a_paused_partition_that_has_committed_all_it_read_is_complete() -> None:
    stage = Stage("w1", partitions=1)
    stage.at(10.0, w1={0: look(5, condition=Condition.PAUSED, end=900)})
    assert "COMPLETED" == stage.status()


def test_a_recovery_within_the_time_out_is_no_failure() -> None:
    """What had been read is unknown then: the part is complete at the end that the log has after the recovery."""
    stage = Stage("w1", partitions=1)
    stage.at(10.0, w1={0: RECOVERING})
    stage.at(14.0, w1={0: look(5, end=None)})
    stage.at(14.1, w1={0: look(5, end=3)})  # an end of before the recovery
    stage.at(14.2, w1={0: look(5, end=9)})
    assert "IN_PROGRESS" == stage.status()
    stage.at(14.5, w1={0: look(9, end=20)})
    found = stage.checkpoint()
    assert found is not None
    assert ("COMPLETED", 4.5) == (found.status, found.seconds)


# --- partitions that move, workers that die ---


def test_a_partition_that_moves_counts_once() -> None:
    """The new owner goes on from the offset that the former owner has told."""
    stage = Stage("w1", "w2")
    w1, w2 = {0: look(5, read=9)}, {1: look(3)}
    stage.at(10.0, w1=w1, w2=w2)
    stage.at(11.0, w1=w1, w2=w2)
    stage.at(12.0, w1={}, w2={0: RECOVERING} | w2)
    stage.at(13.0, w1={}, w2={0: look(7, end=500)} | w2)
    assert "IN_PROGRESS" == stage.status()
    stage.at(14.0, w1={}, w2={0: look(9, end=600)} | w2)
    found = stage.checkpoint()
    assert found is not None
    assert ("COMPLETED", 2, {0: "w2", 1: "w2"}, 4.0) == (
        found.status, found.completed_partitions, {p: one.worker for p, one in found.parts.items()}, found.seconds
    )  # fmt: skip


def test_a_part_that_is_complete_is_not_told_by_the_next_owner() -> None:
    """The next checkpoint is the next owner's."""
    stage = Stage("w1", "w2")
    stage.at(10.0, w1={0: look(5)}, w2={1: look(3, read=9)})
    assert {1} == {one.partition for one in stage.at(12.0, w1={}, w2={0: look(5), 1: look(3, read=9)})}
    told = stage.at(20.0, w1={}, w2={0: look(5), 1: look(9)})
    assert [(FIRST, 1), (FIRST + 1, 0), (FIRST + 1, 1)] == sorted((one.checkpoint, one.partition) for one in told)
    assert [] == stage.at(21.0, w1={1: look(9)}, w2={0: look(5)})  # both checkpoints are decided


def test_a_dead_worker_fails_the_checkpoint_by_the_name_of_its_partition() -> None:
    """Its earlier parts stay. A checkpoint of which nothing is heard is failed after the time-out and the grace."""
    stage = Stage("w1", "w2")
    stage.at(10.0, w1={0: look(5)}, w2={1: look(3)})
    stage.at(20.0, w1={0: look(5)})
    stage.now = BEGAN + 20.0 + TIMEOUT + GRACE_SECONDS
    assert "IN_PROGRESS" == stage.status(FIRST + 1)
    stage.now += 0.1
    assert ("COMPLETED", "FAILED") == (stage.status(), stage.status(FIRST + 1))
    assert {1: "no owner"} == stage.reasons(FIRST + 1)
    assert {"COMPLETED": 1, "FAILED": 1} == dict(stage.history.totals())


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        ([part(), part(partition=1, status="IN_PROGRESS", seconds=None)], TIMEOUT + GRACE_SECONDS),
        ([part(), part(partition=1, seconds=4.0)], 4.0),
        ([part(status="FAILED", seconds=3.0), part(partition=1, status="FAILED", seconds=2.0)], 2.0),
        ([part(status="FAILED", seconds=3.0)], 3.0),
    ],
)
def test_a_checkpoint_is_decided_by_its_last_part_or_its_first_failed_one(
    parts: list[CheckpointPart], seconds: float
) -> None:
    """Whenever it is read; and by the end of the fold's patience if nobody tells a part's end."""
    history = History(lambda: BEGAN + 3_600)
    history.apply([record(one) for one in parts])
    (judged,) = history.checkpoints()
    assert judged.triggered / 1000 + seconds == judged.decided


def test_a_successor_in_time_completes_the_checkpoint_of_a_dead_worker() -> None:
    """The successor begins with what the topic tells, and does not complete checkpoints of which nobody has told."""
    stage = Stage("w1", "w2", "w3")
    stage.at(10.0, w1={0: look(5)}, w2={1: look(3)})
    stage.at(20.0, w1={0: look(5)})
    told = stage.at(65.0, w3={1: look(8, end=8)})
    ends = {(one.checkpoint, one.status, one.seconds) for one in told}
    assert {(FIRST + 1, "COMPLETED", 45.0), (FIRST + 5, "COMPLETED", 5.0)} == ends
    assert "COMPLETED" == stage.status(FIRST + 1)


def test_a_stop_of_the_whole_job_leaves_what_was_before() -> None:
    """After hours the slots still have the last checkpoints; the new ones take their places one by one."""
    stage = Stage("w1", partitions=1)
    for number in range(1, 6):
        stage.at(INTERVAL * number, w1={0: look(5)})
    stage.at(7_200.0, w1={0: look(5)})
    assert [820, 105, 104, 103, 102, 101] == [one.id for one in stage.history.checkpoints()]


# --- the fold ---


@given(st.permutations([part(status="IN_PROGRESS", seconds=None), part(status="FAILED"), part(seconds=0.5)]))
def test_the_order_of_two_owners_records_does_not_matter(parts: list[CheckpointPart]) -> None:
    """A complete part beats a failed one, a failed one beats one in progress."""
    history = History(lambda: 1_011.0)
    history.apply([record(one) for one in parts])
    (found,) = history.checkpoints()
    assert "COMPLETED" == found.parts[0].status


def test_a_slot_shows_its_newest_checkpoint_alone() -> None:
    """Compaction may have removed some parts of the older one: the rest of them would look like a failure."""
    history = History(lambda: 3_000.0)
    old, new = part(FIRST, 1), part(FIRST + SLOTS, 0)
    history.apply([record(one) for one in (part(FIRST, 0), old, new, old)])
    (found,) = history.checkpoints()
    assert (FIRST + SLOTS, {0}) == (found.id, set(found.parts))


def test_no_more_than_the_last_checkpoints_are_kept() -> None:
    history = History(lambda: 1e6)
    history.apply([record(part(number, p)) for number in range(FIRST, FIRST + 3 * SLOTS) for p in (0, 1)])
    assert list(range(FIRST + 3 * SLOTS - 1, FIRST + 2 * SLOTS - 1, -1)) == [one.id for one in history.checkpoints()]


def test_what_an_outage_delayed_becomes_true_late() -> None:
    """A part that ended in time and reached Kafka late completes the checkpoint; the totals counted it as failed."""
    now = 1_090.0
    history = History(lambda: now)
    history._began = 0.0
    history.apply([record(part(FIRST, 0))])
    assert "FAILED" == history.checkpoints()[0].status
    assert {"FAILED": 1} == dict(history.totals())
    history.apply([record(part(FIRST, 1))])
    assert "COMPLETED" == history.checkpoints()[0].status
    assert {"FAILED": 1} == dict(history.totals())


def test_totals_begin_with_the_process() -> None:
    """The topic has older checkpoints: they are shown, and no process counts them again."""
    history = History(lambda: 1_015.0)
    history.apply([record(part(FIRST, 0)), record(part(FIRST, 1))])
    assert 1 == len(history.checkpoints())
    assert {} == dict(history.totals())


@pytest.mark.parametrize(
    "record",
    [
        SimpleNamespace(key=b"1/0", value=None),
        SimpleNamespace(key=b"1/0", value=b"\xff"),
        SimpleNamespace(key=b"1/0", value=b"{}"),
        SimpleNamespace(key=None, value=encode(part())),
        SimpleNamespace(key=b"2/0", value=encode(part())),
        SimpleNamespace(key=part(partition=7).key, value=encode(part(partition=7))),
        SimpleNamespace(key=part().key, value=encode(part(version=2))),
        SimpleNamespace(key=part().key, value=encode(part(worker="\x1b[2J"))),
        SimpleNamespace(key=part().key, value=encode(part(seconds=-1.0))),
        SimpleNamespace(key=part().key, value=encode(part(reason="<b>"))),
        SimpleNamespace(key=part(FIRST + 9).key, value=encode(part(FIRST + 9))),
    ],
)
def test_a_strangers_record_is_ignored(record: Any) -> None:
    """Also one of a time that has not come."""
    history = History(lambda: FIRST * INTERVAL + AHEAD_SECONDS)
    history.apply([record])
    assert ([], 1) == (history.checkpoints(), history.ignored)


def test_a_part_is_read_as_it_was_written() -> None:
    """Small: defaults are left out."""
    one = part(offset=9, records=3, changelog_bytes=12, worker="w-1.b")
    assert one == read_part(one.key, encode(one))
    assert b"1/0" == one.key
    assert len(encode(one)) < 250
    assert "reason" not in msgspec.json.decode(encode(one))


def test_another_topic_of_the_same_name_is_read_afresh() -> None:
    history = History(lambda: 1_015.0)
    history.apply([record(part())])
    history.is_ready = True
    history.clear()
    assert ([], False) == (history.checkpoints(), history.is_ready)


def test_a_spread_has_values_that_were_there() -> None:
    assert spread([]) is None
    assert (7, 7, 7.0, 7, 7, 7) == spread([7])
    assert (1, 100, 50.5, 50, 90, 99) == spread(range(100, 0, -1))


class Log:
    """A source partition: what is committed, what its owner has read, and how long the log is."""

    def __init__(self) -> None:
        self.committed = self.read = self.end = 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["read", "commit", "move", "lose", "drop", "wait"]), st.integers(0, 2)), max_size=60
    )
)
def test_a_completed_checkpoint_is_true_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Partitions are read, committed, moved and dropped at random by three workers.

    A checkpoint is COMPLETED only if all that was read of each partition at its trigger is committed. What the workers
    tell of one partition adds up to what they have committed, at most.
    """
    names = ("w0", "w1", "w2")
    stage = Stage(*names, partitions=3)
    logs, owners = [Log() for _ in range(3)], dict(enumerate(names))
    work = {(name, p): 0 for name in names for p in range(3)}
    at_trigger: dict[int, list[int]] = {}
    seconds = 0.0
    for deed, p in [*steps, *[("wait", 0)] * 10]:
        log, owner = logs[p], owners.get(p)
        if deed == "read":
            log.end += 5
            log.read = log.end if owner else log.read
        elif deed == "commit" and owner:
            work[owner, p] += log.read - log.committed
            log.committed = log.read
        elif deed == "drop":
            log.read = log.committed
        elif deed == "move":
            owners[p], log.read = names[(names.index(owner) + 1) % 3 if owner else 0], log.committed
        elif deed == "lose":
            owners.pop(p, None)
            log.read = log.committed
        seconds += 4.0
        if int(seconds // INTERVAL) > int((seconds - 4.0) // INTERVAL):
            at_trigger[FIRST - 1 + int(seconds // INTERVAL)] = [one.read for one in logs]
        looks: dict[str, dict[int, PartitionLook]] = {name: {} for name in names}
        for number, name in owners.items():
            one = logs[number]
            looks[name][number] = PartitionLook(
                Condition.READS, one.committed, one.read, one.end, work[name, number], 0
            )
        stage.at(seconds, **looks)
        for found in stage.history.checkpoints():
            if found.status == "COMPLETED":
                reached = [one.committed for one in logs]
                assert all(read <= now for read, now in zip(at_trigger[found.id], reached, strict=True))
    for number, one in enumerate(logs):
        told = [part for part in stage.topic if part.partition == number and part.status == "COMPLETED"]
        assert sum(part.records for part in told) <= one.committed
        assert len(told) == len({part.checkpoint for part in told})
