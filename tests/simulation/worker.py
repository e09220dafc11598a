"""A worker of the simulation: the product's engine, with the life cycle that `faust_host` gives to an engine.

A worker outlives its processes: its disk and its identity stay. `ending` is the error with which a process ended by
itself: an error for the operator, or a bug, which the judge does not forgive.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import errors as kafka_errors

from portfolio_stream.control.job_control import FIRST_START, JobControl
from portfolio_stream.control.values import Generation
from portfolio_stream.errors import BrokerUnreachable, PortfolioStreamError
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.member_name import MemberName, Naming, name_of
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.recent import ROW_BYTES
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.state_memory import StateMemory
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.stored_view import ENTRY_BYTES
from portfolio_stream.jobs.agent import JobAgent, SavepointHeads, SavepointPlace
from portfolio_stream.jobs.exporting import InProcessExporter
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.savepoints.objects import Objects
from tests.judge.ledger import CHANGELOG, DEAD, OUTPUT, SOURCE
from tests.simulation.disk import Disk
from tests.simulation.ledger import FOLD, GROUP, TABLES, LedgerForm, Poisoned, fold_slice
from tests.simulation.loop import Process, SimulatedLoop

CONFIGURATION = Configuration(
    group=GROUP, source_topic=SOURCE, changelog_topic=CHANGELOG, output_topics=(OUTPUT, DEAD), fold=FOLD
)


def first_generation(partitions: int) -> Generation:
    return Generation(
        number=1,
        changelog_topic=CHANGELOG,
        source_topic_id=None,
        partitions=partitions,
        first_offsets={},
        fold=FOLD,
        origin=FIRST_START,
    )


#: little, so that values leave the views all the time, and commits wait for the disk now and then
MEMORY = StateMemory(views=60 * ENTRY_BYTES, block_cache=0, memtables=0, recent_rows=400 * ROW_BYTES)
AWAITING_FOLDS = 0.1  # the share of slices whose fold waits, as an async agent may


class FoldFailed(Exception):
    """A fold fails now and then, e.g. for lack of memory."""


class EncodingFailed(Exception):
    """An encoder fails now and then."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all workers of a world share."""

    connect: Callable[[str], Connections]
    #: the savepoints' place
    objects: Objects
    partitions: int
    standbys: int = 0
    #: seconds between two scheduled savepoints
    savepoint_interval: float | None = None


