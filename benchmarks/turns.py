"""A watch on an event loop: how long each turn takes, which callback was the longest, and the garbage collector's part.

A turn runs from the return of the selector to its next call: the callbacks of one turn of asyncio's loop, and nothing
else runs in that thread meanwhile. The watch costs some microseconds a turn.

Wall time says what heartbeats and HTTP have to wait. On a machine whose cores are all busy it includes the time in
which other processes had the core, so the CPU time of the turn stands beside it.
"""

import asyncio
import gc
import selectors
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class Second(msgspec.Struct):
    """The turns that ended in one second."""

    #: seconds since 1970
    second: int
    turns: int = 0
    #: milliseconds of the longest turn: wall, CPU, garbage collector
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    gc_ms: float = 0.0
    #: milliseconds of CPU of the turn with the most CPU
    most_cpu_ms: float = 0.0
    #: the longest callback of the longest turn, and its milliseconds
    callback: str = ""
    callback_ms: float = 0.0
    #: number of turns above each of BOUNDS_MS, by CPU time
    above: list[int] = msgspec.field(default_factory=lambda: [0] * len(BOUNDS_MS))


class Watch:
    """Notes the turns, and writes a line of JSON for each second to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._begun = self._begun_cpu = 0.0
        self._gc_begun = self._gc_seconds = 0.0
        self._longest = (0.0, "")
        self._second = Second(int(time.time()))

    def turn_begins(self) -> None:
        self._gc_seconds = 0.0
        self._longest = (0.0, "")
        self._begun, self._begun_cpu = time.perf_counter(), time.thread_time()

    def turn_ends(self) -> None:
        if not self._begun:
            return
        wall, cpu = 1000 * (time.perf_counter() - self._begun), 1000 * (time.thread_time() - self._begun_cpu)
        now = int(time.time())
        if now != self._second.second:
            self._write()
            self._second = Second(now)
        found = self._second
        found.turns += 1
        found.most_cpu_ms = max(found.most_cpu_ms, cpu)
        for number, bound in enumerate(BOUNDS_MS):
            if cpu <= bound:
                break
            found.above[number] += 1
        if wall > found.wall_ms:
            seconds, found.callback = self._longest
            found.wall_ms, found.cpu_ms, found.gc_ms = wall, cpu, 1000 * self._gc_seconds
            found.callback_ms = 1000 * seconds

    def close(self) -> None:
        self._write()
        self._file.close()

    def _write(self) -> None:
        self._file.write(msgspec.json.encode(self._second) + b"\n")
        self._file.flush()

    def called(self, handle: Any, seconds: float) -> None:
        if seconds > self._longest[0]:
            self._longest = (seconds, name_of(handle))

    def collected(self, phase: str, _: Mapping[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._gc_begun = now
        else:
            self._gc_seconds += now - self._gc_begun


def name_of(handle: Any) -> str:
    """Returns the name of a task and its coroutine, or of a function, that a handle of asyncio calls."""
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine: Any = owner.get_coro()
        return f"{owner.get_name()}: {getattr(coroutine, '__qualname__', coroutine)}"
    return str(getattr(callback, "__qualname__", type(callback).__name__))


def watch(path: Path) -> Watch:
    """Watch every event loop that this process makes from now on. There should be one."""
    watched = Watch(path)
    select, run = selectors.DefaultSelector.select, asyncio.Handle._run

    def watched_select(self: Any, timeout: float | None = None) -> Any:
        watched.turn_ends()
        found = select(self, timeout)
        watched.turn_begins()
        return found

    def watched_run(self: Any) -> None:
        begun = time.perf_counter()
        run(self)
        watched.called(self, time.perf_counter() - begun)

    selectors.DefaultSelector.select = watched_select  # type: ignore[method-assign]
    asyncio.Handle._run = watched_run  # type: ignore[method-assign]
    gc.callbacks.append(watched.collected)
    return watched


def read(path: Path, since: float) -> list[Second]:
    """Returns the seconds after a moment (seconds since 1970). The present second is not written yet."""
    found = [msgspec.json.decode(line, type=Second) for line in path.read_bytes().splitlines()]
    return [one for one in found if one.second > since]
