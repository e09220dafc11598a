"""Records this worker's parts of the checkpoints, beside the engine. No failure here stops the worker.

1. A task looks at the engine when a checkpoint begins, and then again and again until the worker's parts have ended.
   Another task asks the store for its size, once in an interval.
2. A third task writes the parts to the topic GROUP-checkpoints, idempotently and outside of the engine's transactions.
   If Kafka takes none, the parts wait, the newest one of each key, and are written later.
3. The history comes from the topic alone, also this worker's own parts.
"""

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from portfolio_stream.checkpoints.history import History
from portfolio_stream.checkpoints.looks import looks_at
from portfolio_stream.checkpoints.parts import CheckpointPart, encode
from portfolio_stream.checkpoints.state_size import StateSize, apportioned
from portfolio_stream.checkpoints.tracker import Instant, Tracker
from portfolio_stream.errors import PortfolioStreamError, StoreFailed
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.follower import Follower
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.settings import Settings

outage_log = sparing(__name__)

#: seconds until the next look, by the age of the newest checkpoint in progress: a part's duration is as exact as this
LOOKS = ((1.0, 0.01), (5.0, 0.05))
SHORTEST_REST_SECONDS = 0.001
SLOWEST_LOOK_SECONDS = 0.5  # also how late a clock that is put forward is seen
ANSWER_SECONDS = 30.0  # for a record, then it is written again by another producer
PAUSE_SECONDS = 1.0  # after a failure
STOP_SECONDS = 0.2  # for the producer; a worker has 5 s to end, and its engine needs 3 s of these


class Recorder:
    def __init__(self, engine: Engine, settings: Settings, history: History) -> None:
        self._engine = engine
        self._settings = settings
        self._history = history
        self._follower = Follower(settings, settings.checkpoints_topic, history)
        self._tracker = Tracker(engine.identity.instance_id, settings.checkpoint_interval, settings.checkpoint_timeout)
        #: of the partitions that the store has, as of the last time that the store was asked
        self._sizes: Mapping[int, StateSize] = {}
        #: parts that Kafka does not have yet, by key
        self.waiting: dict[bytes, CheckpointPart] = {}
        self._has_more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._follower.start()
        self._tasks = [
            asyncio.create_task(self._look(), name="checkpoints"),
            asyncio.create_task(self._measure(), name="state size"),
            asyncio.create_task(self._write(), name="write checkpoints"),
        ]
        for task in self._tasks:
            task.add_done_callback(log_failure)

    async def stop(self) -> None:
        """Parts that are not written are given up: the worker must end soon."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in running:  # a producer waits for the answers of a broker that is away
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._follower.stop()

    async def _look(self) -> None:
        while True:
            now = Instant(time.time(), time.monotonic())
            for part in self._news(now):
                self.waiting[part.key] = part
                self._has_more.set()
            await asyncio.sleep(self._rest(now))

    def _news(self, now: Instant) -> list[CheckpointPart]:
        engine = self._engine
        looks = {} if engine.started is None else looks_at(engine.started, engine.statistics, self._sizes)
        return self._tracker.step(now, looks, engine.partition_count, self._history.recent())

    async def _measure(self) -> None:
        engine = self._engine
        while True:
            try:
                held = [one for one in range(engine.partition_count) if engine.store.position(one) is not None]
                self._sizes = apportioned(await engine.store.extents(), held)
            except StoreFailed as error:  # the engine ends the worker if it needs the store
                outage_log.info("state size unknown error=%s", error.cause)
            await asyncio.sleep(self._settings.checkpoint_interval)

    def _rest(self, now: Instant) -> float:
        age, until_next = self._tracker.age(now), self._tracker.seconds_until_next(now.wall)
        pauses = (pause for limit, pause in LOOKS if age is not None and age < limit)
        return max(SHORTEST_REST_SECONDS, min(next(pauses, SLOWEST_LOOK_SECONDS), until_next))

    async def _write(self) -> None:
        while True:
            await self._has_more.wait()
            try:
                producer = AIOKafkaProducer(**client_options(self._settings), enable_idempotence=True)
                async with connected(self._settings, producer):
                    while True:
                        await self._has_more.wait()
                        await self._send(producer)
            except (PortfolioStreamError, KafkaError, OSError, TimeoutError) as error:
                outage_log.info("checkpoint not written error=%s", error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, producer: AIOKafkaProducer) -> None:
        """Write all waiting parts. A part waits on if Kafka does not take it."""
        self._has_more.clear()
        topic, sent = self._settings.checkpoints_topic, dict(self.waiting)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = [await producer.send(topic, encode(part), key, partition=0) for key, part in sent.items()]
                await asyncio.gather(*answers)
        except BaseException:
            self._has_more.set()
            raise
        for key, part in sent.items():
            if self.waiting.get(key) is part:
                del self.waiting[key]
