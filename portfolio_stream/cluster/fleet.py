"""The workers of a run.

- A worker that ends by itself is restarted with the same name and data folder. It needs nothing else to recover.
- The run gives up when a worker has ended by itself ATTEMPTS times in a row, each time within SETTLED_SECONDS. It gives
  up at once if a worker refuses its settings.
- A worker that a signal killed does not count: it is restarted, however often it is killed.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from portfolio_stream.broker.probe import is_free
from portfolio_stream.cluster.child import ACTION, SETTLED_SECONDS, Child, Ending, name_of_end
from portfolio_stream.errors import WorkerCannotStart, WorkerKeepsEnding
from portfolio_stream.http.addresses import authority

ATTEMPTS = 3
BAD_SETTINGS = 2  # a worker's exit code


class WorkerProcess(Child):
    """A child with a web port. We choose the port before the child listens on it, so another program may take it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        host: str,
        ports: Iterator[int],
    ) -> None:
        super().__init__(name, command, environment, log)
        self._host = host
        self._ports = ports
        self._take_port()

    @property
    def address(self) -> str:
        return f"http://{authority(self._host, self.port)}"

    def move(self) -> bool:
        """Take the next free port if another program has this worker's port. Call it after the worker's end.

        Returns whether the worker has a new port.
        """
        if is_free(self.port):
            return False
        self._take_port()
        return True

    def _take_port(self) -> None:
        self.port = next(self._ports)
        own = {"PORTFOLIO_INSTANCE_ID": self.name, "PORTFOLIO_WEB_PORT": str(self.port)}
        self._environment = {**self._environment, **own}


class Fleet:
    """The workers of a run. The caller runs `keep` as a task for each worker, until it calls `stop`."""

    def __init__(self, workers: Sequence[WorkerProcess], say: Callable[[str], None]) -> None:
        self.workers = workers
        self.restarts = {worker.name: 0 for worker in workers}
        #: names of workers that ended by themselves with an error, even if they recovered after the restart
        self.failed: list[str] = []
        self._say = say
        self._is_stopping = False

    async def start(self) -> None:
        for worker in self.workers:
            await worker.start()

    async def keep(self, worker: WorkerProcess) -> None:
        """Restart the worker whenever it ends. Raises WorkerKeepsEnding, WorkerCannotStart."""
        attempts = 0
        while True:
            code = await worker.wait()
            if self._is_stopping:
                return
            is_settled = time.monotonic() - worker.started >= SETTLED_SECONDS
            has_moved = worker.move()
            attempts = 0 if is_settled or has_moved or code < 0 else attempts + 1
            if code > 0 and not has_moved:
                self.failed.append(worker.name)
            if attempts and code == BAD_SETTINGS:
                raise WorkerCannotStart(worker.name, *worker.why())
            if attempts >= ATTEMPTS:
                self._give_up(worker)
            await self._restart(worker, code)

    async def stop(self) -> list[Ending]:
        self._is_stopping = True
        return await asyncio.gather(*(worker.stop(self._say) for worker in self.workers))

    async def _restart(self, worker: WorkerProcess, code: int) -> None:
        ended = f"{worker.name} (process {worker.pid}) {name_of_end(code)}"
        if code > 0:
            cause, action = worker.why()
            ended = f"{ended}: {cause} {ACTION} {action}"
        await worker.start()
        self.restarts[worker.name] += 1
        restarts = self.restarts[worker.name]
        self._say(f"{ended}; it was started again as process {worker.pid} at {worker.address} (restart {restarts}).")

    @staticmethod
    def _give_up(worker: Child) -> NoReturn:
        cause, action = worker.why()
        raise WorkerKeepsEnding(worker.name, ATTEMPTS, cause, action)
