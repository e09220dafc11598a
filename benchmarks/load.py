"""The load: a process of its own that makes events beforehand and sends them with librdkafka.

    python -m benchmarks.load --bootstrap-servers HOST:PORT --topic TOPIC --events N [--prime N] [--rate R] ...

1. It makes all events, the same bytes as `produce` with the same options, and says `ready`.
2. If `--prime` is given, it sends that many events at once. Their outputs show that the system serves.
3. It waits for a line on standard input. Then it sends the other events at an even rate, in small steps. Each record's
   timestamp is the time at which it is sent.
4. When Kafka has acknowledged everything, it prints a line of JSON (`Sent`) and ends.

The producer is idempotent, waits for all replicas, and chooses the partition as Java's client does.
"""

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
from confluent_kafka import Producer

from benchmarks.two_tables import START_TIME, is_trade
from portfolio_stream.load.events import Generated, Mixture, generate

STEP_SECONDS = 0.005
FLUSH_SECONDS = 120.0
#: events are not compressed, as `produce` sends them
OPTIONS = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",  # Java's partition for a record with a key
    "linger.ms": 2,  # less than a step: each step's records leave together
    "queue.buffering.max.messages": 2_000_000,
    "queue.buffering.max.kbytes": 1_000_000,
    "log_level": 3,
}


class Sent(msgspec.Struct, frozen=True):
    events: int
    seconds: float
    #: how far the sending fell behind its rate at most
    most_late_seconds: float


def make_events(events: int, portfolios: int, seed: int = 1, *, trades_only: bool = False) -> list[Generated]:
    mixture = Mixture(seed=seed, start_time=START_TIME, portfolios=portfolios)
    made: Iterable[Generated] = generate(mixture)
    return list(islice(filter(is_trade, made) if trades_only else made, events))


class Sender:
    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer(OPTIONS | {"bootstrap.servers": bootstrap_servers})
        self._topic = topic

    def send(self, records: Iterable[Generated]) -> None:
        produce, topic = self._producer.produce, self._topic
        for key, value, *_ in records:
            produce(topic, value, key)

    def settle(self) -> None:
        """Return when Kafka has acknowledged everything. Exits if Kafka does not."""
        if self._producer.flush(FLUSH_SECONDS):
            raise SystemExit(f"Kafka did not acknowledge the load within {FLUSH_SECONDS:.0f} s")

    def send_evenly(self, records: Sequence[Generated], rate: float) -> float:
        """Send the records at `rate` a second. Returns by how many seconds the sending was late at most."""
        begun, sent, most_late = time.monotonic(), 0, 0.0
        while sent < len(records):
            now = time.monotonic()
            due = min(int((now - begun) * rate), len(records))
            if due > sent:
                self.send(records[sent:due])
                most_late = max(most_late, time.monotonic() - begun - due / rate)
                sent = due
                self._producer.poll(0)
            time.sleep(max(0.0, STEP_SECONDS - (time.monotonic() - now)))
        return most_late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True, help="with those of --prime")
    parser.add_argument("--prime", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; 0: as fast as possible")
    parser.add_argument("--portfolios", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trades-only", action="store_true")
    given = parser.parse_args()
    records = make_events(given.events, given.portfolios, given.seed, trades_only=given.trades_only)
    gc.freeze()
    print("ready", flush=True)
    sender = Sender(given.bootstrap_servers, given.topic)
    if given.prime:
        sender.send(records[: given.prime])
        sender.settle()
    sys.stdin.readline()
    begun, late = time.monotonic(), 0.0
    if given.rate:
        late = sender.send_evenly(records[given.prime :], given.rate)
    else:
        sender.send(records[given.prime :])
    sender.settle()
    print(msgspec.json.encode(Sent(given.events, time.monotonic() - begun, late)).decode(), flush=True)


if __name__ == "__main__":
    main()
