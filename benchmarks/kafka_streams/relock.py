"""Write kafka-streams.lock again: `python -m benchmarks.kafka_streams.relock`. Needed when KAFKA_VERSION changes."""

from benchmarks.peer_programs import KAFKA_STREAMS_LOCK
from portfolio_stream.files import write_atomically
from portfolio_stream.kafka.tools.jars import KAFKA_VERSION
from portfolio_stream.kafka.tools.relock import resolve

if __name__ == "__main__":
    jars = resolve([f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}!"])
    write_atomically(KAFKA_STREAMS_LOCK, "".join(f"{jar}\n" for jar in jars).encode("ascii"))
