"""A child process with a log. It has a session of its own, so Ctrl-C reaches only us, and we end the child."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portfolio_stream.processes import OwnProcess, is_alive, send

TERM_SECONDS = 5.0  # the contract's time for a worker to end its transaction and leave the group
KILL_SECONDS = 10.0  # twice that, for a busy machine; then comes SIGKILL, and the next start aborts the transaction
SETTLED_SECONDS = 10.0  # after this time a worker has joined the group
TAIL_BYTES = 64 << 10  # the end of a log, which is searched for the cause
ACTION = "Operator action:"
COMMANDS_PREFIX = "Error: "  # of a command's error, which a worker's error lacks
UNKNOWN = 256  # stands for the exit code of a process that is not our child
POLL_SECONDS = 0.1
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


class AdoptedProcess:
    """A process that a supervisor before us started. It has the parts of asyncio's Process that a Child uses."""

    def __init__(self, process: OwnProcess) -> None:
        self._process = process
        self.pid = process.pid
        self.returncode: int | None = None

    async def wait(self) -> int:
        while is_alive(self._process):  # noqa: ASYNC110  the system tells only a parent of a process's end
            await asyncio.sleep(POLL_SECONDS)
        self.returncode = UNKNOWN
        return UNKNOWN

    def send_signal(self, number: signal.Signals) -> None:
        send(self._process, number)


class Child:
    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        self.started = 0.0
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | AdoptedProcess | None = None
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

    def adopt(self, process: OwnProcess) -> None:
        """Take a process that a supervisor before us started. It counts as settled."""
        self._since = self.log.stat().st_size if self.log.exists() else 0
        self._process = AdoptedProcess(process)
        self.pid, self.started = process.pid, time.monotonic() - SETTLED_SECONDS

    async def wait(self) -> int:
        """Wait for the child's end.

        Returns the exit code. If it is negative, that signal killed the child. UNKNOWN: an adopted child has ended.
        """
        assert self._process is not None  # noqa: S101  # for mypy: `start` comes before `wait`
        return await self._process.wait()

    async def stop(self, say: Callable[[str], None], number: signal.Signals = signal.SIGTERM) -> Ending:
        """Send the signal and wait. If the child still runs after KILL_SECONDS, send SIGKILL to its whole session."""
        process = self._process
        if process is None:
            return Ending(name=self.name, code=0, age=0.0)
        start = time.monotonic()
        if process.returncode is None:
            process.send_signal(number)
            who = f"{self.name} (process {process.pid})"
            for seconds in (TERM_SECONDS, KILL_SECONDS - TERM_SECONDS):
                try:
                    await asyncio.wait_for(process.wait(), seconds)
                    break
                except TimeoutError:
                    say(f"{who} runs {time.monotonic() - start:.0f} s after {number.name}.")
            else:
                _kill_session(process.pid)
        code = await process.wait()
        return Ending(name=self.name, code=code, age=time.monotonic() - self.started)

    def why(self) -> tuple[str, str]:
        """Returns the cause and the operator action of the child's end, from its log since its last start."""
        return explain(lines_since(self.log, self._since)) or ("its log has no error", f"Read {self.log}.")


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def lines_since(log: Path, since: int) -> list[str]:
    """Returns what was written after the first `since` bytes; of a long text, the end."""
    with log.open("rb") as opened:
        end = opened.seek(0, os.SEEK_END)
        since = since if since <= end else 0  # a log that was rotated begins anew
        opened.seek(max(since, end - TAIL_BYTES))
        return opened.read().decode("utf-8", "replace").splitlines()


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """Returns cause and action of the last error in a log.

    These are our own two sentences if the log has them, or else the last line with the word error.
    """
    for index in range(len(lines) - 1, -1, -1):
        before, found, action = LOG_PREFIX.sub("", lines[index]).partition(ACTION)
        if found:
            cause = before.strip() or (lines[index - 1].strip() if index else "")
            return cause.removeprefix(COMMANDS_PREFIX), action.strip()
    for text in reversed(lines):
        if any(word in text for word in ("ERROR", "CRITICAL", "Error", "error")):
            return LOG_PREFIX.sub("", text).strip(), "Read the log."
    return None


def name_of_end(code: int) -> str:
    if code == UNKNOWN:
        return "ended; its exit code is not known, because an earlier supervisor started it"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"
