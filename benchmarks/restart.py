"""Measure the memory of a worker with a million positions, and its restart after kill -9, on a fresh broker.

    python -m benchmarks.restart [--keys 1000000] [--rate 1000]

One worker folds a trade for each key (portfolio and symbol), so the tables positions and seen_events each have `--keys`
rows. Then events come at `--rate`, and the worker is killed twice. The first time it keeps its data folder. The second
time it loses the folder and replays the whole changelog.

The time runs from the start of the new process until it has committed an output of an event that was sent after the
kill: for the first partition and for the last one. In the end `verify` must hold.
"""

import argparse
import asyncio
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.system import MeasuredWorker, System, system
from portfolio_stream.load.events import symbol_of
from portfolio_stream.settings import Settings

SYMBOLS = 50
POLL_SECONDS = 0.2
LIMIT_SECONDS = 600.0
WARM_SECONDS = 5.0
LINE = (
    '{{"event_id":"k-{serial:08d}","type":"trade","portfolio_id":"P{portfolio:08d}","occurred_at":"{at}",'
    '"side":"buy","symbol":"{symbol}","quantity":"12","price":"101.25","currency":"{currency}"}}\n'
)


def measure(keys: int, rate: int) -> None:
    with system() as made:
        source = made.folder / "events.jsonl"
        write_events(source, keys)
        made.run("produce", "--from-file", str(source), "--rate", "0")
        worker = made.start_worker()
        await_events(worker, keys)
        print(f"{keys:,} position keys: {memory(worker)}", flush=True)
        load = made.start("produce", "--rate", str(rate), "--portfolios", str(keys // SYMBOLS), "--seed", "2")
        time.sleep(WARM_SECONDS)
        print(f"with events at {rate:,}/s: {memory(worker)}", flush=True)
        worker = report(made, "kill -9", worker, lambda: None)
        folder = Path(made.environment["PORTFOLIO_DATA_DIR"]) / "w1"
        report(made, "kill -9 and the data folder lost", worker, lambda: shutil.rmtree(folder))
        load.terminate()
        load.wait()
        made.run("verify")


def write_events(path: Path, keys: int) -> None:
    """Write a trade for each key. A portfolio's trades are far apart, so that none finds its values in a cache."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    symbols = [symbol_of(number) for number in range(SYMBOLS)]
    portfolios = keys // SYMBOLS
    with path.open("w") as file:
        for serial in range(portfolios * SYMBOLS):
            symbol, currency = symbols[serial // portfolios]
            portfolio = serial % portfolios
            file.write(LINE.format(serial=serial, portfolio=portfolio, at=at, symbol=symbol, currency=currency))


def await_events(worker: MeasuredWorker, events: int) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    while worker.metrics().get("portfolio_stream_events_total", 0.0) < events:
        if worker.process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"the worker ended, or was not done after {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def memory(worker: MeasuredWorker) -> str:
    """Returns the process's resident memory now and at its highest, from the kernel."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    kilobytes = {name: int(value) for name, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)}
    return f"resident {kilobytes['VmRSS'] / 1024:.0f} MiB, at its highest {kilobytes['VmHWM'] / 1024:.0f} MiB"


def report(made: System, name: str, worker: MeasuredWorker, lose: Callable[[], None]) -> MeasuredWorker:
    """Kill the worker, call `lose`, start the worker again and print the seconds. Returns the new process."""
    worker.process.kill()
    worker.process.wait()
    lose()
    first, last, restarted = asyncio.run(restart(made))
    print(
        f"{name}: first output after {first:.1f} s, of the last partition {last:.1f} s; {memory(restarted)}", flush=True
    )
    return restarted


async def restart(made: System) -> tuple[float, float, MeasuredWorker]:
    settings = Settings()
    sources = [TopicPartition(settings.input_topic, partition) for partition in range(settings.partitions)]
    outputs = [TopicPartition(settings.output_topic, partition) for partition in range(settings.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=made.cluster.bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    found: dict[int, float] = {}
    async with consumer:
        consumer.assign(outputs)
        await consumer.seek_to_end()
        ends = {place.partition: end for place, end in (await consumer.end_offsets(sources)).items()}
        begun = time.monotonic()
        worker = made.start_worker()
        while len(found) < len(outputs):
            for place, records in (await consumer.getmany(timeout_ms=20)).items():
                if any(source_offset(record.value) >= ends[place.partition] for record in records):
                    found.setdefault(place.partition, time.monotonic() - begun)
            if worker.process.poll() is not None or time.monotonic() - begun > LIMIT_SECONDS:
                raise SystemExit(f"the worker ended, or gave no output for {LIMIT_SECONDS:.0f} s")
    return min(found.values()), max(found.values()), worker


def source_offset(output: bytes) -> int:
    """Returns the source offset, which is the last field of an output."""
    return int(output[:-2].rpartition(b":")[2])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=1_000)
    arguments = parser.parse_args()
    measure(arguments.keys, arguments.rate)
