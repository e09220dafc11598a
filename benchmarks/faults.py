"""Faults of every kind under a steady load, on a fresh cluster of three brokers: what breaks, and how long it takes.

    python -m benchmarks.faults [--rate 3000] [--rounds 20] [--seed S]

`--rounds` is how often a worker is killed; every other act comes once (of brokers: once for each role). The seconds
count from the act until every partition has a committed output of an event that was sent after it; where all brokers
are away, from the moment at which they serve again. After each act everything that was sent so far must be answered,
as a reader of its own sees it (tests/integration/growing_history.py), and after each kind of act `verify --follow` must
have compared it; in the end `verify` compares all, with all that the workers serve. Exit code 1 if anything is wrong;
the folder with the logs then stays.
"""

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random, SystemRandom
from signal import SIGCONT, SIGSTOP, SIGTERM, default_int_handler, signal

from aiokafka.client import AIOKafkaClient

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.wire import Coordinators
from portfolio_stream.generator import Mixture, generate
from portfolio_stream.kafka_client import client_options, connected
from portfolio_stream.kafka_health import look
from portfolio_stream.quiet_logs import quieten
from portfolio_stream.settings import GROUP
from tests.integration.auditor import COMMAND, Auditor, following
from tests.integration.growing_history import GrowingHistory
from tests.integration.histories import Load
from tests.integration.producer_epochs import worker_id
from tests.integration.workers import Stage, Worker, new_stage, until

BROKERS = 3
OUTPUT_SECONDS = 60.0  # until new output: far more than any act may take
ANSWER_SECONDS = 60.0  # until all that was sent is answered
AUDIT_SECONDS = 300.0  # until it is audited: a replay costs more than the fold, and a lost broker ends a pass
HEALTH_SECONDS = 60.0  # until a broker that came back holds every copy again
STOP_SECONDS = 5.0  # of a worker after SIGTERM, by contract
WARM_SECONDS = 5.0

Step = Callable[[], Awaitable[None]]


class Faults:
    """One run: a stage, its load, its judges, and the acts one after another."""

    def __init__(self, stage: Stage, rate: float, seed: int) -> None:
        self.stage = stage
        self.cluster = stage.cluster
        self.random = Random(seed)
        self.history = GrowingHistory(stage.settings)
        mixture = Mixture(
            seed=seed,
            start_time=int(time.time() * 1000),  # a broker knows no producer again whose records are a day old
            portfolios=2_000,
            duplicates=0.02,
            invalid=0.02,
            partitions=stage.settings.partitions,
        )
        self.load = Load(stage.settings, self.history.tap(generate(mixture)), rate)
        self.workers: list[Worker] = []
        #: seconds of each act, by name
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._reading: asyncio.Task[None] | None = None
        self._auditor: Auditor | None = None

    @asynccontextmanager
    async def judged(self) -> AsyncIterator[None]:
        """Workers, load and judges run; in the end everything that was sent is answered and verified."""
        self.workers = await self.stage.started("w1", "w2")
        self._reading = asyncio.create_task(self.history.read())
        self.load.start()
        try:
            with following(self.stage.settings, self.stage.folder, interval=1.0) as self._auditor:
                await asyncio.sleep(WARM_SECONDS)
                yield
                self.history.end()
                await self.load.done()
                await self.answered()
                await self.audited()
        finally:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    async def act(self, name: str, fault: Step, *, cure: Step | None = None, is_over: bool = False) -> None:
        """Do it and measure; from its end, if it is over then. `cure` is what the next act needs."""
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
        """All that was sent so far is answered once, in order. Raises AssertionError."""
        sent = self.history.sent()
        await self._until(lambda: self.history.is_answered(sent), ANSWER_SECONDS, "an answer to all that was sent")
        assert not self.history.anomalies, "\n".join(self.history.anomalies)

    async def audited(self) -> None:
        """`verify --follow` has compared all that was sent so far. Raises AssertionError."""
        sent = self.history.sent()
        auditor = self._auditor
        assert auditor is not None

        async def is_audited() -> bool:
            assert auditor.process.poll() is None, f"verify --follow ended: {auditor.log.read_text()[-4000:]}"
            verdict = await auditor.verdict()
            return bool(verdict["verdict"] == "holds" and verdict["records"] >= sum(sent.values()))

        await until(is_audited, AUDIT_SECONDS, "verify --follow holds for all that was sent")

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Raises what ended load or reader meanwhile."""

        def holds() -> bool:
            for task in (self.load.task, self._reading):
                if task is not None and task.done():
                    task.result()
            return condition()

        await until(holds, seconds, what)

    # --- workers ---

    def choose(self) -> Worker:
        return self.random.choice(self.workers)

    async def kill_worker(self) -> None:
        async def fault() -> None:
            victim = self.choose()
            victim.kill()
            victim.start()

        await self.act("worker kill -9, restart", fault)

    async def restart_worker(self) -> None:
        async def fault() -> None:
            victim = self.choose()
            await stop(victim)
            victim.start()

        await self.act("worker SIGTERM, restart", fault)

    async def pause_worker(self) -> None:
        """Past the session time-out: the others take over, then it wakes, must write nothing, and joins again."""
        zombie = self.choose()
        recovered = len(zombie.events("recovered"))

        async def pause() -> None:
            zombie.signal(SIGSTOP)

        async def wake() -> None:
            zombie.signal(SIGCONT)

        async def is_back() -> None:
            await until(
                lambda: "membership lost" in zombie.text and len(zombie.events("recovered")) > recovered,
                OUTPUT_SECONDS,
                "the paused worker is a member again",
                zombie,
            )

        await self.act("worker SIGSTOP past its session", pause)
        await self.act("that worker SIGCONT", wake, cure=is_back)

    async def add_worker(self) -> None:
        async def fault() -> None:
            added = self.stage.worker(f"w{len(self.workers) + 1}")
            added.start()
            self.workers.append(added)
            await self.stage.serving(added)

        await self.act("worker added", fault)

    async def remove_worker(self) -> None:
        async def fault() -> None:
            removed = self.choose()
            self.workers.remove(removed)
            await stop(removed)

        await self.act("worker removed", fault)

    # --- brokers ---

    async def kill_any_broker(self) -> None:
        await self.lose_broker("broker kill -9", self.random.randrange(BROKERS), self.cluster.kill)

    async def kill_group_coordinator(self) -> None:
        group, _ = await self.coordinators()
        await self.lose_broker("group coordinator kill -9", group, self.cluster.kill)

    async def kill_transaction_coordinator(self) -> None:
        _, transaction = await self.coordinators()
        await self.lose_broker("transaction coordinator kill -9", transaction, self.cluster.kill)

    async def restart_brokers_in_turn(self) -> None:
        for node in range(BROKERS):
            await self.lose_broker("brokers SIGTERM in turn", node, self.cluster.stop_broker)

    async def lose_broker(self, name: str, node: int, lose: Callable[[int], None]) -> None:
        """Measured while it is away; then it comes back."""

        async def fault() -> None:
            await asyncio.to_thread(lose, node)

        async def cure() -> None:
            await asyncio.to_thread(self.cluster.start_broker, node)
            await until(self.is_healthy, HEALTH_SECONDS, f"every copy of broker {node} is in sync")

        await self.act(name, fault, cure=cure)

    async def restart_all_brokers(self) -> None:
        async def fault() -> None:
            await asyncio.to_thread(self.cluster.stop)
            await asyncio.to_thread(self.cluster.start)

        await self.act("all brokers SIGTERM, restart", fault, is_over=True)

    async def kill_all_brokers(self) -> None:
        async def fault() -> None:
            for node in range(BROKERS):
                await asyncio.to_thread(self.cluster.kill, node)
            await asyncio.to_thread(self.cluster.start)

        await self.act("all brokers kill -9, restart", fault, is_over=True)

    async def is_healthy(self) -> bool:
        try:
            return (await look(self.stage.settings)).is_healthy
        except PortfolioStreamError:  # a controller is being elected
            return False

    async def coordinators(self) -> tuple[int, int]:
        """The nodes of the group's coordinator, and of a random worker's transactions'."""
        transactional_id = worker_id(self.stage.folder / "data" / self.choose().name)
        settings = self.stage.settings
        async with connected(settings, AIOKafkaClient(**client_options(settings))) as client:
            found = Coordinators(client, GROUP, transactional_id)
            return await found.group(), await found.transaction()


