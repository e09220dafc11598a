"""A stage under load on which every event is judged, for runs with faults.

There are two judges. One is the tests' judge, which follows all topics while they grow
(tests/integration/followed_history.py). The other is the audit of `verify`: it compares all new records whenever the
load rests.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

from aiokafka.client import AIOKafkaClient

from portfolio_stream.audit.follow import PASSING
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.verify import open_audits
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.health import look
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.load.events import Mixture, generate
from tests.integration.followed_history import FollowedHistory
from tests.integration.histories import Load
from tests.integration.producer_epochs import worker_id
from tests.integration.workers import Worker, WorkersStage, until

OUTPUT_SECONDS = 60.0  # until new output; far longer than any fault may take
ANSWER_SECONDS = 60.0  # until every event that was sent has its answer
AUDIT_SECONDS = 300.0  # until the audit has compared everything; a replay is slower than the fold
AUDIT_PAUSE_SECONDS = 0.2
COORDINATOR_PAUSE_SECONDS = 0.2  # nothing tells when a broker that is away answers again

TrialStep = Callable[[], Awaitable[None]]


class Trial:
    def __init__(self, stage: WorkersStage, rate: float, seed: int, mixture: Mixture | None = None) -> None:
        self.stage = stage
        self.rate = rate
        self.random = Random(seed)
        self.history = FollowedHistory(stage.settings)
        self.workers: list[Worker] = []
        #: the seconds until new output, by the act's name
        self.seconds: dict[str, list[float]] = defaultdict(list)
        usual = Mixture(
            seed=seed,
            start_time=int(time.time() * 1000),  # a broker forgets a producer whose records are a day old
            portfolios=2_000,
            duplicates=0.02,
            invalid=0.02,
            partitions=stage.settings.partitions,
        )
        self._records = generate(mixture or usual)
        self._load: Load | None = None
        self._reading: asyncio.Task[None] | None = None
        self._audits: Sequence[PartitionAudit] = ()

    @asynccontextmanager
    async def judged(self, *names: str) -> AsyncIterator[None]:
        """Run workers of these names, and the judges."""
        self.workers = await self.stage.started(*names)
        self._reading = asyncio.create_task(self.history.read())
        try:
            async with open_audits(self.stage.settings) as opened:
                self._audits = opened.audits
                yield
        finally:
            for task in (self._reading, None if self._load is None else self._load.task):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Send events; the block begins when every partition has outputs. At its end the load rests and is judged.

        Raises AssertionError if exactly-once does not hold.
        """
        self.history.is_resting = False
        self._load = Load(self.stage.settings, self.history.tap(self._records), self.rate)
        before = self.history.sent()
        self._load.start()
        await self._until(lambda: self.history.has_outputs_behind(before), OUTPUT_SECONDS, "first output")
        yield
        self.history.is_resting = True
        await self._load.done()
        await self.answered()
        await self.audited()

    async def act(self, name: str, fault: TrialStep, *, cure: TrialStep | None = None, is_over: bool = False) -> None:
        """Run `fault`, and measure until every partition has an output of an event that was sent after it.

        The time begins with `fault`, or at its end if `is_over`. `cure` prepares the system for the next act.
        """
        begun = time.monotonic()
        await fault()
        if is_over:
            begun = time.monotonic()
        sent = self.history.sent()
        await self._until(lambda: self.history.has_outputs_behind(sent), OUTPUT_SECONDS, f"new output after: {name}")
        seconds = time.monotonic() - begun
        if cure is not None:
            await cure()
        await self.stage.serving(*self.workers)
        await self.answered()
        self.seconds[name].append(seconds)
        print(f"{name}: {seconds:.1f} s", flush=True)

    async def answered(self) -> None:
        """Wait until every event that was sent has its output or dead letter, once and in order."""
        sent = self.history.sent()

        def is_decided() -> bool:
            return bool(self.history.anomalies) or self.history.is_answered(sent)

        await self._until(is_decided, ANSWER_SECONDS, "an answer to all that was sent")
        assert not self.history.anomalies, "\n".join(self.history.anomalies)

    async def audited(self) -> None:
        """Wait until there is no lag, and the audit has compared all outputs, dead letters and the changelog."""
        begun = time.monotonic()
        while not await self._audit():
            assert time.monotonic() - begun < AUDIT_SECONDS, f"not audited within {AUDIT_SECONDS:.0f} s"
            await asyncio.sleep(AUDIT_PAUSE_SECONDS)

    async def _audit(self) -> bool:
        """Audit the new records. Returns whether everything was compared."""
        topic_id: str | None = None
        try:
            for audit in self._audits:
                anomalies = await audit.run(topic_id)
                assert not anomalies, anomalies
                topic_id = topic_id or audit.topic_id
        except PASSING:  # a connection led to a broker that was away
            return False
        sent = self.history.sent()
        compared = {audit.partition: audit.result.figures["records"] for audit in self._audits}
        return compared == sent and not any(audit.result.lag or audit.is_undecided for audit in self._audits)

    async def is_healthy(self) -> bool:
        try:
            return (await look(self.stage.settings)).is_healthy
        except PortfolioStreamError:  # a controller is being elected
            return False

    async def coordinators(self) -> tuple[int, int]:
        """Returns the nodes of the group's coordinator and of a random worker's transaction coordinator.

        Asks again while a broker is away. Raises PortfolioStreamError if no answer comes in ANSWER_SECONDS.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return await self._coordinators()
            except PortfolioStreamError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(COORDINATOR_PAUSE_SECONDS)

    async def _coordinators(self) -> tuple[int, int]:
        settings = self.stage.settings
        async with connected(settings, AIOKafkaClient(**client_options(settings))) as client:
            found = Coordinators(client, settings.group, self.transactional_id(self.random.choice(self.workers)))
            return await found.group(), await found.transaction()

    def transactional_id(self, worker: Worker) -> str:
        return worker_id(self.stage.folder / "data" / worker.name)

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for the condition. Raises the error that ended the load or the reader."""

        def holds() -> bool:
            if self._reading is not None and self._reading.done():
                self._reading.result()
            return (self._load is None or self._load.is_well()) and condition()

        await until(holds, seconds, what)
