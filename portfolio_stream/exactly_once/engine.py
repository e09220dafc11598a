"""The exactly-once engine, as the web server, Faust and the composition root know it.

1. A slice is acknowledged when its fold is done. A failure in one partition, of its fold or its encoding, drops and
   halts that partition alone (`failures`, `boundary`).
2. Transaction N commits while N+1 folds; the records of N+1 wait in their batches until N is settled (`commits`).
3. On any doubt everything uncommitted is dropped, the coordinator is asked how the last transaction ended, and all
   partitions are recovered from what Kafka has (`doubts`, `recovering`).
4. A partition is given back only after what was read of it is settled (`following`).
5. A job that is stopped leaves its engines as they are, but out of the group (`orders`).
6. What holds for a partition stands in the table of its life (`partition_life`).
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Set
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import BrokerUnreachable, PartitionNotReady
from portfolio_stream.exactly_once.configuration import AssumedTopics, Configuration, TopicSettings
from portfolio_stream.exactly_once.equipment import WriteDeadLetter
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.operations import Operation
from portfolio_stream.exactly_once.orders import GenerationReplaced, GivenOrders, Order, Orders
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.replay_progress import NO_REPLAYS, Replays
from portfolio_stream.exactly_once.signals import cancelled
from portfolio_stream.exactly_once.slices import Deliver, Slice
from portfolio_stream.exactly_once.started_engine import StartedEngine
from portfolio_stream.exactly_once.startup import Description, started
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.observe.statistics import Statistics

R = TypeVar("R")

JOIN_AGAIN_SECONDS = 1.0  # between two tries to take part in a job that was started while the brokers are away

#: the places of a source record between its fetch and its commit, in order
NO_QUEUES = {"fetched": 0, "folding": 0, "open": 0, "committing": 0}

_NO_PARTITIONS: frozenset[int] = frozenset()


class Engine:
    """An engine that takes part in a job, and leaves it, as the job's orders say. Its store stays open meanwhile."""

    def __init__(
        self,
        configuration: Configuration,
        kafka: Connections,
        identity: Identity,
        store: Store,
        tables: Collection[TableDefinition[Any]],
        write_dead_letter: WriteDeadLetter | None = None,
        topic_settings: TopicSettings | None = None,
        events: EventRing | None = None,
        orders: Orders | None = None,
        partition_count: int = 0,
    ) -> None:
        """`partition_count`: of the source topic, if it is known before the first start."""
        #: with the generation of the newest start
        self.configuration = configuration
        self.events = events or EventRing()
        self.identity = identity
        self.store = store
        self.topic_settings: TopicSettings = topic_settings or AssumedTopics()
        self.statistics = Statistics()
        #: None while this engine takes no part in the job
        self.started: StartedEngine | None = None
        standing = Order(
            is_joined=True, generation=configuration.generation, changelog_topic=configuration.changelog_topic
        )
        self._orders: Orders = orders or GivenOrders(standing)
        self._partition_count = partition_count
        self._kafka = kafka
        self._tables = tables
        self._write_dead_letter = write_dead_letter
        #: orders of an older generation are not followed
        self._least_generation = 0
        self._stopping = asyncio.Event()
        #: what was opened to take part in the job
        self._joined = AsyncExitStack()
        self._is_closed = False

    # -- life cycle

    async def start(self) -> None:
        """Take part in the job, if its orders say so. Raises PortfolioStreamError.

        If it raises, everything that it opened is closed, and the store too.
        """
        try:
            order = self._orders.current
            if order.is_joined:
                await self._join(order)
        except BaseException:
            await self.close()
            raise

    async def run(self, deliver: Deliver) -> None:
        """Follow the job's orders until `stop`. Raises PortfolioStreamError when this worker must end.

        Nothing uncommitted is kept then.
        """
        while not self._stopping.is_set():
            if self.started is not None:
                await self._take_part(self.started, deliver)
                continue
            order = self._orders.current
            if not order.is_joined or order.generation < self._least_generation:
                await self._until_other(order)
            else:
                await self._join_again(order)

    async def stop(self, running: "asyncio.Task[None] | None") -> None:
        """Let `running`, the task of run(), commit what is folded and return, or end it in doubt."""
        self._stopping.set()
        if self.started is not None:
            await self.started.stop(running)
        elif running is not None:
            await cancelled(running)  # it waits for orders, or for a start

    async def close(self, *, remains: bool = False) -> bool:
        """Leave the group and close everything. True if nothing was left in doubt. A second call only tells that.

        With `remains` the worker stays a member: its next process goes on with the same partitions.
        """
        if not self._is_closed:
            self._is_closed = True
            try:
                if self.started is not None:
                    await self.started.close(remains=remains)
            finally:  # a coordinator may refuse the goodbye
                await self._joined.aclose()
                self.store.close()
            is_settled = self._is_settled_at_stop
            self.events.tell(
                told.EngineStopped(instance=self.identity.instance_id, is_settled=is_settled, remains=remains)
            )
        return self._is_settled_at_stop

    async def _join(self, order: Order) -> None:
        """Connect, fence the former process of this identity, join the group, with the order's generation.

        Raises PortfolioStreamError. If it raises, everything that it opened is closed, but the store is not.
        """
        self.configuration = replace(
            self.configuration, generation=order.generation, changelog_topic=order.changelog_topic
        )
        try:
            await self.topic_settings.follow(order.changelog_topic)
            made = await started(self._description(), self._joined)
            if self._is_closed:  # a stop came amid the start
                await made.close()
                await self._joined.aclose()
                return
            self.started = made
        except BaseException:
            await self._joined.aclose()
            raise

    def _description(self) -> Description:
        return Description(
            configuration=self.configuration,
            kafka=self._kafka,
            identity=self.identity,
            store=self.store,
            tables=self._tables,
            write_dead_letter=self._write_dead_letter,
            topic_settings=self.topic_settings,
            statistics=self.statistics,
            tell=self.events.tell,
        )

    async def _join_again(self, order: Order) -> None:
        """Join after the job was stopped. If the brokers are away, wait a little: the next turn of `run` tries again.

        Raises PortfolioStreamError.
        """
        try:
            await self._join(order)
        except (BrokerUnreachable, Doubt, kafka_errors.KafkaError, OSError) as error:
            self.events.tell(told.StartPostponed(error=type(error).__name__, reason=str(error)))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), JOIN_AGAIN_SECONDS)

    async def _until_other(self, order: Order) -> None:
        """Wait until the order is another one, or until a stop."""
        waiting = [asyncio.ensure_future(self._orders.after(order)), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*waiting)

    async def _take_part(self, made: StartedEngine, deliver: Deliver) -> None:
        """Run the main loop until a stop, or until the order is to leave. Then leave, and keep the store."""
        running = asyncio.create_task(made.main_loop.run(deliver), name="main loop")
        leaving = asyncio.create_task(self._until_leaving(made), name="orders")
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                order = leaving.result()
                await made.stop(running, abandons=order.is_abandoned)
            if not running.cancelled():
                running.result()
        except GenerationReplaced as replaced:
            self._least_generation = replaced.generation
            known = self.configuration.generation
            self.events.tell(told.GenerationNotKnown(generation=known, newest=replaced.generation))
        finally:
            await cancelled(leaving, running)
        if not self._stopping.is_set():
            await made.close()
            self.started = None
            await self._joined.aclose()

    async def _until_leaving(self, made: StartedEngine) -> Order:
        """Follow the orders that leave this engine a member. Returns the first other one."""
        order = self._orders.current
        while order.is_joined and order.generation == self.configuration.generation:
            order = await self._other_while_pausing(made, order)
            self.events.tell(
                told.OrderFollowed(
                    is_joined=order.is_joined, pauses=order.pauses, generation=order.generation, reason=order.reason
                )
            )
        return order

    async def _other_while_pausing(self, made: StartedEngine, order: Order) -> Order:
        """Pause what the order says, and wait for another order. A fold that hangs must not keep that one away."""
        other = asyncio.ensure_future(self._orders.after(order))
        pausing = asyncio.create_task(made.pause(order.pauses), name="pausing")
        try:
            await asyncio.wait((other, pausing), return_when=asyncio.FIRST_COMPLETED)
            if pausing.done():
                pausing.result()
                await other
            return other.result()
        finally:
            await cancelled(other, pausing)

    @property
    def _is_settled_at_stop(self) -> bool:
        return self.started is None or self.started.signals.is_settled_at_stop

    # -- what the web server asks

    @property
    def partition_count(self) -> int:
        """Partitions of the source topic; 0 if it is not known before the start."""
        return self._partition_count if self.started is None else len(self.started.partitions)

    @property
    def away(self) -> str | None:
        """Why this engine takes no part in the job; None if it does, or is about to."""
        order = self._orders.current
        if self.started is not None:
            return None
        if not order.is_joined:
            return order.reason
        if order.generation < self._least_generation:
            newest = self._least_generation
            return f"the group is at generation {newest}, which the job's control topic does not name yet"
        return None

    @property
    def order(self) -> Order:
        """What the job wants of this engine now."""
        return self._orders.current

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that this worker tells the coordinator it owns."""
        return _NO_PARTITIONS if self.started is None else self.started.partitions.owned

    @property
    def served(self) -> Set[int]:
        """Partitions whose tables are served. None while the engine closes: the store may be closed already."""
        return _NO_PARTITIONS if self.started is None or self._is_closed else self.started.partitions.served

    @property
    def paused(self) -> frozenset[int]:
        """Partitions that are not read because an operator paused them. Their tables are served."""
        return _NO_PARTITIONS if self.started is None else self.started.partitions.paused

    @property
    def halted(self) -> Mapping[int, Halted]:
        """Partitions that wait for an operator, with the reason."""
        return {} if self.started is None else self.started.partitions.halted

    @property
    def replays(self) -> Replays:
        """The replays of partitions that this worker recovers."""
        return NO_REPLAYS if self.started is None else self.started.replays()

    @property
    def is_warming(self) -> bool:
        """The worker waits with its join until the stores of its standbys are nearly up to date."""
        return self.started is not None and self.started.standbys.is_warming

    def standbys(self) -> dict[int, int]:
        """How many changelog records each partition is behind that this worker follows without owning it."""
        return {} if self.started is None or self._is_closed else self.started.standbys.behind()

    def outputs_to_repeat(self) -> dict[int, int]:
        """At most how many outputs that stand already are left to compare, by owned partition."""
        return {} if self.started is None else self.started.repeats.left()

    def queues(self) -> dict[str, int]:
        """Source records between a fetch and the end of their commit, by where they are."""
        return NO_QUEUES if self.started is None else self.started.queues()

    @property
    def progress(self) -> float:
        """Monotonic seconds of the main loop's last turn."""
        return time.monotonic() if self.started is None else self.started.signals.progress

    def lag(self) -> dict[int, int]:
        """Records between the committed position and the last stable offset, of the partitions that are served."""
        return {} if self.started is None else self.started.lag()

    async def ask(self, operation: Operation[R]) -> R:
        """Have an operator's `operation` carried out between two transactions (see `operations`).

        Raises what the operation's class names, OutcomeUnknown, and PartitionNotReady before the start.
        """
        if self.started is None or self._is_closed:
            away = self.away
            state = "on a worker that starts or stops" if away is None else f"away: {away}"
            raise PartitionNotReady(min(operation.concerned()), state)
        return await self.started.interpreter.ask(operation)

    # -- what the agent's side reports

    def acknowledged(self, piece: Slice) -> None:
        """The fold is done with the slice."""
        if self.started is not None:
            self.started.folding.acknowledged(piece)

    def discarded(self, piece: Slice) -> None:
        """The slice became void before its fold began."""
        if self.started is not None:
            self.started.folding.discarded(piece)

    def failed(self, piece: Slice, error: BaseException) -> None:
        """The fold raised `error`: nothing of this slice may be committed."""
        if self.started is not None:
            self.started.folding.failed(piece, error)
