"""Keeps the wanted workers alive on this host.

1. Whatever happens to a worker, `plan.steps` says what is done; this module sees and does.
2. Workers have sessions of their own: they survive kill -9 of their supervisor, and the next one adopts them. So they
   neither stop nor move.
3. A worker's name, data folder and log are the same for all its processes. So is its port, unless another program has
   taken it.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import aiohttp

from portfolio_stream.broker.probe import is_free
from portfolio_stream.cluster.folder import ClusterFolder, SupervisorStatus, WorkerStart
from portfolio_stream.cluster.plan import ALIVE, Move, PlannedStep, steps
from portfolio_stream.cluster.serving import ANSWER_SECONDS, ask
from portfolio_stream.cluster.wishes import Wishes
from portfolio_stream.cluster.worker import SupervisedWorker
from portfolio_stream.http.addresses import DEFAULT_PORT, authority, host_of, reachable
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.processes import ending_signals, write_pid_file
from portfolio_stream.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the workers; nobody announces that one serves
STOP_SIGNALS = {"leave": signal.SIGTERM, "remain": signal.SIGUSR2}
#: each worker has its own, or the supervisor decides
OWN_VARIABLES = ("PORTFOLIO_INSTANCE_ID", "PORTFOLIO_WEB_PORT", "PORTFOLIO_WEB_ADVERTISED", "PORTFOLIO_ON_STOP")


class Supervisor:
    def __init__(self, settings: Settings, workers: int) -> None:
        """`workers` counts until the job names a number."""
        self.settings = settings
        self.folder = ClusterFolder(settings)
        #: as many are kept if the job does not say how many
        self.default_workers = workers
        self._rest: str | None = None
        self._workers: dict[int, SupervisedWorker] = {}
        self._host = reachable(settings.web_host)
        self._environment = worker_environment(os.environ, settings)
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._last: SupervisorStatus | None = None

    async def run(self, beside: "Beside") -> None:
        """Supervise until a signal asks for the end. Raises SupervisorRuns, ClusterFolderUnusable."""
        for number in ending_signals():
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        self.folder.make()
        with self.folder.locked():
            write_pid_file(self.folder.supervisor_pid, os.getpid())
            self._wishes = Wishes(
                self.settings, self._environment, self.folder, self.default_workers, self._wake.set, log.info
            )
            async with (
                beside(self) as self._rest,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_SECONDS)) as http,
            ):
                self._adopt()
                following = asyncio.create_task(self._wishes.follow(), name="wishes")
                following.add_done_callback(log_failure)
                self._show()
                await self._wishes.first()
                await self._supervise(http)
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await self._end()
            self.folder.supervisor_pid.unlink(missing_ok=True)

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()

    def status(self) -> SupervisorStatus:
        wish = self._wishes.wish
        return SupervisorStatus(
            pid=os.getpid(),
            wanted=wish.workers,
            settings=dict(wish.settings),
            workers=tuple(worker.shown() for _, worker in sorted(self._workers.items())),
            log=str(self.folder.supervisor_log),
            rest=self._rest,
            problem=self._wishes.problem,
        )

    # -- the loop

    async def _supervise(self, http: aiohttp.ClientSession) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                await self._turn(http)
            except Exception:  # a bug of ours, or a full disk, must not end workers that are well
                log.exception("the supervisor goes on")
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    async def _turn(self, http: aiohttp.ClientSession) -> None:
        await self._look(http)
        self._forget()
        for step in steps(self._wishes.wish, [worker.seen() for worker in self._workers.values()]):
            await self._do(step)
        self._show()

    async def _look(self, http: aiohttp.ClientSession) -> None:
        asked = [worker for worker in self._workers.values() if worker.phase in ALIVE]
        is_joined = self._wishes.wish.is_joined
        found = await asyncio.gather(*(ask(http, one.address, one.name, is_joined=is_joined) for one in asked))
        for worker, one in zip(asked, found, strict=True):
            worker.look(one)

    def _forget(self) -> None:
        """Forget the workers that are not wanted any more and have ended."""
        wanted = self._wishes.wish.workers
        for number in [n for n, worker in self._workers.items() if n > wanted and not worker.has_process]:
            del self._workers[number]

    async def _do(self, step: PlannedStep) -> None:
        if step.move is not Move.START:
            self._workers[step.number].stop(STOP_SIGNALS[step.move.value])
            return
        worker = self._workers.get(step.number)
        if worker is None:
            worker = self._workers[step.number] = self._new(step.number)
        port = self._port(worker)
        await worker.start(self._environment | self._advertised(port), step.settings, port)

    def _advertised(self, port: int) -> dict[str, str]:
        """The operator names the host by which other machines reach this one; each worker has its own port."""
        given = self.settings.web_advertised
        return {} if given is None else {"PORTFOLIO_WEB_ADVERTISED": authority(host_of(given) or given, port)}

    def _new(self, number: int) -> SupervisedWorker:
        return SupervisedWorker(number, self.folder, self._host, self._wake.set, log.info)

    def _port(self, worker: SupervisedWorker) -> int:
        """The worker's port of before, else the one of its number, else the next free one."""
        taken = {other.port for other in self._workers.values() if other is not worker}
        first = (self.settings.web_port or DEFAULT_PORT) + worker.number - 1
        known = self.folder.start_of(worker.number)
        before = () if known is None or not known.port else (known.port,)
        candidates = (*before, *range(first, first + 1000))
        return next((port for port in candidates if port not in taken and is_free(port)), first)

    def _show(self) -> None:
        status = self.status()
        if status != self._last:
            self._last = status
            self.folder.write_status(status)

    # -- begin and end

    def _adopt(self) -> None:
        for number, process in self.folder.workers().items():
            start = self.folder.start_of(number)
            worker = self._workers[number] = self._new(number)
            worker.adopt(process, start or WorkerStart(port=0, settings={}))
            if start is None:
                log.info(f"{worker.name} runs already: process {process.pid}, at an unknown port. It is started again.")
                worker.stop(signal.SIGUSR2)
            else:
                log.info(f"{worker.name} runs already: process {process.pid}, {worker.address}. It goes on.")

    async def _end(self) -> None:
        number = STOP_SIGNALS[self.settings.on_stop]
        for worker in self._workers.values():
            if worker.phase in ALIVE:
                worker.stop(number)
        await asyncio.gather(*(worker.ended() for worker in self._workers.values()))
        log.info("All workers have ended.")
        self._show()


#: serves Flink's REST interface beside the supervisor, from before the first worker's start until after the last one's
#: end; yields its address
Beside = Callable[[Supervisor], AbstractAsyncContextManager[str]]


def worker_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment of every worker, without what is its own: ours, with the settings of the command line."""
    return {name: value for name, value in environment.items() if name not in OWN_VARIABLES} | {
        "PORTFOLIO_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PORTFOLIO_DATA_DIR": str(settings.data_dir.resolve()),
        "PYTHONUNBUFFERED": "1",
    }