async def stop(worker: Worker) -> None:
    worker.signal(SIGTERM)
    code = await worker.ended(STOP_SECONDS)
    assert code == 0, f"{worker.name} exited with {code} after SIGTERM\n{worker.text[-4000:]}"


async def run(stage: Stage, rate: float, rounds: int, seed: int) -> Faults:
    faults = Faults(stage, rate, seed)
    await until(faults.is_healthy, HEALTH_SECONDS, "the cluster is healthy")
    async with faults.judged():
        for kind, times in (
            (faults.kill_worker, rounds),
            (faults.restart_worker, 1),
            (faults.pause_worker, 1),
            (faults.add_worker, 1),
            (faults.remove_worker, 1),
            (faults.kill_any_broker, 1),
            (faults.kill_group_coordinator, 1),
            (faults.kill_transaction_coordinator, 1),
            (faults.restart_brokers_in_turn, 1),
            (faults.restart_all_brokers, 1),
            (faults.kill_all_brokers, 1),
        ):
            for _ in range(times):
                await kind()
            await faults.audited()
    verify(stage)
    for worker in faults.workers:
        await stop(worker)
    return faults


def verify(stage: Stage) -> None:
    """The whole history, and all that the workers serve."""
    command = [str(COMMAND), "verify", "--served", "all", "--bootstrap-servers", stage.settings.bootstrap_servers]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    assert done.returncode == 0, "verify does not hold"


def table(seconds: dict[str, list[float]]) -> str:
    width = max(map(len, seconds))
    lines = [f"{'act':{width}}  times  seconds until new output on every partition: min median max"]
    for name, found in seconds.items():
        figures = f"{min(found):6.1f} {statistics.median(found):6.1f} {max(found):6.1f}"
        lines.append(f"{name:{width}}  {len(found):5}  {figures}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=3_000, help="events a second")
    parser.add_argument("--rounds", type=int, default=20, help="kill -9 of workers")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    quieten()
    signal(SIGTERM, default_int_handler)  # as Ctrl-C: what was started is ended
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with new_stage(folder, BROKERS) as stage:
            faults = asyncio.run(run(stage, given.rate, given.rounds, given.seed))
    except AssertionError as wrong:
        print(f"{wrong}\nWRONG with --seed {given.seed}: brokers' and workers' logs and data are in {folder}")
        return 1
    shutil.rmtree(folder)
    total = sum(faults.history.sent().values())
    print(f"{table(faults.seconds)}\n{total:,} events, no anomaly.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
