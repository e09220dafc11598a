"""A seeded event loop whose time passes only while nobody has anything to do.

1. Everything that happens follows from the seed: one thread, first in first out, no clock and no chance but this one.
   `time.monotonic`, `time.perf_counter`, `time.thread_time` and `time.time` are the loop's while `simulate` runs.
2. The code of a process runs in the process's context (PROCESS). A killed process takes no further step: no await of it
   goes on and no `finally` runs, as with kill -9. A paused process goes on where it stood.
3. Work that a process gives to a thread happens later, in the order of each executor, unless the process is killed
   before.
"""

import asyncio
import gc
import heapq
import random as shared_random
import secrets
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar, cast
from unittest.mock import patch

T = TypeVar("T")
# coroutines of a process that is killed before their first step
warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)

_gmtime = time.gmtime
EPOCH = 1_800_000_000.0  # what time.time() says when a simulation begins


MOST_TURNS = 1_000_000  # turns of the loop at one moment: more mean that something waits in a circle


class Deadlock(Exception):
    """Nobody has anything to do, ever; or somebody always has, so that time does not pass."""


class Process:
    """A process, which can be killed and paused, and whose clock can be wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: how often the process was resumed: a step is the code between two awaits
        self.steps = 0
        self.is_alive = True
        #: the process takes its steps only after it is woken
        self.is_paused = False
        #: the number of the step before which the process dies
        self.dies_at: int | None = None
        #: seconds by which the process's wall clock is ahead
        self.skew = 0.0
        self.died = asyncio.Event()
        self._held: deque[_Handle] = deque()

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work` as this process. The tasks that `work` makes belong to the process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        return context.run(work, *args)

    def kill(self) -> None:
        self.is_alive = False
        self.died.set()
        self._held.clear()

    def pause(self) -> None:
        self.is_paused = True

    def wake(self, loop: "SimulatedLoop") -> None:
        self.is_paused = False
        loop.take_up(self._held)
        self._held = deque()

    def may_step(self, handle: "_Handle") -> bool:
        if not self.is_alive:
            return False
        if self.is_paused:
            self._held.append(handle)
            return False
        self.steps += 1
        if self.steps == self.dies_at:
            self.kill()
            return False
        return True


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _Handle:
    """As asyncio.TimerHandle, with only the methods that are used."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, when: float) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._when = when

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


class SimulatedLoop(asyncio.BaseEventLoop):
    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self._turns = 0
        #: moment, number and callback
        self._timers: list[tuple[float, int, Any]] = []
        self._timed = 0
        #: the moment at which each executor has done its work
        self._busy: dict[int, float] = {}
        #: least and most seconds of work in a thread, by process name; the disk's faults change them
        self.thread_seconds: dict[str, tuple[float, float]] = {}

    def time(self) -> float:
        return self._now

    def take_up(self, handles: deque[_Handle]) -> None:
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def _run_once(self) -> None:
        """An error in a callback ends the simulation. A task keeps its own error."""
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise Deadlock("nobody has anything to do")
            if timers[0][0] > self._now:
                self._now = timers[0][0]
                self._turns = 0
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise Deadlock("time does not pass")
        now = self._now
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            context = handle._context
            process = context.get(PROCESS)
            if process is None or process.may_step(handle):
                context.run(handle._callback, *handle._args)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> "_Handle":
        """Callbacks of one moment keep their order."""
        timer = _Handle(callback, args, copy_context() if context is None else context, when)
        self._timed += 1
        heapq.heappush(self._timers, (when, self._timed, timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> "_Handle":
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> "_Handle":
        handle = _Handle(callback, args, copy_context() if context is None else context, self._now)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _write_to_self(self) -> None:
        """No other thread waits for this one."""

    def _check_closed(self) -> None:
        """The leftovers of a killed process are taken apart after the loop's end, which must not matter."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator of a killed process does not go on."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()
        process = PROCESS.get()
        least, most = self.thread_seconds.get("" if process is None else process.name, (0.0002, 0.002))
        begin = max(self._now, self._busy.get(id(executor), 0.0))
        end = self._busy[id(executor)] = begin + self._random.uniform(least, most)
        self.call_at(end, self._work, future, func, args)
        return future

    @staticmethod
    def _work(future: "asyncio.Future[T]", func: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001  it is the caller's
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(result)


def simulate(main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]], random: Random) -> T:
    """Run `main(loop)` to its end, however many virtual hours that takes. Returns or raises what `main` does."""
    loop = SimulatedLoop(random)
    loop.set_exception_handler(_ignore)
    gc.collect()
    gc.disable()  # which objects the collector finalizes, and when, depends on earlier runs
    try:
        with _clock(loop), _chance(random):
            return loop.run_until_complete(main(loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # of those that were killed
            _take_apart(task)
        loop._ready.clear()  # type: ignore[attr-defined]
        loop._timers.clear()
        loop.close()
        gc.enable()


@contextmanager
def _chance(random: Random) -> Iterator[None]:
    """What the product takes from Python's shared random numbers and from `secrets` follows from the seed too."""
    state = shared_random.getstate()
    shared_random.seed(random.random())
    try:
        with patch.object(secrets, "token_hex", lambda size: f"{shared_random.getrandbits(8 * size):0{2 * size}x}"):
            yield
    finally:
        shared_random.setstate(state)


def _take_apart(task: "asyncio.Task[Any]") -> None:
    """End the coroutine of a killed process. Its `finally` may want to wait, which nothing can after the loop's end.

    Left to the garbage collector, the coroutine would report the error in the run or the test that comes next.
    """
    with suppress(Exception):
        cast(Coroutine[Any, Any, Any], task.get_coro()).close()


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Nobody retrieves the errors of a killed process's tasks."""


@contextmanager
def _clock(loop: SimulatedLoop) -> Iterator[None]:
    def monotonic() -> float:
        return loop._now

    def wall() -> float:
        process = PROCESS.get()
        return EPOCH + loop._now + (0.0 if process is None else process.skew)

    with (
        patch.object(time, "monotonic", monotonic),
        patch.object(time, "perf_counter", monotonic),
        patch.object(time, "thread_time", lambda: loop._now / 2),  # every process is busy half of the time
        patch.object(time, "time", wall),
        patch.object(time, "gmtime", lambda at=None: _gmtime(wall() if at is None else at)),
        patch.object(asyncio.events, "get_running_loop", lambda: loop),  # Python's own makes a system call
    ):
        yield
