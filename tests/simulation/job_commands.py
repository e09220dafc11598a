"""Commands of the operator of the job, each in a process of its own: `portfolio-stream job stop` and its like.

A command can be killed before any of its steps, and its requests are lost, late or without an answer as any others.
What a command says at its end must be what the control topic says: done is done, and refused is nothing.
"""

from enum import Enum
from random import Random
from typing import Any

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.values import JobOperation, OperationKind
from portfolio_stream.errors import ControlUnavailable, PortfolioStreamError
from portfolio_stream.jobs import asking
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.savepoints.manifest import new_id
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


class SimulatedCommand:
    def __init__(self, name: str, deed: Deed, loop: SimulatedLoop, connections: Connections) -> None:
        self.name = name
        self.deed = deed
        self.process = Process(name)
        #: the operation that the command asked for, as soon as it has an id
        self.asked: str | None = None
        #: what the command says at its end: an operation or an error; None: it was killed, or is not over
        self.said: JobOperation | BaseException | None = None
        self._loop = loop
        self._connections = connections

    def start(self, dies_at: int | None = None) -> None:
        self.process.dies_at = dies_at
        self.process.run(self._loop.create_task, self._live())

    @property
    def is_running(self) -> bool:
        return self.process.is_alive

    async def _live(self) -> None:
        control = JobControl(self._connections, group=GROUP, source_topic=SOURCE)
        try:
            await control.open()
            self.said = await self._work(control)
        except Exception as error:  # noqa: BLE001  the judge decides
            self.said = error
        await control.stop()
        self.process.kill()

    async def _work(self, control: JobControl) -> JobOperation:
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
