"""The figures of the whole system and the slices of its minutes, from looks."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from portfolio_stream.checkpoints.history import GRACE_SECONDS, History
from portfolio_stream.checkpoints.parts import CheckpointPart
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.kafka.members import GroupMember, Owner
from portfolio_stream.observe.rates import Counted
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import BY_NAME
from portfolio_stream.watch.figures import KafkaFigures, PartitionAtWork, SystemFigures
from portfolio_stream.watch.time_slices import MINUTE, TimeSlice
from portfolio_stream.watcher.group_look import GroupLook
from portfolio_stream.watcher.kafka_look import DiskPlace, DiskRoom, KafkaLook
from portfolio_stream.watcher.minutes import LONGEST_GAP, Grown, JobDown, MinuteSlices
from portfolio_stream.watcher.system import JobLook, Looked, System, failed_share
from portfolio_stream.web.figures import WorkerFigures
from portfolio_stream.web.group import Silence
from portfolio_stream.web.in_sight import WorkerInSight
from portfolio_stream.web.verdict import Audit
from tests.unit.flink_world import NOW, checkpoints, worker_figures
from tests.unit.test_checkpoints import record

BOUNDS = (limit.LATENCY_SECONDS, limit.SLOW_SECONDS)
SILENT = Silence("silent", "no answer")
KAFKA = KafkaFigures(
    brokers=3, live=3, has_controller=True, offline_partitions=0, under_replicated_partitions=0,
    under_min_isr_partitions=0,
)  # fmt: skip


def counts(name: str, *latencies: int, process: str = "p1", partitions: Sequence[int] = (0, 1)) -> WorkerFigures:
    """A worker that has counted so many events up to each of BOUNDS, and above."""
    answer = worker_figures(name, dict.fromkeys(partitions, "running"))
    status = replace(
        answer.status, process=process, events=sum(latencies), latency_bounds=BOUNDS, latency_counts=latencies
    )
    return replace(answer, status=status)


def in_sight(name: str, answer: WorkerFigures | Silence, assigned: Sequence[int] = (0, 1)) -> WorkerInSight:
    return WorkerInSight(
        owner=Owner(name, f"{name}:1", name),
        is_member=True,
        assigned=tuple(assigned),
        answer=answer,
        answered_at=None,
        answered=None,
    )


def offsets(end: int, committed: int | None) -> Offsets:
    return Offsets(log_start=0, committed=committed, last_stable_offset=end, high_watermark=end)


def looked(now: float, *workers: WorkerInSight, **given: Any) -> Looked:
    values: dict[str, Any] = {
        "at": NOW + now,
        "now": now,
        "kafka": KafkaLook(KAFKA),
        "group": GroupLook((), {0: offsets(10, 10), 1: offsets(10, 7)}),
        "workers": workers,
        "job": JobLook(state="running", generation=1, partitions=2),
        "audit": Audit(verdict="holds"),
        "decided_at": NOW,
        "checkpoints": None,
    }
    return Looked(**values | given)


def grown(*looks: Looked) -> Counted:
    """What the last look counted."""
    system = System()
    for one in looks:
        _, came = system.feed(one)
    return came


def test_growth_is_that_of_each_process() -> None:
    """The counts of all workers since the look before."""
    before = looked(0, in_sight("a", counts("a", 10, 1, 0)), in_sight("b", counts("b", 5, 0, 0)))
    after = looked(1, in_sight("a", counts("a", 14, 3, 0)), in_sight("b", counts("b", 6, 0, 1)))
    came = grown(before, after)
    assert 8 == came.events
    assert {BOUNDS[0]: 5, BOUNDS[1]: 2, float("inf"): 1} == came.latencies


def test_a_restart_and_a_new_worker_are_no_peak() -> None:
    """A new process counts from 0, and a worker that comes into sight has counted for long."""
    before = looked(0, in_sight("a", counts("a", 1_000, 0, 0)))
    after = looked(1, in_sight("a", counts("a", 7, 0, 0, process="p2")), in_sight("b", counts("b", 500, 0, 0)))
    assert 0 == grown(before, after).events
    later = looked(2, in_sight("a", counts("a", 9, 0, 0, process="p2")), in_sight("b", counts("b", 501, 0, 0)))
    assert 3 == grown(before, after, later).events


def test_what_a_silent_worker_counted_comes_when_it_answers_again() -> None:
    """The watcher looked all the time: these events were slow, and somebody must see that."""
    before, after = in_sight("a", counts("a", 10, 0, 0)), in_sight("a", counts("a", 10, 0, 90))
    silent = [looked(second, in_sight("a", SILENT)) for second in range(1, 30)]
    assert 90 == grown(looked(0, before), *silent, looked(30, after)).events


def test_what_came_while_the_watcher_stood_still_is_not_counted() -> None:
    """That time is in no slice, so neither are its events."""
    before, after = in_sight("a", counts("a", 10, 0, 0)), in_sight("a", counts("a", 500, 0, 0))
    assert 0 == grown(looked(0, before), looked(LONGEST_GAP + 1, after)).events


def test_a_dead_owner_s_partitions_have_lag_and_a_state() -> None:
    """Kafka tells the lag; the coordinator still names the owner. A partition without an owner is there too."""
    held = GroupMember("m", "stranger", "h", None, (1,))
    group = GroupLook((held,), {0: offsets(10, 10), 1: offsets(10, 7), 2: offsets(9, None)})
    job = JobLook(state="running", generation=1, partitions=3)
    figures, _ = System().feed(looked(0, in_sight("a", SILENT, (0,)), group=group, job=job))
    assert [("silent", "a", 0), ("foreign", None, 3), ("unowned", None, 9)] == [
        (one.state, one.owner, one.lag) for one in figures.partitions.values()
    ]
    assert ("a",) == figures.silent_workers
    assert (12, 3) == (figures.lag, figures.missing_partitions)


def test_the_rates_of_a_partition_are_those_of_kafka_s_offsets() -> None:
    """Over the last minute: records that came, and records that the group committed."""
    system = System()
    for second in range(31):
        group = GroupLook((), {0: offsets(100 + 20 * second, 50 + 10 * second), 1: offsets(5, None)})
        figures, _ = system.feed(looked(second, group=group))
    assert (20.0, 10.0) == (figures.partitions[0].produced_per_second, figures.partitions[0].processed_per_second)
    assert (0.0, None) == (figures.partitions[1].produced_per_second, figures.partitions[1].processed_per_second)


def test_the_share_of_a_core_is_the_growth_of_the_process() -> None:
    """Unknown at the first look."""
    system, answer = System(), counts("a", 1, 0, 0)
    answer = replace(answer, process=replace(answer.process, cpu_seconds=1.5))
    first, _ = system.feed(looked(0, in_sight("a", answer)))
    spent = replace(answer, process=replace(answer.process, cpu_seconds=2.0))
    second, _ = system.feed(looked(2, in_sight("a", spent)))
    assert [None, 0.25] == [one.workers[0].cpu_share for one in (first, second)]


def test_disks_are_named_for_people() -> None:
    """Those of the brokers and those of the workers."""
    disks = {DiskPlace(1, "/kafka"): DiskRoom(100, 25), DiskPlace(2, "/kafka"): DiskRoom(0, 0)}
    answer = replace(counts("a", 0, 0, 0), disks={"state": 0.5})
    figures, _ = System().feed(looked(0, in_sight("a", answer), kafka=KafkaLook(KAFKA, disks)))
    assert {"broker 1 /kafka": 0.75, "worker a state": 0.5} == figures.disks


def test_a_silent_worker_s_disk_is_as_full_as_it_was() -> None:
    """A full disk may be why the worker is silent. A worker that is out of sight has no disk any more."""
    full = replace(counts("a", 0, 0, 0), disks={"state": 0.99})
    system, holds = System(), BY_NAME["DiskFilling"].holds
    other = in_sight("b", replace(counts("b", 0, 0, 0), disks={"state": 0.5}))
    answers = (full, SILENT, SILENT, replace(full, disks={"state": 0.3}), full)
    told = [system.feed(looked(number, in_sight("a", one), other))[0] for number, one in enumerate(answers)]
    assert [True, True, True, False, True] == [holds(one) for one in told]
    assert not holds(system.feed(looked(5, other))[0])


def test_the_share_of_failed_checkpoints_is_of_those_that_are_decided() -> None:
    """Of the last five minutes: three completed, one failed, one is in progress."""
    assert 0.25 == failed_share(checkpoints(5), NOW)
    assert None is failed_share(checkpoints(5), NOW + limit.CHECKPOINTS_WINDOW_SECONDS + 60)
    assert None is failed_share((), NOW)


def test_a_checkpoint_fails_when_its_time_out_is_over_however_long_that_is() -> None:
    """It counts from then on, for as long as the window is; not from its trigger."""
    timeout, window = 600.0, limit.CHECKPOINTS_WINDOW_SECONDS
    part = CheckpointPart(
        checkpoint=7, triggered=int(NOW * 1000), partitions=2, timeout_seconds=timeout, partition=0, worker="a",
        status="COMPLETED", offset=10, seconds=0.5,
    )  # fmt: skip
    clock = [NOW]
    history = History(lambda: clock[0])
    history.apply([record(part)])

    def share(seconds: float) -> float | None:
        clock[0] = NOW + seconds
        return failed_share(history.checkpoints(), clock[0])

    over = timeout + GRACE_SECONDS
    assert [None, 1.0, 1.0, None] == [share(at) for at in (over, over + 1, over + window, over + window + 1)]


def missing(system: System, now: float, job: JobLook) -> int | None:
    return system.feed(looked(now, job=job))[0].missing_partitions


@pytest.mark.parametrize("state", ["stopping", "migrating"])
def test_a_job_that_is_stuck_is_to_run(state: str) -> None:
    """Its partitions may be without an owner for some time, which begins anew with each wish."""
    system, stuck = System(), limit.STUCK_JOB_SECONDS
    first, second = (JobLook(state=state, generation=1, partitions=2, since=NOW + began) for began in (0, 2_000))
    told = [missing(system, now, first) for now in (0, stuck, stuck + 1)]
    told += [missing(system, 2_001 + now, second) for now in (0, stuck, stuck + 1)]
    assert [0, 0, 2, 0, 0, 2] == told
    figures, _ = system.feed(looked(4_000, job=second))
    assert figures.is_job_wanted


def test_a_pause_is_never_stuck() -> None:
    """Nor is a job that stands still because its operator wants that."""
    system = System()
    assert [0, 0] == [missing(system, now, JobLook(state="paused", generation=1, partitions=2)) for now in (0, 1e6)]


def test_how_long_a_wish_has_stood_is_measured() -> None:
    """By the time that passes; the writer's clock counts for the wish alone that was there before the watcher."""
    old = JobLook(state="migrating", generation=1, partitions=2, since=NOW - limit.STUCK_JOB_SECONDS)
    assert 2 == missing(System(), 1, old)
    system = System()
    assert 2 == missing(system, 0, JobLook(state="running", generation=1, partitions=2, since=NOW - 5_000))
    assert 0 == missing(system, 1, old)
    figures, _ = system.feed(looked(2, job=old, at=NOW + 1e6))
    assert 1.0 == figures.job_seconds


