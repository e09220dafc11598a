"""Writing a file so that it is never seen half done."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """The path holds all of the content or what it held before, whatever dies."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
