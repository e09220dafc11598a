"""Advice in words: is the job behind, what holds it up, would another worker help, which partitions are hot.

1. Every sentence has one cause in the figures, and names the figures. A figure that is missing makes a sentence that
   says so, and never a guess.
2. PARTS is the order of the sentences: what stands still, then what is slow, then what could be done.
3. Advice changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from portfolio_stream.watch.advice_missing import missing
from portfolio_stream.watch.advice_workers import hot, workers_needed
from portfolio_stream.watch.capacity import (
    HoldUp,
    hold_up,
    is_behind,
    is_to_run,
    lagging_workers,
    trend,
    useful_seconds,
)
from portfolio_stream.watch.figures import KafkaFigures, SystemFigures, WorkerAtWork
from portfolio_stream.watch.words import counted, duration, listed, number, partitions

#: by what the operator wants of the job; `running` is missing
JOB_STATES: Mapping[str, str] = {
    "paused": "The job is paused, so nothing is processed. `portfolio-stream job resume` lets it go on.",
    "stopping": "The job is stopping: its partitions are processed up to the offsets at which it stops.",
    "stopped": "The job is stopped, so nothing is processed. `portfolio-stream job start` starts it.",
    "cancelled": "The job is cancelled, so nothing is processed. `portfolio-stream job start` starts it.",
    "migrating": "The job changes to another generation of its state. It goes on by itself after that.",
}
#: by a partition's state; `running` is missing
STANDING: Mapping[str, tuple[str, str]] = {
    "halted": ("halted by a record", "`portfolio-stream partitions list` names the record and what to do"),
    "unowned": ("without an owner", "Start a worker; if one runs, its log says why it does not join"),
    "silent": ("of a worker that does not answer", "If it is dead, others take them over within seconds"),
    "foreign": ("held by a member that is no worker", "`portfolio-stream lag` names the member: stop it"),
    "recovering": ("being recovered", "`portfolio-stream partitions list` says how far each is"),
    "paused": ("paused", "`portfolio-stream job resume` lets them go on"),
}
#: what a worker does instead of processing more, in seconds of each second
HELD_UP: Mapping[HoldUp, tuple[str, Callable[[WorkerAtWork], float]]] = {
    "fold": ("The fold holds the workers up. Seconds of each second at the fold", lambda one: _step(one, "fold_busy")),
    "source": (
        "Decoding what Kafka sends holds the workers up. Seconds of each second at it",
        lambda one: _step(one, "source_busy"),
    ),
    "commit": (
        "Commits hold the workers up. Seconds of each second in which the next commit waits for the one before it",
        lambda one: _step(one, "fold_waits"),
    ),
    "machine": (
        "Other processes hold the workers up: they use the same cores. CPU seconds of each second that the workers get",
        lambda one: one.cpu_share or 0.0,
    ),
    "process": (
        "Other work than reading and folding holds the workers up, such as closing transactions and answering "
        "requests. CPU seconds of each second",
        lambda one: one.cpu_share or 0.0,
    ),
    "records": (
        "Kafka sends records too slowly: the workers wait for them. Seconds of each second at work",
        lambda one: useful_seconds(one) or 0.0,
    ),
}


def advice(now: SystemFigures) -> tuple[str, ...]:
    """Returns the sentences, the most important first."""
    return tuple(sentence for part in PARTS for sentence in part(now))


def _job(now: SystemFigures) -> Iterator[str]:
    if not is_to_run(now):
        yield JOB_STATES.get(now.job_state or "", f"The job is {now.job_state}.")


def _trend(now: SystemFigures) -> Iterator[str]:
    running = [one for one in now.partitions.values() if one.state == "running"]
    seen = trend(running)
    if seen is None or not is_to_run(now):
        return
    where = "" if len(running) == len(now.partitions) else f", in {counted(len(running), 'running partition')}"
    rates = f"{number(seen.produced)} events/s come in, {number(seen.processed)} events/s are processed"
    lag, growth = counted(seen.lag, "event"), f"{number(abs(seen.growth))} events/s"
    if seen.course == "keeps up":
        yield f"The workers keep up{where}: {rates}, and {number(seen.lag)} wait."
    elif seen.course == "stands still":
        yield f"Nothing is processed{where}: the lag is {lag}, and {number(seen.produced)} events/s come in."
    elif seen.course == "falls behind":
        yield f"The workers fall behind{where}: {rates}. The lag of {lag} grows by {growth}."
    elif seen.course == "catches up":
        left = duration(seen.seconds_left or 0)
        yield f"The workers catch up{where}: {rates}. The lag of {lag} shrinks by {growth} and is gone in {left}."
    else:
        yield f"The workers stay behind{where}: {rates}. The lag of {lag} neither grows nor shrinks."


def _standing(now: SystemFigures) -> Iterator[str]:
    if not is_to_run(now):
        return
    for state, (how, what) in STANDING.items():
        found = {partition: one.lag for partition, one in sorted(now.partitions.items()) if one.state == state}
        if found:
            waiting = counted(sum(lag or 0 for lag in found.values()), "event")
            lag = "" if None in found.values() else f", with a lag of {waiting}"
            yield f"{partitions(list(found)).capitalize()} {'is' if len(found) == 1 else 'are'} {how}{lag}. {what}."


def _held_up(now: SystemFigures) -> Iterator[str]:
    if not is_behind(now):
        return
    by_cause: dict[HoldUp, list[WorkerAtWork]] = {}
    for worker in lagging_workers(now):
        cause = hold_up(worker)
        if cause is not None:
            by_cause.setdefault(cause, []).append(worker)
    for cause, (what, seconds) in HELD_UP.items():
        if cause in by_cause:
            yield f"{what}: {listed([f'{one.worker} {seconds(one):.2f}' for one in by_cause[cause]])}."
    if "commit" in by_cause:
        yield from _slow_commits(by_cause["commit"])
    if by_cause.keys() & {"commit", "records"} and now.kafka is not None and _is_short(now.kafka):
        yield (
            f"Kafka is short of copies, which slows commits and fetches: {now.kafka.live} of "
            f"{counted(now.kafka.brokers, 'broker')} live, "
            f"{counted(now.kafka.under_replicated_partitions, 'partition')} under-replicated."
        )


def _slow_commits(workers: Sequence[WorkerAtWork]) -> Iterator[str]:
    commits = sum(one.transactions_per_second or 0.0 for one in workers)
    if commits > 0:
        seconds = sum(_step(one, "commit_busy") for one in workers) / commits
        yield (
            f"A commit takes {number(seconds * 1000)} ms on average. The histogram "
            "portfolio_stream_commit_phase_seconds says which phase takes them."
        )


def _is_short(kafka: KafkaFigures) -> bool:
    return kafka.live < kafka.brokers or kafka.under_replicated_partitions > 0


def _step(worker: WorkerAtWork, name: str) -> float:
    seconds: float = 0.0 if worker.steps is None else getattr(worker.steps, name)
    return seconds


PARTS: tuple[Callable[[SystemFigures], Iterator[str]], ...] = (
    _job,
    _trend,
    _standing,
    _held_up,
    workers_needed,
    hot,
    missing,
)