class SimulatedWorker:
    def __init__(
        self,
        name: str,
        loop: SimulatedLoop,
        random: Random,
        disk: Disk,
        surroundings: Surroundings,
        starts: Callable[[], None],
        ended: Callable[["SimulatedWorker"], None],
    ) -> None:
        self.name = name
        self.disk = disk
        #: the identity's member id, which is part of the transactional id
        self.first_member_id = f"{name}-member-0"
        self.naming = Naming()
        self.process: Process | None = None
        self.engine: Engine | None = None
        self.control: JobControl | None = None
        self.agent: JobAgent | None = None
        #: why the last process ended by itself; None: somebody ended the process, or it left in order
        self.ending: BaseException | None = None
        #: how many slices' folds will fail
        self.failures = 0
        #: how many values will fail to be encoded
        self.encoding_failures = 0
        #: how long the next fold waits
        self.fold_seconds = 0.0
        #: how often the fold of one record alone has failed, by partition and offset
        self.failed_alone: Counter[tuple[int, int]] = Counter()
        self._loop = loop
        self._random = random
        self._surroundings = surroundings
        self._begins = starts
        self._ended = ended
        self._configuration = replace(CONFIGURATION, standbys=surroundings.standbys)
        self._starts = 0
        self._stopping: asyncio.Event | None = None
        #: the stop leaves the worker a member of the group
        self._remains = False

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.is_alive

    @property
    def beside(self) -> list["asyncio.Task[None]"]:
        """The tasks beside the engine, which end with the process only."""
        following = None if self.control is None else self.control.following
        helping = None if self.agent is None else self.agent.task
        return [task for task in (following, helping) if task is not None]

    def start(self) -> None:
        assert not self.is_running
        self._begins()
        self._starts += 1
        self.ending, self.engine, self.control, self.agent, self._remains = None, None, None, None, False
        self.disk.copies.clear()  # as `copies_of` does
        self.process = Process(f"{self.name}#{self._starts}")
        self._loop.thread_seconds.pop(self.process.name, None)
        self._stopping = asyncio.Event()
        self.process.run(self._loop.create_task, self._live(self.process, self._stopping))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process = None

    def stop(self, *, remains: bool = False) -> None:
        """SIGTERM, or with `remains` SIGUSR2."""
        self._remains = remains
        if self._stopping is not None:
            self._stopping.set()

    def renew_identity(self) -> None:
        """The identity file is gone, torn or a copy: the next process is a new member with the old store."""
        self.first_member_id, self.naming = f"{self.name}-member-{self._starts + 1}", Naming()

    @property
    def member_id(self) -> str:
        """The id under which the group knows the worker."""
        return name_of(self.first_member_id, self.naming.renames)

    def take_identity(self, other: "SimulatedWorker") -> None:
        self.first_member_id, self.naming = other.first_member_id, other.naming

    def _keep(self, naming: Naming) -> None:
        self.naming = naming

    async def _live(self, process: Process, stopping: asyncio.Event) -> None:
        identity = Identity(
            member_id=self.first_member_id,
            name=MemberName(self.first_member_id, self.naming, self._keep),
            instance_id=self.name,
            folder=Path(self.name),
            lock=-1,
        )
        store = Store(Path(self.name), self.disk.open, MEMORY)
        connections = self._surroundings.connect(self.name)
        control = self.control = JobControl(connections, group=GROUP, source_topic=SOURCE)
        try:
            await self._take_part(identity, store, connections, control, stopping)
        except PortfolioStreamError as error:
            self.ending = error
        except (Doubt, kafka_errors.KafkaError, OSError) as error:  # as transport.subscribe treats the error
            self.ending = BrokerUnreachable(f"simulated: {error}")
        except Exception as error:  # noqa: BLE001  a bug: the judge decides
            self.ending = error
        if self.agent is not None:
            await self.agent.stop()
        if self.engine is None:
            store.close()
        else:
            await self.engine.close(remains=self._remains and self.ending is None)
        await control.stop()
        process.kill()
        self.process = None
        self._ended(self)

    async def _take_part(
        self,
        identity: Identity,
        store: Store,
        connections: Connections,
        control: JobControl,
        stopping: asyncio.Event,
    ) -> None:
        """Follow the job, as `worker.make_parts` puts a worker together. Raises what ends the worker."""
        await control.open()
        await control.begin_job(first_generation(self._surroundings.partitions))
        orders = await control.follow()
        current = orders.current
        configuration = replace(
            self._configuration, generation=current.generation, changelog_topic=current.changelog_topic
        )
        tables = [replace(table, encode=self._failing(table.encode)) for table in TABLES]
        engine = self.engine = Engine(
            configuration,
            connections,
            identity,
            store,
            tables,
            set_aside,
            orders=orders,
            partition_count=self._surroundings.partitions,
        )
        self.agent = JobAgent(control, engine, self._savepoint_place(control, engine))
        self.agent.start()
        await engine.start()
        await self._run(engine, stopping)

    def _savepoint_place(self, control: JobControl, engine: Engine) -> SavepointPlace:
        objects, copies = self._surroundings.objects, self.disk.copies
        copies.clear()  # as copies_of does
        return SavepointPlace(
            objects=objects,
            exporter=InProcessExporter(objects, copies.pop, LedgerForm()),
            folder=Path(self.name) / "copies",
            head=SavepointHeads(control, engine, "simulated").of,
            interval=self._surroundings.savepoint_interval,
        )

    def _failing(self, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def encode_or_fail(value: Any) -> bytes:
            if self.encoding_failures:
                self.encoding_failures -= 1
                raise EncodingFailed
            return encode(value)

        return encode_or_fail

    async def _run(self, engine: Engine, stopping: asyncio.Event) -> None:
        slices: asyncio.Queue[Slice] = asyncio.Queue()
        agent = asyncio.create_task(self._fold(engine, slices))
        running = asyncio.create_task(engine.run(slices.put))
        asked = asyncio.create_task(stopping.wait())
        await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not running.cancelled():
            self.ending = running.exception()
        await engine.stop(running)
        if not running.cancelled():
            self.ending = running.exception()
        agent.cancel()
        asked.cancel()

    async def _fold(self, engine: Engine, slices: "asyncio.Queue[Slice]") -> None:
        """Fold slices as SliceStream and SliceAgent do."""
        while True:
            piece: Any = await slices.get()
            if not piece.is_current:
                engine.discarded(piece)
                continue
            if self._random.random() < AWAITING_FOLDS:
                await asyncio.sleep(self._random.uniform(0.0, 0.2))
            if self.fold_seconds:
                seconds, self.fold_seconds = self.fold_seconds, 0.0
                await asyncio.sleep(seconds)
            try:
                if self.failures:
                    self.failures -= 1
                    raise FoldFailed
                fold_slice(piece)
            except (Poisoned, FoldFailed) as error:
                if len(piece.records) == 1:
                    self.failed_alone[piece.partition, piece.records[0].offset] += 1
                engine.failed(piece, error)
            else:
                engine.acknowledged(piece)


def set_aside(piece: Slice) -> None:
    append = piece.appender(DEAD)
    for record in piece.records:
        append(record.timestamp, record.key, record.value, ())
