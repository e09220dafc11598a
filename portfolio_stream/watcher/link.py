"""A Kafka client that may connect late, and from then on for good: the watcher starts before Kafka, and outlives it.

A client that has connected once finds moved brokers by itself (kafka/rebootstrap.py).
"""

from contextlib import AsyncExitStack

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError

from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.settings import Settings

ANSWER_MS = 1_500  # a healthy broker answers in milliseconds. The connection to a broker that stands still is closed
CLIENT_ID = "portfolio-stream-watcher"  # not of a worker's form: nobody asks it for a partition


class KafkaLink:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AIOKafkaClient | None = None
        self._opened = AsyncExitStack()

    async def client(self) -> AIOKafkaClient:
        """Returns the client, which knows the leaders of all topics. Connects if it never has.

        Raises the errors of `connected`, and NodeNotReadyError.
        """
        if self._client is None:
            options = client_options(self._settings) | {"client_id": CLIENT_ID}
            client = AIOKafkaClient(**options, request_timeout_ms=ANSWER_MS)
            await self._opened.enter_async_context(connected(self._settings, client))
            self._client = client
            await client.force_metadata_update()
        if not self._client.cluster.brokers():
            raise NodeNotReadyError("no broker is known")
        return self._client

    async def stop(self) -> None:
        await self._opened.aclose()
