"""Faust's transport. Its consumer is the engine.

The transport tells Faust once that the worker owns every partition. Only the engine knows the real ownership. Faust's
own bookkeeping of offsets, commits, acknowledgements and rebalances has nothing to do and stays idle.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from aiokafka import errors as kafka_errors
from faust.transport import base
from faust.transport.consumer import Consumer
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from portfolio_stream.errors import BrokerUnreachable, EngineFailed, ForeignTopicRead, PortfolioStreamError
from portfolio_stream.exactly_once.identity import resign
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.faust_host.stream import Handful

log = logging.getLogger(__name__)


class EngineConsumer(Consumer):
    """Run the engine's loop where Faust would fetch messages."""

    logger = log
    _running: asyncio.Task[None] | None = None
    _stopped_engine = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._handful = Handful()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Make and start the engine. If that fails, end the worker, and log the error's cause and operator action."""
        try:
            self.engine = await self.app.make_engine()
            self._refuse_other_topics(set(topics) - self.app.tables.changelog_topics)
            await self.engine.start()
        except PortfolioStreamError as error:
            self._end_worker(error)
            return
        except (Doubt, kafka_errors.KafkaError, OSError) as error:  # the brokers went away while it started
            log.error("start failed error=%s reason=%s", type(error).__name__, error)
            self._end_worker(BrokerUnreachable(self.app.bootstrap_servers))
            return
        self._introduction = asyncio.create_task(self._introduce())

    def _refuse_other_topics(self, topics: set[str]) -> None:
        source = self.engine.configuration.source_topic
        strangers = {topic for topic in topics if topic != source and not topic.endswith("__assignor-__leader")}
        if strangers:
            raise ForeignTopicRead(", ".join(sorted(strangers)), source)

    async def _introduce(self) -> None:
        app = self.app
        app.consumer_generation_id = 1
        app.on_rebalance_start()
        source = self.engine.configuration.source_topic
        await self.on_partitions_assigned({TP(source, p) for p in range(self.engine.partition_count)}, 1)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Run the engine. Faust's fetcher service calls this method when tables and streams are ready."""
        self._running = asyncio.create_task(self._run(), name="engine")
        await asyncio.wait((self._running,))

    async def _run(self) -> None:
        try:
            await self.engine.run(self._deliver)
        except PortfolioStreamError as error:
            self._end_worker(error)
        except Exception as error:  # a bug: a worker without its engine must not stay in the group
            log.exception("engine failed error=%s", type(error).__name__)
            self._end_worker(EngineFailed(error))

    def _end_worker(self, error: PortfolioStreamError) -> None:
        self.app.fail(error)
        os.kill(os.getpid(), signal.SIGTERM)  # a worker stops in order at SIGTERM

    async def _deliver(self, piece: Slice) -> None:
        """Add the slice to the message that is on its way to the stream, or send a message."""
        handful = self._handful
        handful.append(piece)
        if handful.is_on_its_way:
            return
        handful.is_on_its_way = True
        source, last = self.engine.configuration.source_topic, piece.records[-1]
        await self.callback(
            ConsumerMessage(
                source,
                piece.partition,
                last.offset,
                last.timestamp / 1000,
                0,
                None,
                None,
                handful,
                None,
                0,
                0,
                TP(source, piece.partition),
                generation_id=1,
            )
        )

    async def stop_engine(self) -> None:
        """Commit what was folded, and leave the group unless the app remains a member.

        If a transaction stays in doubt, the exit code is 1. A worker that ends with an error leaves.
        """
        engine = self.app.engine
        if self._stopped_engine or engine is None:
            return
        self._stopped_engine = True
        await engine.stop(self._running)
        remains = self.app.remains_at_stop and self.app.failure is None
        is_settled = await engine.close(remains=remains)
        if is_settled and not remains:
            resign(engine.identity)
        if not is_settled and self.app.exit_code == 0:
            self.app.exit_code = 1

    # -- methods that Faust calls; their answers decide nothing

    def assignment(self) -> set[TP]:
        if self.app.engine is None or self._stopped_engine:
            return set()
        source = self.engine.configuration.source_topic
        return {TP(source, partition) for partition in self.engine.owned}

    def topic_partitions(self, topic: str) -> int | None:
        return self.engine.partition_count if topic == self.engine.configuration.source_topic else None

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> None:
        return None

    def highwater(self, tp: TP) -> int:
        return 0

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        return partition

    def close(self) -> None:
        return None

    async def on_stop(self) -> None:
        return None

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        return None

    async def _getmany(self, active_partitions: Any, timeout: float) -> Mapping[TP, Any]:
        return {}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return {}

    async def position(self, tp: TP) -> int | None:
        return None

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        return None

    async def _seek(self, partition: TP, offset: int) -> None:
        return None

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return {}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True

    async def commit(self, *args: Any, **kwargs: Any) -> bool:
        return True

    async def wait_empty(self) -> None:
        return None

    async def perform_seek(self) -> None:
        return None

    async def verify_all_partitions_active(self) -> None:
        return None

    async def commit_and_end_transactions(self) -> None:
        return None


class Transport(base.Transport):
    """The transport of `broker="exactly-once://"`. The engine's configuration says where Kafka is."""

    Consumer: ClassVar[type] = EngineConsumer
    default_port = 9092
    driver_version = "portfolio_stream.exactly_once"
