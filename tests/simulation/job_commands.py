"""Commands of the operator of the job, each in a process of its own: `portfolio-stream job stop` and its like.

A command can be killed before any of its steps, and its requests are lost, late or without an answer as any others.
What a command says at its end must be what the control topic says: done is done, and refused is nothing.
"""

from random import Random

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.values import JobOperation, OperationKind
from portfolio_stream.errors import ControlUnavailable, PortfolioStreamError
from portfolio_stream.jobs.asking import AT_ONCE, asked, change_at_once
from portfolio_stream.kafka.connections import Connections
from tests.judge.jobs import FINAL, JobJudge
from tests.judge.ledger import SOURCE
from tests.judge.transactions import Anomaly
from tests.simulation.kafka.network import Link
from tests.simulation.ledger import GROUP
from tests.simulation.loop import Process, SimulatedLoop

LOSSY, LATE = 0.2, 0.15  # the share of commands with lost answers, and of those with a late request
REPLY_LOSS = 0.15
LATE_SECONDS = 15.0  # at most
LATE_REQUESTS = ("EndTxn", "Produce", "InitProducerId")


def hurt(link: Link, random: Random) -> None:
    """Let the requests of some commands be lost or late."""
    chance = random.random()
    if chance < LOSSY:
        link.reply_loss = REPLY_LOSS
    elif chance < LOSSY + LATE:
        link.hold(random.choice(LATE_REQUESTS), random.uniform(0.5, LATE_SECONDS))


class SimulatedCommand:
    def __init__(self, name: str, kind: OperationKind, loop: SimulatedLoop, connections: Connections) -> None:
        self.name = name
        self.kind = kind
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
        wanted = asked(self.kind, self.name)
        self.asked = wanted.id
        assert self.kind in AT_ONCE
        return await change_at_once(control, wanted)

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
