"""Measure one worker on a backlog of 10,000,000 events: events a second, CPU, and the highest memory.

    python -m benchmarks backlog [--events 10000000] [--portfolios 10000]

The events are the generator's mixture, as in `throughput`. The worker starts when the whole backlog is in Kafka, so it
fetches as fast as it can: memory that grew with the backlog would show. The curve has the events a second over time.
`verify` replays all events with one process, so it is left out above `--verify-events`.
"""

import argparse
import time
from collections.abc import Iterator

from benchmarks.drill import SETTINGS, pairs, send_events, store_folder, topic_bytes, work_off
from benchmarks.processes import MEBIBYTE, disk_bytes
from benchmarks.results import Run
from benchmarks.system import system
from portfolio_stream.load.events import Mixture, generate

EVENTS = 10_000_000
PORTFOLIOS = 10_000
VERIFY_EVENTS = 1_000_000
LOOK_SECONDS = 5.0


def measure(events: int, portfolios: int, verify_events: int = VERIFY_EVENTS) -> Iterator[Run]:
    with system() as made:
        mixture = Mixture(
            seed=1, start_time=int(time.time() * 1000), portfolios=portfolios, partitions=SETTINGS.partitions
        )
        seconds = send_events(made, pairs(generate(mixture, events)))
        worker = made.start_worker()
        done = work_off(made, [worker], events, LOOK_SECONDS if events >= EVENTS else 0.5)
        sizes = {
            "sent events/s": events / seconds,
            "changelog MiB": topic_bytes(made, SETTINGS.changelog_topic) / MEBIBYTE,
            "store MiB": disk_bytes([store_folder(made, "w1")]) / MEBIBYTE,
        }
        yield Run(
            variant=f"{events:,} events",
            figures=done.figures() | sizes,
            shares=dict(done.shares),
            series={"events/s": done.rates},
        )
        if events <= verify_events:
            made.run("verify")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--portfolios", type=int, default=PORTFOLIOS)
    arguments = parser.parse_args()
    for run in measure(arguments.events, arguments.portfolios):
        print(run)
