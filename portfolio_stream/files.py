"""Write a file so that no reader ever sees it half written."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write the content to the path. After a crash at any moment, the path has its old content or all of the new."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
