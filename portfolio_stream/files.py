"""Files that no reader ever sees half written, and locks that end with their process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, is_private: bool = False) -> None:
    """Write the content to the path. After a crash at any moment, the path has its old content or all of the new.

    With `is_private`, only this user can read the file, from its first byte on.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if is_private:
            part.touch(mode=0o600, exist_ok=False)
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, taken: Exception) -> Iterator[None]:
    """Hold the lock of this file, which is made if it is not there. Raises `taken` while another process holds it.

    The system gives the lock back when the process ends, however it ends.
    """
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken from None
        yield
