"""Samples the stacks of this process, in a thread, while somebody asks. It costs nothing otherwise.

1. A sample is a look at all threads (`sys._current_frames`), some 50 us. The sampling thread leaves itself out.
2. A frame is named by its module and function, never by a value: no key or amount leaves the process.
3. Functions that mypyc compiled have no Python frame: their time counts for their caller.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import FrameType
from typing import Any

import msgspec

INTERVAL_SECONDS = 0.0097  # no multiple of a commit interval
MOST_SECONDS = 5.0
MOST_FRAMES = 100  # of a stack, the innermost ones
#: (module, function) of innermost frames that wait for records, for another thread or for the operator
WAITING = frozenset(
    {
        ("selectors", "select"),
        ("threading", "wait"),
        ("threading", "join"),
        ("threading", "_wait_for_tstate_lock"),
        ("queue", "get"),
        ("concurrent.futures.thread", "_worker"),
        ("time", "sleep"),
    }
)

Stack = tuple[str, ...]


class StackCount(msgspec.Struct, frozen=True, kw_only=True):
    thread: str
    #: module.function:line, the outermost first
    frames: tuple[str, ...]
    #: the innermost frame does not wait
    is_on_cpu: bool
    samples: int


class StackSamples(msgspec.Struct, frozen=True, kw_only=True):
    #: milliseconds since 1970
    ended_at: int
    seconds: float
    #: looks at the process
    looks: int
    stacks: tuple[StackCount, ...]


class ThreadStack(msgspec.Struct, frozen=True, kw_only=True):
    thread: str
    frames: tuple[str, ...]
    is_on_cpu: bool


def sample(seconds: float) -> StackSamples:
    """Look at the process again and again, for `seconds`. Blocks: call it in a thread of its own."""
    counts: Counter[tuple[str, Stack, bool]] = Counter()
    until, looks = time.monotonic() + min(seconds, MOST_SECONDS), 0
    while time.monotonic() < until:
        for one in threads():
            counts[one.thread, one.frames, one.is_on_cpu] += 1
        looks += 1
        time.sleep(INTERVAL_SECONDS)
    stacks = tuple(
        StackCount(thread=thread, frames=frames, is_on_cpu=is_on_cpu, samples=times)
        for (thread, frames, is_on_cpu), times in counts.most_common()
    )
    return StackSamples(ended_at=int(time.time() * 1000), seconds=seconds, looks=looks, stacks=stacks)


def threads() -> list[ThreadStack]:
    """Returns the stack of each other thread now. A thread that Python did not start has a number and no name."""
    names: Mapping[int | None, str] = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    return [
        _told(names.get(ident, f"thread {ident}"), frame)
        for ident, frame in sys._current_frames().items()
        if ident != own
    ]


def _told(thread: str, innermost: FrameType) -> ThreadStack:
    frames: list[str] = []
    frame: FrameType | None = innermost
    while frame is not None and len(frames) < MOST_FRAMES:
        frames.append(f"{_module(frame)}.{frame.f_code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    is_waiting = (_module(innermost), innermost.f_code.co_name) in WAITING
    return ThreadStack(thread=thread, frames=tuple(reversed(frames)), is_on_cpu=not is_waiting)


def _module(frame: FrameType) -> str:
    name: Any = frame.f_globals.get("__name__", "?")
    return str(name)
