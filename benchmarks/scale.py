"""Measure 1, 2 and 4 workers on one machine on a backlog: events a second, CPU an event, and who used the CPU.

    python -m benchmarks scale [--workers 1 2 4] [--events 500000] [--rounds 3]

All workers share this machine with the broker, so with as many workers as cores the events a second say how the cores
are shared, not how the system scales. What scales is the CPU: if the CPU an event of workers and broker stays the same
with more workers, more machines give more events in proportion. The shares say who used the cores meanwhile.

The workers start on empty topics and share out the partitions. Then the backlog is sent, much faster than workers
process. The measurement begins when the whole backlog is in Kafka. In the end `verify` must hold.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

from benchmarks.drill import SETTINGS, Backlog, await_shared, pairs, send_events, work_off
from benchmarks.results import Run
from benchmarks.system import system
from portfolio_stream.load.events import Mixture, generate

PORTFOLIOS = 10_000


def measure(workers: Sequence[int], events: int, rounds: int) -> Iterator[Run]:
    for number in range(1, rounds + 1):
        for count in workers:
            done = one(count, events, seed=number)
            yield Run(variant=workers_of(count), round=number, figures=figures(done), shares=dict(done.shares))


def one(count: int, events: int, seed: int) -> Backlog:
    mixture = Mixture(
        seed=seed, start_time=int(time.time() * 1000), portfolios=PORTFOLIOS, partitions=SETTINGS.partitions
    )
    records = list(pairs(generate(mixture, events)))  # made before: the sending must be fast
    with system() as made:
        workers = [made.start_worker(f"w{name + 1}") for name in range(count)]
        await_shared(workers)
        send_events(made, records)
        done = work_off(made, workers, events)
        made.run("verify")
        return done


def figures(done: Backlog) -> dict[str, float]:
    broker = 1e6 * done.shares["broker"] * done.seconds / done.events
    return done.figures() | {"broker CPU us/event": broker}


def workers_of(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for run in measure(arguments.workers, arguments.events, arguments.rounds):
        print(run)
