"""Stock faust-streaming under the same kills: the check must find that stock Faust is not exactly-once.

    python -m tests.chaos.stock [--runs 10] [--seed S] [--rate 300] [--seconds 20] [--kills 3]

One worker with `processing_guarantee="exactly_once"`, written as Faust's documentation teaches (benchmarks/
two_tables_stock.py), on a fresh broker; each run has topics of its own. While events come at a steady rate the worker
is killed with -9 and started again, as a supervisor does. What a read_committed reader finds is compared with a replay.
Exit code 1 if a run was not caught: then this check shows nothing.
"""

import argparse
import asyncio
import sys
import time
from random import Random, SystemRandom

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.judge import Anomalies, compare, replay
from benchmarks.system import System, system
from benchmarks.topics import topic
from benchmarks.two_tables import PARTITIONS, backlog
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.quiet_logs import quieten
from portfolio_stream.kafka.topics import create_missing
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from portfolio_stream.settings import Settings

APP = "benchmarks.two_tables_stock"
SETTLED_SECONDS = 15.0  # without any new output; stock Faust's session time-out is shorter
MOST_SECONDS = 90.0  # without any new output while outputs are missing
POLL_SECONDS = 0.2
#: Kafka's least for the classic protocol: after kill -9 its group waits for it
SESSION_SECONDS = "6"


async def run(made: System, name: str, random: Random, given: argparse.Namespace) -> tuple[int, Anomalies]:
    """Returns the number of outputs, and the outputs' anomalies."""
    trades = int(given.rate * given.seconds)
    changelogs = (f"{name}-positions-changelog", f"{name}-cash-changelog")
    environment = {
        "STOCK_NAME": name,
        "FAUST_DATADIR": str(made.folder / name),
        "BROKER_SESSION_TIMEOUT": SESSION_SECONDS,
        "BROKER_HEARTBEAT_INTERVAL": "1",
    }
    settings = Settings(bootstrap_servers=made.cluster.bootstrap_servers)
    async with admin_client(settings) as admin:
        names = [topic(f"{name}-trades", "delete"), topic(f"{name}-processed", "delete")]
        await create_missing(admin, names + [topic(changelog, "compact") for changelog in changelogs])
    load = asyncio.create_task(_produce(settings, name, trades, given.rate))
    worker = made.start_worker(name, APP, **environment)
    written = 0
    for _ in range(given.kills):
        written = await _more_than(settings, name, written)
        await asyncio.sleep(random.uniform(1.0, 4.0))
        worker.process.kill()
        worker.process.wait()
        worker = made.start_worker(name, APP, **environment)
    await load
    found = await _outputs(settings, name, trades)
    worker.end()
    return sum(map(len, found.values())), compare(replay(trades), found)


async def _produce(settings: Settings, name: str, trades: int, rate: float) -> None:
    async with connected(settings, make_producer(settings)) as producer:
        batched = BatchedTopic(producer, f"{name}-trades", PARTITIONS)
        async for _ in produce(batched, backlog(trades), rate):
            pass


async def _more_than(settings: Settings, name: str, written: int) -> int:
    """Returns the number of outputs once there are more than `written`: a kill must come amid the worker's work."""
    places = [TopicPartition(f"{name}-processed", partition) for partition in range(PARTITIONS)]
    begun = time.monotonic()
    async with connected(settings, AIOKafkaConsumer(**client_options(settings))) as reader:
        while time.monotonic() - begun < MOST_SECONDS:
            ends: int = sum((await reader.end_offsets(places)).values())
            if ends > written:
                return ends
            await asyncio.sleep(POLL_SECONDS)
    return written


async def _outputs(settings: Settings, name: str, trades: int) -> dict[int, list[bytes]]:
    """Returns all outputs. The reading ends when no output has come for a while."""
    found: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    reader = AIOKafkaConsumer(
        **client_options(settings), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with connected(settings, reader):
        reader.assign([TopicPartition(f"{name}-processed", partition) for partition in range(PARTITIONS)])
        newest = time.monotonic()
        while time.monotonic() - newest < (
            SETTLED_SECONDS if sum(map(len, found.values())) >= trades else MOST_SECONDS
        ):
            for place, records in (await reader.getmany(timeout_ms=500)).items():
                newest = time.monotonic()
                found[place.partition] += [record.value for record in records]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    parser.add_argument("--rate", type=float, default=300.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of load, a run")
    parser.add_argument("--kills", type=int, default=3, help="a run")
    given = parser.parse_args()
    quieten()
    print(f"seed {given.seed}", flush=True)
    caught = 0
    with system() as made:
        for number in range(given.runs):
            random = Random(f"stock {given.seed} {number}")
            outputs, anomalies = asyncio.run(run(made, f"stock-{number}", random, given))
            caught += anomalies.duplicated + anomalies.wrong + anomalies.missing > 0
            print(
                f"run {number + 1}: {int(given.rate * given.seconds):,} events, {outputs:,} outputs: {anomalies}",
                flush=True,
            )
    print(f"{caught} of {given.runs} runs of stock Faust are not exactly once")
    return 0 if caught == given.runs else 1


if __name__ == "__main__":
    sys.exit(main())
