"""Measure events a second and CPU microseconds an event of one worker on a backlog, on a fresh broker.

    python -m benchmarks.throughput [--events 500000] [--aged]

The worker does everything that the contract asks for: all tables, outputs, dead letters, deduplication, transactions.
The time runs from the first committed event that is seen to the last. With `--aged` there are few portfolios, by
default of 25,000 events each, so that each one's deduplication window moves.
"""

import argparse
import time

from benchmarks.system import MeasuredWorker, system

POLL_SECONDS = 0.1
LIMIT_SECONDS = 300.0
PORTFOLIOS, AGED_PORTFOLIOS = 10_000, 20


def measure(events: int, portfolios: int) -> None:
    with system() as made:
        made.run("produce", "--events", str(events), "--rate", "0", "--seed", "1", "--portfolios", str(portfolios))
        _report(events, made.start_worker())


def _report(events: int, worker: MeasuredWorker) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    first: tuple[float, float, float] | None = None
    while time.monotonic() < until and worker.process.poll() is None:
        now, found = time.monotonic(), worker.metrics()
        done = found.get("portfolio_stream_events_total", 0.0)
        cpu = found.get("process_cpu_seconds_total", 0.0)
        if done and first is None:
            first = (now, done, cpu)
        if first is not None and done >= events:
            seconds, count = now - first[0], done - first[1]
            print(f"{count:,.0f} events in {seconds:.2f} s: {count / seconds:,.0f} events/s")
            print(f"CPU {1e6 * (cpu - first[2]) / count:.1f} us an event ({1e6 * cpu / done:.1f} with the start)")
            commits = found["portfolio_stream_commits_total"]
            print(f"{commits:.0f} transactions, {done / commits:,.0f} events each")
            print(f"resident memory {found['process_resident_memory_bytes'] / 2**20:.0f} MiB")
            return
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"the worker ended, or was not done after {LIMIT_SECONDS:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--aged", action="store_true")
    arguments = parser.parse_args()
    measure(arguments.events, AGED_PORTFOLIOS if arguments.aged else PORTFOLIOS)
