"""What a process and folders hold, as Linux tells: resident memory, bytes on disk."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 1 << 20
BLOCK_BYTES = 512  # the unit of st_blocks


class Memory(NamedTuple):
    """The resident memory of a process, in bytes."""

    now: int
    #: since the start of the process
    highest: int


def memory_of(pid: int) -> Memory:
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(value) * 1024 for name, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.M)}
    return Memory(found["VmRSS"], found["VmHWM"])


def disk_bytes(folders: Iterable[Path]) -> int:
    """Returns the bytes on disk of all files in these folders. A file that goes away meanwhile counts nothing."""
    total = 0
    for path in (path for folder in folders for path in folder.rglob("*")):
        try:
            total += path.lstat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total
