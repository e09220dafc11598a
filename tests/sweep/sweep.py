"""One run: a driver brings a step about, a worker is struck at the step, and the history must be right afterwards.

1. A run fails if its point is not reached.
2. The load goes on until each partition has an output of an event that came after the strike. Then the load rests, and
   the whole history so far is judged (benchmarks/trial.py): outputs, dead letters, changelog, offsets.
3. A worker that was killed, or that ended as `points.Fate` says, is started again. If any other worker ends, the run
   fails.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from signal import SIGTERM

from aiokafka.client import AIOKafkaClient

from benchmarks.trial import OUTPUT_SECONDS, Trial
from portfolio_stream.exactly_once.membership import EXPULSION_WINDOW_SECONDS
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.wire import Coordinators, Lane, call, schema
from portfolio_stream.load.events import Mixture
from tests.integration.producer_epochs import member_of, worker_id
from tests.integration.workers import Worker, until
from tests.proxy.rules import Caught, ProxySide
from tests.sweep.points import LEAVING, Driver, Fate, Point, Variant
from tests.sweep.stage import StruckStage

REACH_SECONDS = 30.0  # a worker starts within 2 seconds, on a busy machine within 10
STOP_SECONDS = 5.0  # of a worker after SIGTERM, by contract
RATES = (300, 500, 1_000)  # events a second
SHARES = (0.01, 0.05, 0.2)  # of duplicates, and of invalid events

_heartbeat = schema("consumer_group_heartbeat", 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    point: Point
    variant: Variant
    seed: int

    @property
    def random(self) -> Random:
        """The run's own random numbers: the runs before have no part in them."""
        return Random(f"{self.seed} {self.point.name} {self.variant.value}")

    def __str__(self) -> str:
        return f"--only {self.point.name} --variant {self.variant.value} --seed {self.seed}"


class Sweep(Trial):
    """All runs of one stage, with two workers."""

    stage: StruckStage

    def __init__(self, stage: StruckStage, seed: int) -> None:
        chosen = Random(seed)
        mixture = Mixture(
            seed=seed,
            start_time=int(time.time() * 1000),
            portfolios=2_000,
            duplicates=chosen.choice(SHARES),
            invalid=chosen.choice(SHARES),
            partitions=stage.settings.partitions,
        )
        super().__init__(stage, chosen.choice(RATES), seed, mixture)
        self._expelled: dict[str, float] = {}

    async def run(self, run: Run) -> float:
        """Carry out a run. Return the seconds from the strike to new outputs on every partition.

        Raises AssertionError or TimeoutError.
        """
        random = run.random
        victim, other = random.sample(self.workers, 2)
        occurrence = random.randint(1, run.point.occurrences)
        async with self.load():
            strike = _Strike(self, run, victim, other, occurrence)
            struck = await strike.made()
            sent = self.history.sent()
            await self._until(lambda: self.history.has_outputs_behind(sent), OUTPUT_SECONDS, "new output")
            seconds = time.monotonic() - struck
            for worker in self.workers:
                if worker.process is None:
                    worker.start()
            await self.stage.serving(*self.workers)
        for worker in self.workers:
            assert worker.process is not None
            assert worker.process.poll() is None, f"{worker.name} ended\n{worker.text[-4000:]}"
            assert "engine failed" not in worker.text, worker.text[-4000:]
        return seconds

    async def has_new_outputs(self) -> None:
        sent = self.history.sent()
        await self._until(lambda: self.history.has_outputs_behind(sent), OUTPUT_SECONDS, "new output")

    async def expel(self, victim: Worker) -> None:
        """Say goodbye for the victim, as a supervisor does that takes the worker for dead.

        A second goodbye comes late enough: the worker does not take the sender for a rival process.
        """
        before = self._expelled.get(victim.name, float("-inf"))
        await asyncio.sleep(max(0.0, before + EXPULSION_WINDOW_SECONDS - time.monotonic()))
        settings, data = self.stage.settings, self.stage.data(victim.name)
        id, member = worker_id(data), member_of(data)
        async with connected(settings, AIOKafkaClient(**client_options(settings))) as client:
            node = await Coordinators(client, settings.group, id).group()
            request = _heartbeat.ConsumerGroupHeartbeatRequest(
                group_id=settings.group, member_id=member, member_epoch=LEAVING, topic_partitions=None
            )
            await call(client, node, Lane.MEMBER, request)
        self._expelled[victim.name] = time.monotonic()


