"""Measure the latency at a steady rate, as a read_committed reader of processed-events sees it, on a fresh broker.

    python -m benchmarks.latency [--rate 5000] [--seconds 60] [--workers 1]

An event's latency runs from its record's timestamp, which is set when the producer takes the record for sending, until
the reader has its output. Every event counts, except those of the first WARM_SECONDS.
"""

import argparse
import asyncio
import time

from aiokafka import AIOKafkaConsumer

from benchmarks.system import MeasuredWorker, System, system

WARM_SECONDS = 5.0
PARTITIONS = 8


def measure(rate: int, seconds: int, workers: int) -> None:
    with system() as made:
        running = [made.start_worker(f"w{number + 1}") for number in range(workers)]
        while sum(worker.metrics().get("portfolio_stream_partitions_running", 0) for worker in running) < PARTITIONS:
            time.sleep(0.2)
        asyncio.run(_observe(made, running, rate, seconds))


async def _observe(made: System, running: list[MeasuredWorker], rate: int, seconds: int) -> None:
    events = int(rate * (seconds + WARM_SECONDS))
    consumer = AIOKafkaConsumer(
        "processed-events",
        bootstrap_servers=made.cluster.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    producer = made.start("produce", "--rate", str(rate), "--events", str(events), "--portfolios", "10000")
    cpu = -sum(worker.metrics()["process_cpu_seconds_total"] for worker in running)
    latencies: list[float] = []
    try:
        warm = time.time() + WARM_SECONDS
        seen = 0
        while seen < events:
            found = await consumer.getmany(timeout_ms=1000)
            now = time.time()
            for records in found.values():
                seen += len(records)
                latencies += [now * 1000 - record.timestamp for record in records if now > warm]
    finally:
        await consumer.stop()
        producer.wait(30)
    latencies.sort()
    cpu += sum(worker.metrics()["process_cpu_seconds_total"] for worker in running)
    commits = sum(worker.metrics()["portfolio_stream_commits_total"] for worker in running)
    shown = " ".join(f"p{share}={latencies[int(len(latencies) * share / 100)]:.0f}" for share in (50, 90, 95, 99, 99.9))
    print(
        f"{len(latencies):,} events at {rate:,}/s, {workers_of(running)}: milliseconds {shown} max={latencies[-1]:.0f}"
    )
    print(f"{events / commits:.0f} events a transaction, worker CPU {1e6 * cpu / events:.0f} us an event")


def workers_of(running: list[MeasuredWorker]) -> str:
    return f"{len(running)} worker{'s' if len(running) > 1 else ''}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    measure(arguments.rate, arguments.seconds, arguments.workers)
