"""A process's connection to the control topic: the newest values, changes, and the orders for an engine.

Two readers read the topic: `follow` reads on and on, and a change must read to the end at its own time.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from aiokafka import errors as kafka_errors

from portfolio_stream.control.change import AsyncDecide, ControlWriter, Decide
from portfolio_stream.control.job_figures import JobFigures
from portfolio_stream.control.job_life import GOES_ON, TRAITS, JobState
from portfolio_stream.control.log import FETCH, ControlLog, Following
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JOB_KEY, ControlChange, Generation, Job, generation_key
from portfolio_stream.errors import ControlUnavailable, cause_of
from portfolio_stream.exactly_once.orders import GivenOrders, Order
from portfolio_stream.kafka.connections import Connections, connected_client
from portfolio_stream.kafka.reach import LOST, bootstrapped
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.observe.ring import Tell, write

FIRST_START = "first start"


def control_topic(group: str) -> str:
    return f"{group}-control"


class JobControl:
    def __init__(self, connections: Connections, *, group: str, source_topic: str, tell: Tell = write) -> None:
        self.group = group
        self.source_topic = source_topic
        self.topic = control_topic(group)
        self._connections = connections
        self._tell = tell
        self._opened = AsyncExitStack()
        #: the task of `follow`, which ends with `stop` only
        self.following: asyncio.Task[None] | None = None
        #: called with the values after each change that `follow` has read
        self.listeners: list[Callable[[ControlState], None]] = []
        #: of the whole job, as far as `follow` has read the topic
        self.figures = JobFigures()

    async def open(self) -> ControlState:
        """Connect, and read the topic to its end. The topic exists. Raises PortfolioStreamError."""
        try:
            self.client = await connected_client(self._connections, self._opened)
            await self.client.set_topics([self.source_topic, self.topic])
            self._log = await self._new_log()
            self._writer = ControlWriter(
                self.client, self._log, group=self.group, topic=self.topic, source_topic=self.source_topic
            )
            return await self._log.read_to_end()
        except (*LOST, kafka_errors.KafkaError) as error:
            await self.stop()
            raise ControlUnavailable(self.topic, cause_of(error)) from error
        except BaseException:
            await self.stop()
            raise

    async def _new_log(self) -> ControlLog:
        reader = self._connections.reader(self.topic, 1, FETCH)
        self._opened.push_async_callback(reader.stop)
        await bootstrapped(reader.start)
        return ControlLog(self.client, reader, self.topic)

    async def stop(self) -> None:
        """Close the connection."""
        if self.following is not None:
            self.following.cancel()
            await asyncio.gather(self.following, return_exceptions=True)
        await self._opened.aclose()

    async def change(self, decide: Decide | AsyncDecide) -> ControlState:
        """See ControlWriter.change."""
        return await self._writer.change(decide)

    async def newest(self) -> ControlState:
        """Read the topic to its end. Raises ControlUnavailable."""
        try:
            return await self._log.read_to_end()
        except (*LOST, kafka_errors.KafkaError) as error:
            raise ControlUnavailable(self.topic, cause_of(error)) from error

    async def begin_job(self, generation: Generation) -> ControlState:
        """Begin the job with its first generation, unless it has begun. Raises ControlUnavailable."""

        def decide(state: ControlState) -> ControlChange | None:
            if state.job is not None:
                return None
            job = Job(state=JobState.RUNNING, revision=1, generation=generation.number, since=time.time())
            return ControlChange(records={generation_key(generation.number): generation, JOB_KEY: job})

        return self._log.state if self._log.state.job is not None else await self.change(decide)

    async def follow(self) -> GivenOrders:
        """Follow the topic from now on. Returns the orders for an engine. The job has begun.

        Raises ControlUnavailable.
        """
        try:
            log = await self._new_log()
            newest = await log.read_to_end()
            orders = GivenOrders(order_of(newest))
        except (*LOST, kafka_errors.KafkaError) as error:
            raise ControlUnavailable(self.topic, cause_of(error)) from error
        self._followed = log
        self.figures.look(newest)

        def changed(state: ControlState) -> None:
            if state.current is not None:  # a topic that was made again is empty until a worker starts
                orders.give(order_of(state))
            self.figures.look(state)
            for listener in self.listeners:
                listener(state)

        self.following = asyncio.create_task(Following(log, changed, self._tell).run(), name="control topic")
        self.following.add_done_callback(log_failure)
        return orders

    @property
    def state(self) -> ControlState:
        """The values as far as `follow` has read them."""
        return self._followed.state


def order_of(state: ControlState) -> Order:
    """The job's order to every engine."""
    job, generation = state.job, state.current
    assert job is not None and generation is not None  # noqa: S101  begin_job writes both
    traits = TRAITS[job.state]
    by = "" if job.operation is None else f" by operation {job.operation}"
    how = f"; {GOES_ON[job.state]}" if job.state in GOES_ON else ""
    return Order(
        is_joined=traits.is_joined,
        generation=generation.number,
        changelog_topic=generation.changelog_topic,
        pauses=traits.pauses,
        is_abandoned=traits.is_abandoned,
        reason=f"the job is {job.state.value}{by}{how}",
    )
