"""Deeds on a real cluster under load, several at a time, and the seconds that each deed costs.

1. At most one deed hurts a worker at a time. At most one broker of the cluster is away at a time.
2. A worker that ends by itself is started again, as a supervisor does. A worker may end only for one of the reasons in
   ENDINGS, or because of its store if a deed has damaged the store. The store is then deleted, as the error says.
3. A deed ends when its damage is mended, or was meant to stay. The deed's seconds count from its end until every
   partition has a committed output of an event that was sent after the end. Other deeds go on meanwhile.
4. A partition that moves again and again never recovers, and need not. While a deed has waited for PATIENCE_SECONDS, no
   other deed begins. Outputs must come within BACK_SECONDS of the last deed's end.
"""

import asyncio
import re
import shutil
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from signal import SIGCONT, SIGSTOP, SIGTERM

from benchmarks.trial import Trial
from portfolio_stream.kafka.health import look
from tests.chaos.plan import Chapter, Deed
from tests.integration.workers import Worker, until
from tests.proxy.stage import NetworkedStage

BROKERS = 3
LEAST_WORKERS, MOST_WORKERS = 2, 4
AT_ONCE = 3
STOP_SECONDS = 5.0  # of a worker after SIGTERM, by contract
HEALTH_SECONDS = 90.0
PATIENCE_SECONDS = 45.0
BACK_SECONDS = 90.0  # without a deed: sessions, transactions, replays, and a backlog on two shared cores
NEVER_SECONDS = 3_600.0
LOOK_SECONDS = 0.5
NAMED_DEEDS = 8  # the last deeds, in the message of a failure

#: the reasons for which a worker may end by itself, in the words of its error
ENDINGS = (
    "No Kafka broker answers",  # the worker starts while it is cut off
    "A successor took over",  # a request of its killed process comes late: a broker or the network stood still
    "expelled this worker twice",  # the machine has no time for the worker
)
STORE_ENDING = "The local store at"


class NothingToDo(Exception):
    """The deed's target is in another deed's hands, or there is no such target."""


