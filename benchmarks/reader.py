"""The reader: a process of its own that reads committed outputs with librdkafka and notes how old they are.

    python -m benchmarks.reader --bootstrap-servers HOST:PORT --topic TOPIC --partitions 8 --expect N ...

An output's latency runs from its record's timestamp, which is that of its source record, until the reader has it. The
first `--prime` outputs do not count, and those of the first `--warm` seconds after them.

The reader says `ready` when it is assigned, `primed` when it has seen the first `--prime` outputs, and a line of JSON
(`Seen`) when it has seen `--expect`. It never ends by itself before.
"""

import argparse
import gc
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

POLL_SECONDS = 1.0
MOST_RECORDS = 10_000
STEP_MS = 20
SHARES = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)


class Seen(msgspec.Struct, frozen=True):
    outputs: int
    #: number of outputs that count
    counted: int
    #: milliseconds by share in per cent
    percentiles: dict[str, float]
    #: the 99th percentile of each second: seconds since the first counted record, milliseconds
    by_second: list[tuple[float, float]]
    #: outputs by the time when they were seen, in steps of STEP_MS since 1970
    by_step: dict[int, int]

    def between(self, first: float, last: float) -> int:
        """Returns the number of outputs that were seen between two times, in seconds since 1970."""
        return sum(count for step, count in self.by_step.items() if first <= step * STEP_MS / 1000 < last)


class Latencies:
    def __init__(self, warm_seconds: float) -> None:
        self._warm_ms = 1000 * warm_seconds
        #: source timestamps in milliseconds, and latencies
        self._timestamps = array("d")
        self._latencies = array("d")

    def add(self, timestamp: int, seen: float) -> None:
        """Note an output that was seen at `seen` (seconds since 1970)."""
        self._timestamps.append(timestamp)
        self._latencies.append(1000 * seen - timestamp)

    def result(self) -> Seen:
        begun = min(self._timestamps, default=0.0) + self._warm_ms
        counted = [(at, late) for at, late in zip(self._timestamps, self._latencies, strict=True) if at >= begun]
        seconds: dict[int, list[float]] = {}
        for at, late in counted:
            seconds.setdefault(int((at - begun) // 1000), []).append(late)
        ordered = sorted(late for _, late in counted)
        return Seen(
            len(self._latencies),
            len(ordered),
            {f"{share:g}": percentile(ordered, share) for share in SHARES} if ordered else {},
            [(float(second), percentile(sorted(found), 99)) for second, found in sorted(seconds.items())],
            Counter(int((at + late) // STEP_MS) for at, late in zip(self._timestamps, self._latencies, strict=True)),
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Returns the value that `share` per cent of the ordered values do not exceed."""
    return ordered[min(int(len(ordered) * share / 100), len(ordered) - 1)]


def read(consumer: Consumer, expect: int, prime: int, warm_seconds: float) -> Seen:
    outputs, latencies = 0, Latencies(warm_seconds)
    while outputs < expect:
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            continue
        now = time.time()
        for message in (first, *consumer.consume(MOST_RECORDS, 0)):
            if message.error() is not None:
                raise SystemExit(f"the reader failed: {message.error()}")
            outputs += 1
            if outputs > prime:
                latencies.add(message.timestamp()[1], now)
            elif outputs == prime:
                print("primed", flush=True)
    return latencies.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--expect", type=int, required=True)
    parser.add_argument("--prime", type=int, default=0)
    parser.add_argument("--warm", type=float, default=0.0)
    given = parser.parse_args()
    consumer = committed_consumer(given.bootstrap_servers)
    consumer.assign([TopicPartition(given.topic, number, OFFSET_BEGINNING) for number in range(given.partitions)])
    gc.disable()
    print("ready", flush=True)
    seen = read(consumer, given.expect, given.prime, given.warm)
    print(msgspec.json.encode(seen).decode(), flush=True)
    consumer.close()


def committed_consumer(bootstrap_servers: str, options: Mapping[str, object] | None = None) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "benchmark-reader",  # required, not used: partitions are assigned, nothing is committed
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "log_level": 3,
        }
        | dict(options or {})
    )


if __name__ == "__main__":
    main()
