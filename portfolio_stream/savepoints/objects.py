"""Where savepoints are kept: a folder, an S3 bucket, or memory for tests and the simulation.

All paths are relative to that place and have `/` between their parts. Every failure of a place is a
SavepointStoreFailed. A put is atomic in all of them: readers see the whole object or none.
"""

import os
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple, NoReturn, Protocol


class ObjectEntry(NamedTuple):
    path: str
    bytes: int
    #: seconds since 1970
    modified: float


class Objects(Protocol):
    #: as an operator wrote it, for messages
    location: str

    async def put(self, path: str, data: bytes) -> None: ...
    async def put_new(self, path: str, data: bytes) -> bool:
        """Put the object if there is none. Returns False if there is one. Of several callers exactly one gets True."""
        ...

    async def get(self, path: str) -> bytes | None: ...
    async def list(self, prefix: str = "") -> list[ObjectEntry]:
        """Returns the objects in the folder `prefix` and in all folders below it, in the order of their paths."""
        ...

    async def delete(self, paths: Collection[str]) -> None:
        """Delete the objects in the order of `paths`. An object that is not there counts as deleted."""
        ...


class MemoryObjects:
    """Objects in memory. No thread and no clock of its own, so the same calls always give the same result."""

    def __init__(self, location: str = "memory", clock: Callable[[], float] = time.time) -> None:
        self.location = location
        self._clock = clock
        self._objects: dict[str, tuple[bytes, float]] = {}

    async def put(self, path: str, data: bytes) -> None:
        self._objects[path] = (data, self._clock())

    async def put_new(self, path: str, data: bytes) -> bool:
        if path in self._objects:
            return False
        await self.put(path, data)
        return True

    async def get(self, path: str) -> bytes | None:
        found = self._objects.get(path)
        return None if found is None else found[0]

    async def list(self, prefix: str = "") -> list[ObjectEntry]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        found = sorted(self._objects.items())
        return [ObjectEntry(path, len(data), at) for path, (data, at) in found if path.startswith(folder)]

    async def delete(self, paths: Collection[str]) -> None:
        for path in paths:
            self._objects.pop(path, None)


def open_objects(location: str) -> Objects:
    """Returns the place that PORTFOLIO_SAVEPOINT_DIR names: a folder, or s3://bucket/prefix.

    Nothing is asked of the place yet. A folder that is missing is made by the first put.
    """
    from portfolio_stream.savepoints.stores import open_store  # loads 5 MB of obstore, which only a real place needs

    return open_store(location)


def end_process(code: int) -> NoReturn:
    """End the process with this exit code. For a main function that may have opened a place.

    A thread of obstore's may still be in its last call of Python when the answer of that call is there already. If
    Python ends meanwhile, Python 3.11 ends the thread in the midst of Rust code, and the process is aborted: exit code
    134 of a command that has done its work. So a process with obstore ends without Python's own end. It loses nothing:
    what was printed is written, and asyncio.run has ended all tasks.
    """
    if "obstore" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
