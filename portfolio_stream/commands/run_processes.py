"""The child processes of a run. Each has a session of its own, so Ctrl-C reaches only us, and we end the children.

- A worker that ends by itself is restarted with the same name and data folder. It needs nothing else to recover.
- The run gives up when a worker has ended by itself ATTEMPTS times in a row, each time within SETTLED_SECONDS. It gives
  up at once if a worker refuses its settings.
- A worker that a signal killed does not count: it is restarted, however often it is killed.
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from portfolio_stream.broker.probe import is_free
from portfolio_stream.errors import WorkerCannotStart, WorkerKeepsEnding

TERM_SECONDS = 5.0  # the contract's time for a worker to end its transaction and leave the group
KILL_SECONDS = 10.0  # twice that, for a busy machine; then comes SIGKILL, and the next start aborts the transaction
ATTEMPTS = 3
BAD_SETTINGS = 2  # a worker's exit code
SETTLED_SECONDS = 10.0  # after this time a worker has joined the group
TAIL_BYTES = 64 << 10  # the end of a log, which is searched for the cause
ACTION = "Operator action:"
LOG_PREFIX = re.compile(r"^(\[[^\]]*\] )+")  # time, process and level


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a child ended after we stopped it."""

    name: str
    #: exit code; negative: the signal that killed the child
    code: int
    #: seconds since the child's start
    age: float

    @property
    def is_well(self) -> bool:
        """Exit code 0, or SIGTERM killed a child that was still starting and had nothing open yet."""
        return self.code == 0 or (self.code == -signal.SIGTERM and self.age < SETTLED_SECONDS)


class Child:
    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        self.started = 0.0
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._since = 0

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._since = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self.pid, self.started = self._process.pid, time.monotonic()

    async def wait(self) -> int:
        """Wait for the child's end. Returns the exit code; negative: the signal that killed the child."""
        assert self._process is not None  # noqa: S101  # for mypy: `start` comes before `wait`
        return await self._process.wait()

    async def stop(self, say: Callable[[str], None]) -> Ending:
        """Send SIGTERM and wait. If the child still runs after KILL_SECONDS, send SIGKILL to its whole session."""
        process = self._process
        if process is None:
            return Ending(name=self.name, code=0, age=0.0)
        start = time.monotonic()
        if process.returncode is None:
            process.terminate()
            for seconds in (TERM_SECONDS, KILL_SECONDS - TERM_SECONDS):
                try:
                    await asyncio.wait_for(process.wait(), seconds)
                    break
                except TimeoutError:
                    say(f"{self.name} (process {process.pid}) runs {time.monotonic() - start:.0f} s after SIGTERM.")
            else:
                os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
        return Ending(name=self.name, code=code, age=time.monotonic() - self.started)

    def why(self) -> tuple[str, str]:
        """Returns the cause and the operator action of the child's end, from its log since its last start."""
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._since, end - TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        return explain(text.splitlines()) or ("its log has no error", f"Read {self.log}.")


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
        self._host = f"[{host}]" if ":" in host else host
        self._ports = ports
        self._take_port()

    @property
    def address(self) -> str:
        return f"http://{self._host}:{self.port}"

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


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """Returns cause and action of the last error in a log.

    These are our own two sentences if the log has them, or else the last line with the word error.
    """
    for index in range(len(lines) - 1, -1, -1):
        before, found, action = LOG_PREFIX.sub("", lines[index]).partition(ACTION)
        if found:
            cause = before.strip() or (lines[index - 1].strip() if index else "")
            return cause, action.strip()
    for text in reversed(lines):
        if any(word in text for word in ("ERROR", "CRITICAL", "Error", "error")):
            return LOG_PREFIX.sub("", text).strip(), "Read the log."
    return None


def name_of_end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"


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