class Chaos(Trial):
    stage: NetworkedStage

    def __init__(self, stage: NetworkedStage, rate: float, seed: int) -> None:
        super().__init__(stage, rate, seed)
        self.endings: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        #: workers whose store a deed has damaged
        self.damaged: set[str] = set()
        self.last_deeds: deque[str] = deque(maxlen=NAMED_DEEDS)
        self._held: set[str] = set()
        #: the monotonic second since which each deed waits for new outputs
        self._waiting: dict[Deed, float] = {}
        self._broker = asyncio.Lock()
        self._added = 0
        self._begun = time.monotonic()
        self._doing = 0
        #: when the last deed ended
        self._done_at = 0.0

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:8.1f}  {text}", flush=True)

    # -- a chapter

    async def chapter(self, chapter: Chapter, deeds: "dict[str, Callable[[Chaos, Deed], Awaitable[None]]]") -> None:
        """Raises AssertionError if exactly-once does not hold."""
        self.say(f"chapter {chapter.number}")
        async with self.load():
            begun = time.monotonic()
            at_once = asyncio.Semaphore(AT_ONCE)
            supervisor = asyncio.create_task(self._supervise())
            try:
                async with asyncio.TaskGroup() as group:
                    for deed in chapter.deeds:
                        await asyncio.sleep(max(0.0, begun + deed.at - time.monotonic()))
                        await self._patience()
                        await at_once.acquire()
                        self._doing += 1
                        group.create_task(self._do(deed, deeds[deed.kind], at_once))
                    await asyncio.sleep(max(0.0, begun + chapter.seconds - time.monotonic()))
            except* AssertionError as wrong:
                raise wrong.exceptions[0] from None
            finally:
                supervisor.cancel()
            await self._all_run()
        sent = sum(self.history.sent().values())
        self.say(f"chapter {chapter.number} holds: {sent:,} events, {self.done.total()} deeds so far")

    async def _do(self, deed: Deed, act: "Callable[[Chaos, Deed], Awaitable[None]]", slot: asyncio.Semaphore) -> None:
        try:
            self.say(str(deed))
            self.last_deeds.append(str(deed))
            await act(self, deed)
        except NothingToDo as reason:
            self.skipped[deed.kind] += 1
            self.say(f"{deed.kind} {deed.target}: nothing to do, {reason}")
            return
        finally:
            slot.release()
            self._doing -= 1
            self._done_at = time.monotonic()
        ended, sent = time.monotonic(), self.history.sent()
        self._waiting[deed] = ended
        await self._until(lambda: self._is_back(sent, deed), NEVER_SECONDS, f"output after {deed}")
        del self._waiting[deed]
        assert not self.history.anomalies, "\n".join(self.history.anomalies)
        self.done[deed.kind] += 1
        self.seconds[deed.kind].append(time.monotonic() - ended)
        self.say(f"{deed.kind} {deed.target}: new outputs after {self.seconds[deed.kind][-1]:.1f} s")

    def _is_back(self, sent: Mapping[int, int], deed: Deed) -> bool:
        if self.history.has_outputs_behind(sent):
            return True
        waited = 0.0 if self._doing else time.monotonic() - self._done_at
        assert waited < BACK_SECONDS, f"no new outputs {waited:.0f} s after the last deed, since {deed}"
        return False

    async def _patience(self) -> None:
        """Wait until no deed has waited for long."""
        is_told = False
        while self._waiting and time.monotonic() - min(self._waiting.values()) > PATIENCE_SECONDS:
            if not is_told:
                self.say(f"no deed until there are outputs: {len(self._waiting)} wait")
                is_told = True
            await asyncio.sleep(LOOK_SECONDS)

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in list(self.workers):
                if worker.name not in self._held and self.has_ended(worker):
                    await self.start_again(worker)

    async def _all_run(self) -> None:
        """Mend everything, and start each worker that ended once more."""
        for worker in self.workers:
            if worker.name in self.damaged and not self.has_ended(worker):
                worker.kill()
                await self.delete_store(worker)
                worker.start()
            elif self.has_ended(worker):
                await self.start_again(worker)
        await until(self.is_healthy, HEALTH_SECONDS, "the cluster is healthy")

    @staticmethod
    def has_ended(worker: Worker) -> bool:
        return worker.process is None or worker.process.poll() is not None

    async def start_again(self, worker: Worker) -> None:
        """Start a worker that ended by itself, as an operator does."""
        may_fail = (STORE_ENDING,) if worker.name in self.damaged else ()
        if STORE_ENDING in self.note_ending(worker, *ENDINGS, *may_fail):
            await self.delete_store(worker)
        worker.start()

    def note_ending(self, worker: Worker, *reasons: str) -> str:
        """Note that the worker ended by itself for one of the `reasons`: any other end is a bug. Returns its error."""
        assert worker.process is not None
        found = re.findall(r"CRITICAL\] (.*?)Operator action", worker.text, re.DOTALL)
        said = found[-1].strip() if found else "nothing"
        is_right = worker.process.poll() == 1 and any(reason in said for reason in reasons)
        assert is_right, f"{worker.name} ended and said: {said}\n{worker.text[-6000:]}"
        self.endings[re.sub(r"[\w-]*\d[\w.:-]*|/\S+", "*", said)] += 1
        self.say(f"{worker.name} ended by itself: {said}")
        return said

    async def delete_store(self, worker: Worker) -> None:
        await asyncio.to_thread(shutil.rmtree, self.stage.data(worker.name) / "store")
        self.damaged.discard(worker.name)

    # -- who is hurt

    @asynccontextmanager
    async def a_worker(self, deed: Deed) -> AsyncIterator[Worker]:
        """Lend a worker that runs and that no other deed has."""
        free = [one for one in self.workers if one.name not in self._held and not self.has_ended(one)]
        if not free:
            raise NothingToDo("no worker is free")
        worker = free[deed.target % len(free)]
        self._held.add(worker.name)
        try:
            yield worker
        finally:
            self._held.discard(worker.name)

    @asynccontextmanager
    async def a_new_worker(self, **environment: str) -> AsyncIterator[Worker]:
        """Lend a new worker, which is not started and is none of the workers yet."""
        self._added += 1
        worker = self.stage.worker(f"x{self._added}", **environment)
        self._held.add(worker.name)
        try:
            yield worker
        finally:
            self._held.discard(worker.name)

    @asynccontextmanager
    async def the_broker(self) -> AsyncIterator[None]:
        """Lend the one broker that may be away: two absent brokers would stop the cluster."""
        if self._broker.locked():
            raise NothingToDo("a broker is away")
        async with self._broker:
            yield
            await until(self.is_healthy, HEALTH_SECONDS, "every copy is in sync again")

    async def serving(self, worker: Worker) -> None:
        """Wait until the worker has recovered a partition. Its brokers may be away, and its store damaged."""

        async def serves() -> bool:
            if self.has_ended(worker):
                await self.start_again(worker)
            return bool(worker.events("recovered"))

        await until(serves, NEVER_SECONDS, f"{worker.name} recovers a partition", worker)

    async def stop(self, worker: Worker) -> None:
        """Send SIGTERM. The exit code is 0, or 1 if the brokers did not answer."""
        worker.signal(SIGTERM)
        code = await worker.ended(STOP_SECONDS)
        self.endings[f"exit {code} after SIGTERM"] += 1
        assert code in (0, 1), f"{worker.name} exited with {code} after SIGTERM\n{worker.text[-4000:]}"

    async def paused(self, worker: Worker, seconds: float) -> None:
        worker.signal(SIGSTOP)
        await asyncio.sleep(seconds)
        worker.signal(SIGCONT)

    async def controller(self) -> int:
        found = (await look(self.stage.settings)).controller
        if found is None:
            raise NothingToDo("there is no controller")
        return found


def table(rows: Iterable[tuple[str, list[float]]]) -> str:
    lines = [f"{'deed':30} times  median  worst (seconds from its end until new output on every partition)"]
    for kind, seconds in rows:
        ordered = sorted(seconds)
        lines.append(f"{kind:30} {len(ordered):5}  {ordered[len(ordered) // 2]:6.1f} {ordered[-1]:6.1f}")
    return "\n".join(lines)
