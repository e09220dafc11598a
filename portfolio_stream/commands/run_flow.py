"""One run, from the workers' start to the verdict.

1. Create the topics, start the workers and the producer of prices. Wait until every partition is processed. An endless
   run also starts an auditor and a watcher, and goes on if one of them ends.
2. Start the producer of events. A bounded run waits until the producer has ended and the group has committed every
   event. An endless run waits for Ctrl-C.
3. Stop the producers, auditor and watcher, then the workers.
4. Verify the committed records.

Step 3 is done even if step 1 or 2 fails: no child outlives `play`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from portfolio_stream.cluster.child import Child, Ending, name_of_end
from portfolio_stream.cluster.fleet import Fleet, WorkerProcess
from portfolio_stream.cluster.side_servers import AUDITOR, SideServerProcess
from portfolio_stream.commands.run_measure import Tally, halted, running
from portfolio_stream.commands.run_offsets import OffsetReader, RunOffsets, open_offset_reader
from portfolio_stream.commands.run_status import Display, RunStatus, ShownWorker, milliseconds
from portfolio_stream.decoding import decoded
from portfolio_stream.errors import ProducerFailed, RunStalled
from portfolio_stream.processes import ending_signals
from portfolio_stream.settings import Settings
from portfolio_stream.web.status import PATH as STATUS_PATH
from portfolio_stream.web.status import WorkerStatus
from portfolio_stream.web.verdict import ask_auditor

if TYPE_CHECKING:
    import aiohttp

    from portfolio_stream.audit.result import Verification

PATIENCE_SECONDS = 60.0  # without any progress; a dead worker loses its partitions after 45 s at the latest
POLL_SECONDS = 0.2  # neither Kafka nor a worker announces that an offset has moved
SCRAPE_SECONDS = 1.0  # a worker that answers later is shown as silent
QUICK_EVENTS = 200_000  # `verify` checks these in seconds; after Ctrl-C no user waits longer
AT_THE_END = "at the end"  # a bounded run has no auditor, and judges itself
_decode = msgspec.json.Decoder(WorkerStatus).decode


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    is_finished: bool
    #: None: there were too many events to verify after Ctrl-C, or a second Ctrl-C came
    verification: "Verification | None"
    #: a sentence for each worker that failed
    failures: tuple[str, ...]


class RunFlow:
    def __init__(
        self,
        *,
        settings: Settings,
        fleet: Fleet,
        producer: Child,
        prices: Child,
        beside: Sequence[SideServerProcess],
        is_bounded: bool,
        display: Display,
        logs: Path,
    ) -> None:
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._fleet = fleet
        self._producer = producer
        self._prices = prices
        self._beside = beside
        self._is_bounded = is_bounded
        self._display = display
        self._logs = logs
        self._interrupted = asyncio.Event()
        self._tally = Tally()
        self._start = time.monotonic()
        self._phase = "starting"
        self._verdict = AT_THE_END
        self._auditor = next((one.address for one in beside if one.name == AUDITOR), None)
        self._producing = (0.0, 0.0)  # when the producer started, and when the group had committed its last event
        self._statuses: dict[str, WorkerStatus] = {}
        self._first: RunOffsets | None = None
        self._last: RunOffsets | None = None

    async def play(self, announce: Callable[[], None]) -> RunOutcome:
        """Carry out the run. Calls `announce` when the workers are started. Raises the error that ended the run."""
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, self._interrupted.set)
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(open_offset_reader(self._settings))
            self._first = self._last = await reader.read()
            with self._display.open():
                try:
                    is_finished = await self._until_interrupted(self._work(reader, announce))
                finally:
                    self._phase = "stopping"
                    endings = await self._stop()
            await self._read_offsets(reader)
        self._display.say(self._summary())
        verification = await self._verify()
        return RunOutcome(is_finished=is_finished, verification=verification, failures=self._failures(endings))

    # --- 1 and 2 ---

    async def _work(self, reader: OffsetReader, announce: Callable[[], None]) -> None:
        import aiohttp

        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS), auto_decompress=False
        ) as http:
            await self._fleet.start()
            await self._prices.start()
            await asyncio.gather(*(one.start() for one in self._beside))
            announce()
            tasks = [self.watch(self._fleet.keep(worker)) for worker in self._fleet.workers]
            tasks.append(self.watch(self._show(reader, http)))
            tasks.append(self.watch(self._keep_prices()))
            tasks += [self.watch(one.keep(self._display.say)) for one in self._beside]
            try:
                await self._wait_until_ready(reader, http)
                await self._produce(reader)
                await self._look(reader, http)  # the last figures, for the summary
            finally:
                await _cancel(tasks)

    async def _keep_prices(self) -> None:
        code = await self._prices.wait()
        raise ProducerFailed(f"of prices {name_of_end(code)}", *self._prices.why())

    async def _wait_until_ready(self, reader: OffsetReader, http: "aiohttp.ClientSession") -> None:
        wanted = frozenset(range(reader.partitions))

        async def look() -> tuple[bool, object]:
            statuses = (await self._ask_all(http)).values()
            processed = [running(status) for status in statuses]
            is_complete = frozenset[int]().union(*processed) == wanted
            is_ready = is_complete and sum(map(bool, processed)) >= min(len(self._fleet.workers), reader.partitions)
            return is_ready, [(running(status), status.replayed) for status in statuses]

        await self._await(look, lambda: "The workers do not process every partition")

    async def _produce(self, reader: OffsetReader) -> None:
        begin = time.monotonic()
        await self._producer.start()
        self._phase = "running"
        code = await self._producer.wait()
        if code or not self._is_bounded:
            raise ProducerFailed(name_of_end(code), *self._producer.why())
        self._phase = "working off the lag"

        async def look() -> tuple[bool, object]:
            offsets = await self._read_offsets(reader)
            return not offsets.behind, offsets

        await self._await(look, lambda: f"The group does not commit: lag by partition {self._behind()}")
        self._producing = (begin, time.monotonic())

    async def _await(self, look: Callable[[], Awaitable[tuple[bool, object]]], what: Callable[[], str]) -> None:
        """Call `look`, which returns (is done, what it saw), until it is done.

        Raises RunStalled with the sentence `what` if `look` sees the same for PATIENCE_SECONDS.
        """
        seen: object = None
        moved = time.monotonic()
        while True:
            is_done, now = await look()
            if is_done:
                return
            if now != seen:
                seen, moved = now, time.monotonic()
            elif time.monotonic() - moved > PATIENCE_SECONDS:
                raise RunStalled(what(), PATIENCE_SECONDS, self._logs)
            await asyncio.sleep(POLL_SECONDS)

    async def _until_interrupted(self, work: Coroutine[Any, Any, None]) -> bool:
        """Returns True if the work ended, False if Ctrl-C came first. Raises an error of the work or of `watch`."""
        task = asyncio.create_task(work)
        interrupt = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait((task, interrupt, self._failure), return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            if task.done():
                task.result()
            return task.done()
        finally:
            await _cancel([task, interrupt])
            if self._failure.done():
                self._failure.exception()  # asyncio would print an error that was never looked at

    def watch(self, beside: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run `beside` as a task next to the work. The first error of such a task ends the run."""
        task = asyncio.create_task(beside)
        task.add_done_callback(self._notice)
        return task

    def _notice(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not self._failure.done():
            self._failure.set_exception(error)

    # --- live status ---

    async def _show(self, reader: OffsetReader, http: "aiohttp.ClientSession") -> None:
        while True:
            await self._look(reader, http)
            self._display.show(self._status())
            await asyncio.sleep(self._display.interval)

    async def _look(self, reader: OffsetReader, http: "aiohttp.ClientSession") -> None:
        self._statuses, self._verdict = await asyncio.gather(self._ask_all(http), self._ask_auditor(http))
        await self._read_offsets(reader)
        self._tally.feed(time.monotonic(), self._statuses.values())

    async def _read_offsets(self, reader: OffsetReader) -> RunOffsets:
        """Returns the offsets, or the last known ones while Kafka does not answer: the broker may come back."""
        from aiokafka.errors import KafkaError

        try:
            self._last = await reader.read()
        except (KafkaError, OSError):
            if self._last is None:
                raise
        return self._last

    async def _ask_all(self, http: "aiohttp.ClientSession") -> dict[str, WorkerStatus]:
        """Returns the status of each worker that answers, by the worker's name."""
        workers = self._fleet.workers
        found = await asyncio.gather(*(self._ask(http, worker.address) for worker in workers))
        return {worker.name: status for worker, status in zip(workers, found, strict=True) if status is not None}

    async def _ask_auditor(self, http: "aiohttp.ClientSession") -> str:
        """Returns the auditor's verdict in a few words."""
        if self._auditor is None:
            return AT_THE_END
        audit = await ask_auditor(http, self._auditor, None, "run")
        return f"{audit.verdict}, {audit.records:,} records checked" if audit.records else audit.verdict

    async def _ask(self, http: "aiohttp.ClientSession", address: str) -> WorkerStatus | None:
        import aiohttp

        token = self._settings.web_token
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            async with http.get(f"{address}{STATUS_PATH}", headers=headers, allow_redirects=False) as answer:
                return decoded(_decode, await answer.read()) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _status(self) -> RunStatus:
        first, last, tally = self._first, self._last, self._tally
        assert first is not None and last is not None  # noqa: S101  # for mypy: read before anything is shown
        return RunStatus(
            seconds=time.monotonic() - self._start,
            phase=self._phase,
            produced=last.produced - first.produced,
            processed=last.processed - first.processed,
            rate=tally.events_rate,
            p99=tally.p99,
            lag=sum(last.behind.values()),
            transactions=tally.commits_rate,
            drops=tally.totals.drops,
            halted=sum(map(halted, self._statuses.values())),
            verdict=self._verdict,
            workers=tuple(map(self._worker_status, self._fleet.workers)),
        )

    def _worker_status(self, worker: WorkerProcess) -> ShownWorker:
        status = self._statuses.get(worker.name)
        return ShownWorker(
            name=worker.name,
            pid=worker.pid,
            address=worker.address,
            partitions=None if status is None else running(status),
            restarts=self._fleet.restarts[worker.name],
        )

    def _behind(self) -> str:
        behind = {} if self._last is None else self._last.behind
        return ", ".join(f"{partition}: {lag:,}" for partition, lag in behind.items())

    # --- 3 and 4 ---

    async def _stop(self) -> list[Ending]:
        say = self._display.say
        await asyncio.gather(*(child.stop(say) for child in (self._producer, self._prices, *self._beside)))
        return await self._fleet.stop()

    def _failures(self, endings: list[Ending]) -> tuple[str, ...]:
        stopped = [
            f"Worker {one.name} {name_of_end(one.code)} when it was stopped." for one in endings if not one.is_well
        ]
        return (*(f"Worker {name} failed during the run." for name in dict.fromkeys(self._fleet.failed)), *stopped)

    def _summary(self) -> str:
        status = self._status()
        begin, end = self._producing
        took = f" in {end - begin:.1f} s ({status.processed / (end - begin):,.0f}/s)" if end else ""
        restarts = sum(self._fleet.restarts.values())
        return (
            f"Processed {status.processed:,} of {status.produced:,} events{took}, "
            f"p99 {milliseconds(self._tally.p99_of_all)}, {status.drops} drops, {restarts} restarts."
        )

    async def _verify(self) -> "Verification | None":
        from portfolio_stream.audit.verify import verify

        if self._interrupted.is_set() and self._last is not None and self._last.produced > QUICK_EVENTS:
            self._display.say(f"Not verified: {self._last.produced:,} events take too long after Ctrl-C.")
            return None
        self._display.say("Verifying exactly-once.")
        self._interrupted.clear()
        result: list[Verification] = []

        async def judge() -> None:
            result.append(await verify(self._settings))

        await self._until_interrupted(judge())
        return result[0] if result else None


async def _cancel(tasks: "list[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
