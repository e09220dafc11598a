"""The sentences of the advice on how many workers are needed, what limits them, and which partitions are hot."""

from collections.abc import Callable, Iterator

from portfolio_stream.watch.capacity import (
    Capacity,
    HoldUp,
    Trend,
    capacity,
    hold_up,
    hot_partitions,
    is_behind,
    is_to_run,
    lagging_workers,
    trend,
    with_partitions,
)
from portfolio_stream.watch.figures import SystemFigures, WorkerAtWork
from portfolio_stream.watch.words import counted, duration, number, partitions, percent

FULL_SHARE = 0.9  # of a machine's cores
WORTH_SECONDS = 60.0  # until a worker has started and recovered its partitions, a smaller backlog is nearly gone


def workers_needed(now: SystemFigures) -> Iterator[str]:
    """DS2's formula with its inputs; for a job that is behind also what another worker would bring, or why nothing."""
    seen, found = trend(now.partitions.values()), capacity(now.workers)
    if seen is None or found is None or not is_to_run(now):
        return
    needed = found.needed(seen.produced)
    yield (
        f"{counted(needed, 'worker')} can process what comes in: "
        f"ceil({number(seen.produced)} events/s / {number(found.of_one)} events/s) = {needed}. "
        f"The second figure is what one worker could do: {counted(found.workers, 'worker')} processed "
        f"{number(found.records)} events/s, and worked {found.useful:.2f} s of each second for that."
    )
    if is_behind(now):
        limit = next((limit for of in LIMITS if (limit := of(now, found)) is not None), None)
        yield from _one_more(now, seen, found) if limit is None else (limit,)


def hot(now: SystemFigures) -> Iterator[str]:
    rates = [one.produced_per_second or 0.0 for one in now.partitions.values()]
    found = capacity(now.workers)
    for partition in hot_partitions(now):
        rate = now.partitions[partition].produced_per_second or 0.0
        yield (
            f"Partition {partition} is hot: it gets {percent(rate / sum(rates))} of the events "
            f"({number(rate)} events/s), and an even share is {percent(1 / len(rates))}."
        )
        if found is not None and rate > found.of_one:
            yield (
                f"No number of workers is enough for partition {partition}: a partition has one worker, and one worker "
                f"can process {number(found.of_one)} events/s. Divide its hottest portfolios, or slow their producers."
            )


def _one_more(now: SystemFigures, seen: Trend, found: Capacity) -> Iterator[str]:
    if seen.course == "catches up" and (seen.seconds_left or 0) < WORTH_SECONDS:
        return
    have, count = len(with_partitions(now)), _count(now)
    could, would = have * found.of_one, (have + 1) * found.of_one
    gain = f"Another worker would help: from {number(could)} to {number(would)} events/s"
    if would > seen.produced:
        yield f"{gain}. The lag would be gone in {duration(seen.lag / (would - seen.produced))}."
    else:
        yield f"{gain}, which is not enough."
    if found.needed(seen.produced) > count:
        yield (
            f"More than {counted(count, 'worker')} would do nothing, because there are {counted(count, 'partition')}: "
            f"together they can process {number(count * found.of_one)} events/s."
        )


def _count(now: SystemFigures) -> int:
    return now.job_partitions or len(now.partitions)


def _all_partitions_are_taken(now: SystemFigures, found: Capacity) -> str | None:
    count = _count(now)
    if len(with_partitions(now)) < count:
        return None
    return (
        f"Another worker would do nothing: each of the {counted(count, 'partition')} has a worker of its own, and a "
        "worker without a partition only stands by."
    )


def _lag_is_in_single_partitions(now: SystemFigures, found: Capacity) -> str | None:
    """Kafka gives a new worker partitions of those that have several."""
    lagging = lagging_workers(now)
    if not lagging or len(with_partitions(now)) >= _count(now):
        return None
    if any(len(one.partitions) > 1 for one in lagging):
        return None
    numbers = sorted(partition for one in lagging for partition in one.partitions)
    return f"Another worker would do nothing: the lag is in {partitions(numbers)}, and a partition has one worker."


def _kafka_is_slow(now: SystemFigures, found: Capacity) -> str | None:
    if _causes(now) != {"records"}:
        return None
    return "Another worker would do nothing: those that run have time, and wait for Kafka."


def _machine_is_full(now: SystemFigures, found: Capacity) -> str | None:
    """The workers' machines, as far as they tell how much CPU they use."""
    by_host: dict[str, list[WorkerAtWork]] = {}
    for worker in now.workers:
        if worker.host is not None and worker.cores and worker.cpu_share is not None:
            by_host.setdefault(worker.host, []).append(worker)
    used = {host: sum(one.cpu_share or 0.0 for one in workers) for host, workers in by_host.items()}
    cores = {host: max(one.cores or 0 for one in workers) for host, workers in by_host.items()}
    full = sorted(host for host in by_host if used[host] >= FULL_SHARE * cores[host])
    if full and len(full) == len(by_host):
        told = ", ".join(f"{used[host]:.1f} of {counted(cores[host], 'core')} of {host}" for host in full)
        return f"Another worker would help only on another machine: the workers use {told}."
    if _causes(now) == {"machine"}:
        return "Another worker would help only on another machine: other processes use the cores of this one."
    return None


def _causes(now: SystemFigures) -> set[HoldUp | None]:
    return {hold_up(one) for one in lagging_workers(now)}


#: why another worker would do nothing, the limit that nothing can change first
LIMITS: tuple[Callable[[SystemFigures, Capacity], str | None], ...] = (
    _all_partitions_are_taken,
    _lag_is_in_single_partitions,
    _kafka_is_slow,
    _machine_is_full,
)