class _Strike:
    def __init__(self, sweep: Sweep, run: Run, victim: Worker, other: Worker, occurrence: int) -> None:
        self.sweep = sweep
        self.stage = sweep.stage
        self.point, self.variant = run.point, run.variant
        self.victim, self.other = victim, other
        self.occurrence = occurrence
        self.struck = 0.0

    async def made(self) -> float:
        """Strike, and return the monotonic seconds of the strike."""
        prepare, drive = DRIVERS[self.point.driver]
        await prepare(self)
        async with self._reached() if self.point.match is None else self._caught() as reached:
            await drive(self)
            await reached()
        return self.struck

    @asynccontextmanager
    async def _caught(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Strike on the wire."""
        assert self.point.match is not None
        side = ProxySide.REQUEST if self.variant in (Variant.BEFORE, Variant.LATE) else ProxySide.REPLY
        network = self.stage.networks[self.victim.name]
        with network.trap(self.point.match, side, self.occurrence) as trap:

            async def reached() -> None:
                caught = await trap.caught(REACH_SECONDS)
                self.struck = time.monotonic()
                if self.variant is Variant.LOST:
                    await self._lose(caught)
                elif self.variant is Variant.LATE:
                    await self._deliver_late(caught)
                else:
                    self.victim.kill()
                    caught.cut()
                    self.victim.start()

            yield reached

    async def _lose(self, caught: Caught) -> None:
        caught.cut()
        await self._live_or_end(self.point.lost)

    async def _deliver_late(self, caught: Caught) -> None:
        self.victim.kill()
        self.victim.start()
        await self.stage.serving(self.victim)
        caught.forward()
        await caught.answer()
        await self._live_or_end(self.point.late)

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Strike in the process."""
        name = self.victim.name
        self.stage.order(name, self.point.name, self.variant, self.occurrence)

        async def reached() -> None:
            await until(lambda: self.stage.has_obeyed(name), REACH_SECONDS, "the point was reached", self.victim)
            self.struck = time.monotonic()
            if self.variant is not Variant.LOST:
                await self._start_again(-9)
            else:
                await self._live_or_end(self.point.lost)

        try:
            yield reached
        finally:
            self.stage.withdraw(name)

    async def _live_or_end(self, fate: Fate | None) -> None:
        if fate is Fate.ENDS:
            await self._start_again(1)
        elif fate is Fate.ENDS_WELL:
            await self._start_again(0)

    async def _start_again(self, expected: int) -> None:
        code = await self.victim.ended(STOP_SECONDS)
        assert expected == code, f"{self.victim.name} exited with {code}\n{self.victim.text[-4000:]}"
        assert code != 1 or "Operator action" in self.victim.text
        self.victim.start()

    # -- drivers

    async def nothing(self) -> None:
        """The load brings the step about."""

    async def kill(self) -> None:
        self.victim.kill()

    async def start(self) -> None:
        self.victim.start()

    async def lose_store(self) -> None:
        self.victim.kill()
        shutil.rmtree(self.stage.data(self.victim.name) / "store")

    async def lose_folder(self) -> None:
        await stop(self.victim)
        shutil.rmtree(self.stage.data(self.victim.name))

    async def terminate(self) -> None:
        self.victim.signal(SIGTERM)

    async def stop_other(self) -> None:
        await stop(self.other)

    async def leave_all_to_victim(self) -> None:
        await stop(self.other)
        await self.sweep.has_new_outputs()

    async def start_other(self) -> None:
        self.other.start()

    async def expel(self) -> None:
        await self.sweep.expel(self.victim)


Act = Callable[[_Strike], Awaitable[None]]
#: what a driver does before the trap is set, and what brings the step about
DRIVERS: Mapping[Driver, tuple[Act, Act]] = {
    Driver.LOAD: (_Strike.nothing, _Strike.nothing),
    Driver.RESTART: (_Strike.kill, _Strike.start),
    Driver.LOST_STORE: (_Strike.lose_store, _Strike.start),
    Driver.LOST_FOLDER: (_Strike.lose_folder, _Strike.start),
    Driver.STOP: (_Strike.nothing, _Strike.terminate),
    Driver.SHRINK: (_Strike.leave_all_to_victim, _Strike.start_other),
    Driver.GROW: (_Strike.nothing, _Strike.stop_other),
    Driver.EXPEL: (_Strike.nothing, _Strike.expel),
}


async def stop(worker: Worker) -> None:
    worker.signal(SIGTERM)
    code = await worker.ended(STOP_SECONDS)
    assert code == 0, f"{worker.name} exited with {code} after SIGTERM\n{worker.text[-4000:]}"
    worker.process = None