# -- the minutes


def figures(at: float, lag: int | None = 5, job_state: str | None = "running") -> SystemFigures:
    partition = PartitionAtWork(
        state="running", owner="a", lag=lag, lag_seconds=0.0, produced_per_second=None, processed_per_second=None
    )
    return SystemFigures(at=at, job_state=job_state, job_partitions=1, partitions={0: partition})


def slices(*looks: tuple[float, SystemFigures, Grown, bool]) -> list[TimeSlice]:
    """All slices, the open one included."""
    minutes = MinuteSlices()
    ended = [minutes.feed(now, seen, grown, is_down=is_down) for now, seen, grown, is_down in looks]
    return [one for one in (*ended, minutes.end()) if one is not None]


def came(fast: int = 0, slow: int = 0, **given: int) -> Grown:
    counted = Counted(events=fast + slow, latencies={BOUNDS[0]: fast, BOUNDS[1]: slow})
    return Grown(counted=counted, **given)


def test_a_minute_adds_up_its_looks() -> None:
    """Seconds by what was so meanwhile; counts by what came."""
    at = float(int(NOW) // MINUTE * MINUTE)
    first = came(4, 1, round_trips=3, failed_round_trips=1)
    second = came(5, 0, checkpoints=2, failed_checkpoints=1, anomalies=7)
    found = slices(
        (0, figures(at), Grown(), False),
        (2, figures(at + 2, lag=limit.LAG_RECORDS), first, True),
        (3, figures(at + 3, lag=None, job_state="paused"), second, False),
    )
    assert 1 == len(found)
    assert found[0].p99 is not None and BOUNDS[0] < found[0].p99 <= BOUNDS[1]
    assert (
        TimeSlice(
            at=int(at), seconds=3.0, wanted_seconds=2.0, down_seconds=2.0, lag_seconds=2.0, lagging_seconds=2.0,
            events=10, fast_events=9, round_trips=3, failed_round_trips=1, checkpoints=2, failed_checkpoints=1,
            lag=limit.LAG_RECORDS, anomalies=7, anomalies_by_run={"": 7},
        )
        == replace(found[0], p99=None)
    )  # fmt: skip


def test_a_slice_ends_with_its_minute() -> None:
    """The latencies of one minute are not those of the next."""
    at = float(int(NOW) // MINUTE * MINUTE)
    found = slices(
        (0, figures(at + 58), came(0, 10), False),
        (1, figures(at + 59), Grown(), False),
        (2, figures(at + 60), came(10, 0), False),
    )
    assert [(int(at), 1.0), (int(at) + MINUTE, 1.0)] == [(one.at, one.seconds) for one in found]
    assert found[1].p99 is not None and found[1].p99 <= BOUNDS[0] < (found[0].p99 or 0.0)


def test_time_without_a_look_is_in_no_slice() -> None:
    """The machine slept for an hour: three seconds were watched."""
    found = slices(
        *[(float(second), figures(NOW + second), Grown(), False) for second in range(3)],
        *[(float(second), figures(NOW + second), Grown(), False) for second in range(3_600, 3_602)],
    )
    assert 3.0 == sum(one.seconds for one in found)


def test_the_job_is_down_after_a_takeover_s_time() -> None:
    """What is unknown changes nothing, and a partition that comes back ends it."""
    down = JobDown()
    missing: Mapping[float, int | None] = {0: 0, 1: 2, 6: 0, 7: 1, 16: 1, 18: None, 19: 1, 20: 0}
    seen = [down.feed(now, count) for now, count in missing.items()]
    assert [False, False, False, False, False, True, True, False] == seen


def test_kafka_that_never_answered_is_down() -> None:
    """A watcher that starts without Kafka says so."""
    nothing = KafkaFigures(
        brokers=0, live=0, has_controller=False, offline_partitions=0, under_replicated_partitions=0,
        under_min_isr_partitions=0,
    )  # fmt: skip
    figures, _ = System().feed(looked(0, kafka=KafkaLook(nothing), group=GroupLook(), job=JobLook()))
    assert BY_NAME["KafkaDown"].holds(figures)
    assert (None, None) == (figures.lag, figures.missing_partitions)
