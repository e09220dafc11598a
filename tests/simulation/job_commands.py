"""Commands of the operator of the job, each in a process of its own: `portfolio-stream job stop` and its like.

A command can be killed before any of its steps, and its requests are lost, late or without an answer as any others.
What a command says at its end must be what the control topic says: done is done, and refused is nothing.
"""

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JobOperation, OperationKind
from portfolio_stream.errors import ControlUnavailable, PortfolioStreamError
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.cluster import JobCluster
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.switch import Switcher
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.savepoints.manifest import new_id
from portfolio_stream.savepoints.objects import Objects
from tests.judge.jobs import FINAL, JobJudge
from tests.judge.ledger import SOURCE
from tests.judge.transactions import Anomaly
from tests.simulation.kafka.network import Link
from tests.simulation.ledger import GROUP
from tests.simulation.loop import Process, SimulatedLoop

LOSSY, LATE = 0.2, 0.15  # the share of commands with lost answers, and of those with a late request
REPLY_LOSS = 0.15
LATE_SECONDS = 15.0  # at most
SAVEPOINT_SECONDS = 60.0  # then a savepoint fails
STARTED = 0.7  # the share of the switches after which the job runs, whatever it did before
MOST_OFFSET, MOST_BACK = 600, 400  # of a reset
LATE_REQUESTS = ("EndTxn", "Produce", "InitProducerId")


def hurt(link: Link, random: Random) -> None:
    """Let the requests of some commands be lost or late."""
    chance = random.random()
    if chance < LOSSY:
        link.reply_loss = REPLY_LOSS
    elif chance < LOSSY + LATE:
        link.hold(random.choice(LATE_REQUESTS), random.uniform(0.5, LATE_SECONDS))


class Deed(Enum):
    """What a command asks for."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    CANCEL = "cancel"
    START = "start"
    SAVEPOINT = "savepoint"
    STOP_WITH_SAVEPOINT = "stop with a savepoint"
    DRAIN = "drain, and stop with a savepoint"
    RESTORE = "restore"
    FRESH = "fresh"
    RESET = "reset"
    ADOPT = "adopt"
    ROLLBACK = "rollback"

    @property
    def is_switch(self) -> bool:
        return self in (Deed.RESTORE, Deed.FRESH, Deed.RESET, Deed.ADOPT, Deed.ROLLBACK)


@dataclass(frozen=True, kw_only=True)
class Places:
    """What the commands reach."""

    connections: Connections
    cluster: JobCluster
    objects: Objects
    configuration: Configuration


class SimulatedCommand:
    def __init__(self, name: str, deed: Deed, loop: SimulatedLoop, random: Random, places: Places) -> None:
        self.name = name
        self.deed = deed
        self.process = Process(name)
        #: the operation that the command asked for, as soon as it has an id
        self.asked: str | None = None
        #: what the command says at its end: an operation or an error; None: it was killed, or is not over
        self.said: JobOperation | BaseException | None = None
        self._loop = loop
        self._random = random
        self._places = places

    def start(self, dies_at: int | None = None) -> None:
        self.process.dies_at = dies_at
        self.process.run(self._loop.create_task, self._live())

    @property
    def is_running(self) -> bool:
        return self.process.is_alive

    async def _live(self) -> None:
        control = JobControl(self._places.connections, group=GROUP, source_topic=SOURCE)
        try:
            await control.open()
            self.said = await self._work(control)
        except Exception as error:  # noqa: BLE001  the judge decides
            self.said = error
        await control.stop()
        self.process.kill()

    async def _work(self, control: JobControl) -> JobOperation:
        if self.deed.is_switch:
            return await self._switched(control)
        if self.deed is Deed.SAVEPOINT:
            return await self._followed(
                control, await asking.begin_savepoint(control, self._ask(OperationKind.SAVEPOINT, reason="asked"))
            )
        if self.deed in (Deed.STOP_WITH_SAVEPOINT, Deed.DRAIN):
            drain = {"drain": await asking.source_ends(control)} if self.deed is Deed.DRAIN else {}
            wanted = self._ask(OperationKind.STOP, reason="stop", **drain)
            return await self._followed(control, await asking.begin_stop_with_savepoint(control, wanted))
        wanted = asking.asked(OperationKind(self.deed.value), self.name)
        self.asked = wanted.id
        return await asking.change_at_once(control, wanted)

    async def _switched(self, control: JobControl) -> JobOperation:
        places = self._places
        async with Switcher(
            control, places.connections, places.cluster, places.objects, places.configuration
        ) as switcher:
            wanted = self._wanted(await control.newest())
            plan = await switcher.preview(wanted)
            then = JobState.RUNNING if self._random.random() < STARTED else None
            return await switcher.carry_out(wanted, plan, by=self.name, then=then)

    def _wanted(self, state: ControlState) -> Wanted:
        kind = OperationKind(self.deed.value)
        if kind is OperationKind.ROLLBACK:
            return Wanted(kind, generation=self._random.choice(state.generations).number)
        if kind is OperationKind.RESET:
            partitions = range(0 if state.current is None else state.current.partitions)
            some = {partition: self._random.randrange(MOST_OFFSET) for partition in partitions}
            return self._random.choice(
                (
                    Wanted(kind, to_earliest=True),
                    Wanted(kind, by=-self._random.randrange(1, MOST_BACK)),
                    Wanted(kind, offsets=dict(list(some.items())[: self._random.randint(1, len(some))])),
                )
            )
        return Wanted(kind, savepoint="latest" if kind is OperationKind.RESTORE else None)

    def _ask(self, kind: OperationKind, **arguments: Any) -> asking.Asked:
        """Ask for something with a savepoint."""
        wanted = asking.asked(kind, self.name, savepoint=new_id(), seconds=SAVEPOINT_SECONDS, **arguments)
        self.asked = wanted.id
        return wanted

    async def _followed(self, control: JobControl, operation: JobOperation) -> JobOperation:
        newest = operation
        async for newest, _ in asking.follow(control, operation.id):  # noqa: B007  the last one is over
            pass
        return newest

    def check(self, jobs: JobJudge) -> None:
        """Compare what the command said with what the control topic has. A killed command has said nothing."""
        said = self.said
        known = None if self.asked is None else jobs.operations.get(self.asked)
        if isinstance(said, JobOperation):
            if said.state.value not in FINAL or (known is not None and known["state"] != said.state.value):
                raise Anomaly(f"{self.name} said that {said.id} is {said.state.value}, which is {known}")
        elif isinstance(said, ControlUnavailable):
            return  # what it asked for is done, or not
        elif isinstance(said, PortfolioStreamError):
            if known is not None and known["state"] not in ("failed", "cancelled"):
                raise Anomaly(f"{self.name} said {said}, and its operation is {known}")
        elif said is not None:
            raise Anomaly(f"{self.name} ended with {type(said).__name__}: {said}")
