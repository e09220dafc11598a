"""A history that the judge follows while it grows, read with stock clients: for runs too long to be read as a whole."""

import asyncio
from collections.abc import Iterator, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from portfolio_stream.load.events import Generated
from portfolio_stream.settings import Settings
from tests.integration.histories import partition_of_record
from tests.judge.histories import PartitionHistory

POLL_MS = 50


class FollowedHistory:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.partitions = [
            PartitionHistory(partition, settings.partitions, settings.deduplication_window)
            for partition in range(settings.partitions)
        ]
        #: nothing more is taken to be sent
        self.is_resting = False

    def tap(self, records: Iterator[Generated]) -> Iterator[Generated]:
        """The records, noted as they are taken to be sent, until it rests; another may go on with what is left."""
        while not self.is_resting:
            made = next(records)
            self.partitions[partition_of_record(made, len(self.partitions))].add_sent(made.key, made.value)
            yield made

    @property
    def anomalies(self) -> list[str]:
        return [anomaly for one in self.partitions for anomaly in one.anomalies]

    def sent(self) -> Mapping[int, int]:
        """Records by partition."""
        return {one.partition: one.sent for one in self.partitions}

    def has_outputs_behind(self, sent: Mapping[int, int]) -> bool:
        """Every partition has an output of a record that was sent later."""
        return all(one.newest >= sent[one.partition] for one in self.partitions)

    def is_answered(self, sent: Mapping[int, int]) -> bool:
        return all(one.is_answered(sent[one.partition]) for one in self.partitions)

    async def read(self) -> None:
        """Follow source, outputs and dead letters from their beginnings; until cancelled."""
        settings = self._settings
        adders = {
            settings.input_topic: PartitionHistory.add_source,
            settings.output_topic: PartitionHistory.add_output,
            settings.dlq_topic: PartitionHistory.add_dead_letter,
        }
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # a reader that starts anew by itself would see duplicates or gaps of its own
            max_partition_fetch_bytes=4 << 20,
        )
        async with consumer:
            places = [TopicPartition(topic, one.partition) for topic in adders for one in self.partitions]
            consumer.assign(places)
            for place in places:
                consumer.seek(place, 0)
            while True:
                for place, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    for record in records:
                        adders[place.topic](self.partitions[place.partition], record)
                await asyncio.sleep(0)
