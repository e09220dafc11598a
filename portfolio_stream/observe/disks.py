"""How full the file systems are that hold this worker's folders.

A network file system that hangs keeps each call for ever. So each place has a thread of its own, which nobody waits
for: the event loop, a scrape and the end of the process go on, and the place's figures become absent.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

LOOK_SECONDS = 5.0  # a disk that fills up at 1 GB/s gains 5 GB between two looks
KEPT_SECONDS = 30.0  # older figures say nothing of a disk that fills up
#: the folders that a worker fills: its local stores, and the savepoints if they are in a folder
FilledPlace = Literal["state", "savepoints"]
PLACES: tuple[FilledPlace, ...] = get_args(FilledPlace)


class DiskFigures(NamedTuple):
    total_bytes: int
    #: that a user without privileges may still write
    available_bytes: int


def disk_of(place: Path) -> DiskFigures:
    """The file system that holds `place`, or that would hold a folder that is not made yet. Raises OSError."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    seen = os.statvfs(there)
    return DiskFigures(seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize)


class Disks:
    def __init__(self, places: Mapping[FilledPlace, Path], look: Callable[[Path], DiskFigures] = disk_of) -> None:
        self._places = dict(places)
        self._look = look
        #: figures and monotonic seconds of the last look, by place
        self._seen: dict[FilledPlace, tuple[DiskFigures, float]] = {}
        self._is_over = threading.Event()

    def start(self) -> None:
        for place, folder in self._places.items():
            threading.Thread(target=self._follow, args=(place, folder), name=f"disk of {place}", daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()

    def figures(self) -> dict[FilledPlace, DiskFigures]:
        """By place. A place that gave no figures in the last KEPT_SECONDS is absent."""
        now = time.monotonic()
        return {place: seen for place, (seen, at) in self._seen.copy().items() if now - at < KEPT_SECONDS}

    def _follow(self, place: FilledPlace, folder: Path) -> None:
        while not self._is_over.is_set():
            try:
                self._seen[place] = self._look(folder), time.monotonic()
            except OSError:
                self._seen.pop(place, None)
            self._is_over.wait(LOOK_SECONDS)
