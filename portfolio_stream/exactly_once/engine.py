"""The exactly-once engine, as the web server, Faust and the composition root know it.

1. A slice is acknowledged when its fold is done. A failure in one partition, of its fold or its encoding, drops and
   halts that partition alone (`failures`, `boundary`).
2. Transaction N commits while N+1 folds; the records of N+1 wait in their batches until N is settled (`commits`).
3. On any doubt everything uncommitted is dropped, the coordinator is asked how the last transaction ended, and all
   partitions are recovered from what Kafka has (`doubts`, `recovering`).
4. A partition is given back only after what was read of it is settled (`following`).
5. What holds for a partition stands in the table of its life (`partition_life`).
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Set
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from portfolio_stream.errors import PartitionNotReady
from portfolio_stream.exactly_once.configuration import AssumedTopics, Configuration, TopicSettings
from portfolio_stream.exactly_once.equipment import WriteDeadLetter
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.operations import Operation
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.replay_progress import NO_REPLAYS, Replays
from portfolio_stream.exactly_once.slices import Deliver, Slice
from portfolio_stream.exactly_once.started_engine import StartedEngine
from portfolio_stream.exactly_once.startup import Description, started
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.observe.statistics import Statistics

R = TypeVar("R")

_NO_PARTITIONS: frozenset[int] = frozenset()


class Engine:
    """An engine as it is described, and, after `start`, the started one: `started`."""

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
    ) -> None:
        self.configuration = configuration
        self.events = events or EventRing()
        self.identity = identity
        self.store = store
        self.topic_settings: TopicSettings = topic_settings or AssumedTopics()
        self.statistics = Statistics()
        #: None until the start has succeeded
        self.started: StartedEngine | None = None
        self._description = Description(
            configuration=configuration,
            kafka=kafka,
            identity=identity,
            store=store,
            tables=tables,
            write_dead_letter=write_dead_letter,
            topic_settings=self.topic_settings,
            statistics=self.statistics,
            tell=self.events.tell,
        )
        self._opened = AsyncExitStack()
        self._opened.callback(store.close)
        self._is_closed = False

    # -- life cycle

    async def start(self) -> None:
        """Connect, fence the former process of this identity, join the group. Raises PortfolioStreamError.

        If it raises, everything that it opened is closed, and the store too.
        """
        try:
            made = await started(self._description, self._opened)
            if self._is_closed:  # a stop came amid the start
                await made.close()
                await self._opened.aclose()
                return
            self.started = made
        except BaseException:
            await self.close()
            await self._opened.aclose()  # what was opened after a stop had closed the rest
            raise

    async def run(self, deliver: Deliver) -> None:
        """Run until `stop`. Raises PortfolioStreamError when this worker must end; nothing uncommitted is kept then."""
        assert self.started is not None, "an engine runs after its start"  # noqa: S101
        await self.started.main_loop.run(deliver)

    async def stop(self, running: "asyncio.Task[None] | None") -> None:
        """Let `running`, the task of run(), commit what is folded and return, or end it in doubt."""
        if self.started is not None:
            await self.started.stop(running)

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
                await self._opened.aclose()
            is_settled = self._is_settled_at_stop
            self.events.tell(
                told.EngineStopped(instance=self.identity.instance_id, is_settled=is_settled, remains=remains)
            )
        return self._is_settled_at_stop

    @property
    def _is_settled_at_stop(self) -> bool:
        return self.started is None or self.started.signals.is_settled_at_stop

    # -- what the web server asks

    @property
    def partition_count(self) -> int:
        """Partitions of the source topic; 0 before the start."""
        return 0 if self.started is None else len(self.started.partitions)

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that this worker tells the coordinator it owns."""
        return _NO_PARTITIONS if self.started is None else self.started.partitions.owned

    @property
    def served(self) -> Set[int]:
        """Partitions whose tables are served. None while the engine closes: the store may be closed already."""
        return _NO_PARTITIONS if self.started is None or self._is_closed else self.started.partitions.served

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
            raise PartitionNotReady(operation.partition, "on a worker that starts or stops")
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
