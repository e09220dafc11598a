"""Compare our engine with stock faust-streaming on the two-table fold, one after the other on one fresh broker.

    python -m benchmarks.peers [--events 500000] [--peer-rate 1000] [--peer-seconds 60]

All have the same fold, the same bytes in and out (benchmarks/two_tables.py), eight partitions and one worker process.
The whole backlog is sent before the worker starts: --events for ours, and for a peer what --peer-rate and
--peer-seconds give.

events/s    outputs that became visible to a read_committed reader between the first and the last sign of progress. The
            last stable offsets of the output topic are polled, so the start of the worker does not count.
CPU         the worker process's user and system time between these two moments, divided by the same outputs
RSS         the worker process's resident memory at the second moment
outputs     all outputs that a read_committed reader sees in the end, each compared with a replay of the backlog
"""

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.system import MeasuredWorker, System, system
from benchmarks.two_tables import (
    PARTITIONS,
    CashRecord,
    PositionRecord,
    backlog,
    decode_trade,
    fold,
    position_key,
    processed,
)
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.kafka.topics import ANY_TIMESTAMP, Role, Topic, create_missing
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from portfolio_stream.settings import Settings

POLL_SECONDS = 0.05
SETTLED_SECONDS = 3.0  # without progress after the last expected output; duplicates may still come
STUCK_SECONDS = 60.0  # without progress before that; the worker does not start, or has stopped


class Contender(NamedTuple):
    label: str
    #: its topics are NAME-trades and NAME-processed
    name: str
    app: str
    trades: int
    environment: Mapping[str, str] = {}
    #: changelogs that are created before its start: stock Faust's agent fails on one that its client does not know yet
    changelogs: Sequence[str] = ()


class Sample(NamedTuple):
    seconds: float
    cpu_seconds: float
    resident_bytes: int
    #: last stable offset of each partition of the output
    ends: Mapping[TopicPartition, int]


class Stuck(Exception):
    """The worker writes no output."""


class Anomalies(NamedTuple):
    """Differences between the outputs and the replay's. Each output names its trade, so no two are equal."""

    missing: int = 0
    duplicated: int = 0
    wrong: int = 0
    #: number of partitions
    out_of_order: int = 0

    def __str__(self) -> str:
        found = [f"{count:,} {name.replace('_', ' ')}" for name, count in self._asdict().items() if count]
        return ", ".join(found) or "each once, in order, right"


class Result(NamedTuple):
    events_a_second: float
    cpu_microseconds: float
    resident_bytes: int
    outputs: int
    anomalies: Anomalies


def main(events: int, peer_events: int) -> None:
    stock = "benchmarks.two_tables_stock"
    contenders = [Contender("ours, exactly once", "ours", "benchmarks.two_tables_ours", events)]
    for guarantee in ("exactly_once", "at_least_once"):
        name = f"stock-{guarantee.replace('_', '-')}"
        environment = {"STOCK_NAME": name, "STOCK_GUARANTEE": guarantee}
        changelogs = [f"{name}-positions-changelog", f"{name}-cash-changelog"]
        contenders.append(Contender(f"stock Faust, {guarantee}", name, stock, peer_events, environment, changelogs))
    with system() as made:
        results = [asyncio.run(measure(made, contender)) for contender in contenders]
    show(contenders, results)
    if results[0].anomalies != Anomalies():
        raise SystemExit("ours is not exactly once")


