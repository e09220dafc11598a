"""Log files over HTTP: only files that the supervisor names, by their names, and of each file its end.

1. A name that somebody asks for is looked up among the supervisor's files; no path is built from it.
2. A file that is replaced by a link is not read: the supervisor's logs are plain files.
3. An answer has at most MOST_BYTES, the newest ones, and begins with a whole line.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 20  # Flink's UI shows a log whole; an operator wants its end


def listed(files: Sequence[Path]) -> dict[str, Any]:
    """Name, size and time of each file that is there."""
    rows = []
    for path in files:
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            rows.append({"name": path.name, "size": found.st_size, "mtime": int(found.st_mtime * 1000)})
    return {"logs": rows}


def named(files: Sequence[Path], name: str) -> Path | None:
    return next((path for path in files if path.name == name), None)


def tail(path: Path, most: int = MOST_BYTES) -> bytes | None:
    """Returns the end of the file; None if it is not there, or no plain file."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as file:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            return None
        start = max(0, found.st_size - most)
        file.seek(start)
        content = file.read(most)
    return content if start == 0 else content[content.find(b"\n") + 1 :]
