"""The log of a process of the cluster. It is kept small, although the process holds it open as a descriptor.

1. The log is renamed to `.1`, `.1` to `.2` and so on, and a new file takes the descriptor's place (dup2). Each write
   goes to the old file or to the new one: no line is lost, and no line is cut.
2. Only a process can replace its own descriptors. So each process of a cluster does this for itself, and none depends
   on the life of another one.
3. A log that another program has moved away (logrotate) is opened anew.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LARGEST_BYTES = 10 << 20
KEPT = 5  # older files
STANDARD = (1, 2)  # standard output and standard error
LOOK_SECONDS = 5.0  # a worker writes some lines a minute
FORMAT = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"
NEW_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def log_to(log: Path, *, is_standard_error: bool) -> None:
    """Log to the file and to standard error, which may be that file already."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    descriptors: tuple[int, ...] = STANDARD
    if not is_standard_error:
        stream = log.open("a", encoding="utf-8")
        handlers.append(logging.StreamHandler(stream))
        descriptors = (stream.fileno(),)
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers)
    keep_small(log, descriptors)


def keep_small(log: Path, descriptors: Sequence[int]) -> None:
    """Look at the log again and again, in a thread that ends with the process."""

    def look() -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with suppress(OSError):  # a full disk, or a folder that is gone: the old file is still written to
                rotate(log, descriptors)

    threading.Thread(target=look, name="log rotation", daemon=True).start()


def rotate(log: Path, descriptors: Sequence[int], largest: int = LARGEST_BYTES) -> None:
    """Begin a new file if the log is too large, or is not where it was. Raises OSError, and then nothing is lost."""
    written = os.fstat(descriptors[0])
    try:
        is_here = os.path.samestat(written, log.stat())
    except FileNotFoundError:
        is_here = False
    if is_here and written.st_size < largest:
        return
    if is_here:
        for number in range(KEPT - 1, 0, -1):
            with suppress(FileNotFoundError):
                _numbered(log, number).replace(_numbered(log, number + 1))
        log.replace(_numbered(log, 1))
    new = os.open(log, NEW_FILE, 0o644)
    try:
        for descriptor in descriptors:
            os.dup2(new, descriptor)
    finally:
        os.close(new)


def log_files(log: Path) -> list[Path]:
    """The log and its older files, the newest first."""
    return [path for path in (log, *(_numbered(log, number) for number in range(1, KEPT + 1))) if path.exists()]


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
