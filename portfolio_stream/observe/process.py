"""The figures of this process and of its machine, as the system tells them. What it does not tell is None."""

import gc
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from portfolio_stream.observe.start_steps import process_age


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    #: milliseconds since 1970
    started_at: int
    python: str
    cpu_seconds: float
    threads: int
    resident_bytes: int | None
    virtual_bytes: int | None
    #: runs of the garbage collector, by generation
    collections: tuple[int, ...]


class MachineFigures(msgspec.Struct, frozen=True, kw_only=True):
    #: that this process may use
    cores: int
    memory_bytes: int | None
    #: that a new process could have without swapping
    available_bytes: int | None


STARTED_AT = time.time() - process_age()


def process_figures() -> ProcessFigures:
    virtual, resident = _memory()
    return ProcessFigures(
        pid=os.getpid(),
        started_at=int(STARTED_AT * 1000),
        python=f"{sys.implementation.name} {sys.version.split()[0]}",
        cpu_seconds=time.process_time(),
        threads=threading.active_count(),
        resident_bytes=resident,
        virtual_bytes=virtual,
        collections=tuple(generation["collections"] for generation in gc.get_stats()),
    )


def machine_figures() -> MachineFigures:
    memory = _lines("/proc/meminfo")
    return MachineFigures(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
    )


def _memory() -> tuple[int | None, int | None]:
    told = _lines("/proc/self/status")
    return told.get("VmSize"), told.get("VmRSS")


def _lines(path: str) -> dict[str, int]:
    """Returns the bytes of each line of the form `Name: 123 kB`; nothing where the system has no such file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines]
    return {words[0].removesuffix(":"): int(words[1]) * 1024 for words in parts if words[2:] == ["kB"]}
