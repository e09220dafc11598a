"""The sentences of the advice on figures that nobody knows, and how to get them."""

from collections.abc import Iterator

from portfolio_stream.watch.capacity import with_partitions
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.words import listed, partitions


def missing(now: SystemFigures) -> Iterator[str]:
    """The figures that nobody knows, and how to get them."""
    if now.kafka is None:
        yield "Nobody has looked at Kafka yet: ask again in some seconds."
    elif now.kafka.live == 0:
        yield "No Kafka broker answers, so lag and rates are unknown. Start the brokers."
    else:
        yield from _of_partitions(now)
    is_kafka_down = now.kafka is not None and now.kafka.live == 0
    if now.job_state is None:
        rest = "Ask again when a broker answers." if is_kafka_down else "`portfolio-stream job describe` asks Kafka."
        yield f"Nobody knows whether the job is to run: no worker says so. {rest}"
    if not now.workers:
        first = "Once the brokers run, " if is_kafka_down else ""
        yield (
            f"No worker answers, so nobody knows what they do. {first}`portfolio-stream cluster start` starts workers, "
            "and `faust -A portfolio_stream worker` starts one."
        )
    if now.silent_workers:
        names = listed(sorted(now.silent_workers))
        yield f"The figures of {names} are missing: Kafka's group has them, but they do not answer. Look at their logs."
    unmeasured = sorted(one.worker for one in with_partitions(now) if one.steps is None)
    if unmeasured:
        yield f"{listed(unmeasured)} measured nothing yet. A worker measures its steps five seconds after its start."


def _of_partitions(now: SystemFigures) -> Iterator[str]:
    without_lag = sorted(number for number, one in now.partitions.items() if one.lag is None)
    if without_lag:
        yield f"The lag of {partitions(without_lag)} is unknown. `portfolio-stream lag` asks Kafka."
    without_rate = sorted(
        number
        for number, one in now.partitions.items()
        if one.produced_per_second is None or one.processed_per_second is None
    )
    if without_rate:
        yield f"The rates of {partitions(without_rate)} are unknown: the watcher needs two looks at them."
