"""A healthy system of two workers and eight partitions, as the watcher sees it, and its variants."""

from typing import Any

from msgspec.structs import replace

from portfolio_stream.watch.figures import KafkaFigures, PartitionAtWork, StepShares, SystemFigures, WorkerAtWork

PARTITIONS = 8
AT = 1_700_000_000.0
KAFKA = KafkaFigures(
    brokers=3,
    live=3,
    has_controller=True,
    offline_partitions=0,
    under_replicated_partitions=0,
    under_min_isr_partitions=0,
)
#: a worker that folds half of the time
STEPS = StepShares(source_busy=0.1, fold_busy=0.4, commit_busy=0.3, source_waits=0.4, fold_waits=0.0)
WORKERS = tuple(
    WorkerAtWork(
        worker=name,
        is_ready=True,
        partitions=partitions,
        events_per_second=5_000.0,
        steps=STEPS,
        transactions_per_second=10.0,
        cpu_share=0.5,
        host="10.0.0.1",
        cores=4,
    )
    for name, partitions in (("w1", (0, 1, 2, 3)), ("w2", (4, 5, 6, 7)))
)
PARTITION = PartitionAtWork(
    state="running", owner="w1", lag=10, lag_seconds=0.0, produced_per_second=1_250.0, processed_per_second=1_250.0
)
HEALTHY = SystemFigures(
    at=AT,
    kafka=KAFKA,
    disks={"broker 1 /data": 0.4},
    job_state="running",
    job_partitions=PARTITIONS,
    workers=WORKERS,
    partitions={number: replace(PARTITION, owner="w1" if number < 4 else "w2") for number in range(PARTITIONS)},
    p99=0.04,
    failed_checkpoints=0.0,
    verdict="holds",
    decided_at=AT - 1,
)


def with_steps(now: SystemFigures, *, cpu_share: float = 0.95, **shares: float) -> SystemFigures:
    """Every worker's loop has these shares."""
    workers = [replace(one, steps=replace(STEPS, **shares), cpu_share=cpu_share) for one in now.workers]
    return replace(now, workers=tuple(workers))


def with_partitions(now: SystemFigures, *numbers: int, **changes: Any) -> SystemFigures:
    """These partitions, or all, are as said."""
    changed = {number: replace(now.partitions[number], **changes) for number in numbers or now.partitions}
    return replace(now, partitions={**now.partitions, **changed})


def behind(lag: int = 40_000, produced: float = 2_000.0) -> SystemFigures:
    """All partitions are behind, and the workers fold nearly all the time."""
    now = with_partitions(HEALTHY, lag=lag // PARTITIONS, produced_per_second=produced)
    return with_steps(now, source_busy=0.1, fold_busy=0.85)
