"""Write a file so that no reader ever sees it half written."""

import os
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
