"""What a process and folders hold, as Linux tells: resident memory, bytes on disk; and which processes are brokers."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

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


def broker_pids(folder: Path) -> list[int]:
    """Returns the Java processes whose command line names this folder."""
    return [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "name", "cmdline"])
        if process.info["name"] == "java" and any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


def disk_bytes(folders: Iterable[Path]) -> int:
    """Returns the bytes on disk of all files in these folders. A file that goes away meanwhile counts nothing."""
    total = 0
    for path in (path for folder in folders for path in folder.rglob("*")):
        try:
            total += path.lstat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total
