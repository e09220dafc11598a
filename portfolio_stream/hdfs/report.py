"""`hdfs dfsadmin -report`: capacity, use and free space of the places, in Hadoop's words.

The figures are the disk's own. A bucket has no capacity: the report says so instead of a number. There are no data
nodes, so the report names the mounts where Hadoop names them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

#: the units of Hadoop's reports
UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
UNLIMITED = "unlimited (a bucket has no capacity)"


class Space(NamedTuple):
    """Bytes of the disk on which a folder is."""

    capacity: int
    remaining: int


class Mounted(NamedTuple):
    path: str
    location: str
    #: bytes of the files in the place
    used: int
    #: None: a bucket
    space: Space | None


def space_of(location: str) -> Space | None:
    """Raises OSError."""
    if "://" in location:
        return None
    path = Path(location).absolute()
    seen = os.statvfs(next(place for place in (path, *path.parents) if place.exists()))
    return Space(seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize)


def report(mounts: Sequence[Mounted]) -> list[str]:
    """The lines of the report. The first mount, that of the savepoints, is also the summary."""
    first = mounts[0]
    lines = [*_summary(first), "", "-" * 49, f"Mounts ({len(mounts)}):"]
    for one in mounts:
        lines += ["", f"Name: {one.path}", f"Location: {one.location}", *_figures(one)]
    return lines


def _summary(one: Mounted) -> list[str]:
    if one.space is None:
        return [
            f"Configured Capacity: {UNLIMITED}",
            f"Present Capacity: {UNLIMITED}",
            f"DFS Remaining: {UNLIMITED}",
            f"DFS Used: {sized(one.used)}",
            "DFS Used%: 0.00%",
        ]
    present = one.used + one.space.remaining
    return [
        f"Configured Capacity: {sized(one.space.capacity)}",
        f"Present Capacity: {sized(present)}",
        f"DFS Remaining: {sized(one.space.remaining)}",
        f"DFS Used: {sized(one.used)}",
        f"DFS Used%: {share(one.used, present)}",
    ]


def _figures(one: Mounted) -> list[str]:
    if one.space is None:
        return [f"Configured Capacity: {UNLIMITED}", f"DFS Used: {sized(one.used)}", f"DFS Remaining: {UNLIMITED}"]
    others = max(0, one.space.capacity - one.used - one.space.remaining)
    return [
        f"Configured Capacity: {sized(one.space.capacity)}",
        f"DFS Used: {sized(one.used)}",
        f"Non DFS Used: {sized(others)}",
        f"DFS Remaining: {sized(one.space.remaining)}",
        f"DFS Used%: {share(one.used, one.space.capacity)}",
        f"DFS Remaining%: {share(one.space.remaining, one.space.capacity)}",
    ]


def sized(count: int) -> str:
    """Bytes as Hadoop's reports have them: 24606 (24.03 KB)."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} ({f'{size:.2f}'.rstrip('0').rstrip('.')} {UNITS[unit]})"


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0.0:.2f}%"