async def measure(made: System, contender: Contender) -> Result:
    print(f"{contender.label}: {contender.trades:,} trades", flush=True)
    settings = Settings(bootstrap_servers=made.cluster.bootstrap_servers)
    await load(settings, contender)
    datadir = str(made.folder / contender.name)
    worker = made.start_worker(contender.name, contender.app, FAUST_DATADIR=datadir, **contender.environment)
    reader = AIOKafkaConsumer(
        **client_options(settings), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with connected(settings, reader):
        targets = [TopicPartition(f"{contender.name}-processed", partition) for partition in range(PARTITIONS)]
        reader.assign(targets)
        reader.pause(*targets)
        try:
            first, last = await watch(reader, targets, worker, contender.trades)
        except Stuck as stuck:
            log = (made.folder / f"{contender.name}.log").read_text()
            raise SystemExit(f"{contender.label}: {stuck}\n{log[-2000:]}") from None
        worker.end()
        reader.resume(*targets)
        return await judge(reader, first, last, contender.trades)


async def load(settings: Settings, contender: Contender) -> None:
    """Create its topics and send its backlog. Returns when Kafka has acknowledged all of it."""
    names = [f"{contender.name}-trades", f"{contender.name}-processed"]
    async with admin_client(settings) as admin:
        topics = [topic(name, "delete") for name in names] + [topic(name, "compact") for name in contender.changelogs]
        await create_missing(admin, topics)
    async with connected(settings, make_producer(settings)) as producer:
        async for _ in produce(BatchedTopic(producer, names[0], PARTITIONS), backlog(contender.trades), 0):
            pass


def topic(name: str, policy: str) -> Topic:
    """Returns a topic that never expires or refuses a record because of its old timestamp."""
    configuration = {"cleanup.policy": policy, "retention.ms": "-1"} | ANY_TIMESTAMP
    role: Role = "changelog" if policy == "compact" else "source"
    return Topic(name=name, role=role, partitions=PARTITIONS, replication_factor=1, configuration=configuration)


async def watch(
    reader: Any, targets: Sequence[TopicPartition], worker: MeasuredWorker, trades: int
) -> tuple[Sample, Sample]:
    """Returns the samples at the first and at the last sign of progress. Raises Stuck."""
    process = psutil.Process(worker.process.pid)
    first: Sample | None = None
    last = Sample(time.monotonic(), 0.0, 0, dict.fromkeys(targets, 0))
    while worker.process.poll() is None:
        ends = await reader.end_offsets(targets)
        now, cpu = time.monotonic(), process.cpu_times()
        if ends != last.ends:
            last = Sample(now, cpu.user + cpu.system, process.memory_info().rss, ends)
            first = first or last
        elif first and now - last.seconds > (SETTLED_SECONDS if sum(ends.values()) >= trades else STUCK_SECONDS):
            return first, last
        elif now - last.seconds > STUCK_SECONDS:
            break
        await asyncio.sleep(POLL_SECONDS)
    raise Stuck(f"the worker ended, or wrote nothing for {STUCK_SECONDS:.0f} s; the end of its log:")


async def judge(reader: Any, first: Sample, last: Sample, trades: int) -> Result:
    """Read every output, and compare all with the replay's."""
    found: dict[int, list[bytes]] = {target.partition: [] for target in last.ends}
    measured = 0
    while [target for target, end in last.ends.items() if await reader.position(target) < end]:
        for target, records in (await reader.getmany(timeout_ms=1000)).items():
            found[target.partition] += [record.value for record in records]
            measured += sum(record.offset >= first.ends[target] for record in records)
    return Result(
        measured / (last.seconds - first.seconds),
        1e6 * (last.cpu_seconds - first.cpu_seconds) / measured,
        last.resident_bytes,
        sum(map(len, found.values())),
        compare(replay(trades), found),
    )


def compare(expected: Mapping[int, list[bytes]], found: Mapping[int, list[bytes]]) -> Anomalies:
    """Compare outputs by partition; those found are in offset order."""
    missing = duplicated = wrong = out_of_order = 0
    for partition, outputs in expected.items():
        right, all_found = set(outputs), found[partition]
        different = dict.fromkeys(all_found)
        missing += len(right - different.keys())
        wrong += len(different.keys() - right)
        duplicated += len(all_found) - len(different)
        kept = [output for output in outputs if output in different]
        out_of_order += kept != [output for output in different if output in right]
    return Anomalies(missing, duplicated, wrong, out_of_order)


def replay(trades: int) -> dict[int, list[bytes]]:
    """Returns the outputs that each partition must have."""
    expected: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    positions: dict[bytes, PositionRecord] = {}
    cash: dict[str, CashRecord] = {}
    for record in backlog(trades):
        trade = decode_trade(record.value or b"")
        partition = partition_of(record.key or b"", PARTITIONS)
        key, owner, outputs = position_key(trade), trade.portfolio_id, expected[partition]
        positions[key], cash[owner] = fold(trade, positions.get(key), cash.get(owner))
        outputs.append(processed(trade, positions[key], cash[owner], partition, len(outputs)))
    return expected


def show(contenders: Sequence[Contender], results: Sequence[Result]) -> None:
    print(f"\n{'two-table fold':28}{'events/s':>10}{'CPU us/event':>14}{'RSS MiB':>9}{'outputs':>10}  of backlog")
    for contender, result in zip(contenders, results, strict=True):
        print(
            f"{contender.label:28}{result.events_a_second:10,.0f}{result.cpu_microseconds:14,.1f}"
            f"{result.resident_bytes / 2**20:9,.0f}{result.outputs:10,}  of {contender.trades:,}: {result.anomalies}"
        )
    ours = results[0]
    for contender, peer in zip(contenders[1:], results[1:], strict=True):
        print(
            f"ours to {contender.label}: {ours.events_a_second / peer.events_a_second:.1f} times the events/s, "
            f"CPU an event 1/{peer.cpu_microseconds / ours.cpu_microseconds:.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=500_000, help="events of our backlog")
    parser.add_argument("--peer-rate", type=int, default=1_000, help="expected events/s of a peer")
    parser.add_argument("--peer-seconds", type=int, default=60)
    arguments = parser.parse_args()
    main(arguments.events, arguments.peer_rate * arguments.peer_seconds)
