"""The simulated Kafka, in a simulated loop."""

import asyncio
from collections.abc import Mapping
from random import Random

from portfolio_stream.kafka.connections import Connections
from tests.conformance.scenario import Observed, Scenario
from tests.simulation.kafka.cluster import MAX_MESSAGE_BYTES, SimulatedKafka
from tests.simulation.kafka.transactions import Pair
from tests.simulation.loop import SimulatedLoop, simulate

DOWN_SECONDS = 5.0


class ConformingKafka:
    def __init__(self, kafka: SimulatedKafka) -> None:
        self.kafka = kafka
        kafka.forgetfulness = 0.0  # a real coordinator forgets too rarely for a scenario
        self._names = 0

    @property
    def connections(self) -> Connections:
        return self.kafka.connections("scenario")

    def unique(self, name: str) -> str:
        self._names += 1
        return f"{name}-{self._names}"

    async def create_topic(self, partitions: int, settings: Mapping[str, str] | None = None, name: str = "") -> str:
        name = name or self.unique("topic")
        most = (settings or {}).get("max.message.bytes", MAX_MESSAGE_BYTES)
        self.kafka.create_topic(name, partitions, int(most))
        return name

    async def delete_topic(self, topic: str) -> None:
        self.kafka.delete_topic(topic)

    async def trim(self, topic: str, start: int) -> None:
        self.kafka.logs[topic, 0].trim(start)

    async def compact(self, topic: str) -> None:
        self.kafka.compact(topic, 0)

    async def restart(self) -> None:
        for node in self.kafka.nodes:
            self.kafka.kill_broker(node)
        await asyncio.sleep(DOWN_SECONDS)
        for node in self.kafka.nodes:
            self.kafka.start_broker(node)

    async def kill(self, node: int) -> None:
        self.kafka.kill_broker(node)

    async def start(self, node: int) -> None:
        self.kafka.start_broker(node)
        await asyncio.sleep(DOWN_SECONDS)

    async def set_epochs(self, epochs: Mapping[str, int]) -> None:
        for name, epoch in epochs.items():
            known = self.kafka.transactions.get(name)
            assert known is not None
            known.pair = Pair(known.pair.producer_id, epoch)
        await self.restart()


def observe(scenario: Scenario, version: str = "", seed: int = 0) -> Observed:
    """The observation on the simulated Kafka of that version."""

    async def main(loop: SimulatedLoop) -> Observed:
        kafka = SimulatedKafka(Random(f"kafka {seed} {scenario.name}"), scenario.brokers)
        kafka.is_4_0 = version == "4.0"
        return await scenario.run(ConformingKafka(kafka))

    return simulate(main, Random(f"{seed} {scenario.name}"))
